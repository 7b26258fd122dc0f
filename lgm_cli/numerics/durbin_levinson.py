"""Stationary autoregressions by their reflection coefficients: predictors and whitening rows.

A stationary AR(p) with innovation variance q is one-to-one with p reflection coefficients (partial autocorrelations)
r_1 .. r_p in (-1, 1) (Barndorff-Nielsen & Schou 1973; Monahan, Biometrika 71 (1984) 403-404). With u = artanh r any
vector of p numbers is a stationary process: there is no constraint to watch. Durbin and Levinson's recursion gives the
prediction error filters c^(k) = (1, -a^(k)_1, .., -a^(k)_k) of all orders,

    c^(k)_j = c^(k-1)_j - r_k c^(k-1)_(k-j),  0 <= j <= k,  c^(0) = 1,

and the variance of the k-th prediction error is q / w_k with w_k = prod_(i > k) (1 - r_i^2).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad, softplus


def log_cosh(u: Tensor) -> Tensor:
    """-1/2 log(1 - tanh(u)^2), without cancellation near the unit circle."""
    return u + softplus(-2 * u) - math.log(2)


def whitening_rows(u: Tensor) -> Tensor:
    """Rows k = 0 .. p, sqrt(w_k) c^(k) padded with zeros, (p + 1, p + 1); differentiable in u (p,).

    Row k times (z_t, z_(t-1), .., z_(t-p)) / sqrt(q) is N(0, 1): for t = k + 1 <= p, the first entries of the series,
    from their stationary covariance, and k = p for all that follow.
    """
    order, r = len(u), u.tanh()
    filters = [u.new_ones(1)]
    for k in range(order):
        before = pad(filters[-1], (0, 1))
        filters.append(before - r[k] * before.flip(0))
    half_log = pad(-log_cosh(u).flip(0).cumsum(0).flip(0), (0, 1))  # log sqrt(w_k)
    return torch.stack([pad(c, (0, order + 1 - len(c))) for c in filters]) * half_log.exp()[:, None]


def coefficients(u: Tensor) -> Tensor:
    """a (p,), z_t = sum_i a_i z_(t-i) + innovation; differentiable."""
    return -whitening_rows(u)[-1, 1:]


def reflections(a: np.ndarray) -> np.ndarray:
    """r (p,) of the coefficients a (p,) of a stationary process: Levinson's recursion downwards."""
    a, r = np.array(a, np.float64), np.empty(len(a))
    for k in range(len(r) - 1, -1, -1):
        r[k], rest = a[k], a[:k]
        a = (rest + r[k] * rest[::-1]) / (1 - r[k] ** 2)
    return r


def levinson(covariances: np.ndarray) -> np.ndarray:
    """r (p,) of the best linear predictors for autocovariances (p + 1,) of a positive definite sequence."""
    order = len(covariances) - 1
    a, r, error = np.empty(0), np.empty(order), covariances[0]
    for k in range(order):
        r[k] = (covariances[k + 1] - a @ covariances[k:0:-1]) / error
        a = np.append(a - r[k] * a[::-1], r[k])
        error *= 1 - r[k] ** 2
    return r


def autocovariances(a: np.ndarray, innovation_variance: float, count: int) -> np.ndarray:
    """Cov(z_t, z_(t-k)) for k = 0 .. count - 1, by the predictor of each order (Yule and Walker)."""
    r = reflections(a)
    gamma, predictor = np.zeros(max(count, 1)), np.empty(0)
    gamma[0] = innovation_variance / np.prod(1 - r**2)
    for k in range(1, count):
        if k <= len(r):
            predictor = np.append(predictor - r[k - 1] * predictor[::-1], r[k - 1])
        gamma[k] = predictor @ gamma[k - len(predictor) : k][::-1]
    return gamma
