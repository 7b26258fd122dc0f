"""The user's own table: one row per observation, a header line, empty or NaN or NA = missing."""

from __future__ import annotations

import dataclasses
from array import array
from collections import Counter
from collections.abc import Collection
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data.base import categories, sheets
from lgm_cli.data.base.classes import classes_of
from lgm_cli.data.base.files import MISSING, find
from lgm_cli.data.base.make_table import rectangle, regression
from lgm_cli.data.base.oddities import repeated_extremes, row_numbers
from lgm_cli.data.base.several_series import series_of
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError, nearest, proposed

NAME_TEXTS = "data.index=NAME for labels, data.categories=all for categories, else data.drop"


def load(
    options: dict[str, Any], simulate: object = None, in_time: bool = False, required: Collection[str] = ()
) -> Table:
    """Read data.path; data.index names a column of labels that is carried through to the outputs, data.target the
    response of a regression on the other columns, data.labels classes that are known of some rows. With
    `target_may_lack` a file without the target has unknown responses, with `class_names` there are no other classes.
    data.series is a column that says which of several series a row is of. data.categories are columns whose texts are
    read as categories; with `category_names` there are no others.
    in_time: a blank line of a single column is a row without a value. required: columns that must hold numbers, where
    others of text alone are left out."""
    path = find(options)
    sheet = sheets.read(path, options, in_time)
    header = sheet.names
    _check_header(path, header, sheet.decimal)
    target = None if options.get("target") is None else str(options["target"])
    if target is not None and target not in header and not options.get("target_may_lack"):
        _position(path, header, "target", target)
    index = sheet.index if options.get("index") is None else str(options["index"])
    if target is not None and target == index:
        raise UserError(f"data.target={target} is the index, too", "name another column for one of them")
    place = None if index is None else 0 if index == "" else _position(path, header, "index", index)
    classed = _apart("labels", path, header, options, index, target)
    parted = _apart("series", path, header, options, index, target)
    apart = {index, sheet.index, options.get("labels"), options.get("series")}
    used = _used(path, header, options, apart, target)
    names = [header[position] for position in used]
    needed = {*required, *(options.get("columns") or ()), *([target] if target else [])}
    cells = _Cells(path, names, sheet.decimal, options.get("missing") or ())
    texts = categories.Texts(names, options.get("categories") or (), target, cells.read)

    labels: list[str] = []
    classes: list[str] = []
    series: list[str] = []
    take = itemgetter(*used) if len(used) > 1 else lambda fields: [fields[position] for position in used]
    for line, fields in sheet.records:
        if len(fields) != len(header):
            raise UserError(
                f"{path}, line {line} has {len(fields)} fields where the header has {len(header)}",
                "give every line one field per column",
            )
        if place is not None:
            labels.append(fields[place])
        if classed is not None:
            classes.append(fields[classed])
        if parted is not None:
            series.append(fields[parted])
        chosen = fields if len(used) == len(header) else take(fields)
        cells.add(line, chosen)
        texts.add(chosen)
    if not cells.lines:
        raise UserError(f"{path} has a header line and no rows", "give one row per observation")
    least = 1 if in_time or options.get("target_may_lack") else 2
    codes, called = texts.numbered(path, cells.lines, options.get("category_names"))
    values, names, notes = cells.values(needed, least, codes)
    count = len(values)

    row_labels = pd.RangeIndex(count) if place is None else pd.Index(labels, dtype="str")
    index_name = None if place is None else header[place]
    measured = [place for place, name in enumerate(names) if name not in called]
    numbers = values[:, measured], [names[place] for place in measured]
    notes = (*sheet.notes, *notes, *row_numbers(*numbers, target), *_unnamed(header, index))
    notes += (categories.said(called),) if called else ()
    warnings = repeated_extremes(*numbers)
    if target is not None:
        if target not in names:
            names.append(target)
            values = np.column_stack([values, np.full(count, np.nan)])
        table = _regression(path, values, names, names.index(target), row_labels, index_name, cells.lines, called)
    else:
        table = rectangle(
            name=path.name,
            values=values,
            row_labels=row_labels,
            column_labels=pd.Index(names, dtype="str"),
            index_name=index_name,
        )
    table = dataclasses.replace(table, categories=called or None)
    if classed is not None:
        missing, names_known = options.get("missing") or (), options.get("class_names")
        found, known = classes_of(classes, header[classed], path.name, missing, names_known)
        table = dataclasses.replace(table, classes=found, class_names=known)
    if parted is not None:
        numbers, called = series_of(series, header[parted], path.name, cells.lines, options.get("missing") or ())
        table = dataclasses.replace(table, series=numbers, series_names=called, series_column=header[parted])
    return dataclasses.replace(table, notes=(*notes, *table.notes), warnings=warnings)


