"""States of a Markov chain that emit whole numbers: counts or categories."""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from lgm_cli.data.base.data import Data
from lgm_cli.errors import UserError
from lgm_cli.models.base.parameters import ANY, Parameters
from lgm_cli.models.families.categories import Categories
from lgm_cli.models.families.categories import log_mass as log_mass_of_category
from lgm_cli.models.families.counts import Counts
from lgm_cli.models.families.counts import log_mass as log_mass_of_count
from lgm_cli.models.families.mixed import Mixed
from lgm_cli.models.parts.state_emissions import StateEmissions
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk

LEAST_RATE = 1e-6  # of a state, in average counts of the column
LEAST_PROBABILITY = 1e-6  # of a category that a column has
MOST_CATEGORIES = 1000
POOLED = 0.5  # share of the whole series in what a state starts from: clusters are farther apart than states


class WholeEmissions(StateEmissions):
    """Values that are whole numbers from zero on, learned from as they are."""

    standardise = False
    what: ClassVar[str]

    def check(self, data: Data) -> None:
        table, mend = data.table, f"model.emission=normal, or leave out columns that are not {self.what}"
        bad = np.flatnonzero((table.values < 0) | (table.values != np.round(table.values)))
        if len(bad):
            name = str(table.column_labels[int(table.columns[bad[0]])])
            value = f"{table.values[bad[0]]:g}"
            raise UserError(f"{table.name} has {value} in {name!r}, and {self.what} are whole numbers from 0 on", mend)
        if table.season is not None:
            raise UserError(
                f"data.season={table.season} would take means off {self.what}, which are learned from as they are",
                "data.season=null",
            )


class CountEmissions(WholeEmissions):
    """y_tm | k ~ Poisson(rates_km)."""

    names, what = ("rates",), "counts"

    least = LEAST_RATE

    def bind(self, observations: Observations, table: Chunk) -> Self:
        bound = super().bind(observations, table)
        mean = table.values.sum(0) / table.weight.sum(0).clamp_min(1)
        bound.family = Counts(self.least * mean.clamp_min(LEAST_RATE))
        return bound

    def without_floor(self, exported: Parameters) -> Self:
        found = copy.copy(self)
        found.least = 0.0
        return found

    def features(self, table: Chunk) -> Tensor:
        """Square roots, whose variance is the same for all rates, about their mean."""
        seen, root = table.weight.cpu().double(), table.values.cpu().double().sqrt()
        return seen * (root - root.sum(0) / seen.sum(0).clamp_min(1))

    def first(self, table: Chunk, states: int) -> Parameters:
        mean = table.values.sum(0) / table.weight.sum(0).clamp_min(1)
        return {"rates": torch.maximum(mean, self.family.floor).expand(states, -1)}

    def pooled(self, parameters: Parameters, steps: Tensor) -> Parameters:
        of_all = (steps / steps.sum()) @ parameters["rates"]
        return {"rates": torch.maximum((1 - POOLED) * parameters["rates"] + POOLED * of_all, self.family.floor)}

    def free(self, parameters: Parameters) -> Parameters:
        return {"rates": self.family.free(parameters["rates"])}

    def constrain(self, free: Parameters) -> Parameters:
        return {"rates": self.family.constrain(free["rates"])}

    def export(self, inside: Parameters) -> Parameters:
        return {"rates": inside["rates"]}

    def restore(self, exported: Parameters) -> Parameters:
        return {"rates": torch.maximum(exported["rates"], self.family.floor.cpu().double())}

    def shapes(self, states: int, columns: int) -> dict[str, tuple[int, ...]]:
        return {"rates": (states, columns)}

    def moments(self, exported: Parameters) -> tuple[Tensor, Tensor]:
        return exported["rates"], torch.diag_embed(exported["rates"])

    def mixed(self, inside: Parameters, weights: Tensor, entry: Tensor, known: tuple[Tensor, Tensor] | None) -> Mixed:
        rates = inside["rates"][:, entry % self.columns]
        return Mixed.of(weights, rates, rates, lambda values: log_mass_of_count(rates, values))

    def drawn_truth(self, states: int, columns: int, options: Any, draw: Generator) -> Parameters:
        like: Any = {"dtype": torch.float64, "generator": draw}
        return {"rates": (1.5 + 0.5 * torch.randn(columns, **like) + torch.randn(states, columns, **like)).exp()}

    def drawn_values(self, truth: Parameters, path: Tensor, draw: Generator) -> Tensor:
        return torch.poisson(truth["rates"][path], generator=draw)


