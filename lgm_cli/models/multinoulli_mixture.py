"""Mixtures of categorical distributions (latent classes): rows of categories, with missing entries."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from lgm_cli.data.base.categories import MOST
from lgm_cli.data.base.table import Table
from lgm_cli.models.base.column_mixture import ColumnMixture, near_floor
from lgm_cli.models.base.parameters import ANY, Parameters
from lgm_cli.models.families.categories import Categories, log_mass
from lgm_cli.models.families.predictive import Density
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk

MOST_CATEGORIES = 1000
SIMULATED = 4  # categories of a column that is drawn


class MultinoulliMixture(ColumnMixture):
    """k_n ~ weights,  P(y_nm = c | k_n) = probabilities_kmc, with the numbers of categories, from 0 on, as values.

    Goodman, Biometrika 61 (1974) 215-231 (latent class analysis). A column has the categories from the lowest to the
    highest that are seen in learning; one whose categories have names (data.categories) has all of these. floor: lower
    bound of the probability of each of them.
    """

    most_categories = MOST
    theta, what = "probabilities", "categories, by numbers from 0 on"
    possible: Tensor | None = None  # (M, C) categories of each column, once known; on the CPU

    def __init__(
        self, num_components: int, floor: float, prior_weights: float = 0.0, prior_probabilities: float = 0.0
    ) -> None:
        super().__init__(num_components, floor, prior_weights, prior_probabilities)

    def misfit(self, columns: Tensor, values: Tensor) -> Tensor:
        wrong = (values < 0) | (values != values.round()) | (values >= MOST_CATEGORIES)
        if self.fixed and self.possible is not None:
            number = values.clamp(0, self.possible.shape[1] - 1).long()
            wrong |= (values >= self.possible.shape[1]) | ~self.possible[columns, number]
        return wrong

    def mend(self) -> str:
        if self.fixed:
            return "it was not seen in learning: leave it empty"
        return (
            "number categories from 0 on, or data.categories=NAME for any numbers and texts, and leave out other "
            "columns (data.drop); or model=poisson_mixture for counts"
        )

    def fix(self, exported: Parameters, state: Any) -> None:
        super().fix(exported, state)
        self.possible = (exported["probabilities"] > 0).any(0)

    def learned_from(self, observations: Observations) -> None:
        counts = _counts(observations)
        possible = (
            self.possible if self.fixed and self.possible is not None else _between(counts, observations.categories)
        )
        size = possible.shape[1]
        counts = torch.nn.functional.pad(counts, (0, max(0, size - counts.shape[1])))[:, :size] + possible.double()
        self.possible, self.categories = possible, size
        self._shares = counts / counts.sum(1, keepdim=True)
        self.family = Categories(possible.to(observations.device), min(self.floor, 0.5 / size))
        self.dim = max(self.num_components, 4 * size)  # as much memory as an entry's indicators take

    def overall(self) -> Tensor:
        return self._shares

    def features(self, chunk: Chunk) -> Tensor:
        """Indicators of the categories about their shares."""
        seen, values = chunk.scattered(len(self._shares))
        found = one_hot(values.long().clamp_max(self.categories - 1), self.categories).to(seen)
        return (seen[:, :, None] * (found - self._shares.to(seen))).flatten(1)

    def moments(self, exported: Parameters) -> tuple[Tensor, Tensor]:
        number = torch.arange(exported["probabilities"].shape[2], dtype=torch.float64)
        mean = exported["probabilities"] @ number
        return mean, exported["probabilities"] @ number.square() - mean.square()

    def densities(self, inside: Parameters, index: Tensor) -> Density:
        """A category that was not seen in learning has the least probability."""
        probabilities, least = inside["probabilities"][:, index].transpose(0, 1), math.log(self.family.floor)
        return lambda values: log_mass(probabilities, values[:, None]).clamp_min(least)

    def exported_shapes(self, table: Table) -> dict[str, tuple[int, ...]]:
        size = ANY if self.possible is None else self.possible.shape[1]
        return {"weights": (self.num_components,), self.theta: (self.num_components, table.shape[1], size)}

    def simulated_theta(self, components: int, columns: int, share: float, draw: Generator) -> Tensor:
        """Four categories, log probabilities whose variance is in this share the component's."""
        like: Any = {"dtype": torch.float64, "generator": draw}
        own = (2 * share) ** 0.5 * torch.randn(components, columns, SIMULATED, **like)
        return ((2 * (1 - share)) ** 0.5 * torch.randn(columns, SIMULATED, **like) + own).softmax(2)

    def simulated_values(self, theta: Tensor, draw: Generator) -> Tensor:
        return torch.multinomial(theta.flatten(0, 1), 1, generator=draw).view(len(theta), -1).double()

    def at_floor(self, inside: Parameters) -> Tensor:
        assert self.possible is not None
        return (near_floor(inside["probabilities"], self.family.floor) & self.possible).any(2)

    def floor_warning(self, components: str, columns: str, number: int) -> str:
        return (
            f"some category of {components} in {columns} ended at the floor of probabilities, {self.family.floor:g}, "
            f"or near it: no data point of these {self.word}s has it (fewer {self.word}s may avoid it)"
        )


def _counts(observations: Observations) -> Tensor:
    """How often each column has each category, (M, C), float64, on the CPU."""
    columns = observations.shape[1]
    size = 1 + max(int(chunk.values.max()) for chunk in observations.chunks if chunk.values.numel())
    total = torch.zeros(columns * size, dtype=torch.float64)
    for chunk in observations.chunks:
        seen, values = (part.cpu() for part in chunk.scattered(columns))
        place = torch.arange(columns) * size + values.long()
        total = total.index_add(0, place.flatten(), seen.double().flatten())
    return total.view(columns, size)


def _between(counts: Tensor, named: tuple[int, ...] = ()) -> Tensor:
    """Which categories lie between the lowest and the highest that a column has, (M, C); of an empty one, the first.
    named: how many have names, of each column; these are possible, too."""
    if named:
        counts = torch.nn.functional.pad(counts, (0, max(0, max(named) - counts.shape[1])))
        sizes = torch.tensor(named, device=counts.device)
        counts = counts + (torch.arange(counts.shape[1], device=counts.device) < sizes[:, None])
    number, seen = torch.arange(counts.shape[1]), counts > 0
    lowest = torch.where(seen, number, counts.shape[1]).amin(1, keepdim=True) % counts.shape[1]
    highest = torch.where(seen, number, 0).amax(1, keepdim=True)
    return (number >= lowest) & (number <= highest)
