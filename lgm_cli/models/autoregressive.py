"""A stationary autoregression of one series, observed with noise and gaps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError
from lgm_cli.models.base.latent_gaussian_model import LatentGaussianModel, refuse_a_temperature
from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters, Statistics
from lgm_cli.models.base.predictive import Predictive
from lgm_cli.models.base.tuning import ACCURATE, Tuning
from lgm_cli.models.parts.autoregressive_chain import companion
from lgm_cli.models.parts.autoregressive_maximisation import (
    Windows,
    maximise,
    window_products,
    window_products_of_band,
    window_sums,
)
from lgm_cli.models.parts.autoregressive_simulation import simulated_series
from lgm_cli.models.parts.one_step_variances import one_step_variances
from lgm_cli.numerics.cumulated import LinearChain
from lgm_cli.numerics.durbin_levinson import (
    autocovariances,
    coefficients,
    levinson,
    log_cosh,
    reflections,
    whitening_rows,
)
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.banded import BLOCK, BandedPosterior, BandedPrecision
from lgm_cli.posteriors.base import Frame

INITIAL_NOISE = 0.5  # share of the variance at the start: from less, EM may end where there is none, a poorer maximum
LARGEST_START = 0.9  # of the reflection coefficients at the start
SEVERAL = 4  # latent dimensions that the step size is chosen for, by measurement: coefficients act on each other


class Autoregressive(LatentGaussianModel):
    """y_t = mean + z_t + noise on the observed steps,  noise ~ N(0, s),

        z_t = a_1 z_(t-1) + .. + a_p z_(t-p) + innovation,  innovation ~ N(0, q),

    with z_1 .. z_p from the stationary distribution. The whole series is one data point, and z (T,) its latent vector:
    prior precision F^T F with F lower triangular and banded, row t (z_t - sum_i a_i z_(t-i)) / sqrt(q) for t > p; the
    first p rows are the best predictors from what there is before (Durbin and Levinson), each divided by its standard
    deviation. A = F^T F + Omega / s is banded too: its exact Cholesky factorisation is O(T p^2).

    Stationarity holds by construction: the parameter is `reflection` u (p,), with reflection coefficients tanh(u)
    (Monahan, Biometrika 71 (1984) 403-404), so that no step leaves the stationary region. Inside, the series is
    standardised; noise_floor bounds q and s from below, as a fraction of what one step leaves unexplained
    (`lgm_cli.models.parts.one_step_variances.one_step_variances`), which a trend does not raise.

    EM is generalised, the first p rows being no function of sums: a few steps of Gauss and Newton with a line search
    (`maximise` of `lgm_cli.models.parts.autoregressive_maximisation`). Its parameters are expanded, y = c + l (m + z) +
    noise with l = 1 and m = 0 in the model: maximising over c, l, m too and writing the result as the model, mean
    c + l m and innovations l^2 q, is EM for the same likelihood in fewer steps (Liu, Rubin & Wu, Biometrika 85 (1998)
    755-770).
    """

    pictures = results = ("autoregression",)
    axes: ClassVar = {"coefficients": ("lag",)}
    expanded = True

    learns_from = "series"
    has_chain = True
    double_precision = True  # a peaked spectrum and little noise are ill-conditioned, and there is one posterior
    averages = False  # its statistics are about a level of their own

    def __init__(self, order: int, noise_floor: float) -> None:
        self.order, self.noise_floor = order, noise_floor

    def tuning(self) -> Tuning:
        return replace(super().tuning(), tuned_dim=SEVERAL, solver=ACCURATE)

    def gradient_scale(self) -> dict[str, float]:
        return dict.fromkeys(("reflection", "innovation_variance", "mean", "noise_variance"), 1 / self._observed)

    def check(self, data: Data) -> None:
        super().check(data)
        length, columns = data.shape
        name, labels = data.table.name, data.table.column_labels
        if columns > 1:
            listed = ", ".join(repr(str(label)) for label in labels[:3]) + (", .." if columns > 3 else "")
            raise UserError(
                f"{name} has {columns:,} columns, {listed}, and an autoregression is of one series",
                "keep one column of the file, or take them together by model=state_space",
            )
        if length <= self.order:
            raise UserError(
                f"{name} has {length:,} steps, and model.order={self.order} takes more",
                f"model.order={length - 1} or less" if length > 1 else "give at least two",
            )

    def simulate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return simulated_series(options, self.order)

    def prepare(self, observations: Observations) -> None:
        super().prepare(observations)
        self.dim, self._observed = observations.shape[1], observations.observed
        self._center, self._scale = float(observations.column_center[0]), float(observations.scale[0])
        (chunk,) = observations.chunks
        index, weight, values = self._entries(chunk)
        grid = torch.zeros(2, self.dim, 1, dtype=torch.float64).index_add(
            1, index, torch.stack([weight, weight * values])[..., None]
        )
        self._floor = self.noise_floor * float(one_step_variances(*grid)[0])

    def start(self, seed: int) -> Parameters:
        """Yule and Walker's reflection coefficients of the series with zeros in its gaps, which makes the sequence of
        autocovariances positive definite; noise of half of the variance."""
        (chunk,) = self.observations.chunks
        series, (index, weight, values) = np.zeros(self.dim), self._entries(chunk)
        series[index] = (weight * values).numpy()
        lags = range(self.order + 1)
        r = levinson(np.array([series[lag:] @ series[: self.dim - lag] for lag in lags]))
        u = torch.as_tensor(np.arctanh(np.clip(r, -LARGEST_START, LARGEST_START)))
        innovation = (1 - INITIAL_NOISE) * (-2 * log_cosh(u).sum()).exp()
        start = {"reflection": u, "innovation_variance": innovation.clamp_min(2 * self._floor)}
        start |= {"mean": torch.zeros(()), "noise_variance": torch.tensor(INITIAL_NOISE)}
        return {name: value.to(self.observations.device, self.observations.dtype) for name, value in start.items()}

    def free(self, parameters: Parameters) -> Parameters:
        """u as it is, the mean in standard deviations of the series, logarithms of the variances above the floor."""
        floor = self._floor
        return {
            name: (value - floor).clamp_min(1e-3 * floor).log() if name.endswith("variance") else value
            for name, value in parameters.items()
        }

    def constrain(self, free: Parameters) -> Parameters:
        return {name: self._floor + value.exp() if name.endswith("variance") else value for name, value in free.items()}

    def floors(self) -> Parameters:
        floor = torch.tensor(self._floor, dtype=torch.float64)
        return {"noise_variance": floor, "innovation_variance": floor}

    def _entries(self, chunk: Chunk) -> tuple[Tensor, Tensor, Tensor]:
        """Steps, weights and values of what was observed, (k,) each, on the CPU in double precision."""
        weight, values = chunk.weight[0].cpu().double(), chunk.values[0].cpu().double()
        if chunk.index is None:
            return torch.arange(self.dim), weight, values
        return chunk.index.reshape(-1).cpu().clamp_max(self.dim - 1), weight, values

    def _band(self, parameters: Parameters) -> Tensor:
        """F[t, t - i], (p + 1, T), on the CPU in double precision."""
        inside = _local(parameters)
        rows = whitening_rows(inside["reflection"]) * inside["innovation_variance"].rsqrt()
        return torch.cat([rows[:-1].mT, rows[-1][:, None].expand(-1, self.dim - self.order)], 1)

    def _system(self, parameters: Parameters, chunk: Chunk, device: Any, dtype: Any) -> tuple[BandedPrecision, Tensor]:
        root = parameters["noise_variance"].to(device=device, dtype=dtype).rsqrt()
        weight, values = chunk.weight.to(device=device, dtype=dtype), chunk.values.to(device=device, dtype=dtype)
        index = None if chunk.index is None else self._entries(chunk)[0].to(device)
        mean = parameters["mean"].to(device=device, dtype=dtype)
        band = self._band(parameters).to(device=device, dtype=dtype)
        return BandedPrecision(band, root * weight, index), root * weight * (values - mean)

    def system(self, parameters: Parameters, chunk: Chunk) -> tuple[BandedPrecision, Tensor]:
        return self._system(parameters, chunk, chunk.values.device, chunk.values.dtype)

    def posterior(self, parameters: Parameters, chunk: Chunk, inverse_temperature: float = 1.0) -> BandedPosterior:
        refuse_a_temperature(inverse_temperature)
        cpu = {"device": torch.device("cpu"), "dtype": torch.float64}
        found = BandedPosterior(*self._system({k: v.cpu() for k, v in parameters.items()}, chunk, **cpu))
        found.frame = self.frame(parameters)
        return found

    def exact_operations(self, observed: np.ndarray) -> np.ndarray:
        """About 4 B^2 for each step: the factorisation and what it takes to go back through it."""
        return np.full(len(observed), 4.0 * self.dim * max(self.order, BLOCK) ** 2)

    def exact_bytes(self, gradient: bool = False) -> float:
        """In double precision: about ten blocks of the band, or four of them and the windows' moments."""
        blocks = self.dim * max(self.order, BLOCK)
        return 8.0 * max(10 * blocks, 4 * blocks + (3 if gradient else 7) * self.order**3)

    def product_operations(self, observed: np.ndarray) -> np.ndarray:
        return np.full(len(observed), self.dim * (2.0 * self.order + 1))

    def frame(self, parameters: Parameters) -> Frame:
        """z is the series about the mean."""
        return Frame(shift=parameters["mean"].detach().cpu().double())

    def statistics(self, chunk: Chunk, posterior: Any) -> Statistics:
        """Moments of the windows (`Windows` of models/parts/autoregressive_maximisation.py), second and first; and of
        the observed steps, observed (3, 3): sums of E[v v^T] for v = (1, z_t, y_t - level - z_t), with the level that z
        is about."""
        mean, covariances = posterior.mean[0].cpu().double(), posterior.lagged_covariances(self.order)
        second = window_products(mean[None], self.order) + window_products_of_band(covariances)
        index, weight, values = self._entries(chunk)
        z, spread = mean[index], weight * covariances[0, index]
        level = posterior.frame.shift
        assert level is not None
        rest = values - level - z
        vectors = torch.stack([torch.ones_like(z), z, rest])
        change = torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64)
        observed = (weight * vectors) @ vectors.mT + spread.sum() * torch.outer(change, change)
        found = {"second": second, "first": window_sums(mean, self.order), "observed": observed}
        found["level"] = level
        entropy = posterior.entropy()
        return found if entropy is None else found | {"entropy": entropy.sum()}

    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> Tensor:
        """1/2 (E|F z|^2 - log det F^T F + E|Omega (y - mean - z)|^2 / s + m log s), and the constants: log det F^T F =
        -T log q - 2 sum_i i log cosh u_i."""
        found, inside = statistics, _local(parameters)
        u, q, noise = (inside[name] for name in ("reflection", "innovation_variance", "noise_variance"))
        rows = whitening_rows(u)
        prior = torch.einsum("ki,kij,kj->", rows, found["second"], rows) / q
        order = torch.arange(1, self.order + 1, dtype=torch.float64)
        shift = torch.stack([found["level"] - inside["mean"], u.new_zeros(()), u.new_ones(())])
        misfit = shift @ found["observed"] @ shift / noise
        count = found["observed"][0, 0]
        scales = self.dim * q.log() + 2 * (order * log_cosh(u)).sum() + count * noise.log()
        return 0.5 * (prior + misfit + scales + (self.dim + count) * math.log(2 * math.pi))

    def complete_loss(self, parameters: Parameters, chunk: Chunk, posterior: Any) -> Tensor:
        """From the statistics. The prior's terms stay, whatever the posterior: F has parameters."""
        return self.expected_loss(parameters, self.statistics(chunk, posterior)).to(chunk.values)

    def maximise(
        self, parameters: Parameters, statistics: Statistics, block: tuple[str, ...] | None = None
    ) -> Parameters:
        """y = c + l z + noise by least squares on the expected moments of the observed steps, s the mean square of what
        is left; z = AR about m; all written as the model again."""
        observed = statistics["observed"].numpy()
        shift, change = np.linalg.solve(observed[:2, :2], observed[:2, 2])
        left = np.array([-shift, -change, 1.0])
        noise = max(float(left @ observed @ left) / observed[0, 0], self._floor)
        count = np.ones(self.order + 1)
        count[-1] = self.dim - self.order
        windows = Windows(statistics["second"].numpy(), statistics["first"].numpy(), count)
        start = parameters["reflection"].detach().cpu().double().numpy()
        slope = 1 + change
        u, q, mean = maximise(start, windows, self._floor / slope**2)
        found = {
            "reflection": torch.as_tensor(u),
            "innovation_variance": torch.tensor(max(slope**2 * q, self._floor), dtype=torch.float64),
            "mean": float(shift + slope * mean) + statistics["level"],
            "noise_variance": torch.tensor(noise, dtype=torch.float64),
        }
        return {name: found[name].to(value) for name, value in parameters.items()}

    def log_likelihood(self, parameters: Parameters, chunk: Chunk, posterior: Any) -> Tensor:
        noise = parameters["noise_variance"].cpu().double()
        each = 0.5 * (noise.log() + math.log(2 * math.pi)) + math.log(self._scale)
        return posterior.log_density() - chunk.weight.sum(1).cpu().double() * each

    def predict(self, parameters: Parameters, posterior: Any, index: Tensor) -> Predictive:
        index, inside = index.cpu(), _local(parameters)
        mean = inside["mean"] + posterior.mean[0][index]
        variance = inside["noise_variance"] + posterior.marginal_variance[0][index]
        return Predictive(self.observations.center.cpu()[index] + self._scale * mean, self._scale**2 * variance)

    def latents(self, parameters: Parameters, posterior: Any) -> tuple[Tensor, Tensor]:
        """z in the data's own units, (T, 1)."""
        deviation = posterior.marginal_variance.sqrt()
        return self._scale * posterior.mean.mT, self._scale * deviation.mT

    def export(self, parameters: Parameters) -> Parameters:
        inside = _local(parameters)
        return {
            "coefficients": coefficients(inside["reflection"]),
            "innovation_variance": self._scale**2 * inside["innovation_variance"],
            "mean": self._center + self._scale * inside["mean"],
            "noise_variance": self._scale**2 * inside["noise_variance"],
        }

    def exported_shapes(self, table: Table) -> dict[str, tuple[int, ...]]:
        return {"coefficients": (self.order,), "innovation_variance": (), "mean": (), "noise_variance": ()}

    def chain(self, exported: Parameters) -> LinearChain:
        return companion(
            *(exported[name].numpy() for name in ("coefficients", "innovation_variance", "noise_variance"))
        )

    @property
    def least_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.order + 1

    def units(self, exported: Parameters) -> tuple[np.ndarray, np.ndarray]:
        return exported["mean"].numpy(), np.sqrt(_covariances(exported, 1)[0])

    def restore(self, exported: Parameters) -> Parameters:
        """Coefficients of a lower order are those of this one with zeros."""
        a = exported["coefficients"].double().cpu().numpy()
        r = reflections(np.pad(a, (0, max(0, self.order - len(a)))))
        variances = {
            name: (exported[name].double() / self._scale**2).clamp_min(self._floor)
            for name in ("innovation_variance", "noise_variance")
        }
        inside = {"reflection": torch.as_tensor(np.arctanh(r)), **variances}
        inside["mean"] = (exported["mean"].double() - self._center) / self._scale
        names = ("reflection", "innovation_variance", "mean", "noise_variance")
        return {name: inside[name].to(self.observations.device, self.observations.dtype) for name in names}

    def parameter_error(self, parameters: Parameters, truth: Mapping[str, np.ndarray]) -> float:
        """|S - S0| / |S0| (Frobenius) of Cov(y), (T, T), by its diagonals, which are constant."""
        found, true = (_covariances(each, self.dim) for each in (self.export(parameters), truth))
        times = 2.0 * np.arange(self.dim, 0, -1)
        times[0] = self.dim
        return float(np.sqrt((times @ (found - true) ** 2) / (times @ true**2)))

    def implied_covariance(self, exported: Parameters) -> Tensor:
        lags = (torch.arange(self.dim)[:, None] - torch.arange(self.dim)).abs()
        return torch.as_tensor(_covariances(exported, self.dim))[lags]

    def warnings(self, parameters: Parameters, names: list[str]) -> list[str]:
        floor, found = NEAR_FLOOR * self._floor, _local(parameters)
        if found["noise_variance"] <= floor:
            return [
                f"the noise variance ended at its floor, {self.noise_floor:g} of what one step leaves unexplained of "
                f"{names[0]}: the series is an autoregression by itself, the data show no noise"
            ]
        if found["innovation_variance"] <= floor:
            return [
                f"the innovation variance ended at its floor, {self.noise_floor:g} of what one step leaves unexplained "
                f"of {names[0]}: what was found is a cycle without change, or no autoregression at all"
            ]
        return []


def _local(parameters: Parameters) -> Parameters:
    """On the CPU in double precision: a few numbers, whose recursions are many small steps."""
    return {name: value.cpu().double() for name, value in parameters.items()}


def _covariances(exported: Mapping[str, Any], length: int) -> np.ndarray:
    """Cov(y_t, y_(t-k)), k = 0 .. length - 1."""
    gamma = autocovariances(np.asarray(exported["coefficients"]), float(exported["innovation_variance"]), length)
    gamma[0] += float(exported["noise_variance"])
    return gamma