class CategoryEmissions(WholeEmissions):
    """P(y_tm = c | k) = probabilities_kmc, with the numbers of categories, from 0 on, as values."""

    names, what = ("probabilities",), "categories"

    def __init__(self) -> None:
        self.sizes: Tensor | None = None  # (M,) once known

    def check(self, data: Data) -> None:
        super().check(data)
        if data.table.values.max(initial=0) >= MOST_CATEGORIES:
            most = f"{data.table.values.max():g}"
            raise UserError(
                f"{data.table.name} has a category {most}, and at most {MOST_CATEGORIES} are learned from",
                "number them from 0 on, or model.emission=poisson for counts",
            )

    def bind(self, observations: Observations, table: Chunk) -> Self:
        bound = super().bind(observations, table)
        bound.sizes = (table.values.amax(0).round().long() + 1).cpu() if self.sizes is None else self.sizes
        bound.family = Categories(bound.sizes.to(table.values.device), LEAST_PROBABILITY)
        return bound

    def without_floor(self, exported: Parameters) -> Self:
        """The categories are those of the run."""
        found = copy.copy(self)
        found.sizes = (exported["probabilities"] > 0).any(0).sum(1)
        return found

    def _indicators(self, table: Chunk) -> Tensor:
        number = table.values.round().long().clamp_max(self.family.possible.shape[1] - 1)
        return one_hot(number, self.family.possible.shape[1]) * table.weight[:, :, None]  # (T, M, C)

    def features(self, table: Chunk) -> Tensor:
        """Indicators of the categories about their shares."""
        seen, found = table.weight.cpu().double(), self._indicators(table).cpu().double()
        shares = found.sum(0) / seen.sum(0).clamp_min(1)[:, None]
        return (seen[:, :, None] * (found - shares)).flatten(1)

    def first(self, table: Chunk, states: int) -> Parameters:
        counts = self._indicators(table).sum(0) + 1.0 * self.family.possible
        return {"probabilities": (counts / counts.sum(1, keepdim=True)).to(table.values).expand(states, -1, -1)}

    def pooled(self, parameters: Parameters, steps: Tensor) -> Parameters:
        of_all = torch.einsum("k,kmc->mc", steps / steps.sum(), parameters["probabilities"])
        return {"probabilities": (1 - POOLED) * parameters["probabilities"] + POOLED * of_all}

    def free(self, parameters: Parameters) -> Parameters:
        return {"probabilities": self.family.free(parameters["probabilities"])}

    def constrain(self, free: Parameters) -> Parameters:
        return {"probabilities": self.family.constrain(free["probabilities"])}

    def export(self, inside: Parameters) -> Parameters:
        return {"probabilities": inside["probabilities"]}

    def restore(self, exported: Parameters) -> Parameters:
        return {"probabilities": exported["probabilities"]}

    def shapes(self, states: int, columns: int) -> dict[str, tuple[int, ...]]:
        return {"probabilities": (states, columns, ANY if self.sizes is None else int(self.sizes.max()))}

    def moments(self, exported: Parameters) -> tuple[Tensor, Tensor]:
        number = torch.arange(exported["probabilities"].shape[2], dtype=torch.float64)
        mean = exported["probabilities"] @ number
        return mean, torch.diag_embed(exported["probabilities"] @ number.square() - mean.square())

    def mixed(self, inside: Parameters, weights: Tensor, entry: Tensor, known: tuple[Tensor, Tensor] | None) -> Mixed:
        column, (means, covariances) = entry % self.columns, self.moments(inside)
        probabilities, variances = inside["probabilities"][:, column], covariances.diagonal(dim1=1, dim2=2)[:, column]

        def log_mass(values: Tensor) -> Tensor:
            """A category that was not seen in learning has the least probability."""
            return log_mass_of_category(probabilities, values).clamp_min(math.log(LEAST_PROBABILITY))

        return Mixed.of(weights, means[:, column], variances, log_mass)

    def drawn_truth(self, states: int, columns: int, options: Any, draw: Generator) -> Parameters:
        """Four categories, about half of whose differences in log probability are the state's."""
        logs = 2.0 * torch.randn(states, columns, 4, dtype=torch.float64, generator=draw)
        return {"probabilities": logs.softmax(2)}

    def drawn_values(self, truth: Parameters, path: Tensor, draw: Generator) -> Tensor:
        chances = truth["probabilities"][path].flatten(0, 1)
        return torch.multinomial(chances, 1, generator=draw).view(len(path), -1).double()
