"""What a solver is given and what it gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

AUTO_MAX_ITERATIONS = 100
AUTO_TOLERANCE = 1e-2


class Precision(Protocol):
    """Symmetric positive definite matrices A_n (D x D), n = 1..N, known by what they do to vectors."""

    dim: int

    def matvec(self, x: Tensor) -> Tensor:
        """A_n x for x of shape (N, R, D); the same shape."""
        ...

    def diagonal(self) -> Tensor:
        """diag(A_n), (N, D)."""
        ...

    def dense(self) -> Tensor:
        """A_n itself, (N, D, D)."""
        ...


@dataclass(frozen=True)
class Solution:
    """x with A x = b up to `residual`.

    x: (N, R, D). iterations: (N, R), steps taken before each system met the tolerance or the limit.
    residual: (N, R), |b - A x| / |b| (zero where b is zero).
    products: how many vectors were multiplied by A in all.
    """

    x: Tensor
    iterations: Tensor
    residual: Tensor
    products: int


class Solver(ABC):
    """Solves A_n x = b for every data point and right-hand side at once, out of place and differentiable.

    max_iterations: the limit I, or "auto" for 100.
    tolerance: a system stops once |b - A x| <= tolerance |b|, or, where the precision has a scale of its own for
        residuals (`residual_scale`), tolerance times that; "auto" for 1e-2. One below the dtype's rounding unit
        counts as that unit: further steps would change nothing but the denominators of their lengths, which underflow.
    preconditioner: "none", "jacobi" for diag(A), or its diagonal blocks where A has them, or "auto" for the best that A
        itself offers (see `Preconditioner`).
    warm_start: whether the caller should start from its previous solution.
    """

    def __init__(
        self,
        max_iterations: int | str = "auto",
        tolerance: float | str = "auto",
        preconditioner: str = "auto",
        warm_start: bool = False,
    ) -> None:
        self.max_iterations = AUTO_MAX_ITERATIONS if max_iterations == "auto" else int(max_iterations)
        self.tolerance = AUTO_TOLERANCE if tolerance == "auto" else float(tolerance)
        self.preconditioner = preconditioner
        self.warm_start = warm_start

    @abstractmethod
    def solve(self, precision: Precision, b: Tensor, x0: Tensor | None = None) -> Solution:
        """Solve for b of shape (N, R, D), starting from x0 (zero when None)."""


def norm(x: Tensor) -> Tensor:
    """Euclidean norms of the last dimension, kept: (N, R, 1)."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, and 0 where the denominator is 0.

    The denominator is replaced before dividing: a where() on the quotient alone would leave NaN gradients.
    """
    zero = denominator == 0
    return torch.where(zero, 0.0, numerator / torch.where(zero, 1.0, denominator))


class Watch:
    """Per-system stopping: which systems are still above the tolerance, and how long each was."""

    def __init__(self, precision: Precision, b: Tensor, tolerance: float) -> None:
        self.scale = getattr(precision, "residual_scale", norm)(b.detach())
        self.limit = max(tolerance, torch.finfo(b.dtype).eps) * self.scale
        self.active = torch.ones_like(self.scale, dtype=torch.bool)
        self.iterations = torch.zeros_like(self.scale)
        self.residual = self.scale

    def done(self, residual_norm: Tensor) -> bool:
        """Take note of |b - A x| (N, R, 1); True once every system has met its tolerance."""
        self.residual = torch.where(self.active, residual_norm.detach(), self.residual)
        self.active = self.active & (self.residual > self.limit)
        return not bool(self.active.any())

    def count(self) -> None:
        """One more step was taken by every active system."""
        self.iterations = self.iterations + self.active

    def solution(self, x: Tensor, products: int) -> Solution:
        residual = divide(self.residual, self.scale)
        return Solution(x, self.iterations.squeeze(-1), residual.squeeze(-1), products)


class Preconditioner:
    """M = L L^T near A, as linear maps of (N, R, D): diag(A) with `jacobi`, the identity with `none`.

    A precision may have better: `preconditioner_blocks` gives it, for `jacobi` and `auto`, blocks of a matrix near A.
    Real ones (N, B, d, d) lie on its diagonal. Complex ones (N, T // 2 + 1, d, d) are those of a circulant matrix of
    T x T blocks after a Fourier transform over the T parts of a vector; their Cholesky factors are conjugate at
    conjugate frequencies, and so are those of a real L. Blocks are a constant to differentiation. Without them,
    `auto` is `none`, or `jacobi` where the precision says that its diagonal is uneven (`uneven`).
    """

    def __init__(self, precision: Precision, name: str) -> None:
        blocks = None if name == "none" else getattr(precision, "preconditioner_blocks", lambda _: None)(name)
        self._factor = self._scale = None
        if blocks is not None:
            self._factor = torch.linalg.cholesky(blocks)
            self._parts = precision.dim // blocks.shape[-1]
        elif name == "jacobi" or (name == "auto" and getattr(precision, "uneven", False)):
            self._scale = precision.diagonal().rsqrt()[:, None, :]

    @cached_property
    def _root(self) -> Tensor:
        """L^-1, block by block."""
        assert self._factor is not None
        identity = torch.eye(self._factor.shape[-1], dtype=self._factor.dtype, device=self._factor.device)
        return torch.linalg.solve_triangular(self._factor, identity.expand_as(self._factor), upper=False)

    @cached_property
    def _inverse(self) -> Tensor:
        """M^-1, block by block."""
        assert self._factor is not None
        return torch.cholesky_inverse(self._factor)

    def _by_block(self, matrices: Tensor, x: Tensor) -> Tensor:
        """Each block of x times its matrix, in the frequency domain if they are complex."""
        parts = x.view(*x.shape[:2], self._parts, -1)  # (N, R, T, d)
        if matrices.is_complex():
            parts = torch.fft.rfft(parts, dim=2)
        product = (matrices @ parts.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if matrices.is_complex():
            product = torch.fft.irfft(product, n=self._parts, dim=2)
        return product.reshape(x.shape)

    def shrink(self, b: Tensor) -> Tensor:
        """L^-1 b."""
        if self._factor is not None:
            return self._by_block(self._root, b)
        return b if self._scale is None else self._scale * b

    def expand(self, y: Tensor) -> Tensor:
        """L^-T y."""
        if self._factor is not None:
            return self._by_block(self._root.mH, y)
        return y if self._scale is None else self._scale * y

    def undo_shrink(self, r: Tensor) -> Tensor:
        """L r."""
        if self._factor is not None:
            return self._by_block(self._factor, r)
        return r if self._scale is None else r / self._scale

    def undo_expand(self, x: Tensor) -> Tensor:
        """L^T x."""
        if self._factor is not None:
            return self._by_block(self._factor.mH, x)
        return x if self._scale is None else x / self._scale

    def solve(self, r: Tensor) -> Tensor:
        """M^-1 r."""
        if self._factor is not None:
            return self._by_block(self._inverse, r)
        return r if self._scale is None else self._scale.square() * r


class Scaled(Preconditioner):
    """The preconditioned operator L^-1 A L^-T; without a preconditioner, A itself.

    L^-1 A L^-T y = L^-1 b has the solution x = L^-T y and the residual b - A x = L r.
    """

    def __init__(self, precision: Precision, preconditioner: str) -> None:
        super().__init__(precision, preconditioner)
        self._precision, self.dim = precision, precision.dim

    def matvec(self, y: Tensor) -> Tensor:
        return self.shrink(self._precision.matvec(self.expand(y)))
