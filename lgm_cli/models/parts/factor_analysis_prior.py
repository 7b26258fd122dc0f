"""A prior of factor analysis as expected sums over imaginary entries y = 0, of a ridge and of noise alone."""

from __future__ import annotations

from torch import Tensor

from lgm_cli.models.base.statistics import Statistics


def imagined_sums(ridge: float, squares: Tensor, numbers: Tensor, d: int, q: int) -> Statistics:
    """Moments of lambda I of the D factors, lambda = `ridge`, and sums of squares (M,) over numbers (M,) of entries
    that are noise alone. `imagined` (M,) are the normalisers of their densities, beside the entries that the moment of
    ones counts: D for a row of loadings that has a ridge, and the numbers. q: length of u."""
    m, zero = len(squares), squares.new_zeros(())
    second = squares.new_zeros(q, q)
    second[range(d), range(d)] = ridge
    return {
        "second_moment": second.expand(m, q, q),
        "cross_moment": zero.expand(m, q),
        "square": squares,
        "imagined": numbers + (d if ridge else 0),
        "latent_square": zero,
        "offset_square": zero,
        "points": zero,
    }
