"""Statistics of each step alone, and running averages of them once their noise hides what the steps gain."""

from __future__ import annotations

from typing import Any

from lgm_cli.methods.saved_state import require
from lgm_cli.methods.statistics.running import Running
from lgm_cli.models.base.latent_variable_model import LatentVariableModel

KAPPA = 0.7  # between 1/2 and 1, as the almost sure convergence of stochastic approximation EM asks


class Settling(Running):
    """S_t = (1 - gamma_t) S_(t-1) + gamma_t s_t  with  gamma_t = 1 up to a step t_1, and (t - t_1)^-kappa after it.

    s_t holds the moments E[z z^T] = mu mu^T + (1/K) sum_k sigma_k sigma_k^T of the mean and of K samples about it. The
    mean mu is that of the solver, not of the samples, so the divisor is K and s_t has no bias but the solver's error
    (probabilistic unrolling: Lin, Tolooshams, Atchade & Ba, ICML 2023). The maximum is no linear function of s_t, so
    steps from s_t alone circle a point that is about c / K below the maximum. Averages take that noise away: this is
    stochastic approximation EM (Delyon, Lavielle & Moulines, Ann. Statist. 27 (1999) 94-128), begun at step t_1, at
    which `quieter` was called first. Before it averages would only hold the steps back.
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
