"""What is reported of parameters: exact log-likelihoods, predictions of hidden entries, latent variables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lgm_cli.data.base.categories import errors
from lgm_cli.data.base.data import Data
from lgm_cli.evaluation.given_back import GivenBack
from lgm_cli.evaluation.subset import needs_iterations, select_points
from lgm_cli.models.base.categories import Likeliest
from lgm_cli.models.base.latent_variable_model import LatentVariableModel, Reference
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.base.predictive import Predictive
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.costs import EXACT_ELEMENTS, exact_parts

SUBSET_OPERATIONS = 1e10  # of one evaluation on the way; a random subset of data points is taken when all cost more
EXACT_OPERATIONS = 4e13  # of the final evaluation
SUBSET_POINTS = 100  # at least
ITERATIVE_SPACING = 5
LOG_PRIOR = "log_prior"  # of the parameters, shared among all observed entries; up to a constant
FORECAST = ("forecast_log_likelihood", "forecast_rmse")


@dataclass(frozen=True)
class Scores:
    """Averages over entries, in the data's own units; None where there is nothing to average."""

    train_log_likelihood: float
    standard_error: float | None  # of the train value, when it is of a subset of data points or a numerical estimate
    test_log_likelihood: float | None
    test_rmse: float | None
    points: int  # data points used
    own: dict[str, float | None]  # the model's own columns, and those of forecasts
    settling: tuple[Tensor, float] | None = None  # posterior mean and average variance of what a run is for

    @property
    def objective(self) -> float:
        """What learning raises: the log-likelihood and, where there is a prior, the log prior, per entry."""
        return self.train_log_likelihood + (self.own.get(LOG_PRIOR) or 0.0)


class EntriesByPoint:
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


