"""What the states of a Markov chain emit: the face of an emission, and normal ones."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from lgm_cli.data.base.data import Data
from lgm_cli.models.base.naming import named
from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters, Statistics
from lgm_cli.models.families.mixed import Mixed, log_normal
from lgm_cli.models.families.normal import normal
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk


class StateEmissions(ABC):
    """The emissions of K states: the family of lgm_cli/models/families, and how its parameters start and are written.

    names: of the parameters. standardise: whether values are learned from in standard units.
    """

    names: ClassVar[tuple[str, ...]]
    standardise: ClassVar[bool]
    family: Any  # Normal, Counts or Categories, once it is bound

    @abstractmethod
    def check(self, data: Data) -> None:
        """Raise UserError for values that these emissions cannot have."""

    def bind(self, observations: Observations, table: Chunk) -> Self:
        """A copy for these data, `table` their steps as rows."""
        bound = copy.copy(self)
        columns = observations.table_shape[1]
        bound.observations, bound.columns = observations, columns
        bound.center = observations.column_center.cpu()
        bound.scale = observations.scale[:columns].cpu()
        return bound

    observations: Observations
    columns: int
    center: Tensor  # (M,) float64, on the CPU
    scale: Tensor

    def without_floor(self, exported: Parameters) -> Self:
        """A copy, not yet bound, that takes exported parameters as they are."""
        return copy.copy(self)

    @abstractmethod
    def features(self, table: Chunk) -> Tensor:
        """Rows (T, F) in which states are told apart by their distances, float64, on the CPU."""

    @abstractmethod
    def first(self, table: Chunk, states: int) -> Parameters:
        """Parameters of states that are all alike."""

    def imagined(self, steps: float, table: Chunk, states: int) -> Statistics:
        """The family's statistics of so many imaginary steps of each state."""
        return self.family.imagined(steps, self.first(table, states)[self.names[0]])

    def start(self, table: Chunk, label: Tensor, states: int) -> Parameters:
        """Parameters of states that emit what the steps with their label (T,) have, moved towards those of all."""
        weights = one_hot(label, states).to(table.values)
        first = self.first(table, states)
        found = self.family.maximise(first, self.family.emissions(first, table).statistics(weights))
        return self.pooled(found, weights.sum(0))

    @abstractmethod
    def pooled(self, parameters: Parameters, steps: Tensor) -> Parameters:
        """Parameters of states with so few steps (K,) that they need some of the others."""

    def maximise(self, parameters: Parameters, statistics: Statistics, names: tuple[str, ...]) -> Parameters:
        """Those of the parameters that are named at their best."""
        own = tuple(name for name in self.names if name in names)
        if not own:
            return {}
        found = self.family.maximise(parameters, statistics, None if own == self.names else own[0])
        return {name: found[name] for name in own}

    @abstractmethod
    def free(self, parameters: Parameters) -> Parameters: ...

    @abstractmethod
    def constrain(self, free: Parameters) -> Parameters: ...

    @abstractmethod
    def export(self, inside: Parameters) -> Parameters:
        """In the data's own units; inside: float64, on the CPU."""

    @abstractmethod
    def restore(self, exported: Parameters) -> Parameters: ...

    @abstractmethod
    def shapes(self, states: int, columns: int) -> dict[str, tuple[int, ...]]: ...

    @abstractmethod
    def moments(self, exported: Parameters) -> tuple[Tensor, Tensor]:
        """Means (K, M) and covariances (K, M, M) of the states."""

    def reordered(self, parameters: Parameters, order: Tensor) -> Parameters:
        return {name: parameters[name][order] for name in self.names}

    @abstractmethod
    def mixed(self, inside: Parameters, weights: Tensor, entry: Tensor, known: tuple[Tensor, Tensor] | None) -> Mixed:
        """The distribution of t entries of the series laid end to end, entry (t,), in the data's own units, by the
        probabilities (K, t) of their states. inside: parameters in float64, on the CPU. known: means and variances
        (K, t) in standard units, where other entries of the step tell more."""

    @abstractmethod
    def drawn_truth(self, states: int, columns: int, options: Any, draw: Generator) -> Parameters:
        """Parameters to draw data from, in the data's own units."""

    @abstractmethod
    def drawn_values(self, truth: Parameters, path: Tensor, draw: Generator) -> Tensor:
        """Values (T, M) of a path of states."""

    def units(self, exported: Parameters, weights: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Center and scale (M,) of data from states that occur with these weights (K,)."""
        means, covariances = self.moments(exported)
        if not self.standardise:
            return np.zeros(means.shape[1]), np.ones(means.shape[1])
        mean = weights @ means
        variance = weights @ (covariances.diagonal(dim1=1, dim2=2) + (means - mean).square())
        return mean.numpy(), variance.sqrt().numpy()

    def warnings(self, parameters: Parameters, lower_floor: str) -> list[str]:
        return []


class NormalEmissions(StateEmissions):
    """y_t | k ~ N(means_k, covariances_k), as lgm_cli/models/families/normal.py has them."""

    names, standardise = ("means", "covariances"), True

    def __init__(self, covariance: str, floor: float) -> None:
        self.covariance, self.floor = covariance, floor

    def check(self, data: Data) -> None:
        return

    def bind(self, observations: Observations, table: Chunk) -> Self:
        bound = super().bind(observations, table)
        unit = bound.scale.square().mean() / bound.scale.square()
        bound.family = normal(self.covariance, self.floor, unit.to(table.values))
        return bound

    def without_floor(self, exported: Parameters) -> Self:
        found = copy.copy(self)
        found.floor = 0.0
        return found

    def features(self, table: Chunk) -> Tensor:
        return table.values.cpu().double()

    def first(self, table: Chunk, states: int) -> Parameters:
        means = table.values.new_zeros(states, self.columns)
        identity = torch.eye(self.columns).to(means).expand(states, -1, -1)
        return {"means": means, "covariances": self.family.compact(identity)}

    def pooled(self, parameters: Parameters, steps: Tensor) -> Parameters:
        written = self.family.written(parameters["covariances"], len(steps), self.columns)
        of_all = torch.einsum("k,kij->ij", steps / steps.sum(), written)
        share = (steps / (steps + self.columns + 1))[:, None, None]
        return parameters | {"covariances": self.family.compact(share * written + (1 - share) * of_all)}

    def free(self, parameters: Parameters) -> Parameters:
        return {"means": parameters["means"], "covariances": self.family.free(parameters["covariances"])}

    def constrain(self, free: Parameters) -> Parameters:
        return {"means": free["means"], "covariances": self.family.constrain(free["covariances"])}

    def export(self, inside: Parameters) -> Parameters:
        family = normal(self.covariance, 0.0, getattr(self.family, "unit", None))
        written = family.written(inside["covariances"], len(inside["means"]), self.columns)
        covariances = (written * self.scale * self.scale[:, None]).contiguous()
        return {"means": self.center + self.scale * inside["means"], "covariances": covariances}

    def restore(self, exported: Parameters) -> Parameters:
        covariances = self.family.compact(exported["covariances"] / self.scale / self.scale[:, None])
        return {"means": (exported["means"] - self.center) / self.scale, "covariances": covariances}

    def shapes(self, states: int, columns: int) -> dict[str, tuple[int, ...]]:
        return {"means": (states, columns), "covariances": (states, columns, columns)}

    def moments(self, exported: Parameters) -> tuple[Tensor, Tensor]:
        return exported["means"], exported["covariances"]

    def reordered(self, parameters: Parameters, order: Tensor) -> Parameters:
        shared = self.covariance == "tied"
        return {name: parameters[name] if shared and name == "covariances" else parameters[name][order]
                for name in self.names}  # fmt: skip

    def mixed(self, inside: Parameters, weights: Tensor, entry: Tensor, known: tuple[Tensor, Tensor] | None) -> Mixed:
        if known is None:
            column = entry % self.columns
            written = self.family.written(inside["covariances"], len(weights), self.columns)
            known = inside["means"][:, column], written.diagonal(dim1=1, dim2=2)[:, column]
        center, scale = (part.cpu()[entry] for part in (self.observations.center, self.observations.scale))
        means, variances = center + scale * known[0], scale**2 * known[1]
        return Mixed.of(weights, means, variances, log_normal(means, variances))

    def drawn_truth(self, states: int, columns: int, options: Any, draw: Generator) -> Parameters:
        """Means differ by factor_share of the variance of a column on average; full and tied covariances have
        latent_dim directions that carry half of theirs."""
        like: Any = {"dtype": torch.float64, "generator": draw}
        between = options["factor_share"] / (1 - options["factor_share"])
        means = torch.randn(columns, **like) + math.sqrt(between) * torch.randn(states, columns, **like)
        variances = (0.5 * torch.randn(states, columns, **like)).exp()
        size = options["latent_dim"]
        directions = torch.randn(states, columns, size, **like) / math.sqrt(size)
        covariances = torch.diag_embed(variances)
        if self.covariance in ("full", "tied"):
            covariances = 0.5 * directions @ directions.mT + 0.5 * covariances
        if self.covariance == "tied":
            covariances = covariances[:1].expand(states, -1, -1).contiguous()
        if self.covariance == "spherical":
            covariances = variances[:, :1, None] * torch.eye(columns, dtype=torch.float64)
        return {"means": means, "covariances": covariances}

    def drawn_values(self, truth: Parameters, path: Tensor, draw: Generator) -> Tensor:
        error = torch.randn(len(path), truth["means"].shape[1], 1, dtype=torch.float64, generator=draw)
        factor = torch.linalg.cholesky(truth["covariances"])
        return truth["means"][path] + (factor[path] @ error).squeeze(-1)

    def warnings(self, parameters: Parameters, lower_floor: str) -> list[str]:
        smallest = self.family.smallest(parameters["covariances"]).cpu()
        low = torch.nonzero(smallest <= NEAR_FLOOR * self.floor).flatten().tolist()
        if not low:
            return []
        of = named("state", low, self.observations.class_names)
        which = "the common covariance" if self.covariance == "tied" else f"the covariance of {of}"
        return [
            f"{which} ended at its floor, {self.floor:g} of the variance in some direction, or just above: its steps "
            f"hardly differ there ({lower_floor} lets it fall further; fewer states, a simpler model.covariance or "
            "model.prior_emissions=1 avoids it)"
        ]
