"""Sparse Bayesian learning: the coefficients of a signal in a known dictionary, a learned precision for each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError
from lgm_cli.models.base.latent_variable_model import Posterior, Reference
from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters, Statistics
from lgm_cli.models.base.predictive import Predictive
from lgm_cli.models.base.tuning import Tuning
from lgm_cli.models.parts.signal_dictionary import bands_of, basis_of, column_norms, group_of, operator_of, side_of
from lgm_cli.models.parts.sparse_bayes_costs import SignalCosts
from lgm_cli.models.parts.sparse_bayes_scores import SignalScores
from lgm_cli.models.parts.sparse_bayes_simulation import simulated_signals
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk
from lgm_cli.operators.base import LinearOperator
from lgm_cli.operators.cosine import subsampled_cosine
from lgm_cli.operators.entries import Dense, Masked
from lgm_cli.operators.wavelet import Wavelet
from lgm_cli.posteriors.base import Frame
from lgm_cli.posteriors.operator import OperatorPosterior, OperatorPrecision

NOISE_RANGE = (1e-20, 1e12)  # of noise variances, as shares of the same: between them A can be factorised
NOISE_SHARE = 0.1  # of the measurements' mean square, where a noise variance is to be learned and none is given
WEAKEST_COLUMN = 0.05  # squared length of a column, of the average, that sets the bound of those still shorter


class SparseBayes(SignalScores, SignalCosts):
    """y_j = Phi w_j + noise,  w_jd ~ N(0, 1 / alpha_d),  noise ~ N(0, I / psi),  j = 1..J signals (tasks).

    Phi = H B^T, (M, D), is known: measurements H of a signal with the coefficients w in a basis B. The precisions
    alpha, shared by the tasks, are learned by maximising p(y | alpha); most of them grow without bound, which prunes
    their coefficients. Tipping, Sparse Bayesian learning and the relevance vector machine, JMLR 1 (2001) 211-244;
    multi-task: Ji, Dunson & Carin, IEEE Trans. Signal Processing 57 (2009) 92-106; by samples: Lin et al.,
    Covariance-free sparse Bayesian learning, IEEE Trans. Signal Processing 70 (2022) 3818-3831.

    Posteriors are computed in the whitened coordinates z = alpha^(1/2) w, expectations are of w.

    noise_variance: 1 / psi, or auto for that of simulated measurements; learn_noise: learn it, beginning there.
    smallest_variance: of a coefficient before anything is measured, 1 / alpha, in units of the variance with which its
        own column of Phi alone would measure it, 1 / (psi |phi_d|^2), at the first noise variance and for |phi_d|^2 of
        at least a twentieth of the average: what prunes a coefficient, and a stated bound.
    block: side of the squares of neighbouring coefficients of one wavelet band that share a precision; auto is 2 for an
        image in a wavelet basis, where neighbours are large together, else 1.
    noise_floor: lower bound of a learned 1 / psi, as a fraction of the measurements' mean square.
    """

    pictures = results = ("signals",)

    learns_from = "signal"
    settled_gain = 10.0  # the last thousandth of a nat per measurement takes thousands of steps and changes no signal

    def __init__(
        self, noise_variance: float | str, learn_noise: bool, smallest_variance: float, block: int | str,
        noise_floor: float,
    ) -> None:  # fmt: skip
        self.given_noise, self.learn_noise = noise_variance, learn_noise
        self.smallest_variance, self.block, self.noise_floor = smallest_variance, block, noise_floor

    def gradient_scale(self) -> dict[str, float]:
        measured = self.observations.observed / self.observations.shape[0]  # of each signal
        return {"noise_variance": 1 / measured} if self.learn_noise else {}

    def tuning(self) -> Tuning:
        """Measured on the default data and the MRI slice: a fast and forgetful Adam, since each precision has one
        posterior to learn from and most of them only grow; random signs, by which a coefficient that is pruned has no
        noise. Each precision is of one coefficient, or of a few."""
        solver = {"tolerance": 0.2, "max_iterations": 1000}
        adam: Any = {"learning_rate": {"adam": 1.0}, "betas": (0.5, 0.9)}
        return replace(super().tuning(), tuned_dim=1, num_samples=4, signs=True, solver=solver, **adam)

    def check(self, data: Data) -> None:
        super().check(data)
        dictionary = data.table.dictionary
        assert dictionary is not None
        if self.given_noise == "auto" and dictionary.noise_variance is None and not self.learn_noise:
            raise UserError(
                "the noise of these measurements is not known", "model.noise_variance=... or model.learn_noise=true"
            )
        if dictionary.basis == "wavelet":
            Wavelet(dictionary.shape, dictionary.wavelet, dictionary.levels)  # refuses what is not one

    def simulate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return simulated_signals(options)

    def prepare(self, observations: Observations) -> None:
        super().prepare(observations)
        dictionary = observations.dictionary
        assert dictionary is not None
        self.dictionary = dictionary
        self.basis = basis_of(dictionary)
        self.operator = operator_of(dictionary, self.basis, observations.dtype, observations.device)
        self.dim = self.operator.in_dim
        like = {"dtype": observations.dtype, "device": observations.device}
        self._unit = observations.scale[0].cpu()
        self._norms_of: dict[int, tuple[Chunk, Tensor]] = {}
        self._norms = column_norms(self.operator, torch.ones(1, self.operator.out_dim, **like))[0]
        self._norms = self._norms.clamp_min(1e-6 * self._norms.max())
        given = dictionary.noise_variance if self.given_noise == "auto" else self.given_noise
        noise = NOISE_SHARE if given is None else float(given) / float(self._unit) ** 2
        if not NOISE_RANGE[0] <= noise <= NOISE_RANGE[1]:
            least, most = (share * float(self._unit) ** 2 for share in NOISE_RANGE)
            raise UserError(
                f"model.noise_variance={given:g} is {noise:.1g} times the mean square of the measurements",
                f"give one from {least:.1g} to {most:.1g}",
            )
        self._noise = torch.tensor(noise, **like)
        bands = bands_of(dictionary)
        group = group_of(dictionary, side_of(self.block, dictionary), bands)
        # the real and the imaginary part of a complex coefficient share a precision: its phase is uniform
        self._group = group.repeat(dictionary.parts).to(observations.device)
        self._size = torch.bincount(self._group).to(**like)
        self._band = torch.empty(len(self._size), dtype=torch.long, device=observations.device)
        self._band[self._group] = bands.repeat(dictionary.parts).to(observations.device)
        weakest = self._norms.clamp_min(WEAKEST_COLUMN * self._norms.mean())  # of what is measured: less has no self
        self._floor = self.smallest_variance * self._noise / self._average(weakest)
        self._dense: Tensor | None = None

    def _norms_seen(self, chunk: Chunk) -> Tensor:
        """The same for the entries of a chunk, once."""
        if id(chunk) not in self._norms_of:
            weight, _ = chunk.scattered(self.operator.out_dim)
            weight = weight[:1] if bool((weight == weight[0]).all()) else weight
            self._norms_of[id(chunk)] = chunk, column_norms(self.operator, weight)
        return self._norms_of[id(chunk)][1]

    def _total(self, values: Tensor) -> Tensor:
        """Sums of (D,) over the coefficients that share a precision, (G,)."""
        return torch.zeros_like(self._size).index_add(0, self._group, values)

    def _average(self, values: Tensor) -> Tensor:
        return self._total(values) / self._size

    def _each(self, parameters: Parameters) -> Tensor:
        """alpha of each coefficient, (D,)."""
        return parameters["precisions"][self._group]

    def _noise_of(self, parameters: Parameters) -> Tensor:
        return parameters.get("noise_variance", self._noise)

    def whitened_loadings(self, parameters: Parameters) -> Tensor:
        if self._dense is None:
            self._dense = self.operator.dense(self._norms)
        return self._dense * self._each(parameters).rsqrt()

    def mean_of_columns(self, parameters: Parameters) -> Tensor:
        return torch.zeros_like(self._noise).expand(self.observations.shape[1])

    def noise_of_columns(self, parameters: Parameters) -> Tensor:
        return self._noise_of(parameters).expand(self.observations.shape[1])

    def start(self, seed: int) -> Parameters:
        """One precision for each band of a wavelet basis, otherwise one for all: in proportion to what
        mean((Phi^T y)^2) / |phi|^2 has beyond the noise, which is the variance for orthonormal rows of Phi, and at a
        level with which the coefficients explain what the noise does not."""
        square = torch.zeros_like(self._norms)
        for chunk in self.observations.chunks:
            width = self.operator.out_dim
            square += self.operator.transpose(torch.mul(*chunk.scattered(width))).square().sum(0)
        noise = float(self._noise)
        power = square / self._norms / self.observations.shape[0]
        bands = torch.zeros(int(self._band.max()) + 1, dtype=power.dtype, device=power.device)
        count = bands.index_add(0, self._band[self._group], torch.ones_like(power))
        power = (bands.index_add(0, self._band[self._group], power) / count)[self._band]
        variance = torch.maximum(power - noise, 0.1 * power).clamp_min(1e-12)
        explained = max(1 - noise, 0.1) * self.operator.out_dim
        variance *= explained / float((variance[self._group] * self._norms).sum())
        parameters = {"precisions": 1 / (self._floor + variance)}
        return parameters | ({"noise_variance": self._noise.clone()} if self.learn_noise else {})

    def free(self, parameters: Parameters) -> Parameters:
        """Logarithms of the variances, above their floors."""
        above = (1 / parameters["precisions"] - self._floor).clamp_min(1e-6 * self._floor)
        free = {"precisions": above.log()}
        if self.learn_noise:
            noise = parameters["noise_variance"] - self.noise_floor
            free["noise_variance"] = noise.clamp_min(1e-3 * self.noise_floor).log()
        return free

    def constrain(self, free: Parameters) -> Parameters:
        constrained = {"precisions": 1 / (self._floor + free["precisions"].exp())}
        if self.learn_noise:
            constrained["noise_variance"] = self.noise_floor + free["noise_variance"].exp()
        return constrained

    def floors(self) -> Parameters:
        return {"noise_variance": torch.full_like(self._noise, self.noise_floor)} if self.learn_noise else {}

    def at_bounds(self, parameters: Parameters) -> dict[str, Tensor]:
        low = 1 / parameters["precisions"] <= NEAR_FLOOR * self._floor
        return super().at_bounds(parameters) | {"precisions": low}

    @property
    def sample_size(self) -> int:
        """Measurements."""
        return round(self.observations.observed)

    def system(self, parameters: Parameters, chunk: Chunk) -> tuple[OperatorPrecision, Tensor]:
        root = self._noise_of(parameters).rsqrt()
        norms = self._norms_seen(chunk)
        precision = OperatorPrecision(self.operator, self._each(parameters), root, norms, chunk.index, chunk.weight)
        return precision, root * chunk.values

    def posterior(self, parameters: Parameters, chunk: Chunk, inverse_temperature: float = 1.0) -> Reference:
        """By the operator's own products where data points observe the same m <= D entries, else by its matrix."""
        chunk = chunk.gathered
        index = chunk.index
        if (
            inverse_temperature == 1
            and self._alike(chunk)
            and chunk.width <= self.dim
            and not isinstance(self.operator, Dense)
        ):
            root, index = (
                self._noise_of(parameters).rsqrt(),
                index[0] if index is not None and index.dim() == 2 else index,
            )
            found = OperatorPosterior(self._rows(index), self._each(parameters), root, root * chunk.values)
            found.frame = self.frame(parameters)
            return found
        return super().posterior(parameters, chunk, inverse_temperature)

    def _rows(self, index: Tensor | None) -> LinearOperator:
        if index is None or len(index) == self.operator.out_dim:
            return self.operator
        if isinstance(self.operator, Dense):
            return Dense(self.operator.matrix[index.to(self.operator.matrix.device)])
        if self.dictionary.sensing == "samples" and self.dictionary.basis == "cosine":
            return subsampled_cosine(self.dictionary.shape, torch.as_tensor(self.dictionary.kept)[index.cpu()])
        return Masked(index, self.operator.out_dim) @ self.operator

    def _moments(self, parameters: Parameters, posterior: Posterior) -> Tensor:
        """sum_n E[w_nd^2], summed over what shares a precision, (G,): fixed for a posterior held fixed, else live in
        alpha."""
        precisions = parameters["precisions"]
        return self._total(posterior.expected_squares()) / (precisions if posterior.live else precisions.detach())

    @staticmethod
    def _misfit(chunk: Chunk, posterior: Posterior) -> Tensor:
        """psi sum_nm omega_nm E[(y_nm - Phi w_nm)^2], (): fixed for a posterior held fixed, else live in all
        parameters."""
        residual, variance = posterior.misfit()
        return residual.square().sum() + (posterior.entries_of(chunk).weight * variance).sum()

    def complete_loss(self, parameters: Parameters, chunk: Chunk, posterior: Posterior) -> Tensor:
        """1/2 sum_d alpha_d E[w_d^2] - n/2 sum_d log alpha_d + 1/2 (psi E|y - Phi w|^2 - m log psi), summed over data
        points; without the part that nothing depends on."""
        precisions = parameters["precisions"]
        n = len(posterior.mean)
        loss = 0.5 * (precisions * self._moments(parameters, posterior) - n * self._size * precisions.log()).sum()
        if self.learn_noise or posterior.live:
            noise = self._noise_of(parameters)
            misfit = (noise if posterior.live else noise.detach()) * self._misfit(chunk, posterior)
            loss = loss + 0.5 * (misfit / noise + chunk.observed * noise.log())
        return loss

    def frame(self, parameters: Parameters) -> Frame:
        """Of the coefficients, which are whitened by the deviations of their priors."""
        return Frame(self._each(parameters).rsqrt(), unit=self._noise_of(parameters).sqrt())

    def statistics(self, chunk: Chunk, posterior: Posterior) -> Statistics:
        """sum_n E[w_nd^2], summed over what shares a precision, the number of data points and of entries, and
        sum E|y - Phi w|^2."""
        frame = posterior.frame
        assert frame.scale is not None and frame.unit is not None
        square = self._total(posterior.expected_squares() * frame.scale.square())
        points, entries = torch.tensor(float(len(posterior.mean))), chunk.weight.sum()
        misfit = frame.unit.square() * self._misfit(chunk, posterior)
        found = {"moments": square, "points": points, "misfit": misfit, "entries": entries}
        entropy = posterior.entropy()
        return found if entropy is None else found | {"entropy": entropy.sum()}

    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> Tensor:
        """1/2 sum_d (alpha_d E[w_d^2] - log alpha_d) + 1/2 (psi E|y - Phi w|^2 - m log psi), summed over data points,
        and the constants."""
        alpha, noise = parameters["precisions"], self._noise_of(parameters)
        points = statistics["points"].to(self._size)
        prior = (alpha * statistics["moments"] - points * self._size * (alpha / (2 * math.pi)).log()).sum()
        return 0.5 * (prior + statistics["misfit"] / noise + statistics["entries"] * (2 * math.pi * noise).log())

    def maximise(
        self, parameters: Parameters, statistics: Statistics, block: tuple[str, ...] | None = None
    ) -> Parameters:
        """alpha_g = J |g| / sum_jd E[w_jd^2],  1 / psi = mean of E(y - Phi w)^2, both within their bounds."""
        variance = statistics["moments"] / (statistics["points"].to(self._size) * self._size)
        maximised = {"precisions": 1 / torch.maximum(variance, self._floor)}
        if self.learn_noise:
            maximised["noise_variance"] = (statistics["misfit"] / statistics["entries"]).clamp_min(self.noise_floor)
        return maximised

    def _numbers_of_statistics(self, chunk: Chunk, points: int) -> float:
        """The rows once more, where the noise is learned."""
        return self.learn_noise * (3.0 * self.observations.shape[1] + points * chunk.width) * (self.dim + 3)

    def log_volume(self, parameters: Parameters) -> Tensor:
        return 0.5 * self._each(parameters).log().sum()

    def predict(self, parameters: Parameters, posterior: Reference, index: Tensor) -> Predictive:
        mean, variance = posterior.at_entries(self._rows, index)
        variance = variance + self._noise_of(parameters)
        unit = float(self._unit)
        return Predictive(unit * mean.cpu().double(), unit**2 * variance.cpu().double())

    def latents(self, parameters: Parameters, posterior: Reference) -> tuple[Tensor, Tensor]:
        """The coefficients w."""
        scale = float(self._unit) * self._each(parameters).rsqrt()
        return scale * posterior.mean, (scale * posterior.marginal_variance.sqrt()).expand_as(posterior.mean)

    def export(self, parameters: Parameters) -> Parameters:
        inside = {"noise_variance": self._noise} | parameters | {"precisions": self._each(parameters)}
        noise, precisions = (inside[name].cpu().double() for name in ("noise_variance", "precisions"))
        return {"precisions": precisions / self._unit**2, "noise_variance": noise * self._unit**2}

    def fix(self, exported: Parameters, state: Mapping[str, Tensor]) -> None:
        """No bound on the precisions, and the run's noise, whatever that of the new measurements."""
        super().fix(exported, state)
        self.smallest_variance, self.given_noise = 0.0, float(exported["noise_variance"])

    def exported_shapes(self, table: Table) -> dict[str, tuple[int, ...]]:
        assert table.dictionary is not None
        return {"precisions": (math.prod(table.dictionary.real_shape),), "noise_variance": ()}

    def units(self, exported: Parameters) -> tuple[np.ndarray, np.ndarray]:
        variance = (1 / exported["precisions"]).mean() + exported["noise_variance"]
        return np.zeros(()), variance.sqrt().numpy()

    def restore(self, exported: Parameters) -> Parameters:
        kept = ("precisions", "noise_variance") if self.learn_noise else ("precisions",)
        unit = {"precisions": self._unit**2, "noise_variance": self._unit**-2}
        inside = {name: (exported[name] * unit[name]).to(self._norms) for name in kept}
        return inside | {"precisions": self._average(inside["precisions"])}

    def implied_covariance(self, exported: Parameters) -> Tensor:
        dense = self.operator.dense(torch.empty(0, dtype=torch.float64)).cpu()
        noise = exported["noise_variance"] * torch.eye(len(dense), dtype=torch.float64)
        return (dense / exported["precisions"]) @ dense.T + noise