class Evaluator:
    """Scores parameters by exact posteriors, on all data points or on one fixed random subset of them; or, where the
    exact posterior of a single data point is out of reach, by one that is accurate to a stated error.

    A posterior costs O(min(m, D)^2 max(m, D)) for a data point with m observed entries. When all of them cost more than
    SUBSET_OPERATIONS, evaluations on the way use a subset drawn once (the same for every evaluation and method, so that
    differences between two evaluations are much more exact than the standard error of either).
    """

    def __init__(self, model: LatentVariableModel, data: Data, seed: int) -> None:
        self.model, self.data = model, data
        self._chunks = list(model.observations.chunks)
        self._test_values = data.test_values
        self._given_back = None if data.table.transform is None else GivenBack(model, data)
        self._jacobian = self._given_back.log_jacobian if self._given_back else 0.0  # of logarithms, of all entries
        self._likeliest = Likeliest(data.table)
        self._ahead = data.ahead
        self._truth = EntriesByPoint(*data.located(data.test_rows, data.test_columns), data.layout)
        self._lengths = self._observed_lengths()
        self.seed = seed
        self.iterative = needs_iterations(model)
        cost = self._operations()
        self.exact_at_end = cost.sum() <= EXACT_OPERATIONS
        self._subset: list[Chunk] | None = self._choose(cost, SUBSET_OPERATIONS, seed)
        self._largest: list[Chunk] | None = None if self.exact_at_end else self._choose(cost, EXACT_OPERATIONS, seed)

    @property
    def sampled(self) -> bool:
        """Whether evaluations on the way use a subset of the data points."""
        return self._subset is not None

    @property
    def chunks(self) -> list[Chunk]:
        """The data points of evaluations on the way."""
        return self._chunks if self._subset is None else self._subset

    @property
    def spacing(self) -> int:
        """Steps between two evaluations, at least, where their number is left open."""
        return ITERATIVE_SPACING if self.iterative else 1

    def per_entry(self, free_energy: float | None) -> float | None:
        """A free energy of all data points, in nats of standardised data, in the units of the train likelihood."""
        if free_energy is None:
            return None
        return (free_energy - self._log_scales + self._jacobian) / self.model.observations.observed

    @cached_property
    def _log_scales(self) -> float:
        """The sum over observed entries of the logarithms of their scales."""
        return sum(float(self.model.log_scales(chunk).cpu().double().sum()) for chunk in self._chunks)

    @property
    def own_columns(self) -> list[str]:
        """Columns of metrics.csv beside those of every run."""
        prior = [LOG_PRIOR] if self.model.prior_statistics() else []
        return self.model.own_columns(self.data) + (list(FORECAST) if self._ahead.any() else []) + prior

    def describe(self, scores: Scores) -> dict[str, object]:
        """How the last likelihood was computed, for summary.json."""
        total = self.data.layout[0]
        way = "exact" if scores.points == total else "exact posteriors of a fixed random subset of the data points"
        if self.iterative:
            way = "conjugate gradient, and stochastic Lanczos quadrature for the log determinant"
        return {"log_likelihood": way, "data_points": scores.points, "of": total, "sampled_on_the_way": self.sampled}

    def _observed_lengths(self) -> np.ndarray:
        lengths = np.zeros(self.model.observations.shape[0])
        for chunk in self._chunks:
            lengths[chunk.points.cpu().numpy()] = chunk.weight.sum(1).cpu().numpy()
        return lengths

    def _operations(self) -> np.ndarray:
        if self.iterative:
            return np.zeros(len(self._lengths))
        each = np.minimum(self._lengths, self.model.dim) * float(self.model.dim)  # of a prediction
        return self.model.exact_operations(self._lengths) + self._truth.lengths * each

    def _choose(self, cost: np.ndarray, limit: float, seed: int) -> list[Chunk] | None:
        total = len(cost)
        if cost.sum() <= limit:
            return None
        points = max(SUBSET_POINTS, int(total * limit / cost.sum()))
        if points >= total:
            return None
        chosen = np.zeros(total, bool)
        chosen[np.random.default_rng([seed, 0xE7A1]).permutation(total)[:points]] = True
        return [part for chunk in self._chunks if (part := select_points(chunk, chosen)) is not None]

    @torch.no_grad()
    def posteriors(
        self, parameters: Parameters, chunks: Iterable[Chunk] | None = None
    ) -> Iterator[tuple[Chunk, Reference]]:
        for part in exact_parts(self._chunks if chunks is None else chunks, self.model.dim):
            if self.iterative:
                yield part, self.model.iterative_posterior(parameters, part, self.seed)
            else:
                yield part, self.model.posterior(parameters, part)

    @torch.no_grad()
    def score(self, parameters: Parameters, final: bool = False) -> Scores:
        """On the subset, or on all data points (final, and always when they are cheap)."""
        chunks = self._largest if final else self._subset
        likelihoods, counts, sums, numerical, settling = [], [], {}, 0.0, []
        density, found = (np.full(len(self._test_values), np.nan) for _ in range(2))
        for part, posterior in self.posteriors(parameters, chunks):
            likelihoods.append(self.model.log_likelihood(parameters, part, posterior).cpu().double() + self._jacobian)
            counts.append(part.weight.sum(1).cpu().double())
            if self.iterative:
                numerical += float(posterior.standard_error.square().sum())
            if self.model.settled_gain is not None and not final:
                settling.append(self.model.settling(parameters, posterior))
            for name, value in self.model.measure(parameters, part, posterior).items():
                sums[name] = sums.get(name, 0.0) + value
            for position, predicted in self._predict(parameters, part, posterior, self._truth):
                real = torch.as_tensor(position >= 0)
                true = torch.as_tensor(np.where(position >= 0, self._test_values[position], np.nan))
                at = position[position >= 0]
                found[at] = predicted.mean[real].numpy()
                density[at] = predicted.log_density(true)[real].numpy()
        likelihood, count = torch.cat(likelihoods), torch.cat(counts)
        mean = float(likelihood.sum() / count.sum())
        uncertain = None
        if chunks is not None:  # ratio estimator, with the finite population correction
            spread = (likelihood - mean * count).square().sum() / (len(count) - 1) / len(count)
            uncertain = float((spread * (1 - len(count) / self.data.layout[0])).sqrt() / count.mean())
        if self.iterative:
            uncertain = math.sqrt(numerical) / float(count.sum())
        error = errors(self._test_values, found, self.data.test_columns, self.data.table)
        scored = self._averages(density, error, ~self._ahead)
        own: dict[str, float | None] = {**self.model.own_scores(parameters, sums, self.data)}
        if self._ahead.any():
            own |= dict(zip(FORECAST, self._averages(density, error, self._ahead), strict=True))
        if (prior := self.model.log_prior(parameters)) is not None:
            own[LOG_PRIOR] = float(prior) / self.model.observations.observed
        settled = None
        if settling:
            means = torch.cat([each for each, _ in settling]).cpu()
            settled = means, sum(variance for _, variance in settling) / len(means)
        return Scores(mean, uncertain, *scored, points=len(count), own=own, settling=settled)

    @staticmethod
    def _averages(density: np.ndarray, error: np.ndarray, among: np.ndarray) -> tuple[float | None, float | None]:
        """Mean log density and root mean squared error of the entries that were predicted, NaN where they were not."""
        among = among & ~np.isnan(error)
        if not among.any():
            return None, None
        return float(density[among].mean()), float(np.sqrt(np.square(error[among]).mean()))

    def _predict(
        self, parameters: Parameters, part: Chunk, posterior: Reference, wanted: EntriesByPoint
    ) -> Iterator[tuple[np.ndarray, Predictive]]:
        """Positions among the wanted entries, (n, t) and negative where there is none, and their predictions."""
        all_columns, all_positions = wanted.of(part.points.cpu().numpy())
        size = max(1, EXACT_ELEMENTS // (len(part.points) * self.model.dim))  # entries of each data point at a time
        for start in range(0, all_positions.shape[1], size):
            position = all_positions[:, start : start + size]
            index = torch.as_tensor(all_columns[:, start : start + size], device=part.points.device)
            predicted = (self._given_back or self.model).predict(parameters, posterior, index)
            yield position, self._likeliest.of(predicted, index)

    @torch.no_grad()
    def predict(self, parameters: Parameters, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of entries (rows sorted), given what was observed of their data points; of
        categories, as `Likeliest` gives them."""
        wanted = EntriesByPoint(*self.data.located(rows, columns), self.data.layout)
        mean, variance = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        chosen = wanted.lengths > 0
        chunks = [part for chunk in self._chunks if (part := select_points(chunk, chosen)) is not None]
        for part, posterior in self.posteriors(parameters, chunks):
            for position, predicted in self._predict(parameters, part, posterior, wanted):
                real = position >= 0
                mean[position[real]] = predicted.mean.numpy()[real]
                variance[position[real]] = predicted.variance.numpy()[real]
        return mean, np.sqrt(variance)

    @torch.no_grad()
    def inferred(self, parameters: Parameters) -> dict[str, Tensor]:
        """What the model infers of every data point, in the data's order, on the CPU."""
        n, found = self.data.layout[0], {}
        for part, posterior in self.posteriors(parameters):
            for name, value in self.model.inferred(parameters, posterior).items():
                if n == 1:
                    found[name] = value.cpu()
                    continue
                if name not in found:
                    found[name] = value.new_empty(n, *value.shape[1:], device="cpu")
                found[name][part.points.cpu()] = value.cpu()
        return found
