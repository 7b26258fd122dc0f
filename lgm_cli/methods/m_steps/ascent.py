"""The M-step of generalised EM: some steps up the expected complete log-likelihood."""

from __future__ import annotations

from lgm_cli.methods.m_steps.base.climb import Climb
from lgm_cli.methods.m_steps.base.from_statistics import FromStatistics
from lgm_cli.methods.statistics.base.sums import Sums
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters, Statistics


class Ascent(FromStatistics):
    """theta <- theta after J inner steps that each raise E log p(y, z | theta), the posterior held fixed.

    Whatever raises it keeps the likelihood from falling (Dempster, Laird & Rubin, JRSS B 39 (1977) 1-38),
    and the E-step, the costly part, is paid once for J steps.

    inner_steps: J. direction: "lbfgs", or "gradient". learning_rate: of the first inner step, about one step of EM
    where it is one; steps that do not raise enough are halved.
    """

    def __init__(
        self, model: LatentVariableModel, parameters: Parameters, sums: Sums | None, inner_steps: int,
        direction: str = "lbfgs", learning_rate: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(model, parameters, sums)
        self.inner_steps, self.curvature, self.learning_rate = inner_steps, direction == "lbfgs", learning_rate

    def updated(self, statistics: Statistics) -> tuple[Parameters, float | None]:
        climb = Climb(
            self.model, lambda parameters: [self.model.expected_loss(parameters, statistics)],
            self.inner_steps, self.learning_rate, self.curvature,
        )  # fmt: skip
        return climb(self.parameters)
