"""What the M-steps share that need no more of the posteriors than expected sufficient statistics."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from lgm_cli.methods.m_steps.base.m_step import MStep
from lgm_cli.methods.saved_state import require
from lgm_cli.methods.statistics.base.sums import Sums
from lgm_cli.methods.statistics.fresh import Fresh
from lgm_cli.models.base.latent_variable_model import LatentVariableModel, Posterior
from lgm_cli.models.base.parameters import Parameters, Statistics
from lgm_cli.observations.chunk import Chunk


class FromStatistics(MStep):
    """theta <- a function of theta and the statistics of a step, to which those of the prior are added once: whatever
    the share of the data that was taken, its sums stand for all data points.

    sums: how the statistics of steps are put together; those of each step alone by default.
    """

    has_free_energy = True

    def __init__(self, model: LatentVariableModel, parameters: Parameters, sums: Sums | None = None) -> None:
        self.model, self.parameters = model, parameters
        self.sums = Fresh(model) if sums is None else sums

    @property
    def bounds(self) -> bool:
        return self.sums.bounds

    @property
    def begins_with_all(self) -> bool:
        return self.sums.begins_with_all

    @property
    def everything(self) -> bool:
        return self.sums.everything

    def add(self, block: int, chunk: Chunk, posterior: Posterior, pairing: Tensor | None) -> None:
        with torch.no_grad():
            self.sums.add(block, chunk, posterior)

    def apply(self, observed: float) -> float | None:
        with torch.no_grad():
            statistics, self.free_energy = self.sums.close(), None
            if not self.sums.ready:
                return None
            after, norm = self.updated(self.model.with_prior(statistics))
            self.parameters = self.sums.settle(self.parameters, after)
            if self.measured:
                self.free_energy = self.model.free_energy(self.parameters, statistics)
        return norm

    @abstractmethod
    def updated(self, statistics: Statistics) -> tuple[Parameters, float | None]:
        """New parameters, and the norm of the gradient per entry if there is one; called without gradients."""

    def maximised(self, parameters: Parameters, statistics: Statistics, block: tuple[str, ...]) -> Parameters:
        """The maximum over a block of the parameters, the others as they are; over all, where the block holds all."""
        return self.model.maximise(parameters, statistics, None if set(parameters) <= set(block) else block)

    def anneal(self) -> bool:
        """Average the statistics of more steps, where that is possible."""
        return self.sums.quieter()

    def move(self, parameters: Parameters) -> None:
        """Go on from these parameters; statistics that were kept belong to others."""
        self.parameters, self.free_energy = parameters, None
        self.sums.restart()

    def state(self) -> dict[str, Any]:
        kept = self.sums.state()
        return {"parameters": self.parameters} | ({"statistics": kept} if kept else {})

    def load_state(self, state: dict[str, Any]) -> None:
        keys = {"statistics": dict} if self.sums.state() else {}
        require(state, {"parameters": self.parameters} | keys, "update")
        self.parameters = {name: value.detach() for name, value in state["parameters"].items()}
        self.sums.load_state(state.get("statistics", {}))
