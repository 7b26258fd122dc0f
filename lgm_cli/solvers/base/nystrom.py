"""The randomised Nystrom preconditioner of A = I + B, B positive semidefinite."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Generator, Tensor

from lgm_cli.randomness import generator
from lgm_cli.solvers.base.preconditioner import Preconditioner
from lgm_cli.solvers.base.solver import Precision

SMALLEST_RANK = 16  # of the first sketch, when the rank is open

ENOUGH = 0.1  # an eigenvalue of B at which a sketch ends: with what is left, A is within a tenth of it

MOST_ELEMENTS = 1 << 24  # numbers that the vectors of a sketch may take (64 MiB in float32)


class NystromPreconditioner(Preconditioner):
    """M = I + U (diag((1 + s) / (1 + s_min)) - I) U^T for eigenvectors U and eigenvalues s of a Nystrom sketch of B.

    Frangella, Tropp & Udell, SIAM J. Matrix Anal. Appl. 44 (2023) 718-752, equation (1.3), where the regularisation is
    the identity. Its root L = M^(1/2) is symmetric. U and s are constants to differentiation.

    basis U: (N or 1, D, rank), orthonormal columns. values s: (N or 1, rank), falling.
    """

    def __init__(self, basis: Tensor, values: Tensor, products: int = 0) -> None:
        self.basis, self.values, self.products = basis, values, products
        ratio = (1 + values) / (1 + values[:, -1:])
        # What rounding leaves of a direction must not turn the sign of r^T M^-1 r.
        self._ratio = ratio.clamp_max(0.1 / torch.finfo(values.dtype).eps)[:, :, None]

    @cached_property
    def _inverse(self) -> Tensor:
        """M^-1 = I + U times this, (N or 1, rank, D)."""
        return (1 / self._ratio - 1) * self.basis.mT

    @cached_property
    def _inverse_root(self) -> Tensor:
        return (self._ratio.rsqrt() - 1) * self.basis.mT

    @cached_property
    def _root(self) -> Tensor:
        return (self._ratio.sqrt() - 1) * self.basis.mT

    def shrink(self, b: Tensor) -> Tensor:
        return b + (b @ self.basis) @ self._inverse_root

    def expand(self, y: Tensor) -> Tensor:
        return self.shrink(y)

    def undo_shrink(self, r: Tensor) -> Tensor:
        return r + (r @ self.basis) @ self._root

    def undo_expand(self, x: Tensor) -> Tensor:
        return self.undo_shrink(x)

    def solve(self, r: Tensor) -> Tensor:
        return r + (r @ self.basis) @ self._inverse

    def kept(self) -> NystromPreconditioner:
        """The same one for a later solve, which it costs no products."""
        return NystromPreconditioner(self.basis, self.values)


@torch.no_grad()
def sketched(
    precision: Precision, rank: int | str = "auto", draw: Generator | None = None, most: int | None = None
) -> NystromPreconditioner:
    """Sketch B = A - I with `rank` random vectors; for "auto", with twice as many until its smallest eigenvalue is at
    most ENOUGH, and with no more than `most`.

    With orthonormal W (D, rank) and Y = B W, B is near Y (W^T Y)^-1 Y^T = F F^T (Frangella et al., algorithm 2.1). Its
    eigenvectors are left singular vectors of F. W^T Y is inverted by its eigenvalues: those lost in rounding count as
    zero, as those of a B of low rank are.
    """
    diagonal = precision.diagonal()
    n, dim = diagonal.shape
    draw = generator(0, "sketch", device=diagonal.device) if draw is None else draw
    fits = max(1, min(dim, MOST_ELEMENTS // (n * dim)))
    limit = fits if most is None else max(1, min(fits, most))
    size = min(SMALLEST_RANK, limit) if isinstance(rank, str) else min(rank, dim)
    products = 0
    while True:
        drawn = torch.randn(dim, size, generator=draw, dtype=diagonal.dtype, device=diagonal.device)
        directions = torch.linalg.qr(drawn).Q.mT[None].expand(n, -1, -1)  # (n, rank, D)
        images = precision.matvec(directions) - directions
        products += n * size
        basis, values = _eigenvectors(directions, images)
        if not isinstance(rank, str) or size == limit or bool((values[:, -1] <= ENOUGH).all()):
            return NystromPreconditioner(basis, values, products)
        size = min(2 * size, limit)


def _eigenvectors(directions: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """U (n, D, rank) and s (n, rank) of Y (W^T Y)^-1 Y^T, from W^T and Y^T, (n, rank, D) each."""
    core = directions @ images.mT
    found, vectors = torch.linalg.eigh((core + core.mT) / 2)
    rounding = core.shape[-1] * torch.finfo(core.dtype).eps * found[:, -1:].clamp_min(1.0)
    inverse_root = torch.where(found > rounding, found.clamp_min(rounding).rsqrt(), 0.0)
    basis, singular, _ = torch.linalg.svd((images.mT @ vectors) * inverse_root[:, None, :], full_matrices=False)
    return basis, singular.square()
