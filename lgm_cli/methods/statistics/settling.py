"""Statistics of each step alone, and running averages of them once their noise hides what the steps gain."""

from __future__ import annotations

from typing import Any

from lgm_cli.methods.saved_state import require
from lgm_cli.methods.statistics.running import Running
from lgm_cli.models.base.latent_variable_model import LatentVariableModel


class Settling(Running):
    """S_t = (1 - gamma) S_(t-1) + gamma s_t  with  gamma = 2^-h after h calls of `quieter`; gamma = 1 at first.

    s_t holds the moments E[z z^T] = mu mu^T + (1/K) sum_k sigma_k sigma_k^T of the mean and of K samples about it. The
    mean mu is that of the solver, not of the samples, so the divisor is K and s_t has no bias but the solver's error
    (probabilistic unrolling: Lin, Tolooshams, Atchade & Ba, ICML 2023). The maximum is no linear function of s_t, so
    steps from s_t alone circle a point that is about c / K below the maximum. Averages take that noise away: this is
    stochastic approximation EM (Delyon, Lavielle & Moulines, Ann. Statist. 27 (1999) 94-128), whose weights fall here
    only when the noise hides what the steps gain. Weights that fall like t^-0.7 from the first such step on stopped
    short of the maximum where EM is slow: 0.1 nats per entry below it for the regression on `meats`.
    """

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__(model, kappa=1.0)
        self.halvings = 0  # h

    @property
    def weight(self) -> float:
        return 0.5**self.halvings

    def quieter(self) -> bool:
        """Average over twice as many steps."""
        self.halvings += 1  # `Convergence.should_anneal` asks once per factor sqrt(2) in steps, at most
        return True

    def state(self) -> dict[str, Any]:
        return super().state() | {"halvings": self.halvings}

    def load_state(self, state: dict[str, Any]) -> None:
        require(state, dict, "statistics")
        require(state.get("halvings"), int, "statistics.halvings")
        super().load_state({name: value for name, value in state.items() if name != "halvings"})
        self.halvings = state["halvings"]
