"""The factors of a run in the one rotation, order and scale in which all its files and pictures show them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.numerics.promax import promax
from lgm_cli.numerics.varimax import varimax

MOST_ROTATED = 50  # factors; the work of turning all pairs of them grows with their square, and nobody reads so many


@dataclass(frozen=True)
class Rotated:
    """Loadings as they are shown. With s_m^2 the variance of column m that the model implies,

        loadings_m = (phi_m / s_m) T,   communality_m = 1 - noise variance_m / s_m^2,   scores = z T^-T.

    For orthogonal factors a loading is the correlation of the column with the factor.
    """

    loadings: np.ndarray  # (M, D), in standard deviations of the column
    offset: np.ndarray | None  # (M,) those of the offset, in the same unit
    communality: np.ndarray  # (M,) share of the variance of the column; what is left is its uniqueness
    correlations: np.ndarray  # (D, D) of the factors
    turn_of_scores: np.ndarray  # (D, D): z, as in posterior.safetensors, times this
    rotated_by: str | None  # None where the axes are the canonical ones of parameters.safetensors

    @property
    def squares(self) -> np.ndarray:
        """Sums of squared loadings, (D,), in units of the variance of one column. Of correlated factors it is the
        diagonal of C L^T L, whose sum is still that of the communalities but for the offset."""
        return (self.correlations @ self.loadings.T @ self.loadings).diagonal()


def rotated(model: FactorAnalysis, exported: Parameters) -> Rotated:
    """The factors as `model.rotation` says. Varimax and promax order them by the sum of squares of their varimax
    loadings, with the largest loading of each positive; more than MOST_ROTATED factors are not rotated."""
    found = {name: value.double().numpy() for name, value in exported.items()}
    noise, offset = found["noise_variance"], found.get("offset_variance", 0.0)
    variance = (found["loadings"] ** 2).sum(1) + offset + noise
    scale = np.sqrt(variance)
    loadings = found["loadings"] / scale[:, None]
    factors = loadings.shape[1]
    turn, correlations, rotated_by = np.eye(factors), np.eye(factors), None
    if 1 < factors <= MOST_ROTATED and model.rotation != "none":
        rotated_by = model.rotation
        turn, correlations = promax(loadings) if rotated_by == "promax" else (varimax(loadings), correlations)
    return Rotated(
        loadings @ turn,
        np.sqrt(offset) / scale if "offset_variance" in found else None,
        1 - noise / variance,
        correlations,
        np.linalg.inv(turn).T,
        rotated_by,
    )
