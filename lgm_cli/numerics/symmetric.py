"""Products X X^T of which only half is computed."""

from __future__ import annotations

from torch import Tensor

TILE = 192  # below this, one full product is faster than the tiles of a symmetric one


def symmetric_product(x: Tensor) -> Tensor:
    """x^T x of (..., m, D), lower triangle only (above it, zeros or the true values): what a Cholesky factorisation
    reads.

    Halved recursively, so that a large product costs little more than half the operations of the full one.
    """
    dim = x.shape[-1]
    if dim < 2 * TILE:
        return x.mT @ x
    product = x.new_zeros(*x.shape[:-2], dim, dim)
    _fill_symmetric(product, x)
    return product


def _fill_symmetric(out: Tensor, x: Tensor) -> None:
    dim = x.shape[-1]
    if dim < 2 * TILE:
        out.copy_(x.mT @ x)
        return
    half = dim // 2
    left, right = x[..., :half], x[..., half:]
    out[..., half:, :half] = right.mT @ left
    _fill_symmetric(out[..., :half, :half], left)
    _fill_symmetric(out[..., half:, half:], right)
