"""Varimax: the rotation of the factors in which each is told by few columns. NumPy only."""

from __future__ import annotations

import numpy as np

SWEEPS = 100
SMALLEST_ANGLE = 1e-9


def varimax(loadings: np.ndarray, factors: int | None = None, normalize: bool = True) -> np.ndarray:
    """Orthonormal R (D, factors) for which `loadings @ R` (M, factors) has the largest varimax criterion.

    A factor analysis determines its loadings and scores up to a rotation: (L R, z R) fits as well as (L, z).
    Kaiser's `criterion` picks the R that spreads the squared loadings of each factor the most; each row counts
    by its direction alone with `normalize`, which was his choice and is that of R's `varimax`.

    The ascent turns one pair of factors at a time by the angle that is best for the pair, in closed form
    (Kaiser 1958, section 4), so the criterion never falls; with x, y two columns, u = x^2 - y^2, v = 2 x y,

        tan(4 angle) = (2 sum uv - 2 sum u sum v / M) / (sum (u^2 - v^2) - ((sum u)^2 - (sum v)^2) / M).

    It starts from the `factors` leading principal axes of the loadings (all D by default), so the rotation in
    which learning happened to end does not matter. The factors come ordered by the variance they explain, the
    largest loading of each positive. Scores (N, D) turn with the same R.

    Kaiser (1958), The varimax criterion for analytic rotation in factor analysis, Psychometrika 23, 187-200.
    """
    loadings = np.asarray(loadings, dtype=np.float64)
    if not np.isfinite(loadings).all():
        raise ValueError("loadings that are not finite have no rotation")
    axes = np.linalg.eigh(loadings.T @ loadings)[1][:, ::-1][:, :factors]  # (D, factors), principal ones first
    turned = _unit_rows(loadings @ axes) if normalize else loadings @ axes  # (M, factors)
    pairs = [(i, j) for j in range(axes.shape[1]) for i in range(j)]
    for _ in range(SWEEPS):
        widest = 0.0
        for i, j in pairs:
            angle = _angle(turned[:, i], turned[:, j])
            cosine, sine = np.cos(angle), np.sin(angle)
            plane = np.array([[cosine, -sine], [sine, cosine]])
            turned[:, [i, j]] = turned[:, [i, j]] @ plane
            axes[:, [i, j]] = axes[:, [i, j]] @ plane
            widest = max(widest, abs(angle))
        if widest < SMALLEST_ANGLE:
            break
    rotated = loadings @ axes
    axes = axes[:, np.argsort(-(rotated**2).sum(0), kind="stable")]
    rotated = loadings @ axes
    largest = rotated[np.abs(rotated).argmax(0), np.arange(rotated.shape[1])]
    return axes * np.where(largest < 0, -1.0, 1.0)


def criterion(loadings: np.ndarray, normalize: bool = True) -> float:
    """sum_j [mean_m l_mj^4 - (mean_m l_mj^2)^2]: the variances of the factors' squared loadings, summed."""
    loadings = _unit_rows(loadings) if normalize else loadings
    return float((loadings**2).var(axis=0).sum())


def _angle(x: np.ndarray, y: np.ndarray) -> float:
    """The angle, in (-pi/4, pi/4], to turn the columns x and y (M,) by."""
    u, v = x**2 - y**2, 2 * x * y
    numerator = 2 * (u @ v) - 2 * u.sum() * v.sum() / len(x)
    denominator = u @ u - v @ v - (u.sum() ** 2 - v.sum() ** 2) / len(x)
    return np.arctan2(numerator, denominator) / 4


def _unit_rows(loadings: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(loadings, axis=1, keepdims=True)
    return loadings / np.where(lengths > 0, lengths, 1.0)  # a row of zeros stays one
