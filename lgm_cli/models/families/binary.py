"""Bernoulli components: columns of zeros and ones with missing entries."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters, Statistics
from lgm_cli.models.families.normal import EMPTY
from lgm_cli.observations.chunk import Chunk


class Binary:
    """P(y_m = 1 | k) = probability_km, independent over columns m given the component k, hidden entries left out.

    Parameters are `probabilities` (K, M). Statistics are sums over rows with weights r_nk: `count` and `first` (K, M),
    those of r and r y over the observed entries. A beta prior adds to them.

    floor: lower bound of the probabilities of a one and of a zero.
    """

    names = ("probabilities",)

    def __init__(self, floor: float) -> None:
        self.floor = floor

    def emissions(self, parameters: Parameters, chunk: Chunk) -> BinaryEmissions:
        """What the rows of a chunk tell of the components."""
        return BinaryEmissions(parameters["probabilities"], chunk)

    def imagined(self, points: float, probabilities: Tensor) -> Statistics:
        """Statistics of so many imaginary rows of each component with these shares (K, M) of ones:
        p ~ beta(1 + points share, 1 + points (1 - share)), whose mode is the share."""
        return {"count": torch.full_like(probabilities, points), "first": points * probabilities}

    def constraints(self, parameters: Parameters) -> Tensor:
        return parameters["probabilities"].new_zeros(0)

    def at_bounds(self, parameters: Parameters) -> dict[str, Tensor]:
        p = parameters["probabilities"]
        return {"probabilities": torch.minimum(p, 1 - p) <= NEAR_FLOOR * self.floor}

    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> Tensor:
        """-sum r log p(y | k) = -sum first log p + (count - first) log(1 - p), differentiable. ()"""
        one, zero = _logs(parameters["probabilities"])
        first, count = statistics["first"], statistics["count"]
        return -(first * one + (count - first) * zero).sum()

    def maximise(self, parameters: Parameters, statistics: Statistics, block: str | None = None) -> Parameters:
        """Weighted means within the floors. A component that has almost no weight in a column keeps its own."""
        count, probabilities = statistics["count"], parameters["probabilities"]
        few = count <= EMPTY * count.sum(0)
        found = (statistics["first"] / count.masked_fill(few, 1.0)).clamp(self.floor, 1 - self.floor)
        return {"probabilities": torch.where(few, probabilities, found)}

    def free(self, probabilities: Tensor) -> Tensor:
        """Logarithms of the odds between the floors."""
        above, below = probabilities - self.floor, 1 - self.floor - probabilities
        least = 1e-3 * self.floor
        return above.clamp_min(least).log() - below.clamp_min(least).log()

    def constrain(self, free: Tensor) -> Tensor:
        return self.floor + (1 - 2 * self.floor) * free.sigmoid()


class BinaryEmissions:
    """Zeros and ones under Bernoulli components. log_density: (n, K), of the observed entries, differentiable."""

    def __init__(self, probabilities: Tensor, chunk: Chunk) -> None:
        self.probabilities, self._columns = probabilities, chunk.scattered(probabilities.shape[1])
        seen, values = self._columns
        one, zero = _logs(probabilities)
        self.log_density = values @ one.mT + (seen - values) @ zero.mT

    def statistics(self, weights: Tensor) -> Statistics:
        """`count` and `first` of rows with weights (n, K)."""
        seen, values = self._columns
        return {"count": weights.mT @ seen, "first": weights.mT @ values}

    def entropy(self, weights: Tensor) -> Tensor:
        """Hidden entries are left out, so that there is none. (n,)"""
        return torch.zeros_like(weights[:, 0])

    def conditional(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of entries index (n, t) given the component, (n, K, t) each."""
        mean = self.probabilities[:, index].transpose(0, 1)
        return mean, mean * (1 - mean)

    def log_mass(self, index: Tensor, values: Tensor) -> Tensor:
        """log P(y = values | k) of entries index (n, t), for values (n, t). (n, K, t)"""
        return log_mass(self.probabilities[:, index].transpose(0, 1), values[:, None])

    def drawn(self, component: Tensor, generator: Generator) -> BinaryEmissions:
        return self


def log_mass(probabilities: Tensor, values: Tensor) -> Tensor:
    """log P(y = values); minus infinity where a value is neither zero nor one."""
    one, zero = _logs(probabilities)
    return torch.where(values == 1, one, torch.where(values == 0, zero, -torch.inf))


def _logs(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the probabilities of a one and of a zero."""
    return probabilities.log(), torch.log1p(-probabilities)