def _regression(
    path: Path,
    values: np.ndarray,
    names: list[str],
    target: int,
    row_labels: pd.Index,
    index_name: str | None,
    lines: array,
    called: categories.Names,
) -> Table:
    """The target is the response, the other columns its features, which must be complete; categories among them become
    indicators."""
    features = np.delete(values, target, axis=1)
    labels = names[:target] + names[target + 1 :]
    if not labels:
        raise UserError(f"{path} has no column beside data.target={names[target]}", "give at least one feature")
    gaps = np.argwhere(np.isnan(features))
    if len(gaps):
        row, column = gaps[0]
        raise UserError(
            f"{path}, line {lines[row]} has no value in column {labels[column]!r}, and features must be complete",
            "leave out such rows or columns, or fill them first: lgm-run model=factor_analysis data=csv imputes",
        )
    features, labels = categories.indicators(features, labels, called, path)
    return regression(
        path.name, features, values[:, target], row_labels, pd.Index(labels, dtype="str"), names[target],
        index_name=index_name, target_position=target,
    )  # fmt: skip


def header(options: dict[str, Any]) -> list[str]:
    """The names of the columns of data.path, as they stand there."""
    return sheets.read(find(options), options).names


def _check_header(path: Path, header: list[str], decimal: str) -> None:
    unnamed = [position for position, name in enumerate(header) if name == "" and (position or len(header) == 1)]
    if unnamed:  # but the first of several, which holds labels
        raise UserError(f"{path} has no name for column {unnamed[0] + 1}", "name every column in the header line")
    name, count = Counter(header).most_common(1)[0]
    if count > 1:
        raise UserError(f"{path} has {count} columns named {name!r}", "give each column its own name")
    # Years or positions are good names, but a decimal fraction is a first row without a header.
    values = [_number(name, decimal) for name in header]
    if None not in values and not all(value.is_integer() for value in values if value is not None):
        raise UserError(f"{path} begins with numbers instead of names", "add a header line")


def _position(path: Path, header: list[str], key: str, name: str) -> int:
    if name not in header:
        near = nearest(name, header)
        raise UserError(
            f"data.{key}={name} is not a column of {path}",
            f"did you mean {proposed(f'data.{key}', near)}?" if near else f"its columns are {', '.join(header[:10])}",
        )
    return header.index(name)


def _apart(
    what: str, path: Path, header: list[str], options: dict[str, Any], index: str | None, target: str | None
) -> int | None:
    """The position of data.labels or data.series, which may have no other part; None where it is not given."""
    name = options.get(what)
    if name is None:
        return None
    place = _position(path, header, what, name)
    for key, others in (
        ("index", [index]),
        ("target", [target]),
        *((key, options.get(key)) for key in ("columns", "drop")),
        *((("labels", [options.get("labels")]),) if what == "series" else ()),
    ):
        if name in (others or ()):
            raise UserError(f"data.{what}={name} is in data.{key}, too", "leave it out of one of them")
    return place


def _used(
    path: Path, header: list[str], options: dict[str, Any], labels: set[str | None], target: str | None
) -> list[int]:
    """Which columns hold values: those of data.columns, or all, without labels and those of data.drop."""
    chosen, dropped = options.get("columns"), options.get("drop") or []
    read = [name for name in options.get("categories") or [] if name != categories.ALL]
    for key, names in (("columns", chosen or []), ("drop", dropped), ("categories", read)):
        for name in names:
            _position(path, header, key, name)
    if target is not None and target in dropped:
        raise UserError(f"data.drop has data.target={target}", "leave it out of one of them")
    kept = set(header if chosen is None else [*chosen, *([target] if target else [])]) - {*dropped, *labels}
    return [position for position, name in enumerate(header) if name in kept]


def _unnamed(header: list[str], index: str | None) -> list[str]:
    """What to say of a first column without a name."""
    if header[0] != "":
        return []
    return ["column 1, without a name, " + ("labels the rows" if index == "" else "is left out")]


