"""Distributions of hidden entries by a finite latent variable."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class NormalMixturePredictive:
    """p(y_nm) = sum_k r_nk N(y_nm; m_nkm, v_nkm), of t entries of each of n data points, in the data's own units.

    weights: r (n, K). means, variances: (n, K, t). mean, variance: (n, t), of the mixture.
    """

    def __init__(self, weights: Tensor, means: Tensor, variances: Tensor) -> None:
        self._weights, self._means = weights[:, :, None], means
        self._variances = variances.clamp_min(torch.finfo(variances.dtype).tiny)
        self.mean = (self._weights * means).sum(1)
        spread = variances + (means - self.mean[:, None]).square()
        self.variance = (self._weights * spread).sum(1)

    def log_density(self, values: Tensor) -> Tensor:
        """log p of values (n, t)."""
        square = (values[:, None] - self._means).square() / self._variances
        each = -0.5 * (square + self._variances.log() + math.log(2 * math.pi))
        return torch.logsumexp(self._weights.log() + each, 1)
