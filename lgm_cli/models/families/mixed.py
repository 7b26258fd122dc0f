"""Distributions of single entries whose component or state is uncertain."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


class Mixed:
    """p(y) = sum_k r_k p(y | k) of t entries, each with weights of its own, in the data's own units.

    weights: r (K, t). means, variances: (K, t), of the components. log_component: log p(values | k), (K, t), of values
    (t,). mean, variance: (1, t), of the mixture.
    """

    def __init__(
        self, weights: Tensor, means: Tensor, variances: Tensor, log_component: Callable[[Tensor], Tensor]
    ) -> None:
        self._weights, self._log_component = weights, log_component
        mean = (weights * means).sum(0)
        self.mean = mean[None]
        self.variance = (weights * (variances + (means - mean).square())).sum(0)[None]

    def log_density(self, values: Tensor) -> Tensor:
        """Log density, or of counts and categories log probability, of values (1, t)."""
        return torch.logsumexp(self._weights.log() + self._log_component(values[0]), 0)[None]


def log_normal(means: Tensor, variances: Tensor) -> Callable[[Tensor], Tensor]:
    """The log density of normal components (K, t) at values (t,)."""
    variances = variances.clamp_min(torch.finfo(variances.dtype).tiny)
    return lambda values: -0.5 * ((values - means).square() / variances + (2 * math.pi * variances).log())
