"""Operators known by their entries: dense, constant, diagonal, selections and differences."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lgm_cli.operators.base import LinearOperator, grid, sized
from lgm_cli.operators.blocks import Kronecker, Stack


class Dense(LinearOperator):
    """A matrix (out_dim, in_dim), which may be learned."""

    def __init__(self, matrix: Tensor) -> None:
        if matrix.dim() != 2:
            raise ValueError(f"a dense operator needs a matrix, not a tensor of shape {tuple(matrix.shape)}")
        super().__init__(matrix.shape[1], matrix.shape[0])
        self.matrix = matrix

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix.to(x).mT

    def transpose(self, y: Tensor) -> Tensor:
        return y @ self.matrix.to(y)

    def dense(self, like: Tensor | None = None) -> Tensor:
        return self.matrix.to(torch.empty(0) if like is None else like)

    def squares(self) -> LinearOperator:
        return Dense(self.matrix.square())


def ones(out_dim: int, in_dim: int) -> LinearOperator:
    """1 1^T, by a sum."""
    return Dense(torch.ones(out_dim, 1)) @ Dense(torch.ones(1, in_dim))


class Diagonal(LinearOperator):
    """diag(weights), weights (n,), which may be learned."""

    one_entry_per_row = one_entry_per_column = True

    def __init__(self, weights: Tensor) -> None:
        if weights.dim() != 1:
            raise ValueError(f"a diagonal needs a vector, not a tensor of shape {tuple(weights.shape)}")
        super().__init__(len(weights), len(weights))
        self.weights = weights

    def forward(self, x: Tensor) -> Tensor:
        return self.weights.to(x) * x

    def transpose(self, y: Tensor) -> Tensor:
        return self.forward(y)

    def squares(self) -> LinearOperator:
        return Diagonal(self.weights.square())


class Masked(LinearOperator):
    """Rows `kept` of the identity of in_dim: x -> x[kept]. Indices may repeat."""

    one_entry_per_row = True

    def __init__(self, kept: Tensor, in_dim: int) -> None:
        if kept.dim() != 1 or not len(kept) or kept.is_floating_point() or kept.dtype == torch.bool:
            raise ValueError(f"kept is a vector of indices, not {kept.dtype} of shape {tuple(kept.shape)}")
        if not 0 <= int(kept.min()) <= int(kept.max()) < in_dim:
            raise ValueError(f"kept is within 0 and {in_dim - 1}, not {int(kept.min())} to {int(kept.max())}")
        super().__init__(in_dim, len(kept))
        self.kept = kept.long()
        self.one_entry_per_column = len(kept.unique()) == len(kept)
        self._times = torch.bincount(self.kept, minlength=in_dim)

    def forward(self, x: Tensor) -> Tensor:
        return sized(x, self.in_dim).index_select(-1, self.kept.to(x.device))

    def transpose(self, y: Tensor) -> Tensor:
        return y.new_zeros(*y.shape[:-1], self.in_dim).index_add(-1, self.kept.to(y.device), y)

    def normal(self, x: Tensor) -> Tensor:
        return self._times.to(x) * x

    def squares(self) -> LinearOperator:
        return self


class FirstDifference(LinearOperator):
    """(x_1 - x_0, ..., x_{n-1} - x_{n-2}), n - 1 of n entries, as numpy.diff."""

    def __init__(self, n: int) -> None:
        if n < 2:
            raise ValueError(f"a difference needs at least 2 entries, not {n}")
        super().__init__(n, n - 1)

    def forward(self, x: Tensor) -> Tensor:
        return sized(x, self.in_dim).diff(dim=-1)

    def transpose(self, y: Tensor) -> Tensor:
        edge = torch.zeros_like(sized(y, self.out_dim)[..., :1])
        return torch.cat([edge, y], -1) - torch.cat([y, edge], -1)

    def squares(self) -> LinearOperator:
        each = torch.arange(self.in_dim)
        return Masked(each[1:], self.in_dim) + Masked(each[:-1], self.in_dim)


def first_differences(shape: int | Sequence[int]) -> LinearOperator:
    """The differences between neighbours: of n entries, or of an image (h, w), the (h-1) w vertical ones above the
    h (w-1) horizontal ones, each flattened row by row."""
    sizes = grid(shape)
    if len(sizes) == 1:
        return FirstDifference(*sizes)
    identities = [Diagonal(torch.ones(size)) for size in sizes]
    height, width = sizes
    return Stack([Kronecker(FirstDifference(height), identities[1]), Kronecker(identities[0], FirstDifference(width))])
