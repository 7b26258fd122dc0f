"""The E-step by mean and samples of an iterative solver."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lgm_cli.methods.e_steps.base.e_step import EStep
from lgm_cli.methods.e_steps.base.kept_sketches import KeptSketches
from lgm_cli.methods.e_steps.base.samples import grown, saved_samples
from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.methods.saved_state import require
from lgm_cli.models.base.latent_gaussian_model import LatentGaussianModel
from lgm_cli.models.base.latent_variable_model import Posterior
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.base import MatrixPrecision, PosteriorPrecision, is_small
from lgm_cli.posteriors.samples import SamplePosterior
from lgm_cli.randomness import generator
from lgm_cli.solvers.base.solver import Solution, Solver


class MonteCarlo(EStep):
    """Posterior means and samples by an iterative solver on A_n X = [b_n, delta_1 .. delta_K].

    delta_k = e + V^T Omega e' with e, e' ~ N(0, I) has covariance A_n, so sigma_k = A_n^-1 delta_k ~ N(0, A_n^-1): no
    factorisation is needed (Lin, Tolooshams, Atchade & Ba, ICML 2023, section 3; Papandreou & Yuille, NIPS 2010).

    e and e' are drawn anew every `refresh_every` steps, keyed to the seed, the refresh and the block of data points.
    With solver.warm_start the previous solution is the starting point: all of it while e and e' stay, the mean alone
    afterwards.

    differentiable: let the parameters' gradient flow through every step of the solver (network gradient).
    growth: factor of the number of samples each time that their noise hides what the steps gain; one keeps it.
    """

    def __init__(
        self,
        model: LatentGaussianModel,
        solver: Solver,
        num_samples: int,
        refresh_every: int,
        seed: int,
        differentiable: bool,
        growth: float = 1.0,
    ) -> None:
        self.model, self.solver, self.num_samples = model, solver, num_samples
        self.refresh_every, self.seed, self.differentiable = refresh_every, seed, differentiable
        self.growth, self._signs = growth, model.tuning().signs
        self._start: dict[tuple[int, int], tuple[int, Tensor]] = {}  # by block and chunk: refresh, solution
        self._sketches = KeptSketches(solver, seed, sum(len(block) for block in model.observations.blocks))

    def layout(self, block: int) -> list[Chunk]:
        """The data points of a block as solving for them is cheapest; gathered where gradients flow through that."""
        return self.model.observations.blocks[block] if self.differentiable else self.model.layout(block, solved=True)

    def posteriors(
        self, parameters: Parameters, block: int, chunks: list[Chunk], step: int, record: SolverRecord
    ) -> Iterator[tuple[Chunk, Posterior, Tensor | None]]:
        """(chunk, posterior, sum_k delta_k^T sigma_k / K if it is needed for a network gradient)."""
        refresh = step // self.refresh_every
        draw = generator(self.seed, "perturbation", refresh, block, device=chunks[0].values.device)
        starts = [self._warm((block, number), refresh) for number in range(len(chunks))]
        solved = self._solved(parameters, block, chunks, step, draw, starts, record)
        frame = self.model.frame(parameters)
        for number, (chunk, (delta, x, system, targets)) in enumerate(zip(chunks, solved, strict=True)):
            if self.solver.warm_start:
                kept = x.detach() if self.refresh_every > 1 else x[:, :1].detach().clone()  # not a view of all
                self._start[block, number] = (refresh, kept)
            mean, samples = x[:, 0], x[:, 1:]
            pairing = (delta * samples).sum() / self.num_samples if self.differentiable else None
            yield chunk, SamplePosterior(mean, samples, frame, system, targets), pairing

    def _solved(
        self, parameters: Parameters, block: int, chunks: list[Chunk], step: int, draw: torch.Generator,
        starts: list[Tensor | None], record: SolverRecord,
    ) -> Iterator[tuple[Tensor, Tensor, PosteriorPrecision, Tensor]]:  # fmt: skip
        """Perturbations, solutions, systems and targets, chunk by chunk. Systems with a small matrix of their own are
        solved all at once, since many small chunks cost more calls than operations; but not for a network gradient,
        whose graph is freed with each chunk."""
        small = is_small(self.model.dim, 1 + self.num_samples)
        if len(chunks) > 1 and small and not self.differentiable and not self._sketches.always:
            found = [self._system(parameters, chunk, draw) for chunk in chunks]
            systems, rights, precisions, targets = zip(*found, strict=True)
            sizes = [len(right) for right in rights]
            matrices = [system.dense().expand(n, -1, -1) for system, n in zip(systems, sizes, strict=True)]
            joined = MatrixPrecision(torch.cat(matrices))
            right = joined.arrange(torch.cat(rights))
            x = self._solve(joined, right, _joined(starts, sizes, right), record).x
            perturbations = (each[:, 1:] for each in rights)
            yield from zip(perturbations, x.split(sizes), precisions, targets, strict=True)
            return
        for number, (chunk, start) in enumerate(zip(chunks, starts, strict=True)):
            system, right, precision, targets = self._system(parameters, chunk, draw)
            record.products += self._sketches.give(system, (block, number), step)
            solution = self._solve(system, right, _joined([start], [len(right)], right), record)
            self._sketches.note(system, (block, number), solution)
            yield right[:, 1:], solution.x, precision, targets

    def _system(
        self, parameters: Parameters, chunk: Chunk, draw: torch.Generator
    ) -> tuple[MatrixPrecision | PosteriorPrecision, Tensor, PosteriorPrecision, Tensor]:
        """A_n as a solver takes it; b_n beside delta_1 .. delta_K, (n, 1 + K, D); A_n itself, and the targets."""
        with torch.set_grad_enabled(self.differentiable):
            precision, targets = self.model.system(parameters, chunk)
            b = precision.right_side(targets)
        with torch.no_grad():
            latent, observed = chunk.noise(self.num_samples, self.model.dim, draw, self._signs)
        with torch.set_grad_enabled(self.differentiable):
            delta = precision.perturbation(latent, observed)
            system = precision.to_solve(1 + self.num_samples)
            return system, system.arrange(torch.cat([b, delta], dim=1)), precision, targets

    def _solve(
        self, system: MatrixPrecision | PosteriorPrecision, right: Tensor, start: Tensor | None, record: SolverRecord
    ) -> Solution:
        with torch.set_grad_enabled(self.differentiable):
            solution = self.solver.solve(system, right, start)
        record.systems += solution.iterations.numel()
        record.iterations += float(solution.iterations.sum())
        record.residual = max(record.residual, float(solution.residual.max()))
        record.products += solution.products
        return solution

    def _warm(self, key: tuple[int, int], refresh: int) -> Tensor | None:
        """Where the solver of a chunk starts: its last solution, or the mean alone (n, 1, D) if samples are new."""
        if not self.solver.warm_start or key not in self._start:
            return None
        when, x = self._start[key]
        return x if when == refresh else x[:, :1]

    def quieter(self) -> bool:
        """Draw more samples; what is kept of the former ones is their mean."""
        if (more := grown(self.num_samples, self.growth)) == self.num_samples:
            return False
        self.num_samples = more
        self._start = {key: (when, x[:, :1].clone()) for key, (when, x) in self._start.items()}
        return True

    def state(self) -> dict[str, Any]:
        """Warm starts and sketches, for a checkpoint: a run that goes on must start its solvers where they were."""
        kept = {f"{block}.{number}.{when}": x for (block, number), (when, x) in self._start.items()}
        kept |= self._sketches.state()
        return kept | ({"num_samples": self.num_samples} if self.growth > 1 else {})

    def load_state(self, state: dict[str, Any]) -> None:
        dtype, total = self.model.observations.dtype, len(self.model.observations.blocks)
        sketches = {name: x for name, x in state.items() if name.startswith("sketch.")}
        sizes = {
            (block, number): (len(chunk.points), self.model.dim)
            for block in range(total)
            for number, chunk in enumerate(self.layout(block))
        }
        self._sketches.load_state(sketches, sizes, dtype, self.model.observations.device)
        if self.growth > 1:
            self.num_samples = saved_samples(state, self.num_samples)
        for name, x in state.items():
            if name in sketches or (name == "num_samples" and self.growth > 1):
                continue
            block, number, when = map(int, name.split("."))
            chunks = self.layout(block) if 0 <= block < total else []
            if not 0 <= number < len(chunks):
                raise ValueError(f"expectation.{name}")
            width = 1 if x.shape[1] == 1 else 1 + self.num_samples
            like = torch.empty(len(chunks[number].points), width, self.model.dim, dtype=dtype)
            require(x, like, f"expectation.{name}")
            self._start[block, number] = (when, x)


def _joined(starts: Sequence[Tensor | None], sizes: Sequence[int], right: Tensor) -> Tensor | None:
    """Starts of all systems, shaped like `right`: zero where a chunk (of so many data points) has none or only that of
    its mean."""
    if all(start is None for start in starts):
        return None
    whole = torch.zeros_like(right)
    for start, part in zip(starts, whole.split(list(sizes)), strict=True):
        if start is not None:
            part[:, : start.shape[1]] = start
    return whole
