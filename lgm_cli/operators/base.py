"""What a linear operator gives, and its algebra: adjoint, multiple, sum, product, squares of the entries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

PIECE = 2**22  # entries of the images of unit vectors that are held at once


class LinearOperator(ABC):
    """A real matrix Phi, (out_dim, in_dim), known by what it does to vectors.

    Both actions are batched over leading dimensions, differentiable, and in the dtype and on the device of what they
    are given; an operator that keeps tensors casts them, which costs nothing where they agree.
    """

    one_entry_per_row = False  # at most one entry of each row is not zero: a selection, a diagonal
    one_entry_per_column = False

    def __init__(self, in_dim: int, out_dim: int) -> None:
        self.in_dim, self.out_dim = in_dim, out_dim

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Phi x, (..., in_dim) -> (..., out_dim)."""

    @abstractmethod
    def transpose(self, y: Tensor) -> Tensor:
        """Phi^T y, (..., out_dim) -> (..., in_dim)."""

    def normal(self, x: Tensor) -> Tensor:
        """Phi^T Phi x, (..., in_dim) -> (..., in_dim)."""
        return self.transpose(self.forward(x))

    def squares(self) -> LinearOperator:
        """Phi o Phi, the squares of the entries; every closed form is exact."""
        return Squares(self)

    def column_norms_squared(self, weights: Tensor | None = None) -> Tensor:
        """diag(Phi^T diag(w) Phi) = (Phi o Phi)^T w, (in_dim,), or (..., in_dim) for weights w (..., out_dim).

        Without weights, ones of torch's default dtype and device.
        """
        return self.squares().transpose(torch.ones(self.out_dim) if weights is None else weights)

    def dense(self, like: Tensor | None = None) -> Tensor:
        """Phi itself, (out_dim, in_dim), in the dtype and on the device of `like`, or in torch's default ones."""
        like = torch.empty(0) if like is None else like
        return torch.cat([columns for _, columns in _images(self.forward, self.in_dim, self.out_dim, like)]).mT

    def gram(self, weights: Tensor) -> Tensor:
        """Phi diag(w) Phi^T, (out_dim, out_dim), for weights w (in_dim,); in pieces of bounded size."""
        rows = _images(self.transpose, self.out_dim, self.in_dim, weights)
        return torch.cat([self.forward(weights * piece) for _, piece in rows])

    def quadratic_diagonal(self, matrix: Tensor) -> Tensor:
        """diag(Phi^T M Phi), (in_dim,), for M (out_dim, out_dim); in pieces of bounded size."""
        rows = _images(self.transpose, self.out_dim, self.in_dim, matrix)
        return _total((self.transpose(matrix[piece]) * columns).sum(0) for piece, columns in rows)

    def adjoint(self) -> LinearOperator:
        return Adjoint(self)

    def __matmul__(self, other: LinearOperator) -> LinearOperator:
        return Product(self, other)

    def __add__(self, other: LinearOperator) -> LinearOperator:
        return Sum(self, other)


class Adjoint(LinearOperator):
    """Phi^T."""

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__(operator.out_dim, operator.in_dim)
        self.operator = operator
        self.one_entry_per_row = operator.one_entry_per_column
        self.one_entry_per_column = operator.one_entry_per_row

    def forward(self, x: Tensor) -> Tensor:
        return self.operator.transpose(x)

    def transpose(self, y: Tensor) -> Tensor:
        return self.operator.forward(y)

    def squares(self) -> LinearOperator:
        return Adjoint(self.operator.squares())

    def adjoint(self) -> LinearOperator:
        return self.operator


class Scaled(LinearOperator):
    """c Phi, for a number c or a tensor of no dimensions, which may be learned."""

    def __init__(self, operator: LinearOperator, scalar: float | Tensor) -> None:
        super().__init__(operator.in_dim, operator.out_dim)
        self.operator, self.scalar = operator, scalar
        self.one_entry_per_row = operator.one_entry_per_row
        self.one_entry_per_column = operator.one_entry_per_column

    def forward(self, x: Tensor) -> Tensor:
        return self.scalar * self.operator.forward(x)

    def transpose(self, y: Tensor) -> Tensor:
        return self.scalar * self.operator.transpose(y)

    def squares(self) -> LinearOperator:
        return Scaled(self.operator.squares(), self.scalar**2)


