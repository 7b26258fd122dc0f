"""Nystrom preconditioners that a Monte Carlo E-step keeps from step to step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lgm_cli.methods.saved_state import require
from lgm_cli.posteriors.base import MatrixPrecision, PosteriorPrecision
from lgm_cli.randomness import generator
from lgm_cli.solvers.base.nystrom import SMALLEST_RANK, NystromPreconditioner, sketched
from lgm_cli.solvers.base.solver import Solution, Solver

Key = tuple[int, int]  # block, chunk

WORTH_IT = 20.0  # iterations a system from which a sketch is tried, where the choice was left open

GROWTH = 0.5  # of the iterations since a sketch was made, by which they have to grow until it is made anew

LEAST_GAIN = 0.7  # a first sketch that leaves more than this share of the iterations is dropped

MOST_ELEMENTS = 1 << 24  # numbers of all sketches that are kept, where the choice was left open (64 MiB in float32)

NEVER = 1e30


@dataclass
class Kept:
    """What is known of a chunk's solves."""

    sketch: NystromPreconditioner | None = None
    limit: float = WORTH_IT  # iterations a system, beyond which the next step makes a sketch
    before: float = 0.0  # iterations without any, when the first one was asked for
    due: int = 0  # vectors, at most, of the sketch that the next step makes; 0: none is due


class KeptSketches:
    """A sketch of A at earlier parameters preconditions A well while the parameters have moved little.

    With `solver.preconditioner=nystrom`, a chunk's first solve makes one. With `auto`, one is made after a solve of
    more than WORTH_IT iterations a system, where A says that it may be worth it (`sketchable`), with no more products
    than that solve took. A sketch is made anew when the iterations have grown by half, and a step loses more products
    by that than a new one takes; a first one that does not help is dropped for good. Random numbers are keyed to the
    seed, the step, the block and the chunk.

    chunks: how many there are in all blocks, which share MOST_ELEMENTS.
    """

    def __init__(self, solver: Solver, seed: int, chunks: int) -> None:
        self._room = MOST_ELEMENTS // max(1, chunks)
        self.rank, self.seed = solver.rank, seed
        self.always, self._open = solver.preconditioner == "nystrom", solver.preconditioner == "auto"
        self._kept: dict[Key, Kept] = {}

    def _of(self, system: MatrixPrecision | PosteriorPrecision, key: Key) -> Kept | None:
        if not (self.always or (self._open and system.sketchable)):
            return None
        return self._kept.setdefault(key, Kept(due=1 if self.always else 0))

    def give(self, system: MatrixPrecision | PosteriorPrecision, key: Key, step: int) -> int:
        """Attach the chunk's sketch to its precision, and make it first where it is due. The products that took."""
        kept, made = self._of(system, key), 0
        if kept is None:
            return made
        if kept.due:
            draw = generator(self.seed, "sketch", step, *key, device=system.diagonal().device)
            found = sketched(system, self.rank, draw, None if self.always else kept.due)
            kept.sketch, made = found.kept(), found.products
        system.sketch = kept.sketch
        return made

    def note(self, system: MatrixPrecision | PosteriorPrecision, key: Key, solution: Solution) -> None:
        """Learn from the iterations of a solve whether the next step needs another sketch."""
        kept, mean = self._of(system, key), float(solution.iterations.mean())
        if kept is None:
            return
        n, vectors, dim = solution.x.shape
        rank = 0 if kept.sketch is None else kept.sketch.values.shape[-1]
        if kept.due:  # the first solve with it
            kept.due, kept.limit = 0, mean + max(1.0, GROWTH * mean, rank / vectors)
            if mean > LEAST_GAIN * kept.before and not self.always:
                kept.sketch, kept.limit = None, NEVER
        elif mean > kept.limit:
            room = dim if self.always else min(dim, self._room // (n * dim))
            if room < min(dim, SMALLEST_RANK):
                kept.limit = NEVER
                return
            kept.due = max(1, min(room, max(rank, round(mean * vectors))))
            kept.before = NEVER if kept.sketch is not None else mean

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint, as a dictionary of tensors."""
        found: dict[str, Tensor] = {}
        for (block, number), kept in self._kept.items():
            name = f"sketch.{block}.{number}"
            found[f"{name}.numbers"] = torch.tensor([kept.limit, kept.before, kept.due], dtype=torch.float64)
            if kept.sketch is not None:
                found |= {f"{name}.basis": kept.sketch.basis, f"{name}.values": kept.sketch.values}
        return found

    def load_state(
        self, state: dict[str, Tensor], sizes: dict[Key, tuple[int, int]], dtype: torch.dtype, device: torch.device
    ) -> None:
        """Go on from a state of `state`; ValueError when it is not one. sizes: n and D of each chunk."""
        for name in {name.rsplit(".", 1)[0] for name in state}:
            key = _key(name)
            numbers, basis, values = (state.get(f"{name}.{part}") for part in ("numbers", "basis", "values"))
            if key not in sizes or numbers is None or (basis is None) != (values is None):
                raise ValueError(f"expectation.{name}")
            require(numbers, torch.zeros(3, dtype=torch.float64), f"expectation.{name}.numbers")
            limit, before, due = numbers.tolist()
            kept = Kept(None, limit, before, int(due))
            if basis is not None and values is not None:
                n, dim = sizes[key]
                n, rank = (1 if len(basis) == 1 else n), min(dim, basis.shape[-1])
                like = torch.empty(n, dim, rank, dtype=dtype, device="meta")
                require(basis, like, f"expectation.{name}.basis")
                require(values, like[:, 0], f"expectation.{name}.values")
                kept.sketch = NystromPreconditioner(basis.to(device), values.to(device))
            self._kept[key] = kept


def _key(name: str) -> Key:
    """Block and chunk of `sketch.BLOCK.CHUNK`; ValueError for another name."""
    _, block, number = name.split(".")
    return int(block), int(number)
