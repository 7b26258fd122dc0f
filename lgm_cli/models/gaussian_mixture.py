"""Mixtures of normal distributions, with missing entries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError
from lgm_cli.models.base.mixture import Mixture, error_of_components
from lgm_cli.models.base.naming import axes_of_components
from lgm_cli.models.base.parameters import ANY, NEAR_FLOOR, Parameters, Statistics
from lgm_cli.models.base.tuning import Tuning
from lgm_cli.models.families.normal import Normal, normal
from lgm_cli.models.families.normal_emissions import PART
from lgm_cli.models.families.predictive import NormalMixturePredictive
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.costs import exact_part_size
from lgm_cli.posteriors.responsibilities import Responsibilities
from lgm_cli.randomness import generator

AUTO = "model.num_components=auto is as many components as data.labels has classes, and there are none"


class GaussianMixture(Mixture):
    """k_n ~ weights,  y_n | k_n ~ N(means_k, covariances_k), of which any entries may be missing at random.

    covariance: full (each component its own), tied (one for all), diagonal, or spherical (one variance, in the data's
    own units, for all columns of a component). Responsibilities are r_nk = p(k | observed entries of y_n).
    Ghahramani & Jordan, Supervised learning from incomplete data via an EM approach, NIPS 6 (1994). The likelihood of
    a component that shrinks onto a point has no bound, so covariances have a floor.

    noise_floor: lower bound of the eigenvalues of every covariance of the columns standardised each by its own.
    prior_weights: imaginary data points that each component has before any is seen, w ~ Dirichlet(1 + this).
    prior_covariance: imaginary data points about the mean of each component (of all, of a tied covariance) that have
    the variances of the data and no correlation: an inverse Wishart or gamma prior, which bounds the posterior density.

    Inside, columns are standardised, and `covariances` are in the compact shape of lgm_cli/models/families/normal.py.
    """

    blocks = (("weights",), ("means",), ("covariances",))
    held_when_tempered = ("covariances",)  # learned too, they would keep merged components merged
    pictures: ClassVar = ("mixtures",)
    results: ClassVar = ("components",)
    axes: ClassVar = axes_of_components("component")
    one_column = True
    turns = ("means", "covariances")  # covariances about the new means

    family: Normal
    start_numbers = 1 << 24

    def __init__(
        self,
        num_components: int | str,
        covariance: str,
        noise_floor: float,
        prior_weights: float = 0.0,
        prior_covariance: float = 0.0,
    ) -> None:
        self.prior_weights, self.prior_covariance = prior_weights, prior_covariance
        self.num_components = num_components if isinstance(num_components, int) else 0  # auto: as many as classes
        self.covariance, self.noise_floor = covariance, noise_floor
        self.in_common = ("covariances",) if covariance == "tied" else ()

    def check(self, data: Data) -> None:
        super().check(data)
        if not self.num_components and data.table.class_names is None:
            raise UserError(AUTO, "give their number, e.g. model.num_components=3")

    def prepare(self, observations: Observations) -> None:
        self.num_components = self.num_components or len(observations.class_names)
        unit = observations.scale.square().mean() / observations.scale.square()
        self.family = normal(self.covariance, self.noise_floor, unit.to(observations.device, observations.dtype))
        patterns = sum(
            1 if chunk.index is not None and chunk.index.dim() == 1 else len(chunk.points)
            for chunk in observations.chunks
        )
        self._patterns = patterns / observations.shape[0]  # of gaps, at most, for each data point
        k, m = self.num_components, observations.shape[1]
        # Of a latent vector whose posterior takes as much memory as that of a row: what parts of chunks are cut by.
        self.dim = max(k, math.ceil(2 * math.sqrt(k * m))) if self._dense else k

    # Data drawn from the model ---------------------------------------------------------------------------------

    def simulate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Draw rows of components whose means differ by factor_share of the variance of a column, on average; full
        and tied covariances have latent_dim directions that carry half of theirs. Entries are hidden with probability
        hidden_share."""
        n, m, k = options["num_points"], options["num_dimensions"], self.num_components
        if not k:
            raise UserError(AUTO, "give their number, e.g. model.num_components=3")
        draw = generator(options["seed"], "simulate")
        kind = {"dtype": torch.float64, "generator": draw}
        between = options["factor_share"] / (1 - options["factor_share"])
        weights = torch.softmax(0.5 * torch.randn(k, **kind), 0).sort(descending=True).values
        means = torch.randn(m, **kind) + math.sqrt(between) * torch.randn(k, m, **kind)
        directions = torch.randn(k, m, options["latent_dim"], **kind) / math.sqrt(options["latent_dim"])
        variances = (0.5 * torch.randn(k, m, **kind)).exp()
        dense = 0.5 * directions @ directions.mT + torch.diag_embed(0.5 * variances)
        covariances = {
            "full": dense,
            "tied": dense[:1].expand(k, -1, -1),
            "diagonal": torch.diag_embed(variances),
            "spherical": variances[:, :1, None] * torch.eye(m, dtype=torch.float64),
        }[self.covariance]
        component = torch.multinomial(weights, n, replacement=True, generator=draw)
        error = torch.randn(n, m, 1, **kind)
        values = means[component] + (torch.linalg.cholesky(covariances)[component] @ error).squeeze(-1)
        values[torch.rand(n, m, **kind) < options["hidden_share"]] = math.nan
        truth = {"weights": weights, "means": means, "covariances": covariances}
        return {"values": values.numpy(), "truth": {name: value.numpy() for name, value in truth.items()}}

    # Parameters ------------------------------------------------------------------------------------------------

    start_name = "initial means"

    def before_clusters(self, centers: Tensor) -> Parameters:
        """Means are the centers, gaps filled with column means; covariances are those of all columns."""
        k, like = self.num_components, {"dtype": self.observations.dtype, "device": self.observations.device}
        identity = torch.eye(self.observations.shape[1], **like).expand(k, -1, -1)
        first = {"weights": torch.full((k,), 1 / k, **like), "means": centers.to(**like)}
        return first | {"covariances": self.family.compact(identity)}

    def after_clusters(self, first: Parameters, total: Statistics) -> Parameters:
        """An M-step. A component of few rows takes more of the covariance of all."""
        k, columns = self.num_components, self.observations.shape[1]
        new = self.maximise(first, total)
        rows = total["components"]
        written = self.family.written(new["covariances"], k, columns)
        pooled = torch.einsum("k,kij->ij", rows / rows.sum(), written)
        share = (rows / (rows + columns + 1))[:, None, None]
        new["covariances"] = self.family.compact(share * written + (1 - share) * pooled)
        new["weights"] = (rows + 1) / (rows + 1).sum()
        return new

    def features(self, chunk: Chunk) -> Tensor:
        """Standardised values, gaps filled with column means."""
        return chunk.scattered(self.observations.shape[1])[1]

    def free(self, parameters: Parameters) -> Parameters:
        """Logarithms of weights, means, and covariances above their floor as the family has them."""
        return {
            "weights": parameters["weights"].clamp_min(1e-30).log(),
            "means": parameters["means"],
            "covariances": self.family.free(parameters["covariances"]),
        }

    def constrain(self, free: Parameters) -> Parameters:
        return {
            "weights": torch.softmax(free["weights"], 0),
            "means": free["means"],
            "covariances": self.family.constrain(free["covariances"]),
        }

    def export(self, parameters: Parameters) -> Parameters:
        center, scale = self.observations.center.cpu(), self.observations.scale.cpu()
        inside = {name: value.cpu().double() for name, value in parameters.items()}
        written = self.family.written(inside["covariances"], self.num_components, len(scale))
        return {
            "weights": inside["weights"],
            "means": center + scale * inside["means"],
            "covariances": (written * scale * scale[:, None]).contiguous(),
        }

    def restore(self, exported: Parameters) -> Parameters:
        center, scale = self.observations.center.cpu(), self.observations.scale.cpu()
        inside = {
            "weights": exported["weights"] / exported["weights"].sum(),
            "means": (exported["means"] - center) / scale,
            "covariances": self.family.compact(exported["covariances"] / scale / scale[:, None]),
        }
        return {name: value.to(self.observations.device, self.observations.dtype) for name, value in inside.items()}

    def exported_shapes(self, table: Table) -> dict[str, tuple[int, ...]]:
        k, m = self.num_components or ANY, table.shape[1]
        return {"weights": (k,), "means": (k, m), "covariances": (k, m, m)}

    def fix(self, exported: Parameters, state: Mapping[str, Tensor]) -> None:
        super().fix(exported, state)
        self.num_components = len(exported["weights"])

    def units(self, exported: Parameters) -> tuple[np.ndarray, np.ndarray]:
        mean = exported["weights"] @ exported["means"]
        return mean.numpy(), self.implied_covariance(exported).diagonal().sqrt().numpy()

    def canonical(self, parameters: Parameters) -> Parameters:
        return self.reordered(parameters, self.order(parameters["weights"]))

    # Costs -----------------------------------------------------------------------------------------------------

    @property
    def _dense(self) -> bool:
        return self.covariance in ("full", "tied")

    def tuning(self) -> Tuning:
        rates = {"adam": 0.03, "rmsprop": 0.01, "adagrad": 0.1, "sgd": 0.03}
        return replace(super().tuning(), learning_rate=rates)

    def exact_operations(self, observed: np.ndarray) -> np.ndarray:
        """Of the densities and of the factorisations, which rows with the same pattern of gaps share."""
        if not self._dense:
            return 3.0 * self.num_components * observed
        return self.num_components * (observed**2 + self._patterns * observed**3 / 3)

    def product_operations(self, observed: np.ndarray) -> np.ndarray:
        """Of the densities alone, for the number of threads."""
        return self.num_components * observed * (self.observations.shape[1] if self._dense else 3.0)

    def exact_bytes(self, gradient: bool = False) -> float:
        """Of rows with gaps of their own, the rows of the covariances that are observed, factors and their inverses;
        of diagonal covariances, squares in double precision."""
        k, m, peaks = self.num_components, self.observations.shape[1], [0.0]
        for chunk in self.observations.chunks:
            n, width = min(exact_part_size(chunk, self.dim), len(chunk.points)), chunk.width
            each, whole = 6 * k + 2 * m, 0.0
            if not self._dense:
                each += 15 * m
            elif chunk.index is None or chunk.index.dim() == 2:
                own, all_own = (1, 0.5 * k * width * m) if self.covariance == "tied" else (k, 0)
                each += own * width * (1.1 * width + 4.4 * m) + all_own
            else:
                each += 3 * k * width * (width < m)
                whole = 1.5 * PART
            peaks.append(n * each + whole)
        return float(self.observations.dtype.itemsize * (max(peaks) + 6 * k * m * (m if self._dense else 1)))

    @property
    def has_prior(self) -> bool:
        return bool(self.prior_weights or self.prior_covariance)

    def imagined(self, like: Tensor) -> Statistics:
        means = like.new_zeros(self.num_components, self.observations.shape[1])
        return self.family.imagined(self.prior_covariance, means)

    # What is reported ------------------------------------------------------------------------------------------

    def predict(self, parameters: Parameters, posterior: Responsibilities, index: Tensor) -> NormalMixturePredictive:
        """A mixture of each component's conditional normal of the entry, given the row's observed ones."""
        center, scale = (x.cpu()[index.cpu()][:, None] for x in (self.observations.center, self.observations.scale))
        mean, variance = (part.cpu().double() for part in posterior.emissions.conditional(index))
        weights = posterior.responsibilities.cpu().double()
        return NormalMixturePredictive.of(weights, center + scale * mean, scale**2 * variance)

    def implied_covariance(self, exported: Parameters) -> Tensor:
        weights, means = exported["weights"], exported["means"]
        apart = means - weights @ means
        return torch.einsum("k,kij->ij", weights, self.covariances_of(exported)) + (weights[:, None] * apart).mT @ apart

    def covariances_of(self, exported: Parameters) -> Tensor:
        """Those of the components, (K, M, M)."""
        return exported["covariances"]

    def parameter_error(self, parameters: Parameters, truth: Mapping[str, np.ndarray]) -> float:
        """|A - A0| / |A0| (Frobenius) over the components' moments A_k = weight_k E[u u^T | k] of u = (1, y), y in
        standard deviations of the truth, under the best order of the components. A component too many, or missing,
        is compared with zero."""
        true = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in truth.items()}
        center, deviation = (torch.as_tensor(x) for x in self.units(true))

        def moments(exported: Parameters) -> Tensor:
            mean = (exported["means"] - center) / deviation
            u = torch.cat([torch.ones(len(mean), 1, dtype=torch.float64), mean], dim=1)
            spread = torch.nn.functional.pad(
                self.covariances_of(exported) / deviation / deviation[:, None], (1, 0, 1, 0)
            )
            return (exported["weights"][:, None, None] * (u[:, :, None] * u[:, None] + spread)).flatten(1)

        return error_of_components(moments(self.export(parameters)), moments(true))

    def warnings(self, parameters: Parameters, names: list[str]) -> list[str]:
        found, k = [], self.num_components
        smallest = self.family.smallest(parameters["covariances"]).cpu()
        low = torch.nonzero(smallest <= NEAR_FLOOR * self.noise_floor).flatten().tolist()
        mend = f"fewer {self.word}s" if k > 1 else "fewer columns"
        if low:
            which = "the common covariance" if self.covariance == "tied" else f"the covariance of {self.named(low)}"
            found.append(
                f"{which} ended at its floor, {self.noise_floor:g} of the variance in some direction, or just above: "
                f"its rows hardly differ there ({self.lower_floor} lets it fall further; {mend}, a simpler "
                "model.covariance or model.prior_covariance=1 avoids it)"
            )
        rows = parameters["weights"].cpu().double() * self.observations.shape[0]
        needed = {"full": self.observations.shape[1] + 1, "tied": 1}.get(self.covariance, 2)
        few = torch.nonzero(rows < needed).flatten().tolist()
        if few:
            found.append(
                f"{self.named(few)} {'has' if len(few) == 1 else 'have'} fewer than {needed} data points each, too "
                f"few for a mean and a covariance ({mend} or a simpler model.covariance)"
            )
        return found
