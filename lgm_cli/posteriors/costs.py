"""How many posteriors are held at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lgm_cli.observations.chunk import Chunk

EXACT_ELEMENTS = 1 << 24  # numbers that the posteriors of one part of a chunk may take (64 MiB in float32)
EXACT_PARTS = 4  # but at least so many data points, however large they are
SPARSE_COPIES = 5  # of the packed precision and of the moments, held at once by a posterior of sparse rows
SPARSE_SUMS = 4  # copies of the matrices of all columns


def exact_part_size(chunk: Chunk, dim: int) -> int:
    """How many data points to factorise at once; sparse rows are never split, and hold as many as fit."""
    if chunk.index is not None and chunk.index.dim() == 1:
        return max(EXACT_PARTS, EXACT_ELEMENTS // (4 * dim * max(1, len(chunk.index))))  # they share one factorisation
    width = chunk.width
    each = width * dim + (min(width, dim) + 1) ** 2 + (dim + 1) ** 2 // 2
    if chunk.index is not None:
        each += width * (dim + 2) ** 2  # the statistics of a closed-form update, entry by entry
    return max(EXACT_PARTS, EXACT_ELEMENTS // each)


def exact_parts(chunks: Iterable[Chunk], dim: int) -> Iterator[Chunk]:
    """Chunks in parts that are factorised at once."""
    for chunk in chunks:
        yield from chunk.split(exact_part_size(chunk, dim))


def sparse_part_size(dim: int) -> int:
    """How many data points sparse rows may hold."""
    return max(EXACT_PARTS, EXACT_ELEMENTS // (SPARSE_COPIES * (dim * (dim + 3) // 2)))


def sparse_numbers(dim: int, points: int, columns: int) -> float:
    """Numbers that a step on sparse rows takes at its peak: packed matrices of the data points and of the columns, and
    whole ones of the columns."""
    packed, points = dim * (dim + 3) // 2, min(points, sparse_part_size(dim))
    return SPARSE_COPIES * packed * points + packed * columns + SPARSE_SUMS * (dim + 1) ** 2 * columns


def sparse_rows_numbers(observed: float, size: int) -> float:
    """What sparse rows with so many entries take, in numbers of so many bytes: values and places in both orders, and
    weights in double precision."""
    return observed * (4.0 if size == 4 else 5.0)
