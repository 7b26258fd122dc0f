"""What no table may hold."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lgm_cli.data.base.table import SMALLEST, Table
from lgm_cli.errors import UserError

TOO_CLOSE = "too close to each other to be squared", "use a smaller unit"
TOO_LARGE = "too large to be squared", "use a larger unit"


def beyond(values: np.ndarray) -> tuple[str, str] | None:
    """What is wrong with values that share a unit, and how to mend it, where their spread cannot be squared."""
    with np.errstate(over="ignore"):
        spread = np.ptp(values)
    return TOO_CLOSE if spread < SMALLEST else TOO_LARGE if spread > 1 / SMALLEST else None


def check(table: Table) -> None:
    """Refuse a table that nothing can be learned from, naming what is wrong with it."""
    n, m = table.shape
    sizes = [(n, "row" if table.is_table else "data point"), (m, "dimension")]
    if table.features is not None:
        if len(table.values) < 3:
            raise UserError(f"{table.name} has fewer than three known responses", "give more")
        assert table.feature_labels is not None
        with np.errstate(over="ignore"):
            spread = np.ptp(table.features, axis=0)
        if (spread > 1 / SMALLEST).any():
            wrong = _listing(table.feature_labels[spread > 1 / SMALLEST])
            raise UserError(f"{table.name} has values {TOO_LARGE[0]} in {wrong}", TOO_LARGE[1])
        if (spread < SMALLEST).all():
            raise UserError(f"{table.name} has no feature with two different values", "give one that varies")
    if table.is_table:
        sizes = sizes[:1]  # whether a single column is enough depends on the model
    if table.dictionary is not None:
        sizes = sizes[1:]  # a single signal is enough
    if not len(table.values):
        raise UserError(f"{table.name} has no value in {n:,} x {m:,} entries", "give at least two values per column")
    for size, axis in sizes:
        if size < 2:
            raise UserError(f"{table.name} has a single {axis}", f"give at least two {axis}s")
    if table.common_unit:
        if (table.values == table.values[0]).all():
            raise UserError(f"every value in {table.name} is {table.values[0]:g}", "give values that differ")
        if (wrong := beyond(table.values)) is not None:
            raise UserError(f"{table.name} has values {wrong[0]}", wrong[1])
        return
    lowest, highest = np.full(m, np.inf), np.full(m, -np.inf)
    np.minimum.at(lowest, table.columns, table.values)
    np.maximum.at(highest, table.columns, table.values)
    with np.errstate(over="ignore"):
        spread = highest - lowest
    for wrong, what, mend in (
        (lowest > highest, "no value", "leave out what does not vary"),
        (lowest == highest, "no two different values", "leave out what does not vary"),
        (spread < SMALLEST, f"values {TOO_CLOSE[0]}", TOO_CLOSE[1]),
        (spread > 1 / SMALLEST, f"values {TOO_LARGE[0]}", TOO_LARGE[1]),
    ):
        if wrong.any():
            raise UserError(f"{table.name} has {what} in {_listing(table.column_labels[wrong])}", mend)


def _listing(labels: pd.Index) -> str:
    names = ", ".join(repr(str(label)) for label in labels[:3])
    more = f" and {len(labels) - 3:,} more" if len(labels) > 3 else ""
    return f"{'column' if len(labels) == 1 else 'columns'} {names}{more}"
