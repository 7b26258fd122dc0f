"""Bayesian linear regression with learned precisions of the weights and of the noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError
from lgm_cli.models.base.latent_variable_model import Posterior
from lgm_cli.models.base.linear_gaussian_model import LinearGaussianModel
from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters, Statistics
from lgm_cli.models.base.tuning import ACCURATE, Tuning
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.base import Frame
from lgm_cli.posteriors.dense import DensePosterior
from lgm_cli.randomness import generator

STATE_ENTRIES = 1 << 24  # of the posterior of the weights in apply.safetensors, at most (128 or 256 MiB)
LEAST_WEIGHT = 1e-6  # variance of the weights, in units in which one explains as much variance as y has
INITIAL_SHARE = 0.5  # of the variance of the response, explained at the start


class LinearRegression(LinearGaussianModel):
    """y = c + X w + noise,  w ~ N(0, I_p / alpha),  noise ~ N(0, I / psi),  the columns of X centred.

    The weights are the one latent vector, and its one data point is the response; alpha, psi and the intercept c are
    learned by maximising the evidence p(y | X). MacKay, Bayesian interpolation, Neural Computation 4 (1992) 415-447;
    EM after Tipping, JMLR 1 (2001) 211-244, section 2. X must be complete, responses may be missing.

    Inside, y is standardised and the whitened latents are sqrt(alpha) w; X is divided by the root mean square of its
    rows, so that a weight precision of one explains as much variance as y has.

    noise_floor: lower bound of 1 / psi, as a fraction of the variance of y.
    """

    pictures = results = ("weights",)
    axes: ClassVar = {"feature_mean": ("feature",)}

    learns_from = "regression"
    double_precision = True  # one posterior costs little, and collinear features make it as ill-conditioned as can be

    def __init__(self, noise_floor: float) -> None:
        self.noise_floor = noise_floor
        self._state: Mapping[str, Tensor] | None = None  # posterior of the weights, where it is known

    def tuning(self) -> Tuning:
        """A few scalars are learned, however many weights there are: the learning rate is that of one dimension."""
        return replace(super().tuning(), tuned_dim=1, solver=ACCURATE, update="closed_form")

    def simulate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """num_points observations of num_dimensions features N(0, 1), weights N(0, 1/p); factor_share of the variance
        is theirs, the rest noise. Responses are hidden with probability hidden_share."""
        n, p = options["num_points"], options["num_dimensions"]
        kind: dict[str, Any] = {"dtype": torch.float64, "generator": generator(options["seed"], "simulate regression")}
        noise = 1 / options["factor_share"] - 1
        features, weights = torch.randn(n, p, **kind), torch.randn(p, **kind) / math.sqrt(p)
        y = features @ weights + math.sqrt(noise) * torch.randn(n, **kind)
        y[torch.rand(n, **kind) < options["hidden_share"]] = math.nan
        feature_mean = features.mean(0)
        truth = {
            "weights": weights,
            "weight_precision": torch.tensor(float(p), dtype=torch.float64),
            "feature_mean": feature_mean,
            "intercept": feature_mean @ weights,
            "noise_variance": torch.tensor(noise, dtype=torch.float64),
        }
        arrays = {name: value.numpy() for name, value in truth.items()}
        return {"values": y.numpy()[:, None], "features": features.numpy(), "truth": arrays}

    def prepare(self, observations: Observations) -> None:
        super().prepare(observations)
        assert observations.features is not None
        self._unit = observations.scale[0].cpu()
        if self._state is not None:
            self._bind_state(self._state, observations)
            return
        count = torch.zeros(observations.shape[1], dtype=observations.dtype, device=observations.device)
        for chunk in observations.chunks:
            chunk.add_to_columns(count, chunk.weight)
        seen = count.cpu() > 0
        learned_from = observations.features[seen]
        low, high = learned_from.amin(0), learned_from.amax(0)
        self._feature_mean = torch.where(low == high, low, learned_from.mean(0))  # nothing left of a constant
        centred = observations.features - self._feature_mean
        unit = centred[seen].square().sum(1).mean().sqrt()
        self._feature_unit = torch.where(unit > 0, unit, 1.0)
        self._features = (centred / self._feature_unit).to(observations.device, observations.dtype)
        self.dim = centred.shape[1]

    def applied_state(self, parameters: Parameters) -> dict[str, Tensor]:
        """The posterior w = E[w] + R z, z ~ N(0, I), in units of the response per unit of each feature: weight_mean and
        weight_standard_deviation (p,), and R in the cheaper form, with A = L L^T or C = L L^T,

            primal   weight_root = u L^-T, (p, p)
            dual     u (I - weight_left weight_right), (p, m) and (m, p): V^T L^-T (L + I)^-1 and V

        (Andrews, A square root formulation of the Kalman covariance equations, AIAA J. 6 (1968) 1165-1166), where u is
        weight_deviation, the prior's."""
        (chunk,) = self.observations.chunks
        if self.dim * min(self.dim, round(chunk.observed)) > STATE_ENTRIES:
            return {}
        posterior = self.posterior(parameters, chunk)
        unit = float(self._unit / self._feature_unit) * parameters["weight_precision"].rsqrt()
        mean, deviation = (value[0] for value in self.latents(parameters, posterior))
        rows, factor = posterior.rows[0], posterior.factor[0]
        identity = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
        found = {"weight_mean": mean, "weight_standard_deviation": deviation}
        if posterior.dual:
            half = torch.linalg.solve_triangular(factor, rows, upper=False)
            left = torch.linalg.solve_triangular((factor + identity).mT, half, upper=True).mT
            found |= {"weight_left": left, "weight_right": rows, "weight_deviation": unit}
        else:
            found["weight_root"] = unit * torch.linalg.solve_triangular(factor.mT, identity, upper=True)
        return {name: value.detach().cpu().double() for name, value in found.items()}

    def fix(self, exported: Parameters, state: Mapping[str, Tensor]) -> None:
        super().fix(exported, state)
        if "weight_mean" not in state:
            p = len(exported["feature_mean"])
            raise UserError(
                f"the run has no apply.safetensors, the posterior of its {p:,} weights",
                f"it is written where the smaller of responses and weights times weights is at most {STATE_ENTRIES:,}",
            )
        p = len(exported["feature_mean"])
        shapes: dict[str, tuple[int, ...]] = {"weight_mean": (p,), "weight_standard_deviation": (p,)}
        if "weight_right" in state:
            m = state["weight_right"].numel() // p
            shapes |= {"weight_left": (p, m), "weight_right": (m, p), "weight_deviation": ()}
        else:
            shapes["weight_root"] = (p, p)
        if {name: tuple(value.shape) for name, value in state.items()} != shapes:
            raise UserError("apply.safetensors is not of the run's parameters", "learn the run again")
        self._feature_mean, self._state = exported["feature_mean"], state

    def _bind_state(self, state: Mapping[str, Tensor], observations: Observations) -> None:
        """Weights w = E[w] + R z: the rows of X R, and X E[w] beside the intercept."""
        assert observations.features is not None
        centred = observations.features - self._feature_mean
        if "weight_root" in state:
            rows = centred @ state["weight_root"]
        else:
            rows = state["weight_deviation"] * (centred - (centred @ state["weight_left"]) @ state["weight_right"])
        explained = centred @ state["weight_mean"]
        like = {"dtype": observations.dtype, "device": observations.device}
        self._feature_unit = torch.ones((), dtype=torch.float64)
        self._features, self.explained = ((value / self._unit).to(**like) for value in (rows, explained))
        self.dim = rows.shape[1]

    def gradient_scale(self) -> dict[str, float]:
        responses = 1 / self.observations.observed
        return {"weight_precision": 1 / self.dim, "intercept": responses, "noise_variance": responses}

    def whitened_loadings(self, parameters: Parameters) -> Tensor:
        return self._features if self._state is not None else self._features * parameters["weight_precision"].rsqrt()

    def mean_of_columns(self, parameters: Parameters) -> Tensor:
        intercept = parameters["intercept"].expand(self.observations.shape[1])
        return intercept if self._state is None else intercept + self.explained

    def noise_of_columns(self, parameters: Parameters) -> Tensor:
        return parameters["noise_variance"].expand(self.observations.shape[1])

    def start(self, seed: int) -> Parameters:
        like = {"dtype": self.observations.dtype, "device": self.observations.device}
        return {
            "weight_precision": torch.tensor(1 / INITIAL_SHARE, **like),
            "intercept": torch.zeros((), **like),
            "noise_variance": torch.tensor(1 - INITIAL_SHARE, **like),
        }

    def free(self, parameters: Parameters) -> Parameters:
        """Logarithms of the variances; the intercept in standard deviations of the noise."""
        noise = parameters["noise_variance"]
        return {
            "weight_precision": -(1 / parameters["weight_precision"] - LEAST_WEIGHT)
            .clamp_min(1e-3 * LEAST_WEIGHT)
            .log(),
            "intercept": parameters["intercept"] * noise.rsqrt(),
            "noise_variance": (noise - self.noise_floor).clamp_min(1e-3 * self.noise_floor).log(),
        }

    def constrain(self, free: Parameters) -> Parameters:
        noise = self.noise_floor + free["noise_variance"].exp()
        return {
            "weight_precision": 1 / (LEAST_WEIGHT + (-free["weight_precision"]).exp()),
            "intercept": free["intercept"] * noise.sqrt(),
            "noise_variance": noise,
        }

    def _numbers_of_statistics(self, chunk: Chunk, points: int) -> float:
        """The rows once more."""
        again = 3.0 * self.observations.shape[1] + chunk.width * (chunk.width > self.dim)
        return again * (self.dim + 3)

    def floors(self) -> Parameters:
        like = {"dtype": self.observations.dtype, "device": self.observations.device}
        noise, weight = torch.tensor([self.noise_floor, LEAST_WEIGHT], **like)
        return {"noise_variance": noise, "weight_precision": weight}

    def frame(self, parameters: Parameters) -> Frame:
        """Of the weights, which are whitened by the deviation of their prior."""
        root = parameters["weight_precision"].rsqrt()
        return Frame(root, parameters["intercept"], parameters["noise_variance"].sqrt())

    def statistics(self, chunk: Chunk, posterior: Posterior) -> Statistics:
        """E|w|^2; sums over the responses of 1, of r = y - X E[w], of r^2 and of Var(x w)."""
        frame = posterior.frame
        assert frame.scale is not None and frame.shift is not None and frame.unit is not None
        chunk, (residual, variance) = posterior.entries_of(chunk), posterior.misfit()
        residual = chunk.weight * (residual * frame.unit + frame.shift)
        found = {
            "square": frame.scale**2 * posterior.total_square(),
            "count": chunk.weight.sum(),
            "residual": residual.sum(),
            "residual_square": residual.square().sum(),
            "variance": frame.unit**2 * (chunk.weight * variance).sum(),
        }
        entropy = posterior.entropy()
        return found if entropy is None else found | {"entropy": entropy.sum()}

    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> Tensor:
        """1/2 (alpha E|w|^2 - p log alpha) + 1/2 (psi E|y - X w - c|^2 - N log psi), and the constants."""
        alpha, c, noise = (parameters[name] for name in ("weight_precision", "intercept", "noise_variance"))
        count = statistics["count"]
        square = statistics["residual_square"] - 2 * c * statistics["residual"] + count * c**2 + statistics["variance"]
        prior = alpha * statistics["square"] - self.dim * (alpha / (2 * math.pi)).log()
        return 0.5 * (prior + square / noise + count * (2 * math.pi * noise).log())

    def maximise(
        self, parameters: Parameters, statistics: Statistics, block: tuple[str, ...] | None = None
    ) -> Parameters:
        """alpha = p / E|w|^2,  c = mean of y - X E[w],  1 / psi = E|y - X w - c|^2 / N."""
        count, intercept = statistics["count"], statistics["residual"] / statistics["count"]
        square = statistics["residual_square"] - count * intercept**2 + statistics["variance"]
        return {
            "weight_precision": (self.dim / statistics["square"]).clamp_max(1 / LEAST_WEIGHT),
            "intercept": intercept,
            "noise_variance": (square / count).clamp_min(self.noise_floor),
        }

    def latents(self, parameters: Parameters, posterior: DensePosterior) -> tuple[Tensor, Tensor]:
        """The weights, in units of the response per unit of each feature; of a finished run as it has learned them."""
        if self._state is not None:
            return self._state["weight_mean"][None], self._state["weight_standard_deviation"][None]
        unit = float(self._unit / self._feature_unit) * parameters["weight_precision"].rsqrt()
        return posterior.mean * unit, posterior.marginal_variance.sqrt() * unit

    def export(self, parameters: Parameters) -> Parameters:
        inside = {name: value.cpu().double() for name, value in parameters.items()}
        return {
            "weight_precision": inside["weight_precision"] * (self._feature_unit / self._unit) ** 2,
            "feature_mean": self._feature_mean,
            "intercept": self.observations.center[0].cpu() + self._unit * inside["intercept"],
            "noise_variance": inside["noise_variance"] * self._unit**2,
        }

    def exported_shapes(self, table: Table) -> dict[str, tuple[int, ...]]:
        assert table.feature_labels is not None
        features = (len(table.feature_labels),)
        return {"weight_precision": (), "feature_mean": features, "intercept": (), "noise_variance": ()}

    def units(self, exported: Parameters) -> tuple[np.ndarray, np.ndarray]:
        return exported["intercept"].numpy(), exported["noise_variance"].sqrt().numpy()

    def restore(self, exported: Parameters) -> Parameters:
        noise = (exported["noise_variance"] / self._unit**2).clamp_min(self.noise_floor)
        inside = {
            "weight_precision": exported["weight_precision"] / (self._feature_unit / self._unit) ** 2,
            "intercept": (exported["intercept"] - self.observations.center[0].cpu()) / self._unit,
            "noise_variance": noise,
        }
        return {name: value.to(self.observations.device, self.observations.dtype) for name, value in inside.items()}

    def parameter_error(self, parameters: Parameters, truth: Mapping[str, np.ndarray]) -> float:
        """|E[w] - w| / |w|."""
        (chunk,) = self.observations.chunks
        with torch.no_grad():
            found = self.latents(parameters, self.posterior(parameters, chunk))[0][0].cpu().double()
        true = torch.as_tensor(truth["weights"])
        return float(torch.linalg.norm(found - true) / torch.linalg.norm(true))

    def implied_covariance(self, exported: Parameters) -> Tensor:
        assert self.observations.features is not None
        centred = self.observations.features - exported["feature_mean"]
        gram = centred @ centred.T / exported["weight_precision"]
        return gram + exported["noise_variance"] * torch.eye(len(gram), dtype=torch.float64)

    def warnings(self, parameters: Parameters, names: list[str]) -> list[str]:
        if parameters["weight_precision"] * LEAST_WEIGHT > 1 / NEAR_FLOOR:
            return ["the variance of the weights ended at its floor: the features tell nothing of the response"]
        if parameters["noise_variance"] > NEAR_FLOOR * self.noise_floor:
            return []
        responses = round(self.observations.observed)
        why = (
            f"{self.dim:,} features explain any {responses:,} responses (more responses or fewer features tell noise "
            "from signal; until then, model.noise_floor says how closely the responses are followed)"
            if self.dim >= responses - 1
            else f"the features explain it entirely ({self.lower_floor} lets it fall further; where it ends at that "
            "floor too, is there a copy of the response among the features?)"
        )
        return [f"the noise variance ended at its floor, {self.noise_floor:g} of the response's variance: {why}"]
