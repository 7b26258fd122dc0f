"""Normal components with missing entries: densities, expected moments, and maxima under floors."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lgm_cli.models.base.free_parameters import symmetric
from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters, Statistics
from lgm_cli.models.families.normal_emissions import (
    LOG_2PI,
    DiagonalNormal,
    GatheredNormal,
    SharedNormal,
    Together,
)
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.emissions import Emissions

EMPTY = 1e-6  # share of all weight below which a component keeps its parameters
COVARIANCES = ("full", "tied", "diagonal", "spherical")


def normal(covariance: str, floor: float, unit: Tensor | None = None) -> Normal:
    """The family of this kind of covariance, one of COVARIANCES.

    floor: lower bound of the eigenvalues of every covariance. unit: variances (M,) of the columns that a spherical
    covariance of one stands for: those of one unit of the data, where the columns are standardised each by its own.
    """
    if covariance in ("full", "tied"):
        return DenseNormalFamily(floor, covariance == "tied")
    return DiagonalNormalFamily(floor, covariance == "spherical", unit)


class Normal(ABC):
    """y | k ~ N(mean_k, covariance_k), k = 1..K, of which any entries may be missing at random.

    Parameters are `means` (K, M) and `covariances` in the shape that their kind needs: full (K, M, M), tied (M, M),
    diagonal (K, M), spherical (K,). Statistics are `count`, `normaliser`, `first` and `second`, sums over rows with
    weights r_nk: the numbers that multiply mean_k mean_k^T and log det covariance_k, sum r E[y], sum r E[y y^T]. A
    conjugate prior adds to them.
    Ghahramani & Jordan, Supervised learning from incomplete data via an EM approach, NIPS 6 (1994).
    """

    def __init__(self, floor: float, shared: bool) -> None:
        self.floor, self.shared = floor, shared

    def emissions(self, parameters: Parameters, chunk: Chunk) -> Emissions:
        """What the rows of a chunk tell of the components: `log_density` (n, K), and more as Emissions says."""
        groups = self._groups(chunk)
        return Together.of([(places, self._emissions(parameters, part)) for places, part in groups])

    @abstractmethod
    def _groups(self, chunk: Chunk) -> list[tuple[Tensor, Chunk]]: ...

    @abstractmethod
    def _emissions(self, parameters: Parameters, chunk: Chunk) -> Emissions: ...

    @abstractmethod
    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> Tensor:
        """-sum_nk r_nk E log p(y_n | k, parameters) with all constants, differentiable. ()"""

    def maximise(self, parameters: Parameters, statistics: Statistics, block: str | None = None) -> Parameters:
        """Means and covariances that minimise `expected_loss` under the floor: all, or `block` alone, one of means and
        covariances. A component that has almost no weight keeps its own."""
        means, covariances = parameters["means"], parameters["covariances"]
        if block in (None, "means"):
            count = statistics["count"].reshape(len(means), -1)
            few = count <= EMPTY * count.sum(0)
            means = torch.where(few, means, statistics["first"] / count.masked_fill(few, 1.0))
        if block in (None, "covariances"):
            covariances = self._covariances(means, covariances, statistics)
        return {"means": means, "covariances": covariances}

    @abstractmethod
    def imagined(self, points: float, means: Tensor) -> Statistics:
        """Statistics of so many imaginary rows of each covariance, which lie about its component's mean, wherever that
        is, with variance one in each column. This is the density of S ~ inverse Wishart(points - M - 1, points I),
        whose mode is I. Few points leave it improper, while the maximum exists all the same:

            log p(S) = -points (log det S + tr S^-1) / 2 + constant.

        means: (K, M), whose shape and kind the statistics have. Gelman et al., Bayesian Data Analysis (2013), 3.6.
        """

    @abstractmethod
    def _covariances(self, means: Tensor, covariances: Tensor, statistics: Statistics) -> Tensor: ...

    @abstractmethod
    def written(self, covariances: Tensor, components: int, columns: int) -> Tensor:
        """All covariances in full, (K, M, M)."""

    @abstractmethod
    def compact(self, written: Tensor) -> Tensor:
        """The inverse of `written`, of the components' average where they share one covariance."""

    @abstractmethod
    def free(self, covariances: Tensor) -> Tensor:
        """Unconstrained coordinates of covariances above the floor."""

    @abstractmethod
    def constrain(self, free: Tensor) -> Tensor:
        """The inverse of `free`, differentiable."""

    def constraints(self, parameters: Parameters) -> Tensor:
        """What binds the parameters to each other, as FreeParameters has it."""
        return parameters["means"].new_zeros(0)

    def at_bounds(self, parameters: Parameters) -> dict[str, Tensor]:
        """Covariances with an eigenvalue at the floor, or just above."""
        low, like = self.smallest(parameters["covariances"]) <= NEAR_FLOOR * self.floor, parameters["covariances"]
        return {"covariances": low.to(like.device).view(-1, *(1,) * (like.dim() - 1)).expand(like.shape)}

    @abstractmethod
    def smallest(self, covariances: Tensor) -> Tensor:
        """What the floor bounds: the smallest eigenvalue of each component's covariance, (K,), or (1,) where they share
        one; of spherical covariances in their own unit."""

    @property
    def excess(self) -> float:
        """What covariances are raised above their floor in free coordinates, in which the floor itself is infinite."""
        return 1e-3 * self.floor if self.floor > 0 else 1e-12


