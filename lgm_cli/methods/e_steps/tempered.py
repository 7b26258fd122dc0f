"""The E-step at a temperature, which falls to one: deterministic annealing."""

from __future__ import annotations

from typing import Any

import torch

from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.m_steps.base.m_step import MStep
from lgm_cli.methods.saved_state import require
from lgm_cli.models.base.latent_variable_model import LatentVariableModel, Posterior
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.observations.chunk import Chunk
from lgm_cli.randomness import generator

ENOUGH = 1e-5  # nats per data point: a stage ends when a step raises the free energy by less
MOVED = 1e-3  # by which free parameters are moved at the end of a stage, in standard deviations of the noise


class Tempered(Exact):
    """Posteriors proportional to p(y, z)^beta, with beta from its first value to one, `factor` times it at each stage.

    At a fixed beta each step raises  F_beta = E log p(y, z) + H / beta  (Ueda & Nakano, Neural Networks 11 (1998)
    271-282). A stage ends when a step raises it by less than 1e-5 nats per data point, or after `stage_steps` steps.
    Then components that are alike are dealt anew, and the parameters are moved a little at random, keyed to the seed
    and the stage: components that are exactly alike stay so in every step.

    hold: parameters that stay at their starting values while beta < 1. If covariances were learned too, components that
    are alike would stay so at every beta < 1: a step multiplies a small difference of means by beta S Sigma_c^-1, where
    S is the covariance of the data, and the covariance Sigma_c of such components is S.
    """

    needs_free_energy = True

    def __init__(
        self, model: LatentVariableModel, inverse_temperature: float, factor: float, stage_steps: int,
        hold: tuple[str, ...], seed: int,
    ) -> None:  # fmt: skip
        super().__init__(model)
        self.inverse_temperature, self.factor, self.stage_steps = inverse_temperature, factor, stage_steps
        self.hold, self.seed = hold, seed
        self.stage, self._taken = 0, 0  # number of the stage, and steps of it
        self._free_energy: float | None = None  # with the log prior, after the last step of this stage

    @property
    def tempered(self) -> bool:
        return self.inverse_temperature < 1

    @property
    def held(self) -> tuple[str, ...]:
        return self.hold if self.tempered else ()

    def posterior(self, parameters: Parameters, part: Chunk) -> Posterior:
        return self.model.posterior(parameters, part, self.inverse_temperature)

    def finish(self, m_step: MStep) -> None:
        """Go to the next stage if this one has gained what it can."""
        if not self.tempered:
            return
        self._taken += 1
        free_energy = m_step.free_energy
        if free_energy is not None:
            free_energy = float(free_energy) + self.model.prior_nats(m_step.parameters)
        over = self._taken >= self.stage_steps
        if free_energy is not None and self._free_energy is not None:
            over = over or free_energy - self._free_energy < ENOUGH * self.model.observations.shape[0]
        self._free_energy = free_energy
        if over:
            self.inverse_temperature = min(1.0, self.factor * self.inverse_temperature)
            self.stage, self._taken, self._free_energy = self.stage + 1, 0, None
            m_step.move(self._moved(m_step.parameters))

    def _moved(self, parameters: Parameters) -> Parameters:
        """The parameters of the next stage: dealt anew, and then moved, but for the held ones."""
        draw = generator(self.seed, "move of a stage", self.stage)
        with torch.no_grad():
            parameters = self.model.dealt_anew(parameters, self.hold, draw)
            free = {
                name: value + MOVED * torch.randn(value.shape, generator=draw, dtype=torch.float64).to(value)
                for name, value in self.model.free(parameters).items()
            }
            moved = self.model.constrain(free)
        return {name: parameters[name] if name in self.hold else value for name, value in moved.items()}

    def state(self) -> dict[str, Any]:
        return {
            "inverse_temperature": self.inverse_temperature, "stage": self.stage, "taken": self._taken,
            "free_energy": self._free_energy,
        }  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        like = {"inverse_temperature": float, "stage": int, "taken": int, "free_energy": float | None}
        require(state, like, "expectation")
        if not 0 < state["inverse_temperature"] <= 1:
            raise ValueError("expectation.inverse_temperature")
        self.inverse_temperature, self.stage = state["inverse_temperature"], state["stage"]
        self._taken, self._free_energy = state["taken"], state["free_energy"]
