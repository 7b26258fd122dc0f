"""Gamma components: positive numbers with missing entries."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters, Statistics
from lgm_cli.models.families.above_floor import AboveFloor
from lgm_cli.models.families.gamma_shapes import SMALLEST, shapes_of
from lgm_cli.models.families.normal import EMPTY
from lgm_cli.observations.chunk import Chunk


class Positive(AboveFloor):
    """y_m | k ~ gamma of mean mean_km and shape a_km, independent over columns m given the component k:

        log p(y | k) = a log a - a log mean - log G(a) + (a - 1) log y - a y / mean,

    of variance mean^2 / a; hidden entries are left out. Johnson, Kotz & Balakrishnan, Continuous Univariate
    Distributions 1 (1994), 17.

    Parameters are `means` and `shapes` (K, M). Statistics are sums over rows with weights r_nk: `count`, `first` and
    `logarithm` (K, M), those of r, r y and r log y over the observed entries.

    floor: lower bound of means, (M,) or (), in the units of the values. largest: upper bound of shapes.
    """

    names = ("means", "shapes")

    def __init__(self, floor: Tensor, largest: float) -> None:
        super().__init__(floor)
        self.largest = largest

    def emissions(self, parameters: Parameters, chunk: Chunk) -> PositiveEmissions:
        """What the rows of a chunk tell of the components."""
        return PositiveEmissions(parameters["means"], parameters["shapes"], chunk)

    def constraints(self, parameters: Parameters) -> Tensor:
        return parameters["means"].new_zeros(0)

    def at_bounds(self, parameters: Parameters) -> dict[str, Tensor]:
        shapes = parameters["shapes"]
        return {
            "means": parameters["means"] <= NEAR_FLOOR * self.floor.to(parameters["means"]),
            "shapes": (shapes <= NEAR_FLOOR * SMALLEST) | (shapes >= self.largest / NEAR_FLOOR),
        }

    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> Tensor:
        """-sum r log p(y | k), differentiable. ()"""
        means, a = parameters["means"], parameters["shapes"]
        each = statistics["count"] * (a * (a / means).log() - torch.lgamma(a))
        return -(each + (a - 1) * statistics["logarithm"] - a * statistics["first"] / means).sum()

    def maximise(self, parameters: Parameters, statistics: Statistics, block: str | None = None) -> Parameters:
        """Weighted means, and the shapes that are best beside them: all, or `block` alone. A component that has almost
        no weight in a column keeps its own."""
        means, shapes, count = parameters["means"], parameters["shapes"], statistics["count"]
        few = count <= EMPTY * count.sum(0)
        share = count.masked_fill(few, 1.0)
        average = statistics["first"] / share
        if block in (None, "means"):
            means = torch.where(few, means, torch.maximum(average, self.floor.to(average)).to(means))
        if block in (None, "shapes"):
            gap = average / means - statistics["logarithm"] / share + means.to(average).log()
            shapes = torch.where(few, shapes, shapes_of(gap).clamp_max(self.largest).to(shapes))
        return {"means": means, "shapes": shapes}


class PositiveEmissions:
    """Rows of positive numbers under such components. log_density: (n, K), of the observed entries, differentiable."""

    def __init__(self, means: Tensor, shapes: Tensor, chunk: Chunk) -> None:
        self.means, self.shapes = means, shapes
        accurate = means.dtype if means.device.type == "mps" else torch.float64  # of large shapes the parts cancel
        self._seen, self._values = (part.to(accurate) for part in chunk.scattered(means.shape[1]))
        self._logarithms = self._values.masked_fill(self._seen == 0, 1.0).log()
        means, a = means.to(accurate), shapes.to(accurate)
        found = self._seen @ (a * (a / means).log() - torch.lgamma(a)).mT + self._logarithms @ (a - 1).mT
        self.log_density = (found - self._values @ (a / means).mT).to(self.means.dtype)

    def statistics(self, weights: Tensor) -> Statistics:
        """`count`, `first` and `logarithm` of rows with weights (n, K), in double precision: the spread of a component
        is a small difference of the last two."""
        w = weights.to(self._values)
        return {"count": w.mT @ self._seen, "first": w.mT @ self._values, "logarithm": w.mT @ self._logarithms}

    def entropy(self, weights: Tensor) -> Tensor:
        """Hidden entries are left out, so that there is none. (n,)"""
        return torch.zeros_like(weights[:, 0])

    def conditional(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of entries index (n, t) given the component, (n, K, t) each."""
        mean, shape = (part[:, index].transpose(0, 1) for part in (self.means, self.shapes))
        return mean, mean.square() / shape

    def drawn(self, component: Tensor, generator: Generator) -> PositiveEmissions:
        return self


def log_density(means: Tensor, shapes: Tensor, values: Tensor) -> Tensor:
    """log gamma(values; means, shapes); minus infinity where a value is not positive."""
    y = values.clamp_min(torch.finfo(values.dtype).tiny)
    found = shapes * (shapes / means).log() - torch.lgamma(shapes) + (shapes - 1) * y.log() - shapes * y / means
    return torch.where(values > 0, found, -torch.inf)
