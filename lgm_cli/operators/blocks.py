"""Operators of several operators: one above the other, side by side on their own entries, along two directions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lgm_cli.operators.base import LinearOperator


class Stack(LinearOperator):
    """[A; B; ...], one above the other: x -> (A x, B x, ...). Side by side is the adjoint of a stack of adjoints."""

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        in_dims = [operator.in_dim for operator in operators]
        if len(set(in_dims)) != 1:
            raise ValueError(f"a stack needs one or more operators of one in_dim, not of {in_dims}")
        self.operators, self.sizes = list(operators), [operator.out_dim for operator in operators]
        super().__init__(in_dims[0], sum(self.sizes))
        self.one_entry_per_row = all(operator.one_entry_per_row for operator in operators)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([operator.forward(x) for operator in self.operators], -1)

    def transpose(self, y: Tensor) -> Tensor:
        parts = y.split(self.sizes, -1)
        total = self.operators[0].transpose(parts[0])
        for operator, part in zip(self.operators[1:], parts[1:], strict=True):
            total = total + operator.transpose(part)
        return total

    def squares(self) -> LinearOperator:
        return Stack([operator.squares() for operator in self.operators])


class BlockDiagonal(LinearOperator):
    """diag(A, B, ...): (x, y, ...) -> (A x, B y, ...)."""

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        if not operators:
            raise ValueError("a block diagonal needs one or more operators, not none")
        self.operators = list(operators)
        self.in_sizes = [operator.in_dim for operator in operators]
        self.out_sizes = [operator.out_dim for operator in operators]
        super().__init__(sum(self.in_sizes), sum(self.out_sizes))
        self.one_entry_per_row = all(operator.one_entry_per_row for operator in operators)
        self.one_entry_per_column = all(operator.one_entry_per_column for operator in operators)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split(self.in_sizes, -1)
        return torch.cat([op.forward(part) for op, part in zip(self.operators, parts, strict=True)], -1)

    def transpose(self, y: Tensor) -> Tensor:
        parts = y.split(self.out_sizes, -1)
        return torch.cat([op.transpose(part) for op, part in zip(self.operators, parts, strict=True)], -1)

    def squares(self) -> LinearOperator:
        return BlockDiagonal([operator.squares() for operator in self.operators])


class Kronecker(LinearOperator):
    """A (x) B on arrays: X -> A X B^T, X being A.in_dim x B.in_dim, flattened row by row."""

    def __init__(self, vertical: LinearOperator, horizontal: LinearOperator) -> None:
        super().__init__(vertical.in_dim * horizontal.in_dim, vertical.out_dim * horizontal.out_dim)
        self.vertical, self.horizontal = vertical, horizontal

    def forward(self, x: Tensor) -> Tensor:
        rows = self.horizontal.forward(x.unflatten(-1, (self.vertical.in_dim, self.horizontal.in_dim)))
        return self.vertical.forward(rows.mT).mT.flatten(-2)

    def transpose(self, y: Tensor) -> Tensor:
        rows = self.horizontal.transpose(y.unflatten(-1, (self.vertical.out_dim, self.horizontal.out_dim)))
        return self.vertical.transpose(rows.mT).mT.flatten(-2)

    def squares(self) -> LinearOperator:
        return Kronecker(self.vertical.squares(), self.horizontal.squares())
