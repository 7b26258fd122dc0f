"""Mixtures of factor analyses, with missing entries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError
from lgm_cli.models.base.mixture import Mixture
from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters, Statistics
from lgm_cli.models.base.tuning import Tuning
from lgm_cli.models.families.factors import FactorNormal, covariances_of, fitted
from lgm_cli.models.families.normal import spread_about
from lgm_cli.models.gaussian_mixture import GaussianMixture
from lgm_cli.models.parts.factor_analysis_units import principal
from lgm_cli.observations.blocks import Observations
from lgm_cli.posteriors.responsibilities import Responsibilities
from lgm_cli.randomness import generator

SHOWN = 5  # columns that a warning names
LEAST_NOISE = 0.05  # variance at the start, in those of the columns


class MixtureOfFactorAnalysers(GaussianMixture):
    """k_n ~ weights,  z_n ~ N(0, I_D),  y_n | z_n, k_n ~ N(means_k + loadings_k z_n, diag(noise_variance_k)).

    In each group the columns move together along D directions of its own: a Gaussian mixture for more columns than full
    covariances have data for, with K (M D + M) numbers in place of K M (M + 1) / 2. With one component it is factor
    analysis. Ghahramani & Hinton, The EM algorithm for mixtures of factor analyzers, CRG-TR-96-1 (1996); McLachlan &
    Peel, Finite Mixture Models (2000), 8.

    noise_floor: lower bound of noise variances, as a fraction of the column's variance. prior_weights and
    prior_covariance: as in model=gaussian_mixture.
    """

    blocks = (("weights",), ("means",), ("loadings", "noise_variance"))
    turns = ("means", "loadings")  # loadings with the noise variances, about the new means
    held_when_tempered = ("loadings", "noise_variance")
    axes: ClassVar = {"weights": ("component",), "loadings": ("component", "column", "factor")} | dict.fromkeys(
        ("means", "noise_variance"), ("component", "column")
    )
    family: Any  # a FactorNormal, once it is bound

    def __init__(
        self, num_components: int, latent_dim: int, noise_floor: float, prior_weights: float = 0.0,
        prior_covariance: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(num_components, "full", noise_floor, prior_weights, prior_covariance)
        self.latent_dim = latent_dim

    def check(self, data: Data) -> None:
        super().check(data)
        if self.latent_dim >= (columns := data.shape[1]):
            mend = f"at most model.latent_dim={columns - 1}" if columns > 1 else "model=gaussian_mixture for one column"
            raise UserError(
                f"model.latent_dim={self.latent_dim} factors of {columns} columns are no fewer numbers than they", mend
            )

    def prepare(self, observations: Observations) -> None:
        super().prepare(observations)
        self.family = FactorNormal(self.noise_floor)

    def simulate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Components whose means differ by factor_share of the variance of a column, on average; half of what is left
        is that of their factors. Entries are hidden with probability hidden_share."""
        n, m, k = options["num_points"], options["num_dimensions"], self.num_components
        draw = generator(options["seed"], "simulate")
        kind: dict[str, Any] = {"dtype": torch.float64, "generator": draw}
        between = options["factor_share"] / (1 - options["factor_share"])
        weights = torch.softmax(0.5 * torch.randn(k, **kind), 0).sort(descending=True).values
        means = torch.randn(m, **kind) + math.sqrt(between) * torch.randn(k, m, **kind)
        loadings = torch.randn(k, m, self.latent_dim, **kind) / math.sqrt(2 * self.latent_dim)
        noise = 0.5 * (0.5 * torch.randn(k, m, **kind)).exp()
        component = torch.multinomial(weights, n, replacement=True, generator=draw)
        latents = torch.randn(n, self.latent_dim, 1, **kind)
        values = means[component] + (loadings[component] @ latents).squeeze(-1)
        values = values + noise[component].sqrt() * torch.randn(n, m, **kind)
        values[torch.rand(n, m, **kind) < options["hidden_share"]] = math.nan
        truth = {"weights": weights, "means": means, "loadings": loadings, "noise_variance": noise}
        return {"values": values.numpy(), "truth": {name: value.numpy() for name, value in truth.items()}}

    def tuning(self) -> Tuning:
        return replace(super().tuning(), learning_rate={"adam": 0.1, "rmsprop": 0.03, "adagrad": 0.3, "sgd": 0.03})

    # Parameters ------------------------------------------------------------------------------------------------

    def before_clusters(self, centers: Tensor) -> Parameters:
        first = super().before_clusters(centers)
        del first["covariances"]
        shape = first["means"].shape
        loadings = first["means"].new_zeros(*shape, self.latent_dim)
        return first | {"loadings": loadings, "noise_variance": torch.ones_like(first["means"])}

    def after_clusters(self, first: Parameters, total: Statistics) -> Parameters:
        """A first M-step, noise far from its floor. A component of few rows takes more of the covariance of all."""
        rows, columns = total["components"], self.observations.shape[1]
        means = self.family.maximise(first, total, "means")["means"]
        own = spread_about(means, total) / total["normaliser"].clamp_min(1e-6)[:, None, None]
        pooled = torch.einsum("k,kij->ij", rows / rows.sum(), own)
        share = (rows / (rows + columns + 1))[:, None, None]
        moments = share * own + (1 - share) * pooled
        weights = (rows + 1) / (rows + 1).sum()
        noise = (0.5 * moments.diagonal(dim1=1, dim2=2)).clamp_min(self.noise_floor)
        least = max(LEAST_NOISE, self.noise_floor)
        return {"weights": weights, "means": means} | fitted(moments, noise, self.latent_dim, least)

    def free(self, parameters: Parameters) -> Parameters:
        """Logarithms of weights and of noise variances above their floor; loadings in deviations of the noise."""
        noise = parameters["noise_variance"]
        above = (noise - self.family.floor).clamp_min(self.family.excess).log()
        loadings, weights = parameters["loadings"] * noise.rsqrt()[:, :, None], parameters["weights"].clamp_min(1e-30)
        return {"weights": weights.log(), "means": parameters["means"], "loadings": loadings, "noise_variance": above}

    def constrain(self, free: Parameters) -> Parameters:
        noise = self.family.floor + free["noise_variance"].exp()
        loadings, weights = free["loadings"] * noise.sqrt()[:, :, None], torch.softmax(free["weights"], 0)
        return {"weights": weights, "means": free["means"], "loadings": loadings, "noise_variance": noise}

    def export(self, parameters: Parameters) -> Parameters:
        center, scale = self.observations.center.cpu(), self.observations.scale.cpu()
        inside = {name: value.cpu().double() for name, value in parameters.items()}
        return {
            "weights": inside["weights"],
            "means": center + scale * inside["means"],
            "loadings": scale[:, None] * inside["loadings"],
            "noise_variance": scale**2 * inside["noise_variance"],
        }

    def restore(self, exported: Parameters) -> Parameters:
        center, scale = self.observations.center.cpu(), self.observations.scale.cpu()
        inside = {
            "weights": exported["weights"] / exported["weights"].sum(),
            "means": (exported["means"] - center) / scale,
            "loadings": exported["loadings"] / scale[:, None],
            "noise_variance": (exported["noise_variance"] / scale**2).clamp_min(self.noise_floor),
        }
        return {name: value.to(self.observations.device, self.observations.dtype) for name, value in inside.items()}

    def exported_shapes(self, table: Table) -> dict[str, tuple[int, ...]]:
        k, m = self.num_components, table.shape[1]
        return {"weights": (k,), "means": (k, m), "loadings": (k, m, self.latent_dim), "noise_variance": (k, m)}

    def canonical(self, parameters: Parameters) -> Parameters:
        """The factors of each component turned so that loadings^T loadings / noise_variance is diagonal and falls."""
        new = super().canonical(parameters)
        pairs = zip(new["loadings"], new["noise_variance"], strict=True)
        return new | {"loadings": torch.stack([principal(loadings, noise) for loadings, noise in pairs])}

    def covariances_of(self, exported: Parameters) -> Tensor:
        return covariances_of(exported["loadings"], exported["noise_variance"])

    # What is reported ------------------------------------------------------------------------------------------

    def inferred(self, parameters: Parameters, posterior: Responsibilities) -> dict[str, Tensor]:
        """`responsibilities` (N, K) and `latent_mean` (N, K, D), the factors of a row if it is of component k."""
        loadings, noise = parameters["loadings"], parameters["noise_variance"]
        scaled = loadings.mT / noise[:, None]
        gain = torch.linalg.solve(torch.eye(self.latent_dim).to(loadings) + scaled @ loadings, scaled)
        everything = torch.arange(loadings.shape[1], device=loadings.device)
        filled = posterior.emissions.conditional(everything.expand(len(posterior.responsibilities), -1))[0]
        latents = torch.einsum("kdm,nkm->nkd", gain, filled.to(gain) - parameters["means"])
        return Mixture.inferred(self, parameters, posterior) | {"latent_mean": latents}

    def warnings(self, parameters: Parameters, names: list[str]) -> list[str]:
        found = []
        if len(low := torch.nonzero(parameters["noise_variance"] <= NEAR_FLOOR * self.noise_floor)):
            components, columns = (part.unique().tolist() for part in low.T)
            shown = ", ".join(repr(names[m]) for m in columns[:SHOWN]) + ", .." * (len(columns) > SHOWN)
            found.append(
                f"the noise variance of {self.named(components)} in {shown} ended at its floor, {self.noise_floor:g} "
                f"of the column's, or just above: a Heywood case ({self.lower_floor} lets it fall further; fewer "
                "factors or components, or model.prior_covariance=1, avoid it)"
            )
        least = self.latent_dim + 2
        if few := torch.nonzero(parameters["weights"].cpu() * self.observations.shape[0] < least).flatten().tolist():
            found.append(
                f"{self.named(few)} {'has' if len(few) == 1 else 'have'} fewer than {least} data points each, too few "
                "for a mean and its factors (fewer components or a smaller model.latent_dim)"
            )
        return found
