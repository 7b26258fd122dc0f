"""What a posterior precision and a posterior must give."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lgm_cli.solvers.base.nystrom import NystromPreconditioner
from lgm_cli.solvers.base.preconditioner import Preconditioner

SMALL = 2  # latent dimensions for each right-hand side up to which a solver works on the matrix itself


def is_small(dim: int, systems: int) -> bool:
    """Whether a solver with so many right-hand sides for each data point works on the matrix itself."""
    return dim <= SMALL * systems


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


class GaussianPosterior(ABC):
    """z_n | y_n ~ N(mean_n, A_n^-1) for the n data points of a chunk."""

    frame = Frame()
    mean: Any  # of whitened latents, (n, D)
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
        self.matrix, self.dim = matrix, matrix.shape[-1]

    def matvec(self, x: Tensor) -> Tensor:
        return x @ self.matrix  # symmetric

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

    def to_solve(self, systems: int) -> PosteriorPrecision | MatrixPrecision:
        """The cheaper form for an iterative solver with so many right-hand sides for each data point: the matrix itself
        when it is small."""
        return MatrixPrecision(self.dense()) if is_small(self.dim, systems) else self
