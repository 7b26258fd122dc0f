"""How many posteriors are held at once."""

from __future__ import annotations

from lgm_cli.observations.chunk import Chunk

EXACT_ELEMENTS = 1 << 24  # numbers that the posteriors of one part of a chunk may take (64 MiB in float32)


EXACT_PARTS = 4  # but at least so many data points, however large they are


def exact_part_size(chunk: Chunk, dim: int) -> int:
    """How many data points to factorise at once."""
    if chunk.index is not None and chunk.index.dim() == 1:
        return max(EXACT_PARTS, EXACT_ELEMENTS // (4 * dim * len(chunk.index)))  # they share one factorisation
    width = chunk.width
    each = width * dim + (min(width, dim) + 1) ** 2 + (dim + 1) ** 2 // 2
    if chunk.index is not None:
        each += width * (dim + 2) ** 2  # the statistics of a closed-form update, entry by entry
    return max(EXACT_PARTS, EXACT_ELEMENTS // each)
