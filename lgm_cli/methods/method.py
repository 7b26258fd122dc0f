"""One learning step: choose blocks of data points, take their posteriors, update the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.m_steps.gradient import Gradient
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters


@dataclass(frozen=True)
class StepInfo:
    """What one step reports."""

    gradient_norm: float | None
    solver: SolverRecord


class Method:
    """An expectation and an update over the blocks of `model.observations`.

    Minibatches are whole blocks, drawn without replacement; every epoch's order is keyed to the seed and the epoch.
    """

    def __init__(self, model: LatentVariableModel, expectation: Exact | MonteCarlo,
                 update: ClosedForm | Gradient, blocks_per_step: int, seed: int) -> None:  # fmt: skip
        self.model, self.expectation, self.update = model, expectation, update
        self.blocks_per_step, self.seed, self.steps = blocks_per_step, seed, 0

    @property
    def parameters(self) -> Parameters:
        return {name: value.detach() for name, value in self.update.parameters.items()}

    def step(self) -> StepInfo:
        """Take one step. Every data point counts the same: a sum over a batch is scaled by the share of the blocks that
        are in it, not of the entries, which would favour those of a small block."""
        record = SolverRecord()
        observations, batch = self.model.observations, self._batch()
        for number in batch:
            chunks = self.expectation.layout(number)
            for chunk, posterior, pairing in self.expectation.posteriors(
                self.update.parameters, number, chunks, self.steps, record
            ):
                self.update.add(chunk, posterior, pairing)
        self.steps += 1
        return StepInfo(self.update.apply(observations.observed * len(batch) / len(observations.blocks)), record)

    def _batch(self) -> list[int]:
        """Numbers of the blocks of this step."""
        total = len(self.model.observations.blocks)
        if self.blocks_per_step >= total:
            return list(range(total))
        per_epoch = total // self.blocks_per_step
        epoch, place = divmod(self.steps, per_epoch)
        order = np.random.default_rng([self.seed, 0xE70C, epoch]).permutation(total)
        return sorted(order[place * self.blocks_per_step : (place + 1) * self.blocks_per_step].tolist())

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps, "update": self.update.state(), "expectation": self.expectation.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state`; ValueError when it is not one of this method."""
        self.steps = state["steps"]
        self.update.load_state(state["update"])
        self.expectation.load_state(state["expectation"])
