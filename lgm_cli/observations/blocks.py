"""Tables and ratings as tensors: fixed blocks of data points, cut into chunks that are computed together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lgm_cli.data.base.categories import sizes
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Dictionary
from lgm_cli.observations.chunk import SHARED_FROM, Chunk
from lgm_cli.observations.sparse_rows import SparseRows
from lgm_cli.observations.units import standardisation

BLOCK_ENTRIES = 1 << 17  # of a dense block: large enough for efficient products, small enough for the cache
SPARSE_BLOCK_ENTRIES = 1 << 18  # of a block of ratings, in which data points of similar length are put together
CUDA_BLOCK = 16  # times as large on a CUDA device, where a small block takes as long as a large one: to be launched
DENSE_FROM = 0.15  # share of observed entries from which masked products over all columns are faster than gathered ones
BUCKET_RATIO = 1.5  # widest over narrowest data point of a gathered chunk


@dataclass(frozen=True)
class Observations:
    """What learning sees, in standardised units: y = center + scale * value; of a joint table as one data point.

    Blocks are fixed random sets of data points: the unit of minibatches and of random numbers. Their make-up depends
    on the seed, the data and the size of a block alone, and their usual size on the kind of device too.
    """

    shape: tuple[int, int]
    blocks: list[list[Chunk]]
    center: Tensor  # (M,) float64, of a joint table (N M,)
    scale: Tensor  # likewise; one value repeated where all entries share a unit
    column_center: Tensor  # (M,) float64, on the CPU: `center` without the periodic means of a season
    observed: float  # number of entries
    dtype: torch.dtype
    device: torch.device
    table_shape: tuple[int, int]  # of a joint table other than `shape`
    dictionary: Dictionary | None = None  # of signals
    signal: Tensor | None = None  # (N, n), float64, on the CPU, where it is known
    features: Tensor | None = None  # (N, p) of a regression, float64, as they are
    series: np.ndarray | None = None  # which of several series each row of a joint table is of
    class_names: tuple[str, ...] = ()  # of the numbers in the `classes` of chunks or in `row_classes`
    categories: tuple[int, ...] = ()  # how many names of categories each column has, zero where it is one of numbers
    column_labels: tuple[str, ...] = ()  # names of the columns
    row_classes: np.ndarray | None = None  # class of each row of a joint table, -1 where it is not known

    @cached_property
    def longest(self) -> float:
        """Observed entries of the data point that has most."""
        return max(float(chunk.weight.sum(1).max()) for chunk in self.chunks)

    @cached_property
    def block_sizes(self) -> list[int]:
        """Data points of each block."""
        return [sum(len(chunk.points) for chunk in block) for block in self.blocks]

    def is_sparse(self, block: int) -> bool:
        """Whether all data points of a block are in the gathered layout, and the device can work on sparse rows."""
        gathered = all(chunk.index is not None and chunk.index.dim() == 2 for chunk in self.blocks[block])
        return gathered and self.device.type != "mps"

    def sparse(self, block: int, size: int) -> list[Chunk]:
        """The data points of a block of ratings as sparse rows, at most about `size` at a time (remembered)."""
        if (block, size) not in self._sparse:
            parts, gathered = [], []
            for chunk in self.blocks[block]:
                for part in chunk.split(size):
                    if gathered and sum(len(each.points) for each in (*gathered, part)) > size:
                        parts.append(gathered)
                        gathered = []
                    gathered.append(part)
            self._sparse[block, size] = [SparseRows.of(each, self.shape[1]) for each in (*parts, gathered)]
        return self._sparse[block, size]

    @cached_property
    def _sparse(self) -> dict[tuple[int, int], list[Chunk]]:
        return {}

    def restricted(self, columns: Tensor, center: Tensor, scale: Tensor) -> Observations:
        """Some columns alone, in the order given, in these units (M,) of each. Its chunks are those that
        `Chunk.restricted` remembers under `columns`."""
        parts = [[chunk.restricted(columns, columns, center, scale) for chunk in block] for block in self.blocks]
        at = columns.tolist()
        return replace(
            self, shape=(self.shape[0], len(at)), blocks=parts, center=center[at], scale=scale[at],
            column_center=center[at].cpu(), observed=sum(chunk.observed for block in parts for chunk in block),
            table_shape=(self.table_shape[0], len(at)), column_labels=tuple(self.column_labels[m] for m in at),
            categories=tuple(self.categories[m] for m in at) if self.categories else (),
        )  # fmt: skip

    @property
    def chunks(self) -> Iterator[Chunk]:
        for block in self.blocks:
            yield from block


def observe(
    data: Data,
    seed: int,
    dtype: torch.dtype,
    device: torch.device,
    block_size: int | None = None,
    units: tuple[np.ndarray, np.ndarray] | None = None,
) -> Observations:
    """Lay out the visible entries of `data` for learning. block_size: data points of a block at most. units: center and
    scale of each column, or of all, in place of those of the data, which may be constant, or a single row."""
    if units is None:
        center, scale = standardisation(data)
    else:
        center, scale = (np.full(data.shape[1], value, np.float64) for value in units)
    points, columns = data.train_rows, data.train_columns
    values = (data.train_values - data.seasonal(points, columns) - center[columns]) / scale[columns]
    column_center = torch.as_tensor(center, dtype=torch.float64)
    points, columns = data.located(points, columns)
    total, width = data.layout
    if data.table.joint:
        center, scale = np.tile(center, data.shape[0]), np.tile(scale, data.shape[0])
        center = center + data.seasonal(*(place.ravel() for place in np.indices(data.shape)))
    density = len(values) / (total * width)
    usual = usual_block_size(width, density, device)
    block_size = usual if block_size is None else min(usual, block_size)
    order = np.random.default_rng([seed, 0xB10C]).permutation(total)
    starts = np.searchsorted(points, np.arange(total + 1))  # entries are sorted by data point
    classes = None if data.table.joint else data.table.classes
    build = _Builder(columns, values, starts, width, dtype, device, classes)
    blocks = []
    for first in range(0, total, block_size):
        members = np.sort(order[first : first + block_size])
        seen = int((starts[members + 1] - starts[members]).sum())
        blocks.append(build.dense(members) if seen >= DENSE_FROM * len(members) * width else build.sparse(members))
    as_tensor = {"dtype": torch.float64, "device": device if device.type != "mps" else "cpu"}
    signal = (data.table.truth or {}).get("signal")
    return Observations(
        data.layout, blocks, torch.as_tensor(center, **as_tensor), torch.as_tensor(scale, **as_tensor),
        column_center, float(len(values)), dtype, device, data.shape,
        data.table.dictionary, None if signal is None else torch.as_tensor(signal),
        None if data.table.features is None else torch.as_tensor(data.table.features),
        data.table.series, () if data.table.class_names is None else tuple(map(str, data.table.class_names)),
        tuple(sizes(data.table).tolist()) if data.table.categories and not data.table.joint else (),
        tuple(map(str, data.table.column_labels)),
        data.table.classes if data.table.joint else None,
    )  # fmt: skip


def usual_block_size(width: int, density: float, device: torch.device) -> int:
    """Data points of a block, of so many possible entries each and with such a share of them observed: a power of 2."""
    most = BLOCK_ENTRIES / width if density >= DENSE_FROM else SPARSE_BLOCK_ENTRIES / max(1.0, density * width)
    if device.type == "cuda":
        most *= CUDA_BLOCK
    return max(16, 1 << int(np.log2(max(1.0, most))))


class _Builder:
    """Chunks out of entries sorted by data point."""

    def __init__(self, columns: np.ndarray, values: np.ndarray, starts: np.ndarray, width: int,
                 dtype: torch.dtype, device: torch.device, classes: np.ndarray | None) -> None:  # fmt: skip
        self.columns, self.values, self.starts, self.width = columns, values, starts, width
        self.dtype, self.device, self.classes = dtype, device, classes

    def _chunk(self, points: np.ndarray, index: np.ndarray | None, weight: np.ndarray, values: np.ndarray) -> Chunk:
        return Chunk(
            torch.as_tensor(points, device=self.device),
            None if index is None else torch.as_tensor(index, device=self.device),
            torch.as_tensor(weight).to(self.device, self.dtype),
            torch.as_tensor(values).to(self.dtype).to(self.device),
            classes=None if self.classes is None else torch.as_tensor(self.classes[points], device=self.device),
        )

    def _scatter(self, points: np.ndarray, width: int, position: np.ndarray, entries: np.ndarray, fill: int | None):
        """(index, weight, values), (n, width) each, from the entries and their positions within the data point."""
        lengths = self.starts[points + 1] - self.starts[points]
        row = np.repeat(np.arange(len(points)), lengths)
        weight, values = np.zeros((len(points), width), bool), np.zeros((len(points), width))
        weight[row, position], values[row, position] = True, self.values[entries]
        if fill is None:
            return None, weight, values
        index = np.full((len(points), width), fill)
        index[row, position] = self.columns[entries]
        return index, weight, values

    def _entries(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the entries of these data points, and the place of each within its data point."""
        lengths = self.starts[points + 1] - self.starts[points]
        offset = np.repeat(np.cumsum(lengths) - lengths, lengths)
        place = np.arange(lengths.sum()) - offset
        return np.repeat(self.starts[points], lengths) + place, place

    def dense(self, points: np.ndarray) -> list[Chunk]:
        """Masked rows; groups of data points with the same mask become shared chunks."""
        entries, _ = self._entries(points)
        _, weight, values = self._scatter(points, self.width, self.columns[entries], entries, None)
        _, group, size = np.unique(np.packbits(weight, axis=1), axis=0, return_inverse=True, return_counts=True)
        group = group.reshape(-1)
        chunks = []
        for g in np.flatnonzero(size >= SHARED_FROM):
            members = np.flatnonzero(group == g)
            index = np.flatnonzero(weight[members[0]])
            if len(index):
                part = np.ix_(members, index)
                chunks.append(self._chunk(points[members], index, weight[part], values[part]))
                size[g] = 0
        rest = np.flatnonzero(size[group] > 0)
        if len(rest):
            chunks.append(self._chunk(points[rest], None, weight[rest], values[rest]))
        return chunks

    def sparse(self, points: np.ndarray) -> list[Chunk]:
        """Gathered rows of similar length, so that little is padded: the cost is that of the observed entries."""
        lengths = self.starts[points + 1] - self.starts[points]
        points = points[np.argsort(lengths, kind="stable")]
        lengths = np.sort(lengths)
        chunks, first = [], 0
        while first < len(points):
            last = int(np.searchsorted(lengths, max(lengths[first] * BUCKET_RATIO, lengths[first] + 1), side="right"))
            members = points[first:last]
            entries, place = self._entries(members)
            chunks.append(
                self._chunk(members, *self._scatter(members, max(1, lengths[last - 1]), place, entries, self.width))
            )
            first = last
        return chunks
