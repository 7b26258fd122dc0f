"""The statistics of this step alone."""

from __future__ import annotations

from lgm_cli.methods.statistics.base.sums import Sums, scaled
from lgm_cli.models.base.latent_variable_model import LatentVariableModel, Posterior
from lgm_cli.models.base.statistics import Statistics
from lgm_cli.observations.chunk import Chunk


class Fresh(Sums):
    """S = (N / n) sum of E[t(y, z)] over the n data points of this step: over all N of them, their sum."""

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__(model)
        self._total: Statistics = {}
        self._points = 0

    def restart(self) -> None:
        """Drop what was added in a step that is not ended."""
        self._total, self._points = {}, 0

    def add(self, block: int, chunk: Chunk, posterior: Posterior) -> None:
        self._total = self.model.add_statistics(self._total, chunk, posterior)
        self._points += len(chunk.points)

    def close(self) -> Statistics:
        total, points = self._total, self._points
        self._total, self._points = {}, 0
        return scaled(total, self.model.observations.shape[0] / points)
