"""What a solver is given and what it gives back."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

AUTO_MAX_ITERATIONS = 100
AUTO_TOLERANCE = 1e-2

FEW = 4096  # numbers of a vector up to which calls cost more than arithmetic
SHORT = 16  # coordinates of a vector up to which sums over them are written out


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
    preconditioner: "none", "jacobi" for diag(A), or its diagonal blocks where A has them, "nystrom" for a randomised
        sketch of A - I, or "auto" for the best that A itself offers (see lgm_cli.solvers.base.choose).
    rank: how many vectors that sketch is made of; "auto" for as many as the spectrum asks for.
    warm_start: whether the caller should start from its previous solution.
    """

    def __init__(
        self,
        max_iterations: int | str = "auto",
        tolerance: float | str = "auto",
        preconditioner: str = "auto",
        warm_start: bool = False,
        rank: int | str = "auto",
    ) -> None:
        self.max_iterations = AUTO_MAX_ITERATIONS if max_iterations == "auto" else int(max_iterations)
        self.tolerance = AUTO_TOLERANCE if tolerance == "auto" else float(tolerance)
        self.preconditioner, self.rank = preconditioner, rank
        self.warm_start = warm_start

    @abstractmethod
    def solve(self, precision: Precision, b: Tensor, x0: Tensor | None = None) -> Solution:
        """Solve for b of shape (N, R, D), starting from x0 (zero when None)."""


def innermost(x: Tensor) -> Tensor:
    """The same (N, R, D) with the data points innermost in memory, which elementwise operations keep: sums over a short
    last dimension are then sums of long vectors."""
    return x.permute(2, 1, 0).contiguous().permute(2, 1, 0)


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Inner products over the last dimension, kept: (N, R, 1)."""
    if x.stride(0) == 1 < len(x) and x.shape[-1] <= SHORT:
        total = x[..., :1] * y[..., :1]
        for d in range(1, x.shape[-1]):
            total = torch.addcmul(total, x[..., d : d + 1], y[..., d : d + 1])
        return total
    return (x * y).sum(-1, keepdim=True)


def norm(x: Tensor) -> Tensor:
    """Euclidean norms of the last dimension, kept: (N, R, 1)."""
    if x.stride(0) == 1 < len(x) and x.shape[-1] <= SHORT:
        return dot(x, x).sqrt()
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, and 0 where the denominator is 0.

    The denominator is replaced before dividing: a where() on the quotient alone would leave NaN gradients.
    """
    if not (numerator.requires_grad or denominator.requires_grad):
        if denominator.numel() <= FEW:
            return numerator / denominator.masked_fill(denominator == 0, math.inf)
        # The same without vectors of bool, with which arithmetic takes several times as long.
        zero = torch.eq(denominator, 0, out=torch.empty_like(denominator))
        return numerator / (denominator + zero) * (1 - zero)
    zero = denominator == 0
    return torch.where(zero, 0.0, numerator / torch.where(zero, 1.0, denominator))


class Watch:
    """Per-system stopping: which systems are still above the tolerance, and how long each was."""

    def __init__(self, precision: Precision, b: Tensor, tolerance: float) -> None:
        self.scale = getattr(precision, "residual_scale", norm)(b.detach())
        self.limit = max(tolerance, torch.finfo(b.dtype).eps) * self.scale
        self.active = torch.ones_like(self.scale)  # 1 or 0
        self.iterations = torch.zeros_like(self.scale)
        self.residual = self.scale

    def done(self, residual_norm: Tensor) -> bool:
        """Take note of |b - A x| (N, R, 1); True once every system has met its tolerance."""
        self.residual = torch.lerp(self.residual, residual_norm.detach(), self.active)
        self.active = self.active * torch.gt(self.residual, self.limit, out=torch.empty_like(self.active))
        return not bool(self.active.count_nonzero())

    def count(self) -> None:
        """One more step was taken by every active system."""
        self.iterations = self.iterations + self.active

    def solution(self, x: Tensor, products: int) -> Solution:
        residual = divide(self.residual, self.scale)
        return Solution(x, self.iterations.squeeze(-1), residual.squeeze(-1), products)
