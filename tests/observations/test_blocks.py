"""How a table is laid out: every entry once, in blocks that the seed fixes, at a cost proportional to the entries."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Table
from lgm_cli.observations.blocks import Observations, observe, usual_block_size
from lgm_cli.observations.chunk import Chunk
from tests import cases

LAYOUTS = ("masked", "shared", "gathered")


def laid_out(data: Data, seed: int = 0, block_size: int | None = None) -> Observations:
    return observe(data, seed, torch.float64, cases.CPU, block_size)


def table(layout: str, seed: int = 0) -> np.ndarray:
    points, dimensions = (90, 40) if layout == "gathered" else (50, 9)
    values = 7 + np.random.default_rng(seed).normal(size=(points, dimensions)) * np.geomspace(1, 100, dimensions)
    return cases.with_gaps(values, layout, seed)


def restored(observations: Observations) -> np.ndarray:
    """The table, from all chunks, in the data's own units; NaN where no chunk has an entry."""
    y = np.full(observations.shape, np.nan)
    center, scale = observations.center.numpy(), observations.scale.numpy()
    for chunk in observations.chunks:
        seen = chunk.weight.bool().numpy()
        columns = torch.arange(observations.shape[1]) if chunk.index is None else chunk.index
        row, column = (
            np.broadcast_to(index, seen.shape)[seen] for index in (chunk.points.numpy()[:, None], columns.numpy())
        )
        assert np.all(np.isnan(y[row, column])), "an entry occurs twice"
        y[row, column] = center[column] + scale[column] * chunk.values.numpy()[seen]
        assert torch.all(chunk.values[~chunk.weight.bool()] == 0)
    return y


@pytest.mark.parametrize("block_size", [None, 16, 7])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_entry_is_there_once(layout: str, block_size: int | None) -> None:
    y = table(layout)
    observations = laid_out(cases.as_data(y), block_size=block_size)
    assert block_size is not None or layout in cases.layouts(observations)
    np.testing.assert_allclose(restored(observations), y, rtol=1e-12)
    assert observations.observed == sum(chunk.observed for chunk in observations.chunks) == (~np.isnan(y)).sum()


