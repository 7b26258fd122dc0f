"""A stationary autoregression as a first-order chain of its last values."""

from __future__ import annotations

import numpy as np

from lgm_cli.numerics.cumulated import LinearChain
from lgm_cli.numerics.durbin_levinson import autocovariances


def companion(
    coefficients: np.ndarray,  # (p,)
    innovation_variance: float | np.ndarray,
    noise_variance: float | np.ndarray,
) -> LinearChain:
    """The state (z_t, .., z_(t-p+1)), whose first entry is observed with noise; the first from the stationary
    distribution (Durbin & Koopman, Time Series Analysis by State Space Methods, 2012, section 3.4)."""
    p = len(coefficients)
    transition, covariance = np.eye(p, k=-1), np.zeros((p, p))
    transition[0], covariance[0, 0] = coefficients, innovation_variance
    lags = np.abs(np.subtract.outer(np.arange(p), np.arange(p)))
    start = autocovariances(np.asarray(coefficients), float(innovation_variance), p)[lags]
    return LinearChain(transition, covariance, np.eye(1, p), np.reshape(noise_variance, 1), np.zeros(p), start)
