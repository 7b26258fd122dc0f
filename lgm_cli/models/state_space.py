"""Linear Gaussian state-space model of a series of several channels, with missing entries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError
from lgm_cli.models.base.free_parameters import off_diagonal
from lgm_cli.models.base.latent_gaussian_model import LatentGaussianModel, refuse_a_temperature
from lgm_cli.models.base.latent_variable_model import Posterior
from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters, Statistics
from lgm_cli.models.base.predictive import Predictive
from lgm_cli.models.base.tuning import ACCURATE, Tuning
from lgm_cli.models.parts.one_step_variances import one_step_variances
from lgm_cli.models.parts.state_space_canonical import information, turned
from lgm_cli.models.parts.state_space_maximisation import expected_loss, maximise, moments
from lgm_cli.models.parts.state_space_simulation import simulated_states
from lgm_cli.models.parts.state_space_start import packed, principal_start, raised_root, unpacked
from lgm_cli.models.parts.state_space_warnings import at_the_floor, growing_states
from lgm_cli.numerics.cumulated import LinearChain
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.base import in_double
from lgm_cli.posteriors.chain import Chain, ChainPosterior, ChainPrecision

MEMORY = 5  # steps that count as one observation of a channel
NEGLIGIBLE = 0.01  # noise of a channel, in the variance that an innovation gives it: less changes no forecast
STATE_SCALE = 2.5  # usual standard deviation of a state, in those of its innovation


class StateSpace(LatentGaussianModel):
    """z_1 ~ N(m, P),  z_t = G z_{t-1} + N(0, Q),  y_t = C z_t + eta + N(0, diag R),  entries of y missing.

    Shumway & Stoffer, An approach to time series smoothing and forecasting using the EM algorithm, J. Time Series
    Analysis 3 (1982) 253-264; the posterior of the states is that of Rauch, Tung & Striebel's smoother.

    The likelihood leaves the axes of the states open: they are taken such that Q = I, inside and as written. The first
    state is seen once, so its likelihood grows without bound as P falls to nothing: P >= Q is asked for (P - Q has no
    negative eigenvalue), and where EM would go below, the maximum under this constraint is taken.

    noise_floor: lower bound of R, as a fraction of what one step leaves unexplained of each channel
    (`lgm_cli.models.parts.one_step_variances.one_step_variances`), which a trend does not raise.
    """

    pictures, results = ("series",), ("dynamics", "forecasts")
    axes: ClassVar = {
        **dict.fromkeys(("transition", "transition_covariance", "initial_covariance"), ("state", "state")),
        **{"observation": ("column", "state"), "mean": ("column",), "noise_variance": ("column",)},
        "initial_mean": ("state",),
    }
    expanded = True

    learns_from = "series"
    has_chain = True
    least_steps = 3
    averages = False  # its statistics are about a level of their own

    def __init__(self, latent_dim: int, noise_floor: float) -> None:
        self.latent_dim, self.noise_floor = latent_dim, noise_floor

    def check(self, data: Data) -> None:
        super().check(data)
        steps = data.table.end - data.table.horizon
        if steps < 3:
            raise UserError(f"{data.table.name} has {steps} steps to learn from", "give at least three")
        if self.latent_dim >= steps:
            raise UserError(
                f"model.latent_dim={self.latent_dim} is too much for {steps} steps to learn from",
                f"at most model.latent_dim={steps - 1}",
            )

    def simulate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return simulated_states(options)

    def prepare(self, observations: Observations) -> None:
        super().prepare(observations)
        """Steps after the last observed one are no part of what is learned: they are forecast from its state."""
        total, self.channels = observations.table_shape
        (chunk,) = observations.chunks
        seen = chunk.scattered(total * self.channels)[0].view(total, -1).sum(1).nonzero()
        self.steps = max(3, int(seen[-1]) + 1)
        self.ahead = total - self.steps
        self.dim = self.steps * self.latent_dim
        self._unit = observations.scale.cpu().view(total, -1)[0]
        self._floor = self._placed(self.noise_floor * one_step_variances(*self._grid(chunk)))
        self._center = observations.column_center

    def gradient_scale(self) -> dict[str, float]:
        return dict.fromkeys(
            ("transition", "observation", "mean", "noise_variance"), self.steps / self.observations.observed
        )

    def tuning(self) -> Tuning:
        """Steps in turn tell much the same. Measured on chicago and
        simulated series: three times the step of as many factors is the better one."""
        return Tuning(
            max(1, self.latent_dim // 3),
            self.observations.observed / self.channels / MEMORY,
            solver=ACCURATE,
            update="closed_form",
        )

    def exact_operations(self, observed: np.ndarray) -> np.ndarray:
        """About 20 D^3 for each step."""
        return np.full(len(observed), 20.0 * self.steps * self.latent_dim**3)

    def exact_bytes(self, gradient: bool = False) -> float:
        """In double precision: about eight blocks of each step while they are eliminated, and the channels' values and
        what is computed of them."""
        return 8.0 * self.steps * (8.5 * self.latent_dim**2 + (8 if gradient else 5) * self.channels)

    def product_operations(self, observed: np.ndarray) -> np.ndarray:
        return np.full(len(observed), 2.0 * self.dim * (self.latent_dim + self.channels))

    # Parameters ------------------------------------------------------------------------------------------------

    def start(self, seed: int) -> Parameters:
        """The leading principal axes of the channels (each pair's correlation from the steps at which both were
        observed), and the regression of a step's scores on those of the step before; with more states than channels,
        the scores of as many earlier steps are states, too."""
        (chunk,) = self.observations.chunks
        weight, values = (part.double().cpu() for part in self._grid(chunk))
        inside = principal_start(weight, values, self.latent_dim, seed)
        return {name: self._placed(value) for name, value in inside.items()}

    @property
    def dim_of_table(self) -> int:
        return (self.steps + self.ahead) * self.channels

    def _placed(self, value: Tensor) -> Tensor:
        return value.to(self.observations.device, self.observations.dtype)

    def free(self, parameters: Parameters) -> Parameters:
        """Observations and means in standard deviations of the noise, states in usual ones of their own, logarithms of
        scales."""
        noise = parameters["noise_variance"]
        root = noise.rsqrt()
        return {
            "transition": parameters["transition"] * STATE_SCALE,
            "observation": parameters["observation"] * root[:, None] * STATE_SCALE,
            "mean": parameters["mean"] * root,
            "noise_variance": torch.maximum(noise - self._floor, 1e-3 * self._floor).log(),
            "initial_mean": parameters["initial_mean"],
            "initial_scale": parameters["initial_scale"].log(),
            "initial_lower": parameters["initial_lower"],
        }

    def constrain(self, free: Parameters) -> Parameters:
        noise = self._floor + free["noise_variance"].exp()
        root = noise.sqrt()
        return {
            "transition": free["transition"] / STATE_SCALE,
            "observation": free["observation"] * root[:, None] / STATE_SCALE,
            "mean": free["mean"] * root,
            "noise_variance": noise,
            "initial_mean": free["initial_mean"],
            "initial_scale": free["initial_scale"].exp(),
            "initial_lower": free["initial_lower"],
        }

    def floors(self) -> Parameters:
        return {"noise_variance": self._floor}

    # Posteriors ------------------------------------------------------------------------------------------------

    def _chain(self, parameters: Parameters, mask: Tensor) -> Chain:
        excess = unpacked(parameters)
        identity = torch.eye(self.latent_dim, dtype=excess.dtype, device=excess.device)
        return Chain(
            parameters["transition"],
            torch.linalg.cholesky(identity + excess @ excess.mT),
            parameters["initial_mean"],
            parameters["observation"] * parameters["noise_variance"].rsqrt()[:, None],
            mask,
        )

    def _grid(self, chunk: Chunk, like: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """weight and values as (T, M), in the precision and on the device of `like`."""
        parts = (part.view(-1, self.channels)[: self.steps] for part in chunk.scattered(self.dim_of_table))
        weight, values = parts
        return (weight, values) if like is None else (weight.to(like), values.to(like))

    def system(self, parameters: Parameters, chunk: Chunk) -> tuple[ChainPrecision, Tensor]:
        chain = self._chain(parameters, self._grid(chunk)[0])
        root = parameters["noise_variance"].rsqrt()
        columns = {"mean": parameters["mean"], "root": root}
        if chunk.index is None:
            entries, (mean, root) = None, (value.repeat(self.steps + self.ahead) for value in columns.values())
        else:
            entries = chunk.index.view(-1).clamp_max(self.steps * self.channels)
            mean, root = (value[chunk.index % self.channels] for value in columns.values())
        return ChainPrecision(chain, entries, self.dim_of_table), chunk.weight * (chunk.values - mean) * root

    def posterior(self, parameters: Parameters, chunk: Chunk, inverse_temperature: float = 1.0) -> ChainPosterior:
        refuse_a_temperature(inverse_temperature)
        parameters = {name: in_double(value) for name, value in parameters.items()}
        weight, values = self._grid(chunk, parameters["mean"])
        targets = weight * (values - parameters["mean"]) * parameters["noise_variance"].rsqrt()
        return ChainPosterior(self._chain(parameters, weight), targets, self.ahead)

    def complete_loss(self, parameters: Parameters, chunk: Chunk, posterior: Posterior) -> Tensor:
        """1/2 E |Omega (y - eta - C z) / sqrt R|^2 + 1/2 sum omega log R + 1/2 E |F z - (L^-1 m, 0, ..)|^2 + log det L,
        by the means of the states and their covariances of one step and of two in turn. The prior depends on G."""
        parameters = {name: value.to(posterior.mean) for name, value in parameters.items()}
        weight, values = self._grid(chunk, posterior.mean)
        chain = self._chain(parameters, weight)
        noise, mean = parameters["noise_variance"], posterior.mean.view(self.steps, -1)
        residual = weight * ((values - parameters["mean"]) * noise.rsqrt() - mean @ chain.rows.mT)
        path = chain.whiten(mean[None])[0]
        start = path[0] - chain.first @ chain.start_inverse.mT
        square = residual.square().sum() + start.square().sum() + path[1:].square().sum()
        logs = (weight.sum(0) * noise.log()).sum() + 2 * chain.start.diagonal().log().sum()
        return 0.5 * (square + posterior.spread_under(chain) + logs)

    # Expectation-maximisation ----------------------------------------------------------------------------------

    def statistics(self, chunk: Chunk, posterior: Posterior) -> Statistics:
        """For each channel, sums over its observed steps of E u u^T, y E u and y^2 with u = (z, 1); sums over time of
        E z_t z_t^T, E z_t u_{t-1}^T and E u_{t-1} u_{t-1}^T, t = 2 .. T; the first state's mean and covariance; all
        with z about its mean over time, `level`, since states may be far from zero."""
        mean = in_double(posterior.mean.view(self.steps, -1))
        level = mean.mean(0)
        mean = mean - level
        around, across = posterior.step_covariances(self.steps)
        found = moments(mean, level, around, across, *self._grid(chunk, mean))
        entropy = posterior.entropy()
        return found if entropy is None else found | {"entropy": entropy.sum()}

    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> Tensor:
        return expected_loss(parameters, statistics, self.steps)

    def maximise(
        self, parameters: Parameters, statistics: Statistics, block: tuple[str, ...] | None = None
    ) -> Parameters:
        found = maximise(statistics, self.steps, self._floor)
        return {name: self._placed(value) for name, value in found.items()}

    # What is written -------------------------------------------------------------------------------------------

    def canonical(self, parameters: Parameters) -> Parameters:
        """Q = I, and axes of the states in which the information that ceil(D / M) observations in turn hold about the
        state, sum_k (G^k)^T C^T R^-1 C G^k (C^T R^-1 C where D <= M), is diagonal and falls: the first state is the one
        that the data tell most about. The channel that depends on it most, beside its noise, does so positively."""
        inside = {name: value.cpu().double() for name, value in parameters.items()}
        return {name: self._placed(value) for name, value in turned(inside).items()}

    def constraints(self, parameters: Parameters) -> Tensor:
        """Any rotation of the states is as likely: the axes are those of `canonical`."""
        return off_diagonal(information(parameters))

    def log_likelihood(self, parameters: Parameters, chunk: Chunk, posterior: ChainPosterior) -> Tensor:
        density = posterior.log_density()
        weight, _ = self._grid(chunk, density)
        noise, unit = parameters["noise_variance"].to(density), self._unit.to(density)
        return density - (weight.sum(0) * (0.5 * (noise.log() + math.log(2 * math.pi)) + unit.log())).sum()

    def predict(self, parameters: Parameters, posterior: ChainPosterior, index: Tensor) -> Predictive:
        index = index.to(posterior.states.device)
        steps, channels = index[0] // self.channels, index[0] % self.channels
        inside = {name: value.to(posterior.states) for name, value in parameters.items()}
        rows = inside["observation"][channels]
        mean = inside["mean"][channels] + (rows * posterior.forecast[0][steps]).sum(1)
        variance = inside["noise_variance"][channels] + posterior.step_variance(rows, steps)
        center, scale = (x.cpu()[index[0].cpu()] for x in (self.observations.center, self.observations.scale))
        return Predictive((center + scale * mean.cpu())[None], (scale**2 * variance.cpu())[None])

    def latents(self, parameters: Parameters, posterior: ChainPosterior) -> tuple[Tensor, Tensor]:
        """The states, (T, D), in standard deviations of their innovations."""
        mean, spread = posterior.forecast
        return mean, spread.diagonal(dim1=1, dim2=2).sqrt()

    def export(self, parameters: Parameters) -> Parameters:
        inside = {name: value.cpu().double() for name, value in parameters.items()}
        excess = unpacked(inside)
        identity = torch.eye(self.latent_dim, dtype=torch.float64)
        return {
            "transition": inside["transition"],
            "transition_covariance": identity.clone(),
            "observation": inside["observation"] * self._unit[:, None],
            "mean": self._center + self._unit * inside["mean"],
            "noise_variance": inside["noise_variance"] * self._unit**2,
            "initial_mean": inside["initial_mean"],
            "initial_covariance": identity + excess @ excess.mT,
        }

    def chain(self, exported: Parameters) -> LinearChain:
        names = ("transition", "transition_covariance", "observation", "noise_variance", "initial_mean")
        return LinearChain(*(exported[name].numpy() for name in (*names, "initial_covariance")))

    def exported_shapes(self, table: Table) -> dict[str, tuple[int, ...]]:
        m, d = table.shape[1], self.latent_dim
        latent = {"transition": (d, d), "transition_covariance": (d, d), "observation": (m, d)}
        return latent | {"mean": (m,), "noise_variance": (m,), "initial_mean": (d,), "initial_covariance": (d, d)}

    def units(self, exported: Parameters) -> tuple[np.ndarray, np.ndarray]:
        """The variance of a first state and of an innovation: that of states in the long run may not exist."""
        spread, c = exported["initial_covariance"] + exported["transition_covariance"], exported["observation"]
        variance = ((c @ spread) * c).sum(1) + exported["noise_variance"]
        return exported["mean"].numpy(), variance.sqrt().numpy()

    def restore(self, exported: Parameters) -> Parameters:
        """In axes in which Q = I; a covariance of the first state below Q is raised to it."""
        root = torch.linalg.cholesky(exported["transition_covariance"])
        inverse = torch.linalg.inv(root)
        start = inverse @ exported["initial_covariance"] @ inverse.mT
        inside = {
            "transition": inverse @ exported["transition"] @ root,
            "observation": exported["observation"] @ root / self._unit[:, None],
            "mean": (exported["mean"] - self._center) / self._unit,
            "noise_variance": torch.maximum(exported["noise_variance"] / self._unit**2, self._floor.cpu().double()),
            "initial_mean": inverse @ exported["initial_mean"],
            **packed(raised_root(start - torch.eye(self.latent_dim, dtype=torch.float64))),
        }
        return {name: self._placed(value) for name, value in inside.items()}

    def implied_covariance(self, exported: Parameters) -> Tensor:
        """Cov(y_t) beside Cov(y_t, y_{t-1}) as T grows, (M, 2 M), of the states' variance after about T steps."""
        g, spread = exported["transition"], exported["transition_covariance"]
        power = g
        for _ in range(math.ceil(math.log2(self.steps))):
            spread, power = spread + power @ spread @ power.mT, power @ power
        c = exported["observation"]
        return torch.cat([c @ spread @ c.mT + torch.diag(exported["noise_variance"]), c @ g @ spread @ c.mT], dim=1)

    def warnings(self, parameters: Parameters, names: list[str]) -> list[str]:
        found = growing_states(parameters["transition"])
        noise, innovation = parameters["noise_variance"], parameters["observation"].square().sum(1)
        low, negligible = noise <= NEAR_FLOOR * self._floor, noise < NEGLIGIBLE * innovation
        for channels, meaning in (
            (low & ~negligible, f"the states follow every value ({self.lower_floor} lets it fall further)"),
            (low & negligible, "the states follow every value, and no noise can be told beside their innovations"),
        ):
            which = [names[i] for i in torch.nonzero(channels).flatten().tolist()]
            found += at_the_floor(which, self.noise_floor, meaning)
        return found
