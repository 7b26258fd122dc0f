"""A column that says which of several series each row belongs to, and the rows of each in turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from lgm_cli.data.base.classes import with_unknown
from lgm_cli.data.base.files import MISSING
from lgm_cli.data.base.table import Table
from lgm_cli.data.base.time_labels import continued
from lgm_cli.errors import UserError


def series_of(
    texts: Sequence[str], column: str, source: str, lines: Sequence[int], missing: Collection[str] = ()
) -> tuple[np.ndarray, pd.Index]:
    """The series of each row (N,), from 0 on, and their names, in the order in which they first come."""
    absent = MISSING | {word.strip().lower() for word in missing}
    stripped = [text.strip() for text in texts]
    unknown = [place for place, text in enumerate(stripped) if text.lower() in absent]
    if len(unknown) == len(stripped):
        raise UserError(f"data.series={column} names no series in any row of {source}", "name another column")
    if unknown:
        raise UserError(
            f"{source}, line {lines[unknown[0]]} does not say in {column!r} which series it is of", "fill it in"
        )
    numbers, names = pd.factorize(np.array(stripped, object))
    if len(names) == len(stripped) > 1:
        raise UserError(
            f"data.series={column} gives each row of {source} a series of its own",
            "name a column that has the same text in all rows of a series; data.index is for labels of rows",
        )
    return numbers.astype(np.int64), pd.Index(names, dtype="str")


def rows_of_each(table: Table) -> list[np.ndarray]:
    """The rows of each series, in the order of the table."""
    assert table.series is not None
    order = np.argsort(table.series, kind="stable")
    return np.split(order, np.bincount(table.series).cumsum()[:-1])


def named(table: Table, number: int) -> str:
    """A series of a table, for messages."""
    if table.series_names is None:
        return table.name
    return f"series {str(table.series_names[number])!r} of {table.name}"


def summary_of(table: Table) -> str:
    """How many series there are, and how long."""
    assert table.series is not None
    sizes = np.bincount(table.series[: table.end])
    if len(sizes) == 1:
        return f"one series by {table.series_column!r}"
    low, high = sizes.min(), sizes.max()
    return f"{len(sizes):,} series by {table.series_column!r}, of {f'{low:,} to ' if low < high else ''}{high:,} steps"


def extended_each(table: Table, ahead: int) -> Table:
    """A table with so many steps without values past the end of each series, one series after the other, behind the
    rows that were given."""
    assert table.series is not None
    parts, known, labels = rows_of_each(table), {}, table.row_labels
    counted = table.index_name is None  # rows have positions alone, which say nothing of a series
    for rows in parts:
        own = labels[rows]
        if (key := tuple(own)) not in known:
            plain = [f"+{step + 1}" for step in range(ahead)]
            known[key] = plain if counted else list(map(str, continued(own, ahead)))
    more = [label for rows in parts for label in known[tuple(labels[rows])]]
    return dataclasses.replace(
        table,
        row_labels=labels.astype("str").append(pd.Index(more, dtype="str")) if ahead else labels,
        series=np.concatenate([table.series, np.repeat(np.arange(len(parts)), ahead)]),
        classes=with_unknown(table.classes, ahead * len(parts)),
        forecast=ahead * len(parts),
    )
