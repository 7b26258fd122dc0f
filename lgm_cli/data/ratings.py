"""The user's own ratings in any of the layouts that MovieLens is published in.

    u.data        user TAB item TAB rating TAB timestamp, no header
    ratings.dat   user::item::rating::timestamp, no header
    ratings.csv   a header line, then user,item,rating,timestamp

The timestamp may be left out, and a header is recognised in each layout; so are semicolons, vertical bars and decimal
commas. Users and items are whole numbers or texts, timestamps numbers or in ISO 8601. A line without a rating is left
out. When a user rated an item more than once the latest rating counts: the last by timestamp, then by line.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data.base.files import MISSING, Text, decoded, find
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError

FIELDS = ("user", "item", "rating", "timestamp")
_HEADER_WORDS = {"user": 0, "item": 1, "movie": 1, "rating": 2, "time": 3}
_LAYOUT = "each line is user, item, rating and perhaps a timestamp, between tabs, :: or commas"
SEPARATORS = ("::", "\t", ";", "|", ",")  # the first of them that the first line has; decimals may have commas
LARGEST = 2**53  # identifier that may be written with a point or an exponent
SAMPLED = 1000  # lines by which decimals are recognised
OPEN = "look for a quote that is not closed"
QUOTED = re.compile(r'^"(.*)"$')  # a whole field between ::, where quotes are otherwise characters like others
UNIT = "\x1f"  # in the place of ::, as pandas is fast for one character only


def load(options: dict[str, Any], simulate: object = None, text: bool = False) -> Table:
    """Read data.path; data.points says whether items or users are the data points. text: what are the columns then
    is named by texts, even if they are numbers."""
    path = find(options)
    columns = "user" if options["points"] == "items" else "item"
    ratings, notes = _read(decoded(path, options.get("encoding")), as_text=columns if text else None)
    table = tabulate(path.name, ratings, options["points"])
    return dataclasses.replace(table, notes=(*notes, *table.notes))


def is_whole(label: str) -> bool:
    """Whether an identifier is written as a whole number is."""
    return re.fullmatch(r"0|[1-9]\d{0,17}", label) is not None


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


@dataclass(frozen=True)
class _Layout:
    """How a file of ratings is written."""

    text: Text
    separator: str
    width: int  # fields of a line
    skipped: int  # lines up to the header
    decimal: str
    numbered: bool = False  # a first field without a name, such as the index of pandas, stands before the others

    def lines(self) -> Iterator[tuple[int, list[str]]]:
        """The number and the fields of each line that is not blank."""
        with self.text.open() as file:
            for number, line in enumerate(file, 1):
                if number > self.skipped and line.strip():
                    yield number, _split(line, self.separator)[self.numbered :]

    def padded(self) -> bool:
        """Whether a user or an item begins with a zero before another digit, as 007 does."""
        with self.text.open() as file:
            field = rf"[^{re.escape(self.separator[0])}\r\n]*{re.escape(self.separator)}"
            before = field if self.numbered else ""
            return re.search(rf'(?:\A|[\r\n]){before}(?:{field})?[ \t]*"?0\d', file.read()) is not None

    def frame(self, dtype: Any, **options: Any) -> pd.DataFrame:
        """As pandas reads it. dtype: of all columns, or by the place of each."""
        with self.text.open() as file, np.errstate(invalid="ignore"):  # of an identifier that is no integer
            for _ in range(self.skipped):
                file.readline()
            settings: dict[str, Any] = {"sep": self.separator, **options}
            source: Any = io.StringIO(file.read().replace("::", UNIT)) if self.separator == "::" else file
            if self.separator == "::":
                settings |= {"sep": UNIT, "quoting": csv.QUOTE_NONE}
            if self.numbered and isinstance(dtype, dict):
                dtype = {0: str} | {place + 1: kind for place, kind in dtype.items()}
            frame = pd.read_csv(source, header=None, dtype=dtype, **settings)
            return frame.iloc[:, 1:].set_axis(range(frame.shape[1] - 1), axis=1) if self.numbered else frame


def _read(text: Text, as_text: str | None) -> tuple[pd.DataFrame, list[str]]:
    """Let pandas read the file at full speed, as numbers or else as texts; only if something is wrong look for it line
    by line. as_text: user or item, if it is named by texts for certain."""
    layout, notes = _layout(text)
    if as_text is None:
        try:
            types = dict(enumerate((np.int64, np.int64, np.float64, np.float64)[: layout.width]))
            frame = layout.frame(dtype=types, decimal=layout.decimal)
        except pd.errors.EmptyDataError:
            raise UserError(f"{text.path} has a header line and no ratings", _LAYOUT) from None
        except (ValueError, OverflowError):
            pass
        else:
            plain = frame.shape[1] == layout.width and all(
                np.isfinite(frame[field]).all() and (field > 1 or (frame[field] >= 0).all())
                for field in range(layout.width)
            )
            if plain and not layout.padded():
                return frame.set_axis(list(FIELDS[: layout.width]), axis=1), notes
    return _read_texts(layout, notes, as_text)


def _read_texts(layout: _Layout, notes: list[str], as_text: str | None) -> tuple[pd.DataFrame, list[str]]:
    try:
        found = layout.frame(dtype=str, keep_default_na=False, na_filter=False)
    except pd.errors.EmptyDataError:
        raise UserError(f"{layout.text.path} has a header line and no ratings", _LAYOUT) from None
    except ValueError:
        raise _fault(layout) or UserError(f"{layout.text.path} cannot be read", OPEN) from None
    if found.shape[1] != layout.width:
        raise _fault(layout) or UserError(f"{layout.text.path} has lines of other lengths", _LAYOUT)
    if any(found[place].str.contains(r"[\r\n]").any() for place in range(layout.width)):
        raise _fault(layout) or UserError(f"{layout.text.path} has a field of several lines", OPEN)
    cells = {name: found[place].str.strip() for place, name in enumerate(FIELDS[: layout.width])}
    if layout.separator == "::":
        cells = {name: column.str.replace(QUOTED, r"\1", regex=True) for name, column in cells.items()}
    absent = cells["rating"].str.lower().isin(MISSING)
    rating = _numeric(cells["rating"].str.replace(layout.decimal, ".", regex=False))
    read: dict[str, Any] = {name: _identifiers(cells[name], as_text == name) for name in ("user", "item")}
    read["rating"] = rating if np.isfinite(rating[~absent]).all() else None
    if "timestamp" in cells:
        read["timestamp"] = _times(cells["timestamp"])
    wrong = {name for name, values in read.items() if values is None}
    if (wrong or absent.any()) and (fault := _fault(layout, wrong)) is not None:
        raise fault
    if wrong:
        raise UserError(f"{layout.text.path} has lines that cannot be read", _LAYOUT)
    frame: Any = pd.DataFrame(read)[~absent]
    if not len(frame):
        raise UserError(f"{layout.text.path} has no line with a rating", _LAYOUT)
    if count := int(absent.sum()):
        notes = [*notes, f"{count:,} {'line' if count == 1 else 'lines'} without a rating left out"]
    for name in ("user", "item"):
        odd = cells[name][_numeric(cells[name]).isna()]
        if as_text != name and 0 < len(odd) < len(cells[name]):
            notes = [*notes, f"{name}s are read as texts: {odd.iloc[0]!r} is no number"]
    return frame.reset_index(drop=True), notes


def _numeric(cells: pd.Series) -> Any:
    """Texts as numbers, NaN where they are none."""
    return pd.to_numeric(cells, errors="coerce")


def _identifiers(cells: pd.Series, text: bool) -> pd.Series | None:
    """Whole numbers, or texts where some are no numbers, are too long for one or have zeros in front; None where some
    are missing, or where all are numbers, but not whole ones."""
    if cells.str.lower().isin(MISSING).any():
        return None
    numbers = _numeric(cells)
    if text or numbers.isna().any() or cells.str.match(r"0\d").any():
        return cells.astype(object)
    if not cells.str.fullmatch(r"\d+").all():
        whole = (numbers >= 0).all() and (numbers < LARGEST).all() and (numbers % 1 == 0).all()
        return numbers.astype(np.int64) if whole else None
    return cells.astype(np.int64) if cells.str.len().max() <= 18 else cells.astype(object)


def _times(cells: pd.Series) -> pd.Series | None:
    """Timestamps as numbers, by which they are ordered; None where some are neither numbers nor in ISO 8601."""
    numbers = _numeric(cells)
    if np.isfinite(numbers).all():
        return numbers.astype(np.float64)
    dates: Any = pd.to_datetime(
        cells.where(cells.str.match(r"\d{4}")), format="ISO8601", errors="coerce", utc=True
    )  # not "now"
    return None if dates.isna().any() else dates.dt.as_unit("us").astype(np.int64).astype(np.float64)


def _layout(text: Text) -> tuple[_Layout, list[str]]:
    """How the file is written, and what of it is unusual."""
    path, number, first, later = text.path, 0, "", []
    with text.open() as file:
        for line in file:
            if first:
                later.append(line)
                if len(later) > SAMPLED:
                    break
                continue
            number += 1
            if line.strip() and not line.startswith("#"):
                first = line
    separator = next((separator for separator in SEPARATORS if separator in first), None)
    if separator is None:
        raise UserError(f"{path}, line {number} is no rating: {first.strip()[:60]!r}", _LAYOUT)
    fields = _split(first, separator)
    numbered = len(fields) in (4, 5) and fields[0] == "" and all(_number(field) is None for field in fields)
    fields = fields[numbered:]
    if len(fields) not in (3, 4):
        raise UserError(f"{path}, line {number} has {len(fields)} fields, not 3 or 4", _LAYOUT)
    rated = [each[2] for each in (fields, *(_split(line, separator)[numbered:] for line in later)) if len(each) > 2]
    decimal = "," if separator != "," and any(re.fullmatch(r"-?\d*,\d+", field) for field in rated) else "."
    notes = {";": ["semicolons"], "|": ["vertical bars"]}.get(separator, []) + ["decimal commas"] * (decimal == ",")
    notes += ["a first column without a name left out"] * numbered
    notes = [", ".join([*notes, *text.notes])] if notes or text.notes else []
    numeric = any(_number(field.replace(decimal, ".")) is not None for field in fields)
    if numeric or any(field.lower() in MISSING for field in fields):
        return _Layout(text, separator, len(fields), number - 1, decimal), notes
    for name, field in zip(FIELDS, fields, strict=False):
        meant = {FIELDS[at] for word, at in _HEADER_WORDS.items() if word in field.lower()}
        if meant and name not in meant:
            raise UserError(f"{path} has {field!r} where the {name} should be", _LAYOUT)
    return _Layout(text, separator, len(fields), number, decimal, numbered), notes


def _fault(layout: _Layout, fields: Collection[str] = FIELDS) -> UserError | None:
    """What is wrong with the first line that has another number of fields or, among `fields`, one that cannot be."""
    path, texts = layout.text.path, dict.fromkeys(FIELDS, False)
    for name in ("user", "item"):
        if name in fields:
            at = FIELDS.index(name)
            texts[name] = any(_float(line[at]) is None for _, line in layout.lines() if _known(line, at))
    for number, line in layout.lines():
        if any(field.endswith(("\n", "\r")) for field in line):
            return UserError(f"{path}, line {number} ends within quotes", OPEN)
        if len(line) != layout.width:
            what = f"{path}, line {number} has {len(line)} fields, the first has {layout.width}"
            return UserError(what, _LAYOUT)
        for at, name in enumerate(FIELDS[: layout.width]):
            if name not in fields:
                continue
            value = _number(line[at].replace(layout.decimal, "."))
            if name in ("user", "item"):
                wanted = "an identifier: a text, or a whole number of at least 0"
                whole = line[at].isdigit() or (value is not None and 0 <= value < LARGEST and value % 1 == 0)
                right = _known(line, at) and (texts[name] or whole)
            elif name == "rating":
                wanted, right = "a number", value is not None or not _known(line, at)
            else:
                wanted = "a number, or a time in ISO 8601"
                right = value is not None or _times(pd.Series(line[at : at + 1], dtype="str")) is not None
            if not right:
                return UserError(f"{path}, line {number}: {name} {line[at]!r} is not {wanted}", _LAYOUT)
    return None


def _known(line: list[str], at: int) -> bool:
    return len(line) > at and line[at].lower() not in MISSING


def _split(line: str, separator: str) -> list[str]:
    if len(separator) > 1:
        return [QUOTED.sub(r"\1", field.strip()) for field in line.split(separator)]
    fields = next(csv.reader([line], delimiter=separator), [])
    return [field if field.endswith(("\n", "\r")) else field.strip() for field in fields]  # a quote is open


def _number(field: str) -> float | None:
    """The finite number that a field holds."""
    value = _float(field)
    return value if value is not None and math.isfinite(value) else None


def _float(field: str) -> float | None:
    try:
        return float(field)
    except ValueError:
        return None
