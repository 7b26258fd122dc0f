"""What a posterior precision and a posterior must give."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lgm_cli.numerics.small_systems import pairs
from lgm_cli.observations.chunk import Chunk
from lgm_cli.solvers.base.nystrom import NystromPreconditioner
from lgm_cli.solvers.base.preconditioner import Preconditioner
from lgm_cli.solvers.base.solver import innermost

WRITTEN_OUT = 10  # rows of a matrix up to which products with all of them are written out, element by element

SMALL = 2  # latent dimensions for each right-hand side up to which a solver works on the matrix itself


def is_small(dim: int, systems: int) -> bool:
    """Whether a solver with so many right-hand sides for each data point works on the matrix itself."""
    return dim <= SMALL * systems


def in_double(value: Tensor) -> Tensor:
    """The same values in double precision, on the CPU where the device has none."""
    return (value.cpu() if value.device.type == "mps" else value).double()


@dataclass(frozen=True)
class Frame:
    """Where the coordinates of a posterior lie in those of its model, in which expected statistics are taken.

    scale: the model's latents are z = scale v of whitened latents v, (D,) or (); None where they are the same.
    shift, unit: targets are (y - shift) / unit of standardised data y, for models of one column; None where no
    statistics need them.
    """

    scale: Tensor | None = None
    shift: Tensor | None = None
    unit: Tensor | None = None


class LatentPosterior(ABC):
    """What is known of the latent vectors v_n of the data points of a chunk, by whatever computation: exact, iterative
    or by samples. A model asks it for expectations, and never how they were computed."""

    frame = Frame()
    mean: Any  # of whitened latents, (n, D)
    covariance: Any  # of the same, (n or 1, D, D), where it can be formed
    live = False  # whether gradients flow from it to the parameters that it was computed with

    @property
    @abstractmethod
    def marginal_variance(self) -> Tensor:
        """diag(Sigma_n), (n or 1, D)."""

    @property
    def rough_variance(self) -> Tensor:
        """The same, (n or 1, D), exact enough for averages over many coordinates."""
        return self.marginal_variance

    def entropy(self) -> Tensor | None:
        """Entropy of the model's own latents, (n,); None where it is not known, and there is no free energy."""
        return None

    def entries_of(self, chunk: Chunk) -> Chunk:
        """The chunk that this is a posterior of, in the layout whose entries it speaks of."""
        return chunk

    def expected_squares(self) -> Tensor:
        """sum_n E[v_nd^2], (D,)."""
        return (self.mean.square() + self.marginal_variance).sum(0)

    def total_square(self) -> Tensor:
        """sum_n E|v_n|^2, ()."""
        return self.mean.square().sum() + self.marginal_variance.expand_as(self.mean).sum()

    def packed_covariance(self) -> list[Tensor]:
        """Sigma_n as a packed matrix: D (D + 1) / 2 vectors (n,)."""
        whole = self.covariance.expand(len(self.mean), -1, -1)
        return [whole[:, i, j] for i, j in pairs(self.mean.shape[1])]


class GaussianPosterior(LatentPosterior):
    """z_n | y_n ~ N(mean_n, A_n^-1) for the n data points of a chunk."""

    inverse_temperature = 1.0

    @property
    @abstractmethod
    def log_determinant(self) -> Tensor:
        """log det A_n, (n or 1,)."""

    def entropy(self) -> Tensor:
        """Entropy of the model's own latents over the inverse temperature beta, in nats, (n,):

        1/2 (D (1 + log 2 pi / beta) - log det A_n) + log |det dz/dv|
        """
        n, dim = self.mean.shape
        entropy = 0.5 * (dim * (1 + math.log(2 * math.pi / self.inverse_temperature)) - self.log_determinant)
        if self.frame.scale is not None:
            entropy = entropy + self.frame.scale.to(entropy).log().expand(dim).sum()
        return (entropy / self.inverse_temperature).expand(n)


class MatrixPrecision:
    """A_n as a matrix, (n, D, D), or (1, D, D) for all data points."""

    sketchable = False  # whether `auto` may sketch it: as a matrix it is cheap as it is
    sketch: NystromPreconditioner | None = None  # what the caller keeps of it from step to step

    def __init__(self, matrix: Tensor) -> None:
        self.dim = matrix.shape[-1]
        self.matrix = matrix if self.dim <= WRITTEN_OUT else matrix.contiguous()

    def matvec(self, x: Tensor) -> Tensor:
        if self.dim > WRITTEN_OUT or x.stride(0) != 1:
            return x @ self.matrix  # symmetric
        columns, vectors = self._columns, x.permute(2, 1, 0)
        total = columns[0] * vectors[0]
        for column, vector in zip(columns[1:], vectors[1:], strict=True):
            total = torch.addcmul(total, column, vector)
        return total.permute(2, 1, 0)

    @cached_property
    def _columns(self) -> Tensor:
        """Columns of the matrices with the data points innermost in memory, (D, D, 1, n)."""
        return self.matrix.permute(1, 2, 0).contiguous()[:, :, None]

    def arrange(self, right: Tensor) -> Tensor:
        """Right-hand sides as products with the matrices are cheapest."""
        return innermost(right) if self.dim <= WRITTEN_OUT else right

    def diagonal(self) -> Tensor:
        return self.matrix.diagonal(dim1=-2, dim2=-1)

    def dense(self) -> Tensor:
        return self.matrix


class PosteriorPrecision(ABC):
    """A_n = F^T F + V_n^T V_n, the posterior precision of latents with prior precision F^T F seen through weighted rows
    V_n = Psi^(1/2) Omega_n Phi, by its products; (n, R, D) are R vectors for each of n data points."""

    dim: int
    sketchable = False  # whether a Nystrom sketch of A - I is worth its products where a solve takes long
    sketch: NystromPreconditioner | None = None  # what the caller keeps of it from step to step

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """V_n x, (n, R, D) -> (n, R, m), hidden entries zero."""

    @abstractmethod
    def transpose(self, y: Tensor) -> Tensor:
        """V_n^T y, (n, R, m) -> (n, R, D), for y zero at hidden entries."""

    def right_side(self, targets: Tensor) -> Tensor:
        """b_n of the targets (n, m), (n, 1, D), for which A_n^-1 b_n is the posterior mean."""
        return self.transpose(targets[:, None, :])

    @abstractmethod
    def matvec(self, x: Tensor) -> Tensor:
        """A_n x, (n, R, D)."""

    @abstractmethod
    def diagonal(self) -> Tensor:
        """diag(A_n), (n or 1, D)."""

    @abstractmethod
    def dense(self) -> Tensor:
        """A_n, (n or 1, D, D)."""

    @abstractmethod
    def perturbation(self, latent: Tensor, observed: Tensor) -> Tensor:
        """F^T e + V_n^T Omega_n e', (n, K, D), of covariance A_n for standard normal e (n, K, D) and e' (n, K, m). What
        a network gradient holds fixed of it is detached."""

    def preconditioner(self, name: str) -> Preconditioner | None:
        """One of its own for `jacobi` or `auto`; None where it has none."""
        return None

    def arrange(self, right: Tensor) -> Tensor:
        """Right-hand sides as products with A_n are cheapest."""
        return right

    def to_solve(self, systems: int) -> PosteriorPrecision | MatrixPrecision:
        """The cheaper form for an iterative solver with so many right-hand sides for each data point: the matrix itself
        when it is small."""
        return MatrixPrecision(self.dense()) if is_small(self.dim, systems) else self
