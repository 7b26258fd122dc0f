"""Mixtures of Poisson distributions: rows of counts, with missing entries."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lgm_cli.models.base.column_mixture import ColumnMixture, near_floor
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.families.counts import Counts, log_mass
from lgm_cli.models.families.predictive import Density
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk


class PoissonMixture(ColumnMixture):
    """k_n ~ weights,  y_nm | k_n ~ Poisson(rates_km).

    Identifiable up to the order of the components: Teicher, Ann. Math. Statist. 32 (1961) 244-248. floor: lower bound
    of rates, in averages of the column.
    """

    one_column = True
    theta, what, scaled = "rates", "counts, whole numbers from 0 on", True

    def __init__(self, num_components: int, floor: float, prior_weights: float = 0.0, prior_rates: float = 0.0) -> None:
        super().__init__(num_components, floor, prior_weights, prior_rates)

    def misfit(self, columns: Tensor, values: Tensor) -> Tensor:
        return (values < 0) | (values != values.round())

    def mend(self) -> str:
        return "leave out such columns (data.drop); or model=gaussian_mixture for measurements"

    def learned_from(self, observations: Observations) -> None:
        seen = total = root = torch.zeros(observations.shape[1], dtype=torch.float64)
        for chunk in observations.chunks:
            weight, values = (part.cpu().double() for part in chunk.scattered(observations.shape[1]))
            seen, total, root = seen + weight.sum(0), total + values.sum(0), root + values.sqrt().sum(0)
        few = seen.clamp_min(1)
        self._mean, self._root = (total / few).clamp_min(1e-6), root / few
        self.family = Counts((0.0 if self.fixed else self.floor) * self._mean.to(observations.device))

    def overall(self) -> Tensor:
        return self._mean

    def features(self, chunk: Chunk) -> Tensor:
        """Square roots, whose variance is the same for all rates, about their average."""
        seen, values = chunk.scattered(len(self._mean))
        return values.sqrt() - seen * self._root.to(seen)

    def moments(self, exported: Parameters) -> tuple[Tensor, Tensor]:
        return exported["rates"], exported["rates"]

    def densities(self, inside: Parameters, index: Tensor) -> Density:
        rates = inside["rates"][:, index].transpose(0, 1)
        return lambda values: log_mass(rates, values[:, None])

    def restore(self, exported: Parameters) -> Parameters:
        inside = super().restore(exported)
        return inside | {"rates": torch.maximum(inside["rates"], self.family.floor.to(inside["rates"]))}

    def simulated_values(self, theta: Tensor, draw: Generator) -> Tensor:
        return torch.poisson(theta, generator=draw)

    def at_floor(self, inside: Parameters) -> Tensor:
        return near_floor(inside["rates"], self.family.floor.cpu())

    def floor_warning(self, components: str, columns: str, number: int) -> str:
        each = "the rate" if number == 1 else f"{number:,} rates"
        return (
            f"{each} of {components} in {columns} ended at the floor, {self.floor:g} of the column's average, or near "
            f"it: these data points count nothing there (fewer {self.word}s may avoid it)"
        )
