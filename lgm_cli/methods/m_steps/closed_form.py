"""The M-step in closed form."""

from __future__ import annotations

from lgm_cli.methods.m_steps.base.from_statistics import FromStatistics
from lgm_cli.models.base.parameters import Parameters, Statistics


class ClosedForm(FromStatistics):
    """theta <- argmax of the expected complete log-likelihood, from expected sufficient statistics.

    While some parameters are held, those of the blocks without any of them are maximised, block by block.
    """

    def updated(self, statistics: Statistics) -> tuple[Parameters, float | None]:
        """There is no gradient to report."""
        if not self.held:
            return self.model.maximise(self.parameters, statistics), None
        parameters = self.parameters
        for block in self.model.blocks:
            if not set(block) & set(self.held):
                parameters = self.maximised(parameters, statistics, block)
        return parameters, None
