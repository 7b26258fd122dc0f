"""The user's own table: one row per observation, a header line, empty or NaN = missing."""

from __future__ import annotations

import csv
import itertools
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data.base import Table, rectangle, regression
from lgm_cli.data.files import find
from lgm_cli.errors import UserError, nearest

MISSING = {"", "nan", "na"}  # NA is what R writes


def load(options: dict[str, Any], simulate: object = None, in_time: bool = False) -> Table:
    """Read data.path; data.index names a column of labels that is carried through to the outputs, data.target the
    response of a regression on the other columns. With `target_may_lack` a file without it has unknown responses.
    in_time: a blank line of a single column is a row without a value."""
    path = find(options)
    records = _records(path, in_time)
    header = _header(records)
    _check_header(path, header)
    names, index = list(header), None
    if options.get("index") is not None:
        index = _position(path, header, "index", str(options["index"]))
        del names[index]

    labels: list[str] = []
    numbers = array("d")
    for line, fields in records:
        if len(fields) != len(header):
            raise UserError(
                f"{path}, line {line} has {len(fields)} fields where the header has {len(header)}",
                "give every line one field per column",
            )
        if index is not None:
            labels.append(fields.pop(index))
        numbers.extend(_numbers(path, line, names, fields))
    count = len(numbers) // len(names) if names else len(labels)
    if count == 0:
        raise UserError(f"{path} has a header line and no rows", "give one row per observation")
    values = np.asarray(numbers).reshape(count, len(names))

    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        row, column = infinite[0]
        line, _ = next(itertools.islice(_records(path, in_time), 1 + row, None))
        raise UserError(
            f"{path}, line {line}, column {names[column]!r} is infinite",
            "leave the field empty if it is missing",
        )
    row_labels = pd.RangeIndex(count) if index is None else pd.Index(labels, dtype="str")
    index_name = None if index is None else header[index]
    if options.get("target") is not None:
        if options["target"] == options.get("index"):
            raise UserError(f"data.target={options['target']} is the index, too", "name another column for one of them")
        if options.get("target_may_lack") and options["target"] not in names:
            names.append(str(options["target"]))
            values = np.column_stack([values, np.full(count, np.nan)])
        target = _position(path, names, "target", str(options["target"]))
        return _regression(path, values, names, target, row_labels, index_name)
    return rectangle(
        name=path.name,
        values=values,
        row_labels=row_labels,
        column_labels=pd.Index(names, dtype="str"),
        index_name=index_name,
    )


def _regression(
    path: Path, values: np.ndarray, names: list[str], target: int, row_labels: pd.Index, index_name: str | None
) -> Table:
    """The target is the response, the other columns its features, which must be complete."""
    features = np.delete(values, target, axis=1)
    labels = names[:target] + names[target + 1 :]
    if not labels:
        raise UserError(f"{path} has no column beside data.target={names[target]}", "give at least one feature")
    gaps = np.argwhere(np.isnan(features))
    if len(gaps):
        row, column = gaps[0]
        line, _ = next(itertools.islice(_records(path), 1 + row, None))
        raise UserError(
            f"{path}, line {line} has no value in column {labels[column]!r}, and features must be complete",
            "leave out such rows or columns, or fill them first: lgm-run model=factor_analysis data=csv imputes",
        )
    return regression(
        path.name, features, values[:, target], row_labels, pd.Index(labels, dtype="str"), names[target],
        index_name=index_name, target_position=target,
    )  # fmt: skip


def _records(path: Path, in_time: bool = False) -> Iterator[tuple[int, list[str]]]:
    """The line that each record starts on, and its fields; blank lines are passed over, but, in_time, not those between
    the records of a single column."""
    line, single, blank = 1, False, []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, skipinitialspace=True, strict=True)
        try:
            for fields in reader:
                if len(fields) > 1 or "".join(fields).strip():
                    yield from ((number, [""]) for number in blank)
                    yield line, fields
                    single, blank = in_time and len(fields) == 1, []
                elif single:
                    blank.append(line)
                line = reader.line_num + 1
        except csv.Error as error:
            raise UserError(f"{path}, line {line}: {error}", "look for a quote that is not closed") from None


def header(options: dict[str, Any]) -> list[str]:
    """The names of the columns of data.path, as they stand there."""
    return _header(_records(find(options)))


def _header(records: Iterator[tuple[int, list[str]]]) -> list[str]:
    return [name.strip() for name in next(records, (1, [""]))[1]]


def _check_header(path: Path, header: list[str]) -> None:
    text = "".join(header)
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")):
        if text.count(separator) >= len(header):
            raise UserError(f"{path} is separated by {name}", "separate columns by commas, decimals by points")
    if "" in header:
        raise UserError(f"{path} has no name for column {header.index('') + 1}", "name every column in the header line")
    name, count = Counter(header).most_common(1)[0]
    if count > 1:
        raise UserError(f"{path} has {count} columns named {name!r}", "give each column its own name")
    # Years or positions are good names, but a decimal fraction is a first row without a header.
    values = [_number(name) for name in header]
    if None not in values and not all(value.is_integer() for value in values if value is not None):
        raise UserError(f"{path} begins with numbers instead of names", "add a header line")


def _position(path: Path, header: list[str], key: str, name: str) -> int:
    if name not in header:
        near = nearest(name, header)
        raise UserError(
            f"data.{key}={name} is not a column of {path}",
            f"did you mean data.{key}={near}?" if near else f"its columns are {', '.join(header[:10])}",
        )
    return header.index(name)


def _numbers(path: Path, line: int, names: list[str], fields: list[str]) -> list[float]:
    """The fields of one record as numbers, NaN where missing."""
    try:
        if "_" not in "".join(fields):  # float() would read the label 2020_01 as a number
            return [float(field or "nan") for field in fields]
    except ValueError:
        pass  # look at the fields one by one
    numbers = []
    for name, field in zip(names, fields, strict=True):
        number = float("nan") if field.strip().lower() in MISSING else _number(field)
        if number is None:
            raise UserError(
                f"{path}, line {line}, column {name!r}: {field!r} is not a number",
                "leave it empty if it is missing; data.index=NAME for a column of labels",
            )
        numbers.append(number)
    return numbers


def _number(field: str) -> float | None:
    try:
        return None if "_" in field else float(field)
    except ValueError:
        return None
