"""Preconditioners that every solver may apply."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lgm_cli.solvers.base.solver import Precision

Map = Callable[[Tensor], Tensor]


class Preconditioner:
    """A preconditioner is a matrix M = L L^T near A, by linear maps of (N, R, D). This one is the identity.

    products: how many vectors were multiplied by A to make it.
    rest: (x, y) -> y + (A - M) x, or (A - M) x where y is None, without derivatives, where that takes less than A x;
    None elsewhere. A solver that knows M x has A x by it (Eisenstat, SIAM J. Sci. Stat. Comput. 2 (1981) 1-4).
    """

    products = 0
    rest: Callable[[Tensor, Tensor | None], Tensor] | None = None

    def shrink(self, b: Tensor) -> Tensor:
        """L^-1 b."""
        return b

    def expand(self, y: Tensor) -> Tensor:
        """L^-T y."""
        return y

    def undo_shrink(self, r: Tensor) -> Tensor:
        """L r."""
        return r

    def undo_expand(self, x: Tensor) -> Tensor:
        """L^T x."""
        return x

    def solve(self, r: Tensor) -> Tensor:
        """M^-1 r."""
        return self.expand(self.shrink(r))


class DiagonalPreconditioner(Preconditioner):
    """M = diag(A), (N or 1, D): differentiable, as A is."""

    def __init__(self, diagonal: Tensor) -> None:
        self._scale = diagonal.rsqrt()[:, None, :]

    def shrink(self, b: Tensor) -> Tensor:
        return self._scale * b

    def expand(self, y: Tensor) -> Tensor:
        return self._scale * y

    def undo_shrink(self, r: Tensor) -> Tensor:
        return r / self._scale

    def undo_expand(self, x: Tensor) -> Tensor:
        return x / self._scale

    def solve(self, r: Tensor) -> Tensor:
        return self._scale.square() * r


class BlockPreconditioner(Preconditioner):
    """M has the blocks (N or 1, B, d, d) on its diagonal, and zeros elsewhere."""

    def __init__(self, blocks: Tensor) -> None:
        self._factor = torch.linalg.cholesky(blocks)

    @cached_property
    def _root(self) -> Tensor:
        """L^-1, block by block."""
        identity = torch.eye(self._factor.shape[-1], dtype=self._factor.dtype, device=self._factor.device)
        return torch.linalg.solve_triangular(self._factor, identity.expand_as(self._factor), upper=False)

    @cached_property
    def _inverse(self) -> Tensor:
        """M^-1, block by block."""
        return torch.cholesky_inverse(self._factor)

    def _by_block(self, matrices: Tensor, x: Tensor) -> Tensor:
        """Each block of x times its matrix."""
        parts = x.view(*x.shape[:2], matrices.shape[1], -1)  # (N, R, B, d)
        return (matrices @ parts.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).reshape(x.shape)

    def shrink(self, b: Tensor) -> Tensor:
        return self._by_block(self._root, b)

    def expand(self, y: Tensor) -> Tensor:
        return self._by_block(self._root.mT, y)

    def undo_shrink(self, r: Tensor) -> Tensor:
        return self._by_block(self._factor, r)

    def undo_expand(self, x: Tensor) -> Tensor:
        return self._by_block(self._factor.mT, x)

    def solve(self, r: Tensor) -> Tensor:
        return self._by_block(self._inverse, r)


class _ConstantMap(torch.autograd.Function):
    """A linear map, which may work in place, with its transpose for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, apply: Map, transpose: Map) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.maps = (apply, transpose)
        return apply(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        apply, transpose = ctx.maps
        return constant_map(grad, transpose, apply), None, None


def constant_map(x: Tensor, apply: Map, transpose: Map) -> Tensor:
    """A linear map of x that is constant to differentiation; nothing inside it is recorded."""
    return _ConstantMap.apply(x, apply, transpose)  # pyright: ignore[reportReturnType]


class Scaled:
    """The preconditioned operator is L^-1 A L^-T; without a preconditioner, A itself.

    L^-1 A L^-T y = L^-1 b has the solution x = L^-T y and the residual b - A x = L r. Where the preconditioner knows
    A - M, the product is y + L^-1 (A - M) L^-T y.
    """

    def __init__(self, precision: Precision, by: Preconditioner) -> None:
        self._precision, self._rest, self.dim = precision, by.rest, precision.dim
        self.shrink, self.expand = by.shrink, by.expand
        self.undo_shrink, self.undo_expand = by.undo_shrink, by.undo_expand

    def matvec(self, y: Tensor) -> Tensor:
        if self._rest is not None and not torch.is_grad_enabled():
            return y + self.shrink(self._rest(self.expand(y), None))
        return self.shrink(self._precision.matvec(self.expand(y)))
