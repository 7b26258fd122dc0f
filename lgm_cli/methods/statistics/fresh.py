"""The statistics of this step alone."""

from __future__ import annotations

from lgm_cli.methods.statistics.base.sums import Sums, scaled
from lgm_cli.models.base.latent_variable_model import LatentVariableModel, Posterior
from lgm_cli.models.base.parameters import Statistics
from lgm_cli.observations.chunk import Chunk


class Fresh(Sums):
    """S = (B / b) sum of E[t(y, z)] over the data points of b of B blocks: over all blocks, their sum.

    Blocks come equally often, so that each data point counts the same in the average of steps. By the share of the data
    points instead, those of a small block would count more.
    """

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__(model)
        self._total: Statistics = {}
        self._points = 0  # with each draw of a data point's latents counted
        self._blocks: set[int] = set()

    def restart(self) -> None:
        """Drop what was added in a step that is not ended."""
        self._total, self._points, self._blocks = {}, 0, set()

    def add(self, block: int, chunk: Chunk, posterior: Posterior) -> None:
        self._total = self.model.add_statistics(self._total, chunk, posterior)
        self._points += len(chunk.points)
        self._blocks.add(block)

    def close(self) -> Statistics:
        total, points, blocks = self._total, self._points, self._blocks
        self._total, self._points, self._blocks = {}, 0, set()
        sizes = self.model.observations.block_sizes
        draws = points / sum(sizes[block] for block in blocks)
        return scaled(total, len(sizes) / len(blocks) / draws)
