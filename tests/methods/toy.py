"""Two small models with exact posteriors, written out densely: the independent check of the methods.

A mixture of normals in one dimension, and a factor analysis of complete data with one factor and no mean. They take
complete tables only, whose chunks hold every column.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lgm_cli.observations.blocks import Observations, observe
from tests import cases

Tensors = dict[str, Tensor]
LOG_TWO_PI = math.log(2 * math.pi)


class Toy(ABC):
    """What the two share of the interface of a model."""

    dim = 1
    averages, has_system = True, False
    blocks: tuple[tuple[str, ...], ...] = ()
    observations: Observations

    def bind(self, values: Any, block_size: int | None = None) -> Any:
        bound = copy.copy(self)
        bound.observations = observe(cases.as_data(values), 0, torch.float64, cases.CPU, block_size)
        return bound

    def layout(self, block: int, solved: bool = False) -> list[Any]:
        return self.observations.blocks[block]

    def add_statistics(self, total: Tensors, chunk: Any, posterior: Any) -> Tensors:
        for name, value in self.statistics(chunk, posterior).items():
            total[name] = total[name].add_(value) if name in total else value
        return total

    @abstractmethod
    def statistics(self, chunk: Any, posterior: Any) -> Tensors: ...

    @abstractmethod
    def posterior(self, parameters: Tensors, chunk: Any, inverse_temperature: float = 1.0) -> Any: ...

    @abstractmethod
    def expected_loss(self, parameters: Tensors, statistics: Tensors) -> Tensor: ...

    def with_prior(self, statistics: Tensors) -> Tensors:
        return statistics

    def log_prior(self, parameters: Tensors) -> None:
        return None

    def prior_nats(self, parameters: Tensors) -> float:
        return 0.0

    def dealt_anew(self, parameters: Tensors, held: tuple[str, ...], draw: torch.Generator) -> Tensors:
        return parameters

    def free_energy(self, parameters: Tensors, statistics: Tensors) -> Tensor | None:
        if "entropy" not in statistics:
            return None
        return statistics["entropy"] - self.expected_loss(parameters, statistics)

    def gradient_scale(self) -> dict[str, float]:
        return {}

    def log_likelihood(self, parameters: Tensors, chunk: Any, posterior: Any) -> Tensor:
        return posterior.log_evidence

    def evidence(self, parameters: Tensors) -> float:
        """log p(y), standardised."""
        return sum(float(self.posterior(parameters, chunk).log_evidence.sum()) for chunk in self.observations.chunks)


@dataclass
class Responsibilities:
    """r_nk, (n, K), and what belongs to it."""

    weight: Tensor
    log_evidence: Tensor | None
    uncertainty: Tensor | None  # (n,) entropy over the inverse temperature

    def entropy(self) -> Tensor | None:
        return self.uncertainty

    def draw(self, generator: torch.Generator) -> Responsibilities:
        chosen = torch.multinomial(self.weight, 1, generator=generator)
        return Responsibilities(torch.zeros_like(self.weight).scatter(1, chosen, 1.0), None, None)


class Mixture(Toy):
    """y ~ sum_k w_k N(mean_k, variance_k); parameters weights, means, variances, (K,) each."""

    blocks = (("weights", "means"), ("variances",))

    def start(self) -> Tensors:
        return {
            "weights": torch.tensor([0.5, 0.5], dtype=torch.float64),
            "means": torch.tensor([-0.5, 0.6], dtype=torch.float64),
            "variances": torch.tensor([1.0, 0.8], dtype=torch.float64),
        }

    def free(self, parameters: Tensors) -> Tensors:
        return {
            "weights": parameters["weights"].log(), "means": parameters["means"],
            "variances": parameters["variances"].log(),
        }  # fmt: skip

    def constrain(self, free: Tensors) -> Tensors:
        return {
            "weights": free["weights"].softmax(0), "means": free["means"], "variances": free["variances"].exp(),
        }  # fmt: skip

    def posterior(self, parameters: Tensors, chunk: Any, inverse_temperature: float = 1.0) -> Responsibilities:
        y, variance = chunk.values, parameters["variances"]
        joint = parameters["weights"].log() - 0.5 * (
            LOG_TWO_PI + variance.log() + (y - parameters["means"]).square() / variance
        )
        total = (inverse_temperature * joint).logsumexp(1)
        log_weight = inverse_temperature * joint - total[:, None]
        weight = log_weight.exp()
        entropy = -torch.where(weight > 0, weight * log_weight, 0.0).sum(1) / inverse_temperature
        return Responsibilities(weight, total if inverse_temperature == 1 else None, entropy)

    def statistics(self, chunk: Any, posterior: Responsibilities) -> Tensors:
        weight, y = posterior.weight, chunk.values
        sums = {"count": weight.sum(0), "first": (weight * y).sum(0), "second": (weight * y**2).sum(0)}
        entropy = posterior.entropy()
        return sums if entropy is None else sums | {"entropy": entropy.sum()}

    def expected_loss(self, parameters: Tensors, statistics: Tensors) -> Tensor:
        mean, variance = parameters["means"], parameters["variances"]
        count, first, second = (statistics[name] for name in ("count", "first", "second"))
        square = second - 2 * mean * first + mean**2 * count
        loss = 0.5 * (count * (LOG_TWO_PI + variance.log()) + square / variance) - count * parameters["weights"].log()
        return loss.sum()

    def maximise(self, parameters: Tensors, statistics: Tensors, block: Any = None) -> Tensors:
        new, names = dict(parameters), set(parameters if block is None else block)
        count, first, second = (statistics[name] for name in ("count", "first", "second"))
        if "weights" in names:
            new["weights"] = count / count.sum()
        if "means" in names:
            new["means"] = first / count
        if "variances" in names:
            mean = new["means"]
            new["variances"] = (second - 2 * mean * first + mean**2 * count) / count
        return new


@dataclass
class Factor:
    """N(mean_n, variance) of the factor, (n,) and ()."""

    mean: Tensor
    variance: Tensor
    log_evidence: Tensor | None
    uncertainty: Tensor | None

    def entropy(self) -> Tensor | None:
        return self.uncertainty

    def draw(self, generator: torch.Generator) -> Factor:
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype)
        return Factor(self.mean + self.variance.sqrt() * noise, torch.zeros_like(self.variance), None, None)


class OneFactor(Toy):
    """y = loadings z + noise, z ~ N(0, 1); parameters loadings and noise_variance, (M,) each, the latter above a
    floor."""

    floor = 1e-3
    blocks = (("loadings",), ("noise_variance",))

    def start(self) -> Tensors:
        columns = self.observations.shape[1]
        return {
            "loadings": torch.linspace(0.3, 0.9, columns, dtype=torch.float64),
            "noise_variance": torch.full((columns,), 0.5, dtype=torch.float64),
        }

    def free(self, parameters: Tensors) -> Tensors:
        """Mixed, as those of the program's own models: loadings in units of the noise."""
        noise = parameters["noise_variance"]
        return {"loadings": parameters["loadings"] / noise.sqrt(), "noise_variance": (noise - self.floor).log()}

    def constrain(self, free: Tensors) -> Tensors:
        noise = self.floor + free["noise_variance"].exp()
        return {"loadings": free["loadings"] * noise.sqrt(), "noise_variance": noise}

    def posterior(self, parameters: Tensors, chunk: Any, inverse_temperature: float = 1.0) -> Factor:
        """The density by the dense covariance of y, the factor by its precision."""
        y, loadings, noise = chunk.values, parameters["loadings"], parameters["noise_variance"]
        variance = 1 / (1 + (loadings**2 / noise).sum())
        mean = variance * (y @ (loadings / noise))
        spread = variance / inverse_temperature
        covariance = torch.outer(loadings, loadings) + torch.diag(noise)
        evidence = None
        if inverse_temperature == 1:
            constant = 0.5 * (torch.logdet(covariance) + len(loadings) * LOG_TWO_PI)
            evidence = -0.5 * (y * torch.linalg.solve(covariance, y.mT).mT).sum(1) - constant
        entropy = 0.5 * (1 + LOG_TWO_PI + spread.log()) / inverse_temperature
        return Factor(mean, spread, evidence, entropy.expand(len(y)))

    def statistics(self, chunk: Any, posterior: Factor) -> Tensors:
        y, mean = chunk.values, posterior.mean
        sums = {
            "count": torch.tensor(float(len(y)), dtype=y.dtype), "square": (y**2).sum(0), "cross": mean @ y,
            "factor": (mean**2 + posterior.variance).sum(),
        }  # fmt: skip
        entropy = posterior.entropy()
        return sums if entropy is None else sums | {"entropy": entropy.sum()}

    def expected_loss(self, parameters: Tensors, statistics: Tensors) -> Tensor:
        loadings, noise = parameters["loadings"], parameters["noise_variance"]
        residual = statistics["square"] - 2 * loadings * statistics["cross"] + loadings**2 * statistics["factor"]
        columns = (statistics["count"] * (LOG_TWO_PI + noise.log()) + residual / noise).sum()
        return 0.5 * (columns + statistics["count"] * LOG_TWO_PI + statistics["factor"])

    def maximise(self, parameters: Tensors, statistics: Tensors, block: Any = None) -> Tensors:
        new, names = dict(parameters), set(parameters if block is None else block)
        if "loadings" in names:
            new["loadings"] = statistics["cross"] / statistics["factor"]
        if "noise_variance" in names:
            row = new["loadings"]
            residual = statistics["square"] - 2 * row * statistics["cross"] + row**2 * statistics["factor"]
            new["noise_variance"] = (residual / statistics["count"]).clamp_min(self.floor)
        return new