class _Cells:
    """The numbers of a table, row by row, and what was found in their place."""

    def __init__(self, path: Path, names: list[str], decimal: str, missing: Collection[str]) -> None:
        self.path, self.names, self.decimal = path, names, decimal
        self.missing = MISSING | {word.strip().lower() for word in missing}
        self.codes = {number for word in missing if (number := _number(word.strip(), decimal)) is not None}
        self.lines = array("q")
        self.numbers = array("d")
        self.gaps: Counter[str] = Counter()  # how often each word was read as missing
        self.texts: dict[str, tuple[int, str]] = {}  # the first field of a column that is no number, and its line

    def add(self, line: int, fields: Any) -> None:
        """A record, whose fields are those of the columns that are read."""
        self.lines.append(line)
        try:
            joined = "".join(fields)
            if "_" not in joined:  # float() would read the label 2020_01 as a number
                if self.decimal == ".":
                    self.numbers.extend([float(field or "nan") for field in fields])
                    return
                if "." not in joined:
                    self.numbers.extend([float(field.replace(",", ".") or "nan") for field in fields])
                    return
        except ValueError:
            pass  # look at the fields one by one
        for name, field in zip(self.names, fields, strict=True):
            self.numbers.append(self._number(line, name, field.strip()))

    def _number(self, line: int, name: str, field: str) -> float:
        if (word := field.lower()) in self.missing:
            if word not in ("", "nan"):
                self.gaps[field] += 1
            return float("nan")
        number = _number(field, self.decimal)
        if number is None:
            self.texts.setdefault(name, (line, field))
        return float("nan") if number is None else number

    def read(self, field: str) -> float | None:
        """The number that a text stands for, NaN where it stands for a missing value, None where it is no number."""
        number = float("nan") if field.lower() in self.missing else _number(field, self.decimal)
        return float("nan") if number in self.codes else number

    def values(
        self, needed: Collection[str], least: int, categories: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, list[str], list[str]]:
        """The numbers, (rows, columns), NaN where missing; the names of the columns; what a user should know. Columns
        of text without a single number are left out, unless they are needed or fewer than `least` are left.
        categories: by column, numbers in place of its texts."""
        values = np.asarray(self.numbers).reshape(len(self.lines), len(self.names))
        for code in self.codes:
            if count := int((found := values == code).sum()):
                self.gaps[f"{code:g}"] += count
                values[found] = np.nan
        infinite = np.argwhere(np.isinf(values))
        if len(infinite):
            row, column = infinite[0]
            raise UserError(
                f"{self.path}, line {self.lines[row]}, column {self.names[column]!r} is infinite",
                "leave the field empty if it is missing",
            )
        for name, codes in categories.items():
            values[:, self.names.index(name)] = codes
            self.texts.pop(name, None)
        kept = [position for position, name in enumerate(self.names) if name not in self.texts]
        filled = np.count_nonzero(~np.isnan(values), axis=0)
        for name, (line, field) in self.texts.items():
            wanted = name in needed or len(kept) < least
            if wanted or filled[self.names.index(name)] or _numbers_in_disguise(field):
                raise UserError(
                    f"{self.path}, line {line}, column {name!r}: {field!r} is not a number", self._mend(name, field)
                )
        words = [f"{count:,} {'cell' if count == 1 else 'cells'} {word!r}" for word, count in self.gaps.most_common()]
        notes = [f"{', '.join(words)} read as missing"] * bool(words)
        if self.texts:
            names = ", ".join(map(repr, list(self.texts)[:3])) + ", .." * (len(self.texts) > 3)
            notes.append(f"left out as text: {names} ({NAME_TEXTS})")
        return values[:, kept], [self.names[position] for position in kept], notes

    def _mend(self, name: str, field: str) -> str:
        if _numbers_in_disguise(field):
            return "data.separator and data.decimal=comma say how a file is written; no marks between thousands"
        return (
            f"leave it empty, or {proposed('data.missing', field)}, if it is missing; "
            f"{proposed('data.index', name)} for labels; {proposed('data.categories', name)} for categories; "
            f"{proposed('data.drop', name)}"
        )


def _number(field: str, decimal: str) -> float | None:
    try:
        if "_" in field or (decimal == "," and "." in field):
            return None
        return float(field.replace(decimal, "."))
    except ValueError:
        return None


def _numbers_in_disguise(field: str) -> bool:
    """Whether a text consists of digits and marks that may separate columns, decimals or thousands."""
    return any(mark in field for mark in ",;|\t") and not field.strip("+-0123456789.,;|\t eE")
