"""Distributions of hidden entries."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Predictive:
    """Independent normal predictions of hidden entries, given what was observed of their data points.

    mean, variance: (n, t), in the data's own units, float64, on the CPU. A model whose predictions are not normal gives
    a subclass with its own `log_density`.
    """

    mean: Tensor
    variance: Tensor

    def log_density(self, values: Tensor) -> Tensor:
        """The logarithm of the density, or of the probability of counts and classes, of values (n, t)."""
        return -0.5 * ((values - self.mean) ** 2 / self.variance + (2 * math.pi * self.variance).log())
