"""Poisson components: counts with missing entries."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters, Statistics
from lgm_cli.models.families.above_floor import AboveFloor
from lgm_cli.models.families.normal import EMPTY
from lgm_cli.observations.chunk import Chunk


class Counts(AboveFloor):
    """y_m | k ~ Poisson(rate_km), independent over columns m given the component k, hidden entries left out.

    Parameters are `rates` (K, M). Statistics are sums over rows with weights r_nk: `count` and `first` (K, M), those of
    r and r y over the observed entries, and `constant` (), that of r log y!. A gamma prior adds to the first two.

    floor: lower bound of rates, (M,) or (), in the units of the values.
    """

    names = ("rates",)

    def emissions(self, parameters: Parameters, chunk: Chunk) -> CountEmissions:
        """What the rows of a chunk tell of the components."""
        return CountEmissions(parameters["rates"], chunk)

    def imagined(self, points: float, rates: Tensor) -> Statistics:
        """Statistics of so many imaginary rows of each component with these rates (K, M) as their averages:
        rate ~ gamma(1 + points rates, points), whose mode they are."""
        count = torch.full_like(rates, points)
        return {"count": count, "first": points * rates, "constant": rates.new_zeros(())}

    def constraints(self, parameters: Parameters) -> Tensor:
        return parameters["rates"].new_zeros(0)

    def at_bounds(self, parameters: Parameters) -> dict[str, Tensor]:
        return {"rates": parameters["rates"] <= NEAR_FLOOR * self.floor.to(parameters["rates"])}

    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> Tensor:
        """-sum r log p(y | k): sum of count rate - first log rate + log y!, differentiable. ()"""
        rates = parameters["rates"]
        return (statistics["count"] * rates - statistics["first"] * rates.log()).sum() + statistics["constant"]

    def maximise(self, parameters: Parameters, statistics: Statistics, block: str | None = None) -> Parameters:
        """Weighted means, raised to the floor. A component that has almost no weight in a column keeps its rate."""
        count, rates = statistics["count"], parameters["rates"]
        few = count <= EMPTY * count.sum(0)
        found = statistics["first"] / count.masked_fill(few, 1.0)
        return {"rates": torch.where(few, rates, torch.maximum(found, self.floor.to(found)))}


class CountEmissions:
    """Rows of counts under Poisson components. log_density: (n, K), of the observed entries, differentiable."""

    def __init__(self, rates: Tensor, chunk: Chunk) -> None:
        self.rates, self._columns = rates, chunk.scattered(rates.shape[1])
        seen, values = self._columns
        accurate = rates.dtype if rates.device.type == "mps" else torch.float64  # of large counts the parts cancel
        seen, values, rates = seen.to(accurate), values.to(accurate), rates.to(accurate)
        constant = (seen * torch.lgamma(values + 1)).sum(1, keepdim=True)
        self.log_density = (values @ rates.log().mT - seen @ rates.mT - constant).to(self.rates.dtype)

    def statistics(self, weights: Tensor) -> Statistics:
        """`count`, `first` and `constant` of rows with weights (n, K)."""
        seen, values = self._columns
        constant = weights.sum(1) @ (seen * torch.lgamma(values + 1)).sum(1)
        return {"count": weights.mT @ seen, "first": weights.mT @ values, "constant": constant}

    def entropy(self, weights: Tensor) -> Tensor:
        """Hidden entries are left out, so that there is none. (n,)"""
        return torch.zeros_like(weights[:, 0])

    def conditional(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of entries index (n, t) given the component, (n, K, t) each."""
        rates = self.rates[:, index].transpose(0, 1)
        return rates, rates

    def log_mass(self, index: Tensor, values: Tensor) -> Tensor:
        """log p(y = values | k) of entries index (n, t), for values (n, t). (n, K, t)"""
        return log_mass(self.rates[:, index].transpose(0, 1), values[:, None])

    def drawn(self, component: Tensor, generator: Generator) -> CountEmissions:
        return self


def log_mass(rates: Tensor, values: Tensor) -> Tensor:
    """log Poisson(values; rates); minus infinity where a value is no count."""
    found = values * rates.log() - rates - torch.lgamma(values.clamp_min(0) + 1)
    return torch.where((values >= 0) & (values == values.round()), found, -torch.inf)