class DenseNormalFamily(Normal):
    """Covariances with all their entries, each component's own or one of all. Hidden entries are latent: `second` has
    their conditional covariance, (K, M, M)."""

    def _stacked(self, covariances: Tensor) -> Tensor:
        return covariances[None] if self.shared else covariances

    def _groups(self, chunk: Chunk) -> list[tuple[Tensor, Chunk]]:
        return chunk.alike

    def _emissions(self, parameters: Parameters, chunk: Chunk) -> Emissions:
        assert chunk.index is not None
        kind = SharedNormal if chunk.index.dim() == 1 else GatheredNormal
        return kind(parameters["means"], self._stacked(parameters["covariances"]), chunk)

    def imagined(self, points: float, means: Tensor) -> Statistics:
        zero, (k, m) = means.new_zeros(len(means)), means.shape
        number = zero + (points / k if self.shared else points)
        second = number[:, None, None] * torch.eye(m).to(means)
        return {"count": zero, "normaliser": number, "first": torch.zeros_like(means), "second": second}

    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> Tensor:
        means, factor = parameters["means"], torch.linalg.cholesky(self._stacked(parameters["covariances"]))
        spread = spread_about(means, statistics)
        if self.shared:
            spread = spread.sum(0, keepdim=True)
        quadratic = torch.cholesky_solve(spread, factor).diagonal(dim1=-2, dim2=-1).sum()
        constants = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) + means.shape[1] * LOG_2PI
        return 0.5 * (quadratic + (statistics["normaliser"] * constants).sum())

    def _covariances(self, means: Tensor, covariances: Tensor, statistics: Statistics) -> Tensor:
        """Average second moments about the means; eigenvalues below the floor are raised to it, which is the minimum
        of tr(S^-1 A) + log det S over S >= floor I."""
        spread, count = spread_about(means, statistics), statistics["normaliser"]
        if self.shared:
            return raised(spread.sum(0) / count.sum(), self.floor)
        few = (count <= EMPTY * count.sum())[:, None, None]
        average = spread / count[:, None, None].masked_fill(few, 1.0)
        return torch.where(few, covariances, raised(torch.where(few, covariances, average), self.floor))

    def written(self, covariances: Tensor, components: int, columns: int) -> Tensor:
        return self._stacked(covariances).expand(components, -1, -1)

    def compact(self, written: Tensor) -> Tensor:
        return raised(written.mean(0) if self.shared else written, self.floor)

    def free(self, covariances: Tensor) -> Tensor:
        """The Cholesky factor of what exceeds the floor, logarithms in its diagonal."""
        above = raised(covariances - self.floor * torch.eye(covariances.shape[-1]).to(covariances), self.excess)
        factor = torch.linalg.cholesky(above)
        return factor.tril(-1) + torch.diag_embed(factor.diagonal(dim1=-2, dim2=-1).log())

    def constrain(self, free: Tensor) -> Tensor:
        factor = free.tril(-1) + torch.diag_embed(free.diagonal(dim1=-2, dim2=-1).exp())
        return factor @ factor.mT + self.floor * torch.eye(free.shape[-1]).to(free)

    def constraints(self, parameters: Parameters) -> Tensor:
        return symmetric(parameters["covariances"])

    def smallest(self, covariances: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(self._stacked(covariances).cpu().double())[:, 0]


class DiagonalNormalFamily(Normal):
    """Covariances that are diagonal, or one variance for all columns of a component. Hidden entries are left out of
    sums: all statistics are (K, M), `second` is of squares."""

    def __init__(self, floor: float, shared: bool, unit: Tensor | None = None) -> None:
        super().__init__(floor, shared)
        self.unit = unit

    def _unit(self, like: Tensor) -> Tensor:
        """Of each column, (M,), or () for all."""
        return like.new_ones(()) if self.unit is None else self.unit.to(like)

    def imagined(self, points: float, means: Tensor) -> Statistics:
        zero, number = torch.zeros_like(means), torch.full_like(means, points)
        return {"count": zero, "normaliser": number, "first": zero, "second": number}

    def _columns(self, covariances: Tensor, columns: int) -> Tensor:
        """Variances of all columns, (K, M)."""
        if not self.shared:
            return covariances
        return covariances[:, None] * self._unit(covariances).expand(columns)

    def _groups(self, chunk: Chunk) -> list[tuple[Tensor, Chunk]]:
        return [(torch.arange(len(chunk.points), device=chunk.points.device), chunk)]

    def _emissions(self, parameters: Parameters, chunk: Chunk) -> Emissions:
        means = parameters["means"]
        return DiagonalNormal(means, self._columns(parameters["covariances"], means.shape[1]), chunk)

    def _spread(self, means: Tensor, statistics: Statistics) -> Tensor:
        return statistics["second"] - 2 * means * statistics["first"] + statistics["count"] * means.square()

    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> Tensor:
        means = parameters["means"]
        variance = self._columns(parameters["covariances"], means.shape[1])
        constants = statistics["normaliser"] * (variance.log() + LOG_2PI)
        return 0.5 * (self._spread(means, statistics) / variance + constants).sum()

    def _covariances(self, means: Tensor, covariances: Tensor, statistics: Statistics) -> Tensor:
        spread, count = self._spread(means, statistics), statistics["normaliser"]
        if self.shared:
            spread, count = (spread / self._unit(spread)).sum(1), count.sum(1)
        few = count <= EMPTY * count.sum(0)
        return torch.where(few, covariances, (spread / count.masked_fill(few, 1.0)).clamp_min(self.floor))

    def written(self, covariances: Tensor, components: int, columns: int) -> Tensor:
        return torch.diag_embed(self._columns(covariances, columns))

    def compact(self, written: Tensor) -> Tensor:
        variances = written.diagonal(dim1=-2, dim2=-1)
        if self.shared:
            variances = (variances / self._unit(variances)).mean(1)
        return variances.clamp_min(self.floor)

    def free(self, covariances: Tensor) -> Tensor:
        return (covariances - self.floor).clamp_min(self.excess).log()

    def constrain(self, free: Tensor) -> Tensor:
        return self.floor + free.exp()

    def smallest(self, covariances: Tensor) -> Tensor:
        return covariances if self.shared else covariances.amin(1)


def spread_about(means: Tensor, statistics: Statistics) -> Tensor:
    """sum r E[(y - mean_k) (y - mean_k)^T], (K, M, M)."""
    crossed = means[:, :, None] * statistics["first"][:, None]
    square = statistics["count"][:, None, None] * means[:, :, None] * means[:, None]
    return statistics["second"] - crossed - crossed.mT + square


def raised(matrix: Tensor, floor: float) -> Tensor:
    """Symmetric matrices with their eigenvalues raised to the floor; as they are where none is below it."""
    matrix = 0.5 * (matrix + matrix.mT)
    size, axes = torch.linalg.eigh(matrix)
    low = (size[..., :1] < floor)[..., None]
    return torch.where(low, (axes * size.clamp_min(floor)[..., None, :]) @ axes.mT, matrix)
