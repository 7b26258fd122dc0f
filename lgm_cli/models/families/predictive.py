"""Distributions of hidden entries by a finite latent variable."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lgm_cli.models.base.predictive import Predictive

Density = Callable[[Tensor], Tensor]  # from values (n, t) to log p_k(values), (n, K, t)


@dataclass(frozen=True)
class NormalMixturePredictive(Predictive):
    """p(y_nm) = sum_k r_nk N(y_nm; m_nkm, v_nkm), of t entries of each of n data points, in the data's own units.

    weights: r (n, K). means, variances: (n, K, t).
    """

    weights: Tensor
    means: Tensor
    variances: Tensor

    @classmethod
    def of(cls, weights: Tensor, means: Tensor, variances: Tensor) -> NormalMixturePredictive:
        """The mixture, with its own mean and variance."""
        mean = (weights[:, :, None] * means).sum(1)
        spread = variances + (means - mean[:, None]).square()
        return cls(mean, (weights[:, :, None] * spread).sum(1), weights, means, variances)

    def log_density(self, values: Tensor) -> Tensor:
        variances = self.variances.clamp_min(torch.finfo(self.variances.dtype).tiny)  # of what was observed it is zero
        square = (values[:, None] - self.means).square() / variances
        each = -0.5 * (square + variances.log() + math.log(2 * math.pi))
        return torch.logsumexp(self.weights[:, :, None].log() + each, 1)


@dataclass(frozen=True)
class MixturePredictive(Predictive):
    """p(y_nm) = sum_k r_nk p_k(y_nm), of t entries of each of n data points, in the data's own units.

    weights: r (n, K). log_component: log p_k(values), (n, K, t), of values (n, t).
    """

    weights: Tensor
    log_component: Density

    @classmethod
    def of(cls, weights: Tensor, means: Tensor, variances: Tensor, log_component: Density) -> MixturePredictive:
        """From the means and variances (n, K, t) of the components."""
        mean = (weights[:, :, None] * means).sum(1)
        variance = (weights[:, :, None] * (variances + (means - mean[:, None]).square())).sum(1)
        return cls(mean, variance, weights, log_component)

    def log_density(self, values: Tensor) -> Tensor:
        return torch.logsumexp(self.weights[:, :, None].log() + self.log_component(values), 1)
