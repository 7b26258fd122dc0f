"""One learning step: choose blocks of data points, take their posteriors, update the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lgm_cli.methods.e_steps.base.e_step import EStep
from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.methods.m_steps.base.m_step import MStep
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters


@dataclass(frozen=True)
class StepInfo:
    """What one step reports."""

    gradient_norm: float | None
    solver: SolverRecord


class Method:
    """An E-step and an M-step over the blocks of `model.observations`.

    Minibatches are whole blocks, drawn without replacement; every epoch's order is keyed to the seed and the epoch.
    """

    def __init__(
        self, model: LatentVariableModel, expectation: EStep, update: MStep, blocks_per_step: int, seed: int
    ) -> None:
        self.model, self.expectation, self.update = model, expectation, update
        self.blocks_per_step, self.seed, self.steps = blocks_per_step, seed, 0
        self.prepared_seconds = 0.0  # that its choices took from the data before the first step: learning, too
        update.measured = update.measured or expectation.needs_free_energy

    @property
    def parameters(self) -> Parameters:
        return {name: value.detach() for name, value in self.update.parameters.items()}

    @property
    def tempered(self) -> bool:
        """Whether the posteriors are not those of the model yet: its likelihood says nothing about the steps."""
        return self.expectation.tempered

    @property
    def has_free_energy(self) -> bool:
        """Whether steps have a free energy: the M-step works from statistics, of posteriors with an entropy."""
        return self.update.has_free_energy and self.expectation.has_entropy

    @property
    def free_energy(self) -> float | None:
        """F of all data points after the last M-step, under the posteriors that led to it, in nats of standardised
        data; None where it is not known, was not asked for, or is that of a temperature."""
        found = self.update.free_energy
        return None if self.tempered or found is None else float(found)

    @property
    def passes(self) -> tuple[float, float]:
        """Passes over the data that a step takes, and that the first step takes."""
        share = min(1.0, self.blocks_per_step / len(self.model.observations.blocks))
        return self.update.parts * share, self.update.parts * (1.0 if self.update.begins_with_all else share)

    def step(self) -> StepInfo:
        """Take one step. Every data point counts the same: a sum over a batch is scaled by the share of the blocks that
        are in it, not of the entries, which would favour those of a small block."""
        record, norm = SolverRecord(), None
        self.update.held = self.expectation.held
        for _ in range(self.update.parts):
            norm = self._part(record)
        self.steps += 1
        self.expectation.finish(self.update)
        return StepInfo(norm, record)

    def _part(self, record: SolverRecord) -> float | None:
        """An E-step and what the M-step makes of it."""
        observations, batch = self.model.observations, self._batch()
        for number in batch:
            chunks = self.expectation.layout(number)
            for chunk, posterior, pairing in self.expectation.posteriors(
                self.update.parameters, number, chunks, self.steps, record
            ):
                self.update.add(number, chunk, posterior, pairing)
        return self.update.apply(observations.observed * len(batch) / len(observations.blocks))

    def quieter(self) -> bool:
        """Shorten the steps, or lower the noise of the posteriors; False where neither is possible."""
        return self.update.anneal() or self.expectation.quieter()

    def _batch(self) -> list[int]:
        """Numbers of the blocks of this step."""
        total = len(self.model.observations.blocks)
        if self.blocks_per_step >= total or self.update.everything:
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
