"""Probabilistic principal component analysis, with missing entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError
from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.models.parts.factor_analysis_start import correlations, leading
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.units import standardisation

LARGEST_RATIO = 1e6  # of the columns' standard deviations


class Ppca(FactorAnalysis):
    """y_n = eta + Phi z_n + noise,  z_n ~ N(0, I_D),  noise ~ N(0, sigma^2 I_M).

    Factor analysis with one noise variance, in the data's own units, for all columns. Tipping & Bishop, Probabilistic
    principal component analysis, JRSS B 61 (1999) 611-622: at the maximum for complete data, sigma^2 is the mean of
    the M - D smallest eigenvalues of the sample covariance S and Phi = U (Lambda - sigma^2 I)^(1/2) R, with U and
    Lambda the D leading eigenvectors and eigenvalues of S and R any rotation; here, as written, R = I.

    noise_floor: lower bound of sigma^2, as a fraction of the data's variance, averaged over columns. Priors are those
    of factor analysis, that of the noise of sigma^2 alone, in the same unit.
    """

    latent_name = "component"
    axes: ClassVar = {"loadings": ("column", "component"), "mean": ("column",)}
    largest_communality = 0.99  # the noise is of all columns

    def __init__(
        self, latent_dim: int, noise_floor: float, prior_loadings: float = 0.0, prior_noise: float = 0.0,
        prior_noise_variance: float = 0.5, rotation: str = "none",
    ) -> None:  # fmt: skip
        super().__init__(latent_dim, False, noise_floor, prior_loadings, prior_noise, prior_noise_variance, rotation)

    def check(self, data: Data) -> None:
        super().check(data)
        _, scale = standardisation(data)
        if scale.max() > LARGEST_RATIO * scale.min():
            low, high = (str(data.table.column_labels[i]) for i in (scale.argmin(), scale.argmax()))
            raise UserError(
                f"{low!r} varies by {scale.min():.2g} and {high!r} by {scale.max():.2g}, and all columns share one "
                "noise variance",
                "bring them to comparable units, or use model=factor_analysis",
            )

    def simulate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        drawn = super().simulate(options)
        drawn["truth"]["noise_variance"] = drawn["truth"]["noise_variance"][0]
        return drawn

    def prepare(self, observations: Observations) -> None:
        """sigma^2 is kept in units of the variance averaged over columns, which are standardised each by its own."""
        super().prepare(observations)
        like = {"dtype": observations.dtype, "device": observations.device}
        self._noise_unit = observations.scale.square().mean()
        self._noise_rows = (self._noise_unit / observations.scale.square()).to(**like)
        self._noise_weight = torch.ones((), **like)

    def gradient_scale(self) -> dict[str, float]:
        return {"noise_variance": 1 / self.observations.shape[1]}

    def noise_of_columns(self, parameters: Parameters) -> Tensor:
        return parameters["noise_variance"] * self._noise_rows

    def _principal_axes(self) -> Tensor:
        """The maximum for complete data, from covariances in the data's own units, standardised."""
        scale = self.observations.scale.cpu()
        covariances = correlations(self.observations).fill_diagonal_(1.0) * scale * scale[:, None]
        size, axes = leading(covariances, self.latent_dim)
        rest = float(covariances.trace() - size.sum()) / max(1, len(scale) - self.latent_dim)
        return axes * (size - rest).clamp_min(1e-2 * float(size[0])).sqrt() / scale[:, None]

    def start(self, seed: int) -> Parameters:
        parameters = super().start(seed)
        unit = 1 / self._noise_rows
        noise = parameters["noise_variance"] @ unit / unit.sum()  # averaged in the data's own units
        return parameters | {"noise_variance": noise}

    def _noise_share(self) -> tuple[Tensor, Tensor]:
        """An equal part of imaginary entries of the one noise variance, in the unit of the column."""
        part = torch.full_like(self._noise_rows, 1 / len(self._noise_rows))
        return part * self._noise_rows, part

    def _maximise_noise(
        self, parameters: Parameters, residual: Tensor, count: Tensor, imagined: Tensor | None
    ) -> Tensor:
        number = count if imagined is None else count + imagined
        return (residual / self._noise_rows).sum() / number.sum()

    def export(self, parameters: Parameters) -> Parameters:
        noise = parameters["noise_variance"].cpu().double() * self._noise_unit.cpu()
        return super().export(parameters) | {"noise_variance": noise}

    def exported_shapes(self, table: Table) -> dict[str, tuple[int, ...]]:
        return super().exported_shapes(table) | {"noise_variance": ()}

    def restore(self, exported: Parameters) -> Parameters:
        noise = exported["noise_variance"] / self._noise_unit.cpu()
        restored = super().restore(exported)
        return restored | {"noise_variance": noise.clamp_min(self.noise_floor).to(restored["mean"])}

    def implied_covariance(self, exported: Parameters) -> Tensor:
        each = exported["noise_variance"].expand(len(exported["mean"]))
        return super().implied_covariance(exported | {"noise_variance": each})

    def most_identified(self, offset: bool) -> int:
        """With one direction at least that is noise alone."""
        return self.observations.shape[1] - 1

    def warnings(self, parameters: Parameters, names: list[str]) -> list[str]:
        if parameters["noise_variance"] > NEAR_FLOOR * self.noise_floor:
            return self._not_identified()
        fewer = "use fewer, or " if self.latent_dim > 1 else ""
        return [
            *self._not_identified(),
            f"the noise variance ended at its floor, {self.noise_floor:g} of the variance, or just above: "
            f"{self.latent_dim} factors explain the data almost entirely ({self.lower_floor} lets it fall further; "
            f"where it ends at that floor too, {fewer}bring columns to comparable units)",
        ]
