"""The user's own ratings in any of the layouts that MovieLens is published in.

    u.data        user TAB item TAB rating TAB timestamp, no header
    ratings.dat   user::item::rating::timestamp, no header
    ratings.csv   a header line, then user,item,rating,timestamp

The timestamp may be left out, and a header is recognised in each layout. Users and items are whole numbers.
When a user rated an item more than once the latest rating counts: the last by timestamp, then by line.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from lgm_cli.data.base import Table
from lgm_cli.data.files import find
from lgm_cli.errors import UserError

FIELDS = ("user", "item", "rating", "timestamp")
_HEADER_WORDS = {"user": 0, "item": 1, "movie": 1, "rating": 2, "time": 3}
_LAYOUT = "each line is user, item, rating and perhaps a timestamp, between tabs, :: or commas"


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Read data.path; data.points says whether items or users are the data points."""
    path = find(options)
    return tabulate(path.name, _read(path), options["points"])


def tabulate(name: str, ratings: pd.DataFrame, points: str) -> Table:
    """The table of ratings (columns as in FIELDS) with items or users as its data points."""
    row_field, column_field = ("item", "user") if points == "items" else ("user", "item")
    rows, row_labels = pd.factorize(ratings[row_field].to_numpy(), sort=True)
    columns, column_labels = pd.factorize(ratings[column_field].to_numpy(), sort=True)
    position = rows * len(column_labels) + columns
    order = np.argsort(position, kind="stable")
    last = np.append(np.diff(position[order]) != 0, True)  # of each run of entries at one position
    repeated = len(last) - int(last.sum())
    if repeated and "timestamp" in ratings:
        runs = np.flatnonzero(~last | ~np.roll(last, 1))  # the entries that share their position
        some = order[runs]
        order[runs] = some[np.lexsort((ratings["timestamp"].to_numpy()[some], position[some]))]
    chosen = order[last]
    return Table(
        name=name,
        rows=rows[chosen].astype(np.int64),
        columns=columns[chosen].astype(np.int64),
        values=ratings["rating"].to_numpy(np.float64)[chosen],
        row_labels=pd.Index(row_labels),
        column_labels=pd.Index(column_labels),
        common_unit=True,
        is_table=False,
        notes=(f"{repeated:,} repeated by a later rating of the same user and item",) if repeated else (),
    )


def _read(path: Path) -> pd.DataFrame:
    """Let pandas read the file at full speed; only if something is wrong look for it line by line."""
    separator, width, header = _layout(path)
    # pandas is fast for one-character separators only.
    source = io.BytesIO(path.read_bytes().replace(b"::", b",")) if separator == "::" else path
    try:
        frame = pd.read_csv(
            source,
            sep="," if separator == "::" else separator,
            header=None,
            skiprows=header,
            dtype=dict(enumerate((np.int64, np.int64, np.float64, np.float64)[:width])),
            encoding="utf-8-sig",
        )
    except pd.errors.EmptyDataError:
        raise UserError(f"{path} has a header line and no ratings", _LAYOUT) from None
    except (ValueError, OverflowError) as error:
        _explain(path, separator, width, header, str(error))
    right = frame.shape[1] == width and all(
        np.isfinite(frame[field]).all() and (field > 1 or (frame[field] >= 0).all()) for field in range(width)
    )
    if not right:
        _explain(path, separator, width, header, "its numbers cannot be read")
    return frame.set_axis(list(FIELDS[:width]), axis=1)


def _layout(path: Path) -> tuple[str, int, int]:
    """Separator, number of fields, and number of the line that holds the header (0 without one)."""
    with path.open(encoding="utf-8-sig") as file:
        number, first = next((number, line) for number, line in enumerate(file, 1) if line.strip())
    separator = next((separator for separator in ("::", "\t", ",") if separator in first), None)
    if separator is None:
        raise UserError(f"{path}, line {number} is no rating: {first.strip()[:60]!r}", _LAYOUT)
    fields = _split(first, separator)
    if len(fields) not in (3, 4):
        raise UserError(f"{path}, line {number} has {len(fields)} fields, not 3 or 4", _LAYOUT)
    if any(_number(field) is not None for field in fields):
        return separator, len(fields), 0
    for name, field in zip(FIELDS, fields, strict=False):
        meant = {FIELDS[at] for word, at in _HEADER_WORDS.items() if word in field.lower()}
        if meant and name not in meant:
            raise UserError(f"{path} has {field!r} where the {name} should be", _LAYOUT)
    return separator, len(fields), number


def _explain(path: Path, separator: str, width: int, header: int, error: str) -> NoReturn:
    """Raise an error that names the first line that is wrong, and what is wrong with it."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if number <= header or not line.strip():
                continue
            fields = _split(line, separator)
            if len(fields) != width:
                raise UserError(f"{path}, line {number} has {len(fields)} fields, the first has {width}", _LAYOUT)
            for name, field in zip(FIELDS, fields, strict=False):
                value = _number(field)
                if name in ("user", "item"):
                    wanted = "a whole number of at least 0"
                    right = value is not None and value >= 0 and value == int(value) and value < 2**63
                else:
                    wanted, right = "a number", value is not None
                if not right:
                    raise UserError(f"{path}, line {number}: {name} {field!r} is not {wanted}", _LAYOUT)
    raise UserError(f"{path}: {error}", _LAYOUT)


def _split(line: str, separator: str) -> list[str]:
    return [field.strip().strip('"') for field in line.split(separator)]


def _number(field: str) -> float | None:
    """The finite number that a field holds."""
    try:
        value = float(field)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
