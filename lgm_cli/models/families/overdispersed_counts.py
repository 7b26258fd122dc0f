"""Counts that vary more than Poisson's, together: Poisson components whose level is a gamma variable of the row."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters, Statistics
from lgm_cli.models.families.above_floor import AboveFloor
from lgm_cli.models.families.gamma_shapes import SMALLEST, shapes_of, standard_gamma
from lgm_cli.models.families.normal import EMPTY
from lgm_cli.observations.chunk import Chunk

SHAPES = (SMALLEST, 1e6)  # bounds of shapes: a larger one is Poisson to within single precision
LEAST_LEVEL = 1e-30  # of a row that was drawn, whose logarithm is taken


class OverdispersedCounts(AboveFloor):
    """y_m | z, k ~ Poisson(z rate_km), independent over columns m,  z | k ~ gamma(shape_k, shape_k), of mean one.

    Over the seen columns o of a row, with S = sum_o y and R_k = sum_o rate_km, the counts are negative multinomial,

        log p(y_o | k) = log G(a + S) - log G(a) + a log a - (a + S) log(a + R_k) + sum_o (y log rate - log y!),

    a = shape_k, and z | y, k ~ gamma(a + S, a + R_k). Hidden entries drop out. Johnson, Kotz & Balakrishnan, Discrete
    Multivariate Distributions (1997), 36.

    Parameters are `rates` (K, M) and `shapes` (K,). Statistics are sums over rows with weights r_nk: `count` (K, M) of
    r E[z] and `first` (K, M) of r y over the observed entries; `points`, `level`, `log_level` (K,) of r, r E[z] and
    r E[log z]; `constant` () of what no parameter changes.

    floor: lower bound of rates, (M,) or (), in the units of the values.
    """

    names = ("rates", "shapes")

    def emissions(self, parameters: Parameters, chunk: Chunk) -> OverdispersedEmissions:
        """What the rows of a chunk tell of the components."""
        return OverdispersedEmissions(parameters["rates"], parameters["shapes"], chunk)

    def constraints(self, parameters: Parameters) -> Tensor:
        return parameters["rates"].new_zeros(0)

    def at_bounds(self, parameters: Parameters) -> dict[str, Tensor]:
        shapes = parameters["shapes"]
        return {
            "rates": parameters["rates"] <= NEAR_FLOOR * self.floor.to(parameters["rates"]),
            "shapes": (shapes <= NEAR_FLOOR * SHAPES[0]) | (shapes >= SHAPES[1] / NEAR_FLOOR),
        }

    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> Tensor:
        """-sum r E log p(y, z | k), differentiable. ()"""
        rates, a = parameters["rates"], parameters["shapes"]
        counts = (statistics["count"] * rates - statistics["first"] * rates.log()).sum() + statistics["constant"]
        each = statistics["points"] * (a * a.log() - torch.lgamma(a))
        return counts - (each + (a - 1) * statistics["log_level"] - a * statistics["level"]).sum()

    def maximise(self, parameters: Parameters, statistics: Statistics, block: str | None = None) -> Parameters:
        """All, or `block` alone. A component that has almost no weight keeps its own."""
        rates, shapes = parameters["rates"], parameters["shapes"]
        if block in (None, "rates"):
            count = statistics["count"]
            few = count <= EMPTY * count.sum(0)
            found = statistics["first"] / count.masked_fill(few, 1.0)
            rates = torch.where(few, rates, torch.maximum(found, self.floor.to(found)))
        if block in (None, "shapes"):
            points = statistics["points"]
            few = points <= EMPTY * points.sum()
            share = points.masked_fill(few, 1.0)
            found = shapes_of((statistics["level"] - statistics["log_level"]) / share).clamp_max(SHAPES[1])
            shapes = torch.where(few, shapes, found.to(shapes))
        return {"rates": rates, "shapes": shapes}


class OverdispersedEmissions:
    """Rows of counts under such components. log_density: (n, K), of the observed entries, differentiable."""

    def __init__(self, rates: Tensor, shapes: Tensor, chunk: Chunk, level: Tensor | None = None) -> None:
        """level: (n,) of rows whose z was drawn, and is certain."""
        self.rates, self.shapes, self._chunk, self._level = rates, shapes, chunk, level
        accurate = rates.dtype if rates.device.type == "mps" else torch.float64  # of large counts the parts cancel
        seen, values = (part.to(accurate) for part in chunk.scattered(rates.shape[1]))
        rates, a = rates.to(accurate), shapes.to(accurate)
        self._total, self._seen, self._values = values.sum(1, keepdim=True), seen, values
        self._a, self._b = a + self._total, a + seen @ rates.mT  # (n, K): of z, given the row
        self._constant = (seen * torch.lgamma(values + 1)).sum(1)
        found = torch.lgamma(self._a) - torch.lgamma(a) + a * a.log() - self._a * self._b.log()
        self.log_density = (found + values @ rates.log().mT - self._constant[:, None]).to(self.rates.dtype)

    def statistics(self, weights: Tensor) -> Statistics:
        """Of rows with weights (n, K)."""
        w, kind = weights.to(self._a), weights.dtype
        if self._level is None:
            level, log_level = (self._a / self._b).detach(), (torch.digamma(self._a) - self._b.log()).detach()
        else:
            level = self._level.to(w)[:, None].expand_as(w)
            log_level = level.log()
        constant = (w.sum(1) * self._constant).sum() - (w * log_level * self._total).sum()
        found = {
            "count": (w * level).mT @ self._seen, "first": w.mT @ self._values, "points": w.sum(0),
            "level": (w * level).sum(0), "log_level": (w * log_level).sum(0), "constant": constant,
        }  # fmt: skip
        return {name: value.to(kind) for name, value in found.items()}

    def entropy(self, weights: Tensor) -> Tensor:
        """Of z given the row and the component. (n,)"""
        if self._level is not None:
            return torch.zeros_like(weights[:, 0])
        a, b = self._a, self._b
        each = a - b.log() + torch.lgamma(a) + (1 - a) * torch.digamma(a)
        return (weights.to(a) * each).sum(1).to(weights.dtype)

    def conditional(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of hidden entries index (n, t) given the observed ones and the component, (n, K, t)."""
        rates = self.rates.to(self._a)[:, index].transpose(0, 1)
        mean = rates * (self._a / self._b)[:, :, None]
        return mean, mean * (1 + rates / self._b[:, :, None])

    def log_mass(self, index: Tensor, values: Tensor) -> Tensor:
        """log p(y = values | observed entries of the row, k) of hidden entries index (n, t), (n, K, t)."""
        rates = self.rates.to(self._a)[:, index].transpose(0, 1)
        return log_mass(self._a[:, :, None], self._b[:, :, None], rates, values)

    def drawn(self, component: Tensor, generator: Generator) -> OverdispersedEmissions:
        everyone = torch.arange(len(component), device=component.device)
        a, b = self._a[everyone, component], self._b[everyone, component]
        level = standard_gamma(a.detach(), generator) / b.detach()
        return OverdispersedEmissions(self.rates, self.shapes, self._chunk, level.clamp_min(LEAST_LEVEL))


def log_mass(a: Tensor, b: Tensor, rates: Tensor, values: Tensor) -> Tensor:
    """log P(values) of counts (n, t) of Poisson(z rates) with z ~ gamma(a, b): negative binomial, (n, K, t); minus
    infinity where a value is no count."""
    y = values.to(rates)[:, None].clamp_min(0)
    found = torch.lgamma(a + y) - torch.lgamma(a) - torch.lgamma(y + 1) + a * (b / (b + rates)).log()
    right = (values >= 0) & (values == values.round())
    return torch.where(right[:, None], found + y * (rates / (b + rates)).log(), -torch.inf)
