"""States of a Markov chain that emit what the components of a mixture do."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from lgm_cli.data.base.data import Data
from lgm_cli.errors import UserError
from lgm_cli.models.base.parameters import Parameters, Statistics
from lgm_cli.models.base.predictive import Predictive
from lgm_cli.models.composed import Composed
from lgm_cli.models.families.mixed import Mixed
from lgm_cli.models.parts.chains import by_step
from lgm_cli.models.parts.hidden_markov_moments import stationary
from lgm_cli.models.parts.state_emissions import NormalEmissions, StateEmissions
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk


class MixtureEmissions(StateEmissions):
    """y_t | k ~ component k of a mixture whose rows are the steps."""

    names: tuple[str, ...] = ()  # pyright: ignore[reportIncompatibleVariableOverride]  # known once it is bound
    standardise = False

    def __init__(self, mixture: Composed) -> None:
        self.mixture = mixture
        mixture.word = "state"

    @property
    def covariance(self) -> str:
        return self.mixture.covariance

    def check(self, data: Data) -> None:
        table = data.table
        self.mixture.require_blocks(table)
        if table.season is not None:
            raise UserError(
                f"data.season={table.season} would take means off columns that are learned from as they are",
                "data.season=null",
            )

    def bind(self, observations: Observations, table: Chunk) -> Self:
        bound = super().bind(observations, table)
        (steps, columns), like = table.weight.shape, {"dtype": torch.float64, "device": observations.center.device}
        rows = replace(
            observations, shape=(steps, columns), blocks=[[table]], center=torch.zeros(columns, **like),
            scale=torch.ones(columns, **like), column_center=torch.zeros(columns, dtype=torch.float64),
            dtype=table.values.dtype, table_shape=(steps, columns), series=None, class_names=(), row_classes=None,
        )  # fmt: skip
        bound.mixture = self.mixture.bind(rows)
        bound.family = bound.mixture.family
        bound.names = tuple(here for each in bound.mixture.parts for here in each.names.values())
        return bound

    def without_floor(self, exported: Parameters) -> Self:
        found = copy.copy(self)
        found.mixture = copy.copy(self.mixture)
        found.mixture.fix({**exported, "weights": stationary(exported)}, {})
        return found

    def _whole(self, parameters: Parameters) -> Parameters:
        """With weights, which the mixture's own methods ask for: all the same."""
        states = self.mixture.num_components
        like = parameters[self.names[0]]
        return {name: parameters[name] for name in self.names} | {"weights": like.new_full((states,), 1 / states)}

    def _own(self, parameters: Parameters) -> Parameters:
        return {name: parameters[name] for name in self.names}

    def features(self, table: Chunk) -> Tensor:
        return self.mixture.features(table).cpu().double()

    def first(self, table: Chunk, states: int) -> Parameters:
        size = self.mixture.features(table.some(slice(1))).shape[1]
        return self.mixture.before_clusters(table.values.new_zeros(states, size))

    def start(self, table: Chunk, label: Tensor, states: int) -> Parameters:
        weights, first = one_hot(label, states).to(table.values), self.first(table, states)
        total = self.family.emissions(first, table).statistics(weights) | {"components": weights.sum(0)}
        return self._own(self.mixture.after_clusters(first, total))

    def pooled(self, parameters: Parameters, steps: Tensor) -> Parameters:
        return parameters  # `start` has done so

    def imagined(self, steps: float, table: Chunk, states: int) -> Statistics:
        return {}

    def maximise(self, parameters: Parameters, statistics: Statistics, names: tuple[str, ...]) -> Parameters:
        found = self.family.maximise(parameters, statistics, names)
        return {name: found[name] for name in self.names if name in names}

    def free(self, parameters: Parameters) -> Parameters:
        return self._own(self.mixture.free(self._whole(parameters)))

    def constrain(self, free: Parameters) -> Parameters:
        return self._own(self.mixture.constrain(self._whole(free)))

    def export(self, inside: Parameters) -> Parameters:
        return self._own(self.mixture.export(self._whole(inside)))

    def restore(self, exported: Parameters) -> Parameters:
        return self._own(self.mixture.restore(self._whole(exported)))

    def shapes(self, states: int, columns: int) -> dict[str, tuple[int, ...]]:
        raise TypeError("the shapes of blocks depend on the names of columns: ask the mixture")

    def moments(self, exported: Parameters) -> tuple[Tensor, Tensor]:
        return self.mixture.moments(exported)

    def mixed(self, inside: Parameters, weights: Tensor, entry: Tensor, known: tuple[Tensor, Tensor] | None) -> Mixed:
        raise TypeError("entries of a step tell of each other: ask `given_step`")

    def given_step(
        self, parameters: Parameters, chances: Tensor, rows: Chunk, row: Tensor, column: Tensor
    ) -> StepwisePredictive:
        """The distribution of entries (t,) of these rows and columns, given the others of their step. rows: steps with
        the probabilities (R, K) of their states."""
        index, turn = by_step(row, column, len(chances))
        emissions = self.family.emissions(parameters, rows)
        own = cast(Any, SimpleNamespace(responsibilities=chances.to(rows.values), emissions=emissions))
        found = self.mixture.predict(self._whole(parameters), own, index.to(rows.values.device))
        return StepwisePredictive(found.mean[row, turn][None], found.variance[row, turn][None], found, row, turn)

    def drawn_truth(self, states: int, columns: int, options: Any, draw: Generator) -> Parameters:
        """Of columns that are all normal."""
        self.mixture.require_unnamed()
        return NormalEmissions(self.mixture.covariance, 0.0).drawn_truth(states, columns, options, draw)

    def drawn_values(self, truth: Parameters, path: Tensor, draw: Generator) -> Tensor:
        return NormalEmissions(self.mixture.covariance, 0.0).drawn_values(truth, path, draw)

    def units(self, exported: Parameters, weights: Tensor) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(()), np.ones(())

    def warnings(self, parameters: Parameters, lower_floor: str) -> list[str]:
        inside = self._own(parameters) | {"weights": stationary({n: v.cpu().double() for n, v in parameters.items()})}
        return self.mixture.warnings(inside, list(self.observations.column_labels))


@dataclass(frozen=True)
class StepwisePredictive(Predictive):
    """Entries (1, t) at places row, turn (t,) of predictions by step."""

    by_step: Predictive
    row: Tensor
    turn: Tensor

    def log_density(self, values: Tensor) -> Tensor:
        table = torch.zeros_like(self.by_step.mean)
        table[self.row, self.turn] = values[0].to(table)
        return self.by_step.log_density(table)[self.row, self.turn][None]