class Sum(LinearOperator):
    """A + B."""

    def __init__(self, first: LinearOperator, second: LinearOperator) -> None:
        sizes = [(operator.out_dim, operator.in_dim) for operator in (first, second)]
        if sizes[0] != sizes[1]:
            raise ValueError(f"a sum needs operators of one size, not {sizes[0]} and {sizes[1]} (out_dim, in_dim)")
        super().__init__(first.in_dim, first.out_dim)
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        return self.first.forward(x) + self.second.forward(x)

    def transpose(self, y: Tensor) -> Tensor:
        return self.first.transpose(y) + self.second.transpose(y)


class Product(LinearOperator):
    """A B, B first.

    When each row of A, or each column of B, has one entry, the entries of A B are products of single entries, and
    their squares (A o A)(B o B).
    """

    def __init__(self, first: LinearOperator, second: LinearOperator) -> None:
        if first.in_dim != second.out_dim:
            raise ValueError(
                f"a product A @ B needs A.in_dim equal to B.out_dim, not {first.in_dim} and {second.out_dim}"
            )
        super().__init__(second.in_dim, first.out_dim)
        self.first, self.second = first, second
        self.one_entry_per_row = first.one_entry_per_row and second.one_entry_per_row
        self.one_entry_per_column = first.one_entry_per_column and second.one_entry_per_column

    def forward(self, x: Tensor) -> Tensor:
        return self.first.forward(self.second.forward(x))

    def transpose(self, y: Tensor) -> Tensor:
        return self.second.transpose(self.first.transpose(y))

    def normal(self, x: Tensor) -> Tensor:
        return self.second.transpose(self.first.normal(self.second.forward(x)))

    def squares(self) -> LinearOperator:
        if self.first.one_entry_per_row or self.second.one_entry_per_column:
            return Product(self.first.squares(), self.second.squares())
        return super().squares()


class Squares(LinearOperator):
    """Phi o Phi where there is no closed form: by the images of all unit vectors, in pieces of bounded size."""

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__(operator.in_dim, operator.out_dim)
        self.operator = operator

    def forward(self, x: Tensor) -> Tensor:
        pieces = _images(self.operator.forward, self.in_dim, self.out_dim, x)
        return _total(x[..., piece] @ columns.square() for piece, columns in pieces)

    def transpose(self, y: Tensor) -> Tensor:
        pieces = _images(self.operator.transpose, self.out_dim, self.in_dim, y)
        return _total(y[..., piece] @ rows.square() for piece, rows in pieces)


def grid(shape: int | Sequence[int]) -> tuple[int, ...]:
    """(n,) or (h, w) of n, (n,) or (h, w)."""
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if len(sizes) not in (1, 2) or min(sizes) < 1:
        raise ValueError(f"a shape is n or (h, w), of at least 1 each, not {shape}")
    return sizes


def sized(x: Tensor, size: int) -> Tensor:
    """x itself, (..., size), for an action that would take a vector of another size without complaint."""
    if x.shape[-1] != size:
        raise ValueError(f"a vector of {size} entries is needed, not of {x.shape[-1]}")
    return x


def _images(apply: Callable[[Tensor], Tensor], count: int, size: int, like: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The images of the `count` unit vectors, (piece, size) at a time, each with where the piece is."""
    step = max(1, PIECE // max(count, size))
    for start in range(0, count, step):
        piece = slice(start, min(start + step, count))
        indices = torch.arange(piece.start, piece.stop, device=like.device)
        yield piece, apply(one_hot(indices, count).to(like.dtype))


def _total(terms: Iterator[Tensor]) -> Tensor:
    total = next(terms)
    for term in terms:
        total = total + term
    return total
