"""Statistics of each step alone, and running averages of them once their noise hides what the steps gain."""

from __future__ import annotations

from typing import Any

from lgm_cli.methods.saved_state import require
from lgm_cli.methods.statistics.running import Running
from lgm_cli.models.base.latent_variable_model import LatentVariableModel

KAPPA = 0.7  # Delyon, Lavielle & Moulines, Ann. Statist. 27 (1999) 94-128: between 1/2 and 1


class Settling(Running):
    """S_t = (1 - gamma_t) S_(t-1) + gamma_t s_t  with  gamma_t = 1 up to a step t_1, and (t - t_1)^-kappa after it.

    t_1 is the step at which `quieter` was called first: until then averages would hold the steps back, and after it
    they are what makes Monte Carlo EM end at the maximum rather than circle it (stochastic approximation EM).
    """

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__(model, KAPPA)
        self.since: int | None = None  # t_1

    @property
    def weight(self) -> float:
        return 1.0 if self.since is None else max(1, self.steps - self.since) ** -self.kappa

    def quieter(self) -> bool:
        """Begin to average, once."""
        if self.since is not None:
            return False
        self.since = self.steps
        return True

    def restart(self) -> None:
        """Averages begin anew, from the next step."""
        super().restart()
        self.since = None if self.since is None else self.steps

    def state(self) -> dict[str, Any]:
        return super().state() | {"since": self.since}

    def load_state(self, state: dict[str, Any]) -> None:
        require(state, dict, "statistics")
        require(state.get("since"), int | None, "statistics.since")
        super().load_state({name: value for name, value in state.items() if name != "since"})
        self.since = state["since"]
