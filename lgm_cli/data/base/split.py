"""Which entries are hidden for testing: a hash of seed and position, the same on every platform."""

from __future__ import annotations

import math

import numpy as np

from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def splitmix64(state: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Output number `position` of the SplitMix64 generator started at `state` (Steele, Lea & Flood 2014).

    For a given state a bijection of the 64-bit integers, so that two positions never tie.
    """
    z = state + (position.astype(np.uint64) + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def hide(table: Table, fraction: float, seed: int) -> np.ndarray:
    """Hide the rows to be forecast, and round(fraction * E) of the other E entries: those that rank lowest by hash.
    # -> (entries,) bool

    What ranks last in each column is always left to learn from and, unless all columns share a unit, the last
    that differs from it as well, so that every column still varies.
    """
    ahead = table.in_horizon(table.rows)
    hidden = ahead.copy()
    if fraction == 0:
        return hidden
    others = int((~ahead).sum())
    count = round(fraction * others)
    if count == 0:
        raise UserError(
            f"data.test_fraction={fraction:g} hides none of the {others:,} values",
            f"at least data.test_fraction={1 / others:.2g}, or 0 to hide nothing",
        )
    start = splitmix64(np.array([seed % 2**64], np.uint64), np.zeros(1, np.int64))
    rank = splitmix64(start, table.rows * table.shape[1] + table.columns)
    rank[ahead] = 0  # what is kept to learn from ranks last
    free = np.flatnonzero(~_kept(table, rank) & ~ahead)
    if count > len(free):
        most = math.floor(1000 * len(free) / others) / 1000
        raise UserError(
            f"data.test_fraction={fraction:g} leaves too few values in some column to learn from",
            f"at most data.test_fraction={most:g}",
        )
    hidden[free[np.argpartition(rank[free], count - 1)[:count]]] = True
    return hidden


def _kept(table: Table, rank: np.ndarray) -> np.ndarray:
    """The entries that are never hidden.  # -> (E,) bool"""
    if table.dictionary is not None:  # no measurement is like another, and each tells of the whole signal
        return rank >= np.sort(rank)[-min(2, len(rank))]
    kept = _last_in_column(table, rank, np.ones(len(rank), bool))
    if table.common_unit:
        return kept
    value = np.empty(table.shape[1])
    value[table.columns[kept]] = table.values[kept]
    return kept | _last_in_column(table, rank, table.values != value[table.columns])


def _last_in_column(table: Table, rank: np.ndarray, among: np.ndarray) -> np.ndarray:
    highest = np.zeros(table.shape[1], np.uint64)
    np.maximum.at(highest, table.columns[among], rank[among])
    return among & (rank == highest[table.columns])
