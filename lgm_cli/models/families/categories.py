"""Categorical components: columns of categories with missing entries."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters, Statistics
from lgm_cli.models.families.normal import EMPTY
from lgm_cli.observations.chunk import Chunk


class Categories:
    """P(y_m = c | k) = probability_kmc, c = 0 .. C_m - 1, independent over columns m given the component k, hidden
    entries left out.

    Parameters are `probabilities` (K, M, C) with C the most categories of a column, zero where a column has fewer.
    Statistics: `counts` (K, M, C), sums of weights r_nk over the rows with y_nm = c. A Dirichlet prior adds to them.

    sizes: (M,) the categories C_m of each column, or (M, C) which it has. floor: of their probabilities.
    """

    names = ("probabilities",)

    def __init__(self, sizes: Tensor, floor: float) -> None:
        self.floor = floor
        if sizes.dtype != torch.bool:
            sizes = torch.arange(int(sizes.max()), device=sizes.device) < sizes[:, None]
        self.possible = sizes  # (M, C)

    def emissions(self, parameters: Parameters, chunk: Chunk) -> CategoryEmissions:
        """What the rows of a chunk tell of the components."""
        return CategoryEmissions(parameters["probabilities"], chunk)

    def imagined(self, points: float, probabilities: Tensor) -> Statistics:
        """Statistics of so many imaginary rows of each component with these shares (K, M, C) of the categories:
        p ~ Dirichlet(1 + points share), whose mode they are."""
        return {"counts": points * probabilities}

    def constraints(self, parameters: Parameters) -> Tensor:
        """Sums over the categories, and the zeros where a column has fewer than others."""
        probabilities = parameters["probabilities"]
        return torch.cat([probabilities.sum(2).flatten(), probabilities[:, ~self.possible].flatten()])

    def at_bounds(self, parameters: Parameters) -> dict[str, Tensor]:
        p = parameters["probabilities"]
        return {"probabilities": (p <= NEAR_FLOOR * self.floor) & self.possible}

    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> Tensor:
        """-sum r log p(y | k) = -sum counts log probability, differentiable. ()"""
        return -(statistics["counts"] * _log(parameters["probabilities"])).sum()

    def maximise(self, parameters: Parameters, statistics: Statistics, block: str | None = None) -> Parameters:
        """Shares of the counts under the floor. A component with almost no weight in a column keeps its own."""
        counts = statistics["counts"]
        total = counts.sum(2, keepdim=True)
        few = total <= EMPTY * total.sum(0)
        found = shares(counts.masked_fill(few, 1.0), self.floor, self.possible)
        return {"probabilities": torch.where(few, parameters["probabilities"], found)}

    def free(self, probabilities: Tensor) -> Tensor:
        """Logarithms about their mean over the categories that a column has, zero elsewhere."""
        return centred_logs(probabilities, self.floor, self.possible)

    def constrain(self, free: Tensor) -> Tensor:
        return above_floor(free, self.floor, self.possible)


class CategoryEmissions:
    """Rows of categories under categorical components. log_density: (n, K), of the observed entries, differentiable."""

    def __init__(self, probabilities: Tensor, chunk: Chunk) -> None:
        self.probabilities = probabilities
        seen, values = chunk.scattered(probabilities.shape[1])
        number = values.round().long().clamp(0, probabilities.shape[2] - 1)
        self._is = one_hot(number, probabilities.shape[2]).to(seen) * seen[:, :, None]  # (n, M, C)
        self.log_density = self._is.flatten(1) @ _log(probabilities).flatten(1).mT

    def statistics(self, weights: Tensor) -> Statistics:
        """`counts` of rows with weights (n, K)."""
        return {"counts": (weights.mT @ self._is.flatten(1)).view_as(self.probabilities)}

    def entropy(self, weights: Tensor) -> Tensor:
        """Hidden entries are left out, so that there is none. (n,)"""
        return torch.zeros_like(weights[:, 0])

    def conditional(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the number of the category, for entries index (n, t), (n, K, t) each."""
        number = torch.arange(self.probabilities.shape[2]).to(self.probabilities)
        mean = self.probabilities @ number
        variance = self.probabilities @ number.square() - mean.square()
        return mean[:, index].transpose(0, 1), variance[:, index].transpose(0, 1)

    def log_mass(self, index: Tensor, values: Tensor) -> Tensor:
        """log P(y = values | k) of entries index (n, t), for values (n, t). (n, K, t)"""
        return log_mass(self.probabilities[:, index].transpose(0, 1), values[:, None])

    def drawn(self, component: Tensor, generator: Generator) -> CategoryEmissions:
        return self


def log_mass(probabilities: Tensor, values: Tensor) -> Tensor:
    """log P(y = values) under probabilities (.., C); minus infinity where a value is no category."""
    number, size = values.round().long(), probabilities.shape[-1]
    known = (values == values.round()) & (number >= 0) & (number < size)
    chosen = (probabilities * one_hot(number.clamp(0, size - 1), size)).sum(-1)
    return torch.where(known, chosen.log(), -torch.inf)


def shares(counts: Tensor, floor: float, possible: Tensor | None = None) -> Tensor:
    """The probabilities p (.., C) that maximise sum counts log p under p >= floor where a category is possible, and
    p = 0 elsewhere: those that would fall below the floor stay on it, the others are in proportion to their counts."""
    possible = torch.ones_like(counts, dtype=torch.bool) if possible is None else possible.expand_as(counts)
    low = ~possible
    found = counts
    for _ in range(counts.shape[-1]):
        rest = 1 - floor * (low & possible).sum(-1, keepdim=True).to(counts)
        kept = counts.masked_fill(low, 0.0)
        found = torch.where(low, floor * possible.to(counts), rest * kept / kept.sum(-1, keepdim=True))
        below = low | (found < floor)
        if bool((below == low).all()):
            break
        low = below
    return found


def centred_logs(probabilities: Tensor, floor: float, possible: Tensor | None = None) -> Tensor:
    """Free coordinates of probabilities above a floor: logarithms of what exceeds it, whose mean is zero."""
    above = (probabilities - floor).clamp_min(1e-3 * floor).log()
    if possible is None:
        return above - above.mean(-1, keepdim=True)
    above = above.masked_fill(~possible, 0.0)
    return (above - above.sum(-1, keepdim=True) / possible.sum(-1, keepdim=True)).masked_fill(~possible, 0.0)


def above_floor(free: Tensor, floor: float, possible: Tensor | None = None) -> Tensor:
    """The inverse of `centred_logs`, differentiable."""
    if possible is None:
        return floor + (1 - floor * free.shape[-1]) * free.softmax(-1)
    size = possible.sum(-1, keepdim=True).to(free)
    return floor * possible.to(free) + (1 - floor * size) * free.masked_fill(~possible, -torch.inf).softmax(-1)


def _log(probabilities: Tensor) -> Tensor:
    """Logarithms, zero where a category is impossible: none is ever counted there."""
    return torch.where(probabilities > 0, probabilities, 1.0).log()
