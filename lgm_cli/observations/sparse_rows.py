"""Ratings as a sparse matrix in the order of its rows and of its columns: sums over entries without gathered copies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor
from torch.nn.functional import embedding_bag

from lgm_cli.observations.chunk import Chunk

MOST_SIGNS = 4  # of a pattern
BITS = 31  # random bits of each number


@dataclass(frozen=True)
class Entries:
    """The observed entries of a sparse matrix, sorted by one of its two sides.

    Entries starts[i] to starts[i + 1] are those of row (or column) i; `other` has the column (or row) of each.
    """

    starts: Tensor  # (rows + 1,) int32
    other: Tensor  # (E,) int32
    values: Tensor  # (E,)

    @cached_property
    def _ones(self) -> Tensor | None:
        """Weights of one for double precision, in which sums without weights take ten times as long as with them."""
        return torch.ones_like(self.values) if self.values.dtype == torch.float64 else None

    def sums(self, table: Tensor, weight: Tensor | None = None) -> Tensor:
        """Row i of the result is the sum of weight_e table[other_e] over the entries e of row i. (others, c) ->
        (rows, c); weight (E,), one if None. Each sum is taken in the order of the entries, on every device."""
        weight = self._ones if weight is None else weight
        return embedding_bag(
            self.other, table, self.starts, mode="sum", per_sample_weights=weight, include_last_offset=True
        )


@dataclass(frozen=True)
class SparseRows(Chunk):
    """Data points in the sparse layout: their observed entries, sorted by data point and, once more, by column.

    index, weight and values are (E,), entry by entry in the order of data points; all of weight is one.

    With Omega (n, M) of ones where an entry was observed and Y (n, M) the standardised values, zero elsewhere, the sums
    that a model of columns needs are the products Omega T and Y T of tables T (M, c), and Omega^T S and Y^T S of tables
    S (n, c). Each costs c additions an entry, and copies nothing of the table for each entry, as `Chunk.take` does.
    """

    starts: Tensor  # (n + 1,) int32, where the entries of each data point begin
    by_column: Entries

    @cached_property
    def by_point(self) -> Entries:
        """The entries sorted by data point."""
        assert self.index is not None
        return Entries(self.starts, self.index, self.values)

    @classmethod
    def of(cls, chunks: Sequence[Chunk], columns: int) -> SparseRows:
        """The data points of gathered chunks, in the chunks' order; columns: M."""
        rows, others, values, first = [], [], [], 0
        for chunk in chunks:
            assert chunk.index is not None and chunk.index.dim() == 2
            seen = chunk.weight > 0
            rows.append(seen.nonzero()[:, 0] + first)
            others.append(chunk.index[seen])
            values.append(chunk.values[seen])
            first += len(chunk.points)
        row, column, value = torch.cat(rows), torch.cat(others), torch.cat(values)
        order = torch.argsort(column, stable=True)
        return cls(
            torch.cat([chunk.points for chunk in chunks]),
            column.int(),
            value.new_ones(1).expand(len(value)),
            value,
            _starts(row, first),
            Entries(_starts(column, columns), row[order].int(), value[order]),
        )

    @cached_property
    def observed(self) -> float:
        """Number of observed entries."""
        return float(len(self.values))

    @cached_property
    def width(self) -> int:
        """Observed entries of the data point that has most."""
        return int(self.starts.diff().max())

    def over_columns(self, table: Tensor) -> Tensor:
        """Omega T, (M, c) -> (n, c): the sum over the observed columns of each data point."""
        return self.by_point.sums(table)

    def values_over_columns(self, table: Tensor) -> Tensor:
        """Y T, (M, c) -> (n, c): the same, times the values."""
        return self.by_point.sums(table, self.values)

    def over_points(self, table: Tensor) -> Tensor:
        """Omega^T S, (n, c) -> (M, c): the sum over the data points that each column was observed at."""
        return self.by_column.sums(table)

    def values_over_points(self, table: Tensor) -> Tensor:
        """Y^T S, (n, c) -> (M, c): the same, times the values."""
        return self.by_column.sums(table, self.by_column.values)

    def over_observed(self, by_column: Tensor) -> Tensor:
        return self.over_columns(by_column[:, None])[:, 0]

    def noise(self, number: int, dim: int, draw: Generator, signs: bool) -> tuple[Tensor, Tensor]:
        """Random signs in either case, e' as patterns of a few for each entry."""
        latent = random_signs((len(self.points), number, dim), self.values.dtype, draw)
        return latent, self.sign_patterns(number, draw)

    def sign_patterns(self, number: int, draw: Generator) -> Tensor:
        """Random signs for each entry, so many (K), as patterns of a few bits each: (ceil(K / few), E) int32."""
        few = _few(number, len(self.values), len(self.by_column.starts))
        groups = -(-number // few)
        return random_bits(groups * len(self.values), draw).view(groups, -1) & ((1 << few) - 1)

    def signed_over_columns(self, table: Tensor, patterns: Tensor, number: int) -> Tensor:
        """The sums over the observed columns of each data point with the signs of patterns: (M, c) -> (n, K, c).

        A pattern of k signs is a row of the table that has all 2^k of them, so that one pass serves k sums."""
        few = _few(number, len(self.values), len(self.by_column.starts))
        signs = sign_table(few, table.dtype, table.device)
        signed = (table[:, None, None] * signs[:, :, None]).flatten(2).flatten(0, 1)  # (M 2^k, k c)
        place = self.by_point.other << few
        sums = [Entries(self.starts, place + each, self.values).sums(signed) for each in patterns]
        return torch.cat(sums, dim=1).view(len(self.points), -1, table.shape[1])[:, :number]

    @cached_property
    def lengths(self) -> Tensor:
        """Observed entries of each data point, (n,)."""
        return self.starts.diff().to(self.values)

    @cached_property
    def of_columns(self) -> tuple[Tensor, Tensor, Tensor]:
        """Number, sum and sum of squares of the values of each column, (M,) each."""
        ones = self.values.new_ones(len(self.points), 1)
        count = self.by_column.starts.diff().to(ones)
        squares = self.by_column.sums(ones, self.by_column.values.square())
        return count, self.values_over_points(ones)[:, 0], squares[:, 0]

    def at_columns(self, by_column: Tensor) -> Tensor:
        """Entry by entry, in the order of data points, the number of its column: (M,) -> (E,)."""
        return by_column.contiguous().index_select(0, self.by_point.other)

    def at_points(self, by_point: Tensor) -> Tensor:
        """Entry by entry, in the order of data points, the number of its data point: (n,) -> (E,)."""
        return by_point.repeat_interleave(self.starts.diff(), output_size=len(self.values))

    def split(self, size: int) -> list[Chunk]:
        """Itself: `of` is given as many data points as fit."""
        return [self]


def _few(number: int, entries: int, columns: int) -> int:
    """How many of so many signs a pattern has: a table of all patterns is to take less time than the entries."""
    few = max(1, min(MOST_SIGNS, int(math.log2(max(2.0, entries / columns / 4)))))
    return -(-number // -(-number // few))  # groups of equal size


def _starts(numbers: Tensor, count: int) -> Tensor:
    """Where each of so many numbers begins among sorted or unsorted ones, (count + 1,) int32."""
    lengths = torch.bincount(numbers, minlength=count)
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int()


def random_bits(count: int, draw: Generator) -> Tensor:
    """Integers of at least BITS random low bits each, (count,) int32, on the generator's device."""
    pairs = torch.empty((count + 1) // 2, dtype=torch.int64, device=draw.device).random_(generator=draw)
    return pairs.view(torch.int32)[:count]


def random_signs(size: Sequence[int], dtype: torch.dtype, draw: Generator) -> Tensor:
    """1 or -1, with mean zero and variance one."""
    return 1 - 2 * (random_bits(math.prod(size), draw) & 1).to(dtype).view(*size)


def sign_table(number: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The signs that the low bits of 0 .. 2^number - 1 stand for, (2^number, number)."""
    patterns = torch.arange(1 << number, device=device)[:, None] >> torch.arange(number, device=device)
    return 1 - 2 * (patterns & 1).to(dtype)
