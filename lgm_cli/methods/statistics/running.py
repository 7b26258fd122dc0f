"""Running averages of the statistics of steps: online EM, and stochastic approximation EM."""

from __future__ import annotations

import math
from typing import Any

from lgm_cli.methods.saved_state import require
from lgm_cli.methods.statistics.base.sums import restored
from lgm_cli.methods.statistics.fresh import Fresh
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters, Statistics

ENOUGH = 5  # observed entries of a column for each of its parameters


class Running(Fresh):
    """S_t = (1 - gamma_t) S_(t-1) + gamma_t s_t,  gamma_t = max(1, t + 1 - full_steps)^-kappa,  t = 0, 1, ..

    s_t: the statistics of step t, scaled to all N data points, so that counts, floors and priors mean in `maximise`
    what they do in a full step. With minibatches and full_steps = 0 this is online EM (Cappe & Moulines, JRSS B 71
    (2009) 593-613); with Monte Carlo statistics and `full_steps` steps before averaging begins, stochastic
    approximation EM (Delyon, Lavielle & Moulines, Ann. Statist. 27 (1999) 94-128).

    average: what is averaged. "parameters": theta_t = (1 - gamma_t) theta_(t-1) + gamma_t argmax of s_t, which ends
    elsewhere, because the maximiser of a minibatch is biased where it is not affine in the statistics.
    first_update: steps before the first that moves the parameters; the statistics are averaged meanwhile.
    """

    bounds = False  # entropies and expectations of several parameters, averaged

    def __init__(
        self, model: LatentVariableModel, kappa: float, average: str = "statistics", full_steps: int = 0,
        first_update: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(model)
        self.kappa, self.average, self.full_steps, self.first_update = kappa, average, full_steps, first_update
        self.steps = 0  # that were closed
        self._running: Statistics = {}
        self._everything = False

    @property
    def everything(self) -> bool:
        return self._everything

    @property
    def ready(self) -> bool:
        return self.steps > self.first_update

    @property
    def weight(self) -> float:
        """gamma of the step that was closed last."""
        return max(1, self.steps - self.full_steps) ** -self.kappa

    def close(self) -> Statistics:
        fresh = super().close()
        self.steps, self._everything = self.steps + 1, False
        if self.average == "parameters":
            return fresh
        weight = self.weight
        if not self._running or weight == 1:
            self._running = fresh
        else:
            self._running = {name: (1 - weight) * old + weight * fresh[name] for name, old in self._running.items()}
        return self._running

    def settle(self, before: Parameters, after: Parameters) -> Parameters:
        if self.average == "statistics":
            return after
        weight = self.weight
        return {name: (1 - weight) * before[name] + weight * value for name, value in after.items()}

    def restart(self) -> None:
        """The next step takes all data points, at the new parameters."""
        self._running, self._everything = {}, self.average == "statistics"

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps, "everything": self._everything, "running": self._running}

    def load_state(self, state: dict[str, Any]) -> None:
        require(state, {"steps": int, "everything": bool, "running": dict}, "statistics")
        self.steps, self._everything = state["steps"], state["everything"]
        self._running = restored(state["running"], "statistics.running", self.model.observations.device)


def first_update(parameters: int, entries: float, steps_per_epoch: int) -> int:
    """Steps to gather for before the first update: until a column has ENOUGH observed entries for each of its
    parameters, but not more than the data are passed through once.

    parameters: of the whole model. entries: observed entries of the data points of a step.
    """
    needed = math.ceil(ENOUGH * parameters / max(entries, 1.0))
    return min(max(0, needed - 1), steps_per_epoch - 1)
