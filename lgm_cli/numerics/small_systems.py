"""Many small symmetric positive definite systems at once, with the systems innermost in memory.

A batched routine of LAPACK or BLAS is called once for each system, which costs more than the arithmetic of a matrix of
a few rows. Here each element of all matrices is one vector, and the arithmetic is written out over those.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_WRITTEN_OUT = 20  # rows up to which elimination is written out, element by element


def pairs(dim: int) -> list[tuple[int, int]]:
    """Rows and columns of the lower triangle, in the order in which a packed symmetric matrix has its elements."""
    return [(i, j) for i in range(dim) for j in range(i + 1)]


def packed_products(rows: Tensor) -> Tensor:
    """v_m v_m^T of each row, packed: (M, D) -> (M, D (D + 1) / 2)."""
    first, second = zip(*pairs(rows.shape[1]), strict=True)
    return rows[:, list(first)] * rows[:, list(second)]


def unpacked(packed: Tensor, dim: int) -> Tensor:
    """Symmetric matrices from their packed lower triangles: (D (D + 1) / 2, n) -> (n, D, D), where data points are
    innermost in memory."""
    place = {pair: number for number, pair in enumerate(pairs(dim))}
    order = [place[max(i, j), min(i, j)] for i in range(dim) for j in range(dim)]
    return packed[order].view(dim, dim, -1).permute(2, 0, 1)


def inverse_and_log_det(packed: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Inverses of symmetric positive definite matrices and the logarithms of their determinants, by Cholesky
    factorisation A = L L^T, A^-1 = L^-T L^-1. packed (D (D + 1) / 2, n) -> the same shape and (n,); differentiable."""
    if dim > LARGEST_WRITTEN_OUT:
        factor = torch.linalg.cholesky(unpacked(packed, dim))
        first, second = zip(*pairs(dim), strict=True)
        inverse = torch.cholesky_inverse(factor)[:, list(first), list(second)].mT
        return inverse, 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    a = dict(zip(pairs(dim), packed.unbind(), strict=True))
    lower: dict[tuple[int, int], Tensor] = {}  # L below its diagonal, and 1 / L_jj on it
    log_det = torch.zeros_like(packed[0])
    for j in range(dim):
        pivot = less_products(a[j, j], [(lower[j, k], lower[j, k]) for k in range(j)])
        log_det = log_det + pivot.log()
        lower[j, j] = pivot.rsqrt()
        for i in range(j + 1, dim):
            lower[i, j] = less_products(a[i, j], [(lower[i, k], lower[j, k]) for k in range(j)]) * lower[j, j]
    root: dict[tuple[int, int], Tensor] = {}  # L^-1
    for j in range(dim):
        root[j, j] = lower[j, j]
        for i in range(j + 1, dim):
            root[i, j] = -sum_of_products([(lower[i, k], root[k, j]) for k in range(j, i)]) * lower[i, i]
    return torch.stack(
        [sum_of_products([(root[k, i], root[k, j]) for k in range(i, dim)]) for i, j in pairs(dim)]
    ), log_det


def product(packed: Tensor, x: Tensor) -> Tensor:
    """A_n x_n with packed symmetric matrices (D (D + 1) / 2, n) and vectors (D, n): (D, n)."""
    dim = len(x)
    if dim > LARGEST_WRITTEN_OUT:
        return (unpacked(packed, dim) @ x.mT[:, :, None])[:, :, 0].mT
    place = {pair: number for number, pair in enumerate(pairs(dim))}
    return torch.stack(
        [sum_of_products([(packed[place[max(i, j), min(i, j)]], x[j]) for j in range(dim)]) for i in range(dim)]
    )


def sum_of_products(products: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The sum of the products of at least one pair of vectors."""
    total = products[0][0] * products[0][1]
    for x, y in products[1:]:
        total = torch.addcmul(total, x, y)
    return total


def less_products(total: Tensor, products: list[tuple[Tensor, Tensor]]) -> Tensor:
    """A vector less the products of pairs of vectors."""
    for x, y in products:
        total = torch.addcmul(total, x, y, value=-1)
    return total
