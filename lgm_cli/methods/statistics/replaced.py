"""Statistics of all blocks of data points, of which each step replaces some: incremental EM."""

from __future__ import annotations

import math
from typing import Any

from lgm_cli.methods.saved_state import require
from lgm_cli.methods.statistics.base.sums import Sums, restored, scaled
from lgm_cli.models.base.latent_variable_model import LatentVariableModel, Posterior
from lgm_cli.models.base.parameters import Statistics
from lgm_cli.observations.chunk import Chunk


class Replaced(Sums):
    """S <- S - s_b + s_b' for each block b of a step; s_b is the statistics of b under the posterior it last had.

    The first step takes all blocks. Rounding errors of the differences would add up, so S is summed anew from the
    stored s_b, in the order of the blocks, once per pass through the data. The free energy sum_b (E log p + H(q_b))
    never falls, since s_b holds the entropy of the stored q_b too (Neal & Hinton, in Jordan (ed.), Learning in
    Graphical Models, 1998, 355-368).

    blocks_per_step: blocks that a step replaces.
    """

    begins_with_all = True

    def __init__(self, model: LatentVariableModel, blocks_per_step: int) -> None:
        super().__init__(model)
        self._sizes = model.observations.block_sizes
        self.steps_per_pass = math.ceil(len(self._sizes) / blocks_per_step)
        self._stored: dict[int, Statistics] = {}
        self._new: dict[int, Statistics] = {}
        self._points: dict[int, int] = {}
        self._total: Statistics = {}
        self._since = 0  # steps since S was summed anew

    @property
    def everything(self) -> bool:
        return len(self._stored) < len(self._sizes)

    def add(self, block: int, chunk: Chunk, posterior: Posterior) -> None:
        self._new[block] = self.model.add_statistics(self._new.get(block, {}), chunk, posterior)
        self._points[block] = self._points.get(block, 0) + len(chunk.points)

    def close(self) -> Statistics:
        for block, sums in sorted(self._new.items()):
            new, old = scaled(sums, self._sizes[block] / self._points[block]), self._stored.get(block)
            self._stored[block] = new
            if old is not None:
                self._total = {name: value - old[name] + new[name] for name, value in self._total.items()}
        self._new, self._points, self._since = {}, {}, self._since + 1
        if not self._total or self._since >= self.steps_per_pass:
            self._total, self._since = self._summed(), 0
        return self._total

    def _summed(self) -> Statistics:
        first, *others = (self._stored[block] for block in range(len(self._sizes)))
        total = first
        for sums in others:
            total = {name: value + sums[name] for name, value in total.items()}
        return total

    def restart(self) -> None:
        """The next step takes all blocks, at the new parameters."""
        self._stored, self._total, self._since = {}, {}, 0

    def state(self) -> dict[str, Any]:
        stored = {str(block): sums for block, sums in self._stored.items()}
        return {"stored": stored, "total": self._total, "since": self._since}

    def load_state(self, state: dict[str, Any]) -> None:
        require(state, {"stored": dict, "total": dict, "since": int}, "statistics")
        device = self.model.observations.device
        if sorted(map(int, state["stored"])) not in ([], list(range(len(self._sizes)))):
            raise ValueError("statistics.stored")
        self._stored = {int(b): restored(sums, f"statistics.{b}", device) for b, sums in state["stored"].items()}
        self._total, self._since = restored(state["total"], "statistics.total", device), state["since"]
