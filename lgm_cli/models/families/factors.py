"""Normal components whose covariances are those of factors and noise: low rank and a diagonal, with missing entries."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lgm_cli.models.base.free_parameters import off_diagonal
from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters, Statistics
from lgm_cli.models.families.normal import EMPTY, DenseNormalFamily, spread_about
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.emissions import Emissions

NEWTON, HALVINGS = 100, 30  # steps of an M-step at most, and of one of its searches
FLAT = 1e-10  # largest slope of half the expected loss per row at which it is at its minimum


class FactorNormal(DenseNormalFamily):
    """y | k ~ N(means_k, loadings_k loadings_k^T + diag(noise_variance_k)).

    Parameters are `means` (K, M), `loadings` (K, M, D) and `noise_variance` (K, M). Statistics are those of full
    covariances. floor: lower bound of the noise variances.
    """

    names = ("means", "loadings", "noise_variance")

    def __init__(self, floor: float) -> None:
        super().__init__(floor, shared=False)

    def whole(self, parameters: Parameters) -> Parameters:
        """With `covariances` (K, M, M) in place of what they are made of."""
        covariances = covariances_of(parameters["loadings"], parameters["noise_variance"])
        return {"means": parameters["means"], "covariances": covariances}

    def emissions(self, parameters: Parameters, chunk: Chunk) -> Emissions:
        return super().emissions(self.whole(parameters), chunk)

    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> Tensor:
        return super().expected_loss(self.whole(parameters), statistics)

    def maximise(self, parameters: Parameters, statistics: Statistics, block: str | None = None) -> Parameters:
        """Weighted means, and the loadings and noise variances that are best together: all, or the means or both others
        alone. A component that has almost no weight keeps its own."""
        means, loadings, noise = (parameters[name] for name in self.names)
        if block in (None, "means"):
            means = super().maximise(self.whole(parameters), statistics, "means")["means"]
        if block != "means":
            count = statistics["normaliser"]
            few = count <= EMPTY * count.sum()
            moments = spread_about(means, statistics) / count.masked_fill(few, 1.0)[:, None, None]
            found = fitted(moments, noise, loadings.shape[2], self.floor, ~few)
            loadings = torch.where(few[:, None, None], loadings, found["loadings"])
            noise = torch.where(few[:, None], noise, found["noise_variance"])
        return {"means": means, "loadings": loadings, "noise_variance": noise}

    def constraints(self, parameters: Parameters) -> Tensor:
        """Any rotation of the factors of a component is as likely: its axes are those of `fitted`."""
        loadings, noise = parameters["loadings"], parameters["noise_variance"]
        squares = (loadings.mT / noise[:, None]) @ loadings
        return torch.cat([off_diagonal(square) for square in squares])

    def at_bounds(self, parameters: Parameters) -> dict[str, Tensor]:
        return {"noise_variance": parameters["noise_variance"] <= NEAR_FLOOR * self.floor}


def covariances_of(loadings: Tensor, noise: Tensor) -> Tensor:
    """loadings loadings^T + diag(noise), (K, M, M)."""
    return loadings @ loadings.mT + torch.diag_embed(noise)


@torch.no_grad()
def fitted(moments: Tensor, noise: Tensor, dim: int, floor: float, which: Tensor | None = None) -> Parameters:
    """The loadings (K, M, D) and noise variances (K, M) that are best for moments S (K, M, M), from these noise
    variances on; of the components `which` (K,) alone.

    Given the noise psi, the best loadings are psi^1/2 u (l - 1)^1/2, from the largest eigenvalues l > 1 and
    eigenvectors u of psi^-1/2 S psi^-1/2 (Lawley, Proc. R. Soc. Edinburgh 60 (1940) 64-82), so that loadings^T psi^-1
    loadings is diagonal and falls. What is left is a function of log psi, lowered by Newton steps with the matrix of
    Joreskog, Psychometrika 32 (1967) 443-482.
    """
    chosen = range(len(moments)) if which is None else torch.nonzero(which).flatten().tolist()
    loadings, found = moments.new_zeros(*noise.shape, dim), noise.clone()
    for k in chosen:
        moment = moments[k].cpu().double()
        theta, axes = _noise(0.5 * (moment + moment.mT), noise[k].cpu().double(), dim, floor)
        loadings[k], found[k] = axes.to(loadings), theta.exp().to(found)
    return {"loadings": loadings, "noise_variance": found.clamp_min(floor)}


def _noise(moment: Tensor, noise: Tensor, dim: int, floor: float) -> tuple[Tensor, Tensor]:
    """log psi (M,), and the loadings (M, D) that go with it."""
    low = math.log(max(floor, 1e-300))
    theta = noise.log().clamp_min(low)
    now = _profile(moment, theta, dim)
    for _ in range(NEWTON):
        free = torch.nonzero((theta > low) | (now.slope < 0)).flatten()
        if not len(free) or float(now.slope[free].abs().max()) < FLAT:
            break
        matrix = now.matrix[free][:, free]
        ridge = 1e-8 * torch.eye(len(free)).to(matrix)
        step = torch.zeros_like(theta)
        step[free] = -torch.linalg.solve(matrix + ridge, now.slope[free]).clamp(-2, 2)
        for halving in range(HALVINGS):
            there = (theta + 0.5**halving * step).clamp_min(low)
            new = _profile(moment, there, dim)
            if new.value <= now.value + 1e-4 * float(now.slope @ (there - theta)):
                break
        else:
            break
        settled = now.value - new.value <= 1e-14 * abs(now.value)
        theta, now = there, new
        if settled:
            break
    return theta, now.loadings


@dataclass(frozen=True)
class _Point:
    """log det Sigma + tr(Sigma^-1 S) at the best loadings, its slope and matrix in log psi, and the loadings."""

    value: float
    slope: Tensor
    matrix: Tensor
    loadings: Tensor


def _profile(moment: Tensor, theta: Tensor, dim: int) -> _Point:
    root = (0.5 * theta).exp()
    size, axes = (part.flip(-1) for part in torch.linalg.eigh(moment / root / root[:, None]))
    excess = (size[:dim] - 1).clamp_min(0.0)
    value = theta.sum() + size.sum() + (excess.log1p() - excess).sum()
    rest = torch.cat([size[:dim] <= 1, torch.ones_like(size[dim:], dtype=torch.bool)])
    left = axes[:, rest]
    slope, matrix = left.square() @ (1 - size[rest]), (left @ left.mT).square()
    leading = axes[:, :dim]
    signs = leading.gather(0, leading.abs().argmax(0, keepdim=True)).sign()
    return _Point(float(value), slope, matrix, root[:, None] * leading * signs * excess.sqrt())
