"""How many posteriors are held at once."""

from __future__ import annotations

from lgm_cli.observations.chunk import Chunk
from lgm_cli.observations.sparse_rows import SparseRows

EXACT_ELEMENTS = 1 << 24  # numbers that the posteriors of one part of a chunk may take (64 MiB in float32)


SPARSE_COPIES = 5  # of the packed precision and of the moments, held at once by a posterior of sparse rows

EXACT_PARTS = 4  # but at least so many data points, however large they are


def exact_part_size(chunk: Chunk | SparseRows, dim: int) -> int:
    """How many data points to factorise at once."""
    if isinstance(chunk, SparseRows):
        return len(chunk.points)  # which are as many as `sparse_part_size` says
    if chunk.index is not None and chunk.index.dim() == 1:
        return max(EXACT_PARTS, EXACT_ELEMENTS // (4 * dim * len(chunk.index)))  # they share one factorisation
    width = chunk.width
    each = width * dim + (min(width, dim) + 1) ** 2 + (dim + 1) ** 2 // 2
    if chunk.index is not None:
        each += width * (dim + 2) ** 2  # the statistics of a closed-form update, entry by entry
    return max(EXACT_PARTS, EXACT_ELEMENTS // each)


def sparse_numbers(dim: int) -> int:
    """Numbers that the posterior of each data point of sparse rows takes with its moments."""
    return SPARSE_COPIES * (dim * (dim + 3) // 2)


def sparse_part_size(dim: int) -> int:
    """How many data points sparse rows may hold."""
    return max(EXACT_PARTS, EXACT_ELEMENTS // sparse_numbers(dim))
