"""What is reported of parameters: exact log-likelihoods, predictions of hidden entries, latent variables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lgm_cli.data.base import Data
from lgm_cli.gram import ExactPosterior
from lgm_cli.methods.expectation import EXACT_ELEMENTS, exact_part_size
from lgm_cli.models.base import Model, Parameters
from lgm_cli.observations import Chunk

SUBSET_OPERATIONS = 1e10  # of one evaluation on the way; a random subset of data points is taken when all cost more
EXACT_OPERATIONS = 4e13  # of the final evaluation
SUBSET_POINTS = 100  # at least


@dataclass(frozen=True)
class Scores:
    """Averages over entries, in the data's own units; None where there is nothing to average."""

    train_log_likelihood: float
    standard_error: float | None  # of the train value, when only a subset of data points was used
    test_log_likelihood: float | None
    test_rmse: float | None
    points: int  # data points used


class Evaluator:
    """Scores parameters by exact posteriors, on all data points or on one fixed random subset of them.

    A posterior costs O(min(m, D)^2 max(m, D)) for a data point with m observed entries. When all of them cost more than
    SUBSET_OPERATIONS, evaluations on the way use a subset drawn once (the same for every evaluation and method, so that
    differences between two evaluations are much more exact than the standard error of either).
    """

    def __init__(self, model: Model, data: Data, seed: int) -> None:
        self.model, self.data = model, data
        self._chunks = list(model.observations.chunks)
        self._test_values = data.test_values
        self._truth = _ByPoint(data.test_rows, data.test_columns, model.observations.shape)
        self._lengths = self._observed_lengths()
        cost = self._operations()
        self.exact_at_end = cost.sum() <= EXACT_OPERATIONS
        self._subset: list[Chunk] | None = self._choose(cost, SUBSET_OPERATIONS, seed)
        self._largest: list[Chunk] | None = None if self.exact_at_end else self._choose(cost, EXACT_OPERATIONS, seed)

    @property
    def sampled(self) -> bool:
        """Whether evaluations on the way use a subset of the data points."""
        return self._subset is not None

    def describe(self, scores: Scores) -> dict[str, object]:
        """How the last likelihood was computed, for summary.json."""
        total = self.data.shape[0]
        way = "exact" if scores.points == total else "exact posteriors of a fixed random subset of the data points"
        return {"log_likelihood": way, "data_points": scores.points, "of": total, "sampled_on_the_way": self.sampled}

    def _observed_lengths(self) -> np.ndarray:
        lengths = np.zeros(self.model.observations.shape[0])
        for chunk in self._chunks:
            lengths[chunk.points.cpu().numpy()] = chunk.weight.sum(1).cpu().numpy()
        return lengths

    def _operations(self) -> np.ndarray:
        m, dim = self._lengths, float(self.model.dim)
        small, large = np.minimum(m, dim), np.maximum(m, dim)
        return small**2 * large + small**3 / 3 + self._truth.lengths * dim**2

    def _choose(self, cost: np.ndarray, limit: float, seed: int) -> list[Chunk] | None:
        total = len(cost)
        if cost.sum() <= limit:
            return None
        points = max(SUBSET_POINTS, int(total * limit / cost.sum()))
        if points >= total:
            return None
        chosen = np.zeros(total, bool)
        chosen[np.random.default_rng([seed, 0xE7A1]).permutation(total)[:points]] = True
        return [part for chunk in self._chunks if (part := _select(chunk, chosen)) is not None]

    @torch.no_grad()
    def posteriors(
        self, parameters: Parameters, chunks: Iterable[Chunk] | None = None
    ) -> Iterator[tuple[Chunk, ExactPosterior]]:
        for chunk in self._chunks if chunks is None else chunks:
            for part in chunk.split(exact_part_size(chunk, self.model.dim)):
                yield part, self.model.exact_posterior(parameters, part)

    @torch.no_grad()
    def score(self, parameters: Parameters, final: bool = False) -> Scores:
        """On the subset, or on all data points (final, and always when they are cheap)."""
        chunks = self._largest if final else self._subset
        likelihoods, counts, log_densities, squares = [], [], [], []
        for part, posterior in self.posteriors(parameters, chunks):
            likelihoods.append(self.model.log_likelihood(parameters, part, posterior).cpu().double())
            counts.append(part.weight.sum(1).cpu().double())
            for position, mean, variance in self._predict(parameters, part, posterior, self._truth):
                error = torch.as_tensor(self._test_values[position]) - mean
                squares.append(error.square())
                log_densities.append(-0.5 * (error.square() / variance + variance.log() + math.log(2 * math.pi)))
        likelihood, count = torch.cat(likelihoods), torch.cat(counts)
        mean = float(likelihood.sum() / count.sum())
        error = None
        if chunks is not None:  # ratio estimator, with the finite population correction
            spread = (likelihood - mean * count).square().sum() / (len(count) - 1) / len(count)
            error = float((spread * (1 - len(count) / self.data.shape[0])).sqrt() / count.mean())
        tested = bool(squares) and sum(len(s) for s in squares) > 0
        return Scores(
            mean, error,
            float(torch.cat(log_densities).mean()) if tested else None,
            float(torch.cat(squares).mean().sqrt()) if tested else None,
            len(count),
        )  # fmt: skip

    def _predict(
        self, parameters: Parameters, part: Chunk, posterior: ExactPosterior, wanted: _ByPoint
    ) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """Positions among the wanted entries, means and variances (float64, in the data's units)."""
        all_columns, all_positions = wanted.of(part.points.cpu().numpy())
        size = max(1, EXACT_ELEMENTS // (len(part.points) * self.model.dim))  # entries of each data point at a time
        for start in range(0, all_positions.shape[1], size):
            position = all_positions[:, start : start + size]
            index = torch.as_tensor(all_columns[:, start : start + size], device=part.points.device)
            mean, variance = self.model.predict(parameters, posterior, index)
            real = torch.as_tensor(position >= 0)
            yield position[position >= 0], mean[real], variance[real]

    @torch.no_grad()
    def predict(self, parameters: Parameters, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of entries (rows sorted), given what was observed of their data points."""
        wanted = _ByPoint(rows, columns, self.model.observations.shape)
        mean, variance = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        chosen = wanted.lengths > 0
        chunks = [part for chunk in self._chunks if (part := _select(chunk, chosen)) is not None]
        for part, posterior in self.posteriors(parameters, chunks):
            for position, m, v in self._predict(parameters, part, posterior, wanted):
                mean[position], variance[position] = m.numpy(), v.numpy()
        return mean, np.sqrt(variance)

    @torch.no_grad()
    def latents(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of every data point's latent variables, (N, D) each, in the data's order."""
        n = self.model.observations.shape[0]
        mean = torch.empty(n, self.model.dim, dtype=self.model.observations.dtype)
        deviation = torch.empty_like(mean)
        for part, posterior in self.posteriors(parameters):
            m, s = self.model.latents(parameters, posterior)
            mean[part.points.cpu()], deviation[part.points.cpu()] = m.cpu(), s.cpu()
        return mean, deviation


class _ByPoint:
    """Entries sorted by data point, looked up for a group of data points."""

    def __init__(self, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> None:
        self.starts = np.searchsorted(rows, np.arange(shape[0] + 1))
        self.lengths = np.diff(self.starts)
        self.columns = columns

    def of(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns and positions (n, t), padded with column 0 at position -1."""
        lengths = self.lengths[points]
        width = int(lengths.max(initial=0))
        offset = np.arange(width)
        position = np.where(offset < lengths[:, None], self.starts[points][:, None] + offset, -1)
        return np.where(position >= 0, self.columns[position] if len(self.columns) else 0, 0), position


def _select(chunk: Chunk, chosen: np.ndarray) -> Chunk | None:
    """The chosen data points of a chunk."""
    kept = torch.as_tensor(np.flatnonzero(chosen[chunk.points.cpu().numpy()]), device=chunk.points.device)
    if len(kept) == 0:
        return None
    if len(kept) == len(chunk.points):
        return chunk
    index = chunk.index[kept] if chunk.index is not None and chunk.index.dim() == 2 else chunk.index
    return Chunk(chunk.points[kept], index, chunk.weight[kept], chunk.values[kept])