def test_hidden_entries_are_not_seen() -> None:
    y = table("masked")
    hidden = np.random.default_rng(1).random(y.shape) < 0.2
    np.testing.assert_allclose(restored(laid_out(cases.as_data(y, hidden))), np.where(hidden, np.nan, y), rtol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_blocks_are_a_partition_that_the_seed_fixes(layout: str) -> None:
    data = cases.as_data(table(layout))

    def blocks(seed: int, size: int) -> list[list[int]]:
        observations = laid_out(data, seed, size)
        return [sorted(torch.cat([chunk.points for chunk in block]).tolist()) for block in observations.blocks]

    first, again, other = blocks(0, 8), blocks(0, 8), blocks(1, 8)
    assert first == again != other
    assert sorted(point for block in first for point in block) == list(range(data.shape[0]))
    assert {len(block) for block in first[:-1]} == {8}
    assert len(first[-1]) <= 8
    assert sorted(first[0] + first[1]) == sorted(blocks(0, 16)[0])  # larger blocks are unions of small ones


def test_columns_are_standardised_by_what_is_seen() -> None:
    y = table("masked")
    hidden = np.random.default_rng(1).random(y.shape) < 0.2
    observations = laid_out(cases.as_data(y, hidden))
    seen = np.where(hidden, np.nan, y)
    np.testing.assert_allclose(observations.center, np.nanmean(seen, axis=0), rtol=1e-12)
    np.testing.assert_allclose(observations.scale, np.nanstd(seen, axis=0), rtol=1e-12)


def test_a_large_mean_costs_no_digits() -> None:
    y = np.random.default_rng(0).normal(size=(50, 3))
    observations = laid_out(cases.as_data(1e8 + y))
    np.testing.assert_allclose(observations.scale, y.std(axis=0), rtol=1e-7)


def ratings(points: int, dimensions: int, entries: int, seed: int = 0) -> Data:
    """Entries of one unit at random places: few for most data points, many for some, as real ratings have."""
    random = np.random.default_rng(seed)
    popularity = 1 / (1 + np.arange(points)) ** 0.8
    rows = random.choice(points, size=2 * entries, p=popularity / popularity.sum())
    cells = np.unique(rows * dimensions + random.integers(dimensions, size=2 * entries))
    cells = np.sort(random.permutation(cells)[:entries])
    rows, columns = np.divmod(cells, dimensions)
    values = 3.5 + random.normal(size=len(cells))
    labels = (pd.RangeIndex(points), pd.RangeIndex(dimensions))
    made = Table("ratings", rows, columns, values, *labels, common_unit=True, is_table=False)
    return Data(made, np.zeros(len(cells), bool))


def test_entries_of_one_unit_share_one_scale() -> None:
    data = ratings(60, 30, 200)
    data = dataclasses.replace(data, hidden=data.table.columns == 4)  # a column that nothing is seen of
    observations = laid_out(data)
    values, columns = data.train_values, data.train_columns
    means = np.array([values[columns == m].mean() if (columns == m).any() else values.mean() for m in range(30)])
    np.testing.assert_allclose(observations.center, means, rtol=1e-12)
    pooled = np.sqrt(np.mean((values - means[columns]) ** 2))
    np.testing.assert_allclose(observations.scale, np.full(30, pooled), rtol=1e-12)


def test_ratings_cost_what_is_observed_never_the_whole_table() -> None:
    """20,000 x 5,000 with 60,000 entries: within 50% and one entry for each data point of the entries themselves."""
    data = ratings(20_000, 5_000, 60_000)
    observations = laid_out(data)
    assert cases.layouts(observations) == {"gathered"}
    numbers = sum(chunk.weight.numel() for chunk in observations.chunks)
    assert numbers <= 1.5 * 60_000 + 20_000
    assert sum(len(chunk.points) for chunk in observations.chunks) == 20_000


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gathering_by_column_and_adding_to_columns(layout: str) -> None:
    y = table(layout)
    observations = laid_out(cases.as_data(y))
    width = y.shape[1]
    by_column = torch.as_tensor(np.random.default_rng(2).normal(size=(width, 3)))
    added, counted = torch.zeros(width, 3, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
    for chunk in observations.chunks:
        rows = chunk.take(by_column).expand(*chunk.weight.shape, 3)
        columns = torch.arange(width) if chunk.index is None else chunk.index
        real = chunk.weight.bool()
        torch.testing.assert_close(rows[real], by_column[columns.expand(chunk.weight.shape)[real]])
        torch.testing.assert_close(chunk.take(by_column[:, 0]).expand(chunk.weight.shape), rows[..., 0])
        if chunk.mask is None:
            assert torch.all(rows[~real] == 0), "padding has loadings"
        chunk.add_to_columns(added, chunk.weight[..., None] * rows)
        chunk.add_to_columns(counted, chunk.weight)
    expected = torch.as_tensor((~np.isnan(y)).sum(axis=0), dtype=torch.float64)
    torch.testing.assert_close(counted, expected)
    torch.testing.assert_close(added, by_column * expected[:, None])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gathered_and_split_chunks_hold_the_same_entries(layout: str) -> None:
    y = table(layout)
    observations = laid_out(cases.as_data(y))

    def changed(how) -> np.ndarray:
        return restored(dataclasses.replace(observations, blocks=[how(chunk) for chunk in observations.chunks]))

    np.testing.assert_array_equal(changed(lambda chunk: [chunk.gathered]), restored(observations))
    for size in (1, 7, 10**6):
        np.testing.assert_array_equal(changed(lambda chunk, size=size: chunk.split(size)), restored(observations))
    for chunk in observations.chunks:
        assert max(len(part.points) for part in chunk.split(7)) <= 7
        assert chunk.split(7)[0] is chunk.split(7)[0]  # remembered


def test_a_chunk_without_any_entry_is_gathered_to_one_padded_column() -> None:
    chunk = Chunk(torch.arange(2), None, torch.zeros(2, 5), torch.zeros(2, 5))
    assert chunk.gathered.index is not None
    assert chunk.gathered.index.tolist() == [[5], [5]]
    assert torch.all(chunk.gathered.take(torch.ones(5, 3)) == 0)


def test_blocks_are_larger_on_a_cuda_device() -> None:
    """Where they are launched, not kept in a cache; of ratings by their entries, not by their columns."""
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert usual_block_size(400, 0.7, cpu) == 256
    assert usual_block_size(400, 0.7, cuda) == 16 * 256
    assert usual_block_size(10_000, 0.01, cpu) == 2048
    assert usual_block_size(10**9, 1.0, cuda) == 16
