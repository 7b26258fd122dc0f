"""Distributions of single entries whose component or state is uncertain."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lgm_cli.models.base.predictive import Predictive


@dataclass(frozen=True)
class Mixed(Predictive):
    """p(y) = sum_k r_k p(y | k) of t entries, (1, t), each with weights of its own.

    weights: r (K, t). log_component: log p(values | k), (K, t), of values (t,), in the data's own units.
    """

    weights: Tensor
    log_component: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, weights: Tensor, means: Tensor, variances: Tensor, log_component: Callable[[Tensor], Tensor]) -> Mixed:
        """From the means and variances (K, t) of the components."""
        mean = (weights * means).sum(0)
        variance = (weights * (variances + (means - mean).square())).sum(0)
        return cls(mean[None], variance[None], weights, log_component)

    def log_density(self, values: Tensor) -> Tensor:
        return torch.logsumexp(self.weights.log() + self.log_component(values[0]), 0)[None]


def log_normal(means: Tensor, variances: Tensor) -> Callable[[Tensor], Tensor]:
    """The log density of normal components (K, t) at values (t,)."""
    variances = variances.clamp_min(torch.finfo(variances.dtype).tiny)
    return lambda values: -0.5 * ((values - means).square() / variances + (2 * math.pi * variances).log())
