"""The cells of a user's table as texts: of a text file whose dialect is recognised, of Excel, of Parquet."""

from __future__ import annotations

import csv
import datetime
import itertools
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lgm_cli.data.base.files import Text, beginning, decoded
from lgm_cli.errors import UserError

Record = tuple[int, list[str]]  # the line that it starts on, and its fields

SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "bar": "|", "whitespace": " "}
SAID = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars", " ": "blanks"}
GUESSED = "\t;| "  # where the header has one field between commas
DECIMALS = {"point": ".", "comma": ","}
SAMPLE = 1 << 20  # characters by which a dialect is recognised
FIRST_ROWS = 100  # whose widths and labels are looked at
DECIMAL = {mark: re.compile(rf"[+-]?\d*{re.escape(mark)}\d+(?:[eE][+-]?\d+)?") for mark in ".,"}


@dataclass(frozen=True)
class Sheet:
    """A table of texts."""

    names: list[str]  # of its columns, "" for a first column without one
    index: str | None  # the column of labels, if the file itself says which
    records: Iterator[Record]
    decimal: str  # the mark of decimals
    notes: tuple[str, ...]  # what was recognised


def read(path: Path, options: dict[str, Any], in_time: bool = False) -> Sheet:
    """The table in a file. data.separator, data.decimal and data.encoding are heeded where they are given. in_time: a
    blank line of a single column is a row without a value."""
    begun = beginning(path)
    if begun.startswith(b"\xd0\xcf\x11\xe0"):
        raise UserError(f"{path} is of an old version of Excel", "save it as .xlsx or as CSV")
    if begun.startswith(b"PK\x03\x04"):
        sheet = _excel(path)
    elif begun.startswith(b"PAR1"):
        sheet = _parquet(path)
    else:
        sheet = _text(decoded(path, options.get("encoding")), options)
    records = _without_blanks(sheet.records, in_time and len(sheet.names) == 1)
    index = "" if len(sheet.names) > 1 and sheet.names[0] == "" else sheet.index
    return Sheet(sheet.names, index, records, sheet.decimal, sheet.notes)


def _without_blanks(records: Iterable[Record], steps: bool) -> Iterator[Record]:
    """The records that are not blank; steps: blank ones between others are rows of an empty field."""
    blank: list[int] = []
    for line, fields in records:
        if len(fields) > 1 or "".join(fields).strip():
            yield from ((number, [""]) for number in blank)
            yield line, fields
            blank = []
        elif steps:
            blank.append(line)


# Text ------------------------------------------------------------------------------------------------------------


def _text(text: Text, options: dict[str, Any]) -> Sheet:
    before, lines, stated = _beginning(text)
    separator, header = SEPARATORS.get(options.get("separator") or "auto", stated), None
    comments = [line for line in before if line.startswith("#")]
    if comments and (found := _header_in_comment(comments[-1], lines, separator)) is not None:
        separator, header = found
        comments = comments[:-1]
    separator = separator or _separator(lines)
    rows, records = _sample(lines, separator), _records(text, len(before), separator)
    if header is None:
        header, rows = (rows or [[""]])[0], rows[1:]
        next((fields for _, fields in records if "".join(fields).strip()), None)
    names = [name.strip() for name in header]
    if len(names) > 1 and _ends_with_separator(names, rows):
        names = names[:-1] if names[-1] == "" else names
        records = _without_last(records, len(names))
        rows = [fields[:-1] for fields in rows]
    if _labels_without_a_name(len(names), rows[:FIRST_ROWS], lines, separator):
        names = ["", *names]
    labels = names.index(options["index"]) if options.get("index") in names else 0 if names[0] == "" else None
    decimal = DECIMALS.get(options.get("decimal") or "auto") or _decimal(rows, labels, separator)
    dialect = [SAID.get(separator, f"separated by {separator!r}")] * (separator != ",")
    dialect += ["decimal commas"] * (decimal == ",") + text.notes
    notes = [", ".join(dialect)] * bool(dialect)
    notes += [f"{len(comments):,} {'line' if len(comments) == 1 else 'lines'} of comment passed over"] * bool(comments)
    return Sheet(names, None, records, decimal, tuple(notes))


def _beginning(text: Text) -> tuple[list[str], list[str], str | None]:
    """The lines before the header, blank or of comment; as many from it on as a dialect is recognised by; the separator
    that a first line sep=; states, as Excel reads and writes."""
    before: list[str] = []
    lines: list[str] = []
    stated, size = None, 0
    with text.open() as file:
        for line in file:
            if not lines and (line.startswith("#") or not line.strip()):
                before.append(line)
            elif not before and not lines and (found := re.fullmatch(r"sep=([,;|:\t~^])", line.strip("\r\n"))):
                before.append(line)
                stated = found[1]
            else:
                lines.append(line)
                size += len(line)
                if size > SAMPLE:
                    break
    return before, lines, stated


def _records(text: Text, skipped: int, separator: str) -> Iterator[Record]:
    """What follows after the first lines, blank records too."""
    with text.open() as file:
        for _ in itertools.islice(file, skipped):
            pass
        reader = _reader(file, separator)
        line = skipped + 1
        try:
            for fields in reader:
                yield line, fields
                line = skipped + reader.line_num + 1
        except csv.Error as error:
            raise UserError(f"{text.path}, line {line}: {error}", "look for a quote that is not closed") from None


def _reader(lines: Iterable[str], separator: str) -> Any:
    """Python's, which counts lines and fields, where pandas' fills up a line that is too short."""
    if separator == " ":
        lines = (line.replace("\t", " ").rstrip() + "\n" for line in lines)
    return csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)


def _sample(lines: list[str], separator: str) -> list[list[str]]:
    """The records of some lines, up to what cannot be read, without blank ones."""
    found: list[list[str]] = []
    with suppress(csv.Error):  # it is met, and said, when the file is read, or is a quote that ends beyond the sample
        for fields in _reader(lines, separator):
            if "".join(fields).strip():
                found.append(fields)  # noqa: PERF401 (what comes before an error is kept)
    return found


def _separator(lines: list[str]) -> str:
    """Commas where the header has several fields between them; else what makes the header and the rows agree."""
    header = _sample(lines[: 2 * FIRST_ROWS], ",")
    if header and len(header[0]) > 1:
        if all(len(fields) == len(header[0]) for fields in header):
            return ","
        found = _sample(lines[: 2 * FIRST_ROWS], ";")  # a name between semicolons may have a comma
        agree = len(found) > 1 and len(found[0]) > 1 and all(len(fields) == len(found[0]) for fields in found)
        return ";" if agree else ","
    for separator in GUESSED:
        sample = _sample(lines[: 2 * FIRST_ROWS], separator)
        if not sample:
            continue
        width, rows = len(sample[0]), sample[1 : FIRST_ROWS + 1]
        if rows and width > 1 and all(len(fields) == width for fields in rows):
            return separator
        if _labels_without_a_name(width, rows, lines, separator):
            return separator
        if separator != " " and width > 1 and (not rows or max(map(len, rows)) > 1):
            return separator  # some of the lines are wrong
    return ","


def _ends_with_separator(names: list[str], rows: list[list[str]]) -> bool:
    """Whether every row, and perhaps the header, ends with a separator behind the last field."""
    width = len(names) if names[-1] == "" else len(names) + 1
    return bool(rows) and all(len(fields) == width and not fields[-1].strip() for fields in rows)


def _without_last(records: Iterable[Record], width: int) -> Iterator[Record]:
    """The records without an empty field that comes after `width` others."""
    for line, fields in records:
        yield line, fields[:-1] if len(fields) == width + 1 and not fields[-1].strip() else fields


def _labels_without_a_name(width: int, rows: list[list[str]], lines: list[str], separator: str) -> bool:
    """Whether the rows have one field more than the header, a label, as R's write.table() writes them."""
    if not rows or any(len(fields) != width + 1 for fields in rows):
        return False
    if width == 1 and separator in ", " and not any(line.startswith('"') for line in lines[1:3]):
        return False  # 1,5 or 1 500 may be a number
    labels = [fields[0].strip() for fields in rows]
    return "" not in labels and len(set(labels)) == len(labels) and any(fields[-1].strip() for fields in rows)


def _header_in_comment(comment: str, lines: list[str], separator: str | None) -> tuple[str, list[str]] | None:
    """Separator and names, if the last line of comment is the header: #,a,b, or # a b, as numpy.savetxt() writes."""
    bare = comment[1:].strip(" \r\n")
    of_its_own = bare[:1] in (",", ";", "|", "\t")  # the first column is called #
    line = comment if of_its_own else bare
    separator = separator or _separator([line, *lines])
    found = [_sample([each], separator) for each in (line, *lines[:1])]
    if len(found) < 2 or not all(found) or len(found[0][0]) != len(found[1][0]) or len(found[0][0]) < 2:
        return None
    names, row = found[0][0], found[1][0]
    if any(map(_is_number, names)) or not any(map(_is_number, row)):
        return None
    return (separator, names) if of_its_own or not all(field.strip().isdigit() for field in row) else None


def _is_number(field: str) -> bool:
    try:
        float(field.replace(",", "."))
    except ValueError:
        return False
    return True


def _decimal(rows: list[list[str]], labels: int | None, separator: str) -> str:
    """A comma where numbers have commas and none, but for labels, has a point. Between commas it is not guessed:
    "1,234" may be 1234."""
    if separator == ",":
        return "."
    cells = [field.strip() for fields in rows for place, field in enumerate(fields) if place != labels]
    points, commas = (any(DECIMAL[mark].fullmatch(cell) for cell in cells) for mark in ".,")
    return "," if commas and not points else "."


# Excel and Parquet -------------------------------------------------------------------------------------------------


def _excel(path: Path) -> Sheet:
    def parse() -> tuple[list[Any], Any]:
        with pd.ExcelFile(path, engine="openpyxl") as book:
            return book.sheet_names, book.parse(0, header=None, dtype=object, na_filter=False)

    sheets, frame = _parsed(path, "an Excel file", "openpyxl", parse)
    rows = zip(*(_texts(frame.iloc[:, place].tolist()) for place in range(frame.shape[1])), strict=True)
    records = [(line, list(fields)) for line, fields in enumerate(rows, 1)]
    filled = [any(fields[place] for _, fields in records) for place in range(frame.shape[1])]
    if not any(filled):
        raise UserError(f"{path} is empty", "its first sheet has no cell")
    kept = ((line, list(itertools.compress(fields, filled))) for line, fields in records)
    names = next(fields for _, fields in kept if any(fields))
    notes = (f"sheet {sheets[0]!r}, the first of {len(sheets)}",) if len(sheets) > 1 else ()
    return Sheet([name.strip() for name in names], None, kept, ".", notes)


def _parquet(path: Path) -> Sheet:
    frame = _parsed(path, "a Parquet file", "pyarrow", lambda: pd.read_parquet(path, engine="pyarrow"))
    names, index = [str(name).strip() for name in frame.columns], None
    columns = [_texts(frame.iloc[:, place].tolist()) for place in range(frame.shape[1])]
    if not isinstance(frame.index, pd.RangeIndex) and frame.index.nlevels == 1:
        index = "" if frame.index.name is None else str(frame.index.name).strip()
        names, columns = [index, *names], [_texts(frame.index.tolist()), *columns]
    rows = zip(*columns, strict=True)
    return Sheet(names, index, ((line, list(fields)) for line, fields in enumerate(rows, 1)), ".", ())


def _parsed(path: Path, what: str, package: str, parse: Any) -> Any:
    """What a package for files of this kind gives; its errors are of any type."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and the like
            return parse()
    except ImportError:
        raise UserError(
            f"{path} is {what}, and the package {package} is not installed", "pip install 'lgm-run[files]'"
        ) from None
    except MemoryError:
        raise
    except Exception:
        raise UserError(f"{path} is not {what} that can be read", "save it again, or as CSV") from None


def _texts(cells: list[Any]) -> list[str]:
    """The cells of a column as a text file would hold them; dates without a time, if none has one."""
    texts = ["" if pd.api.types.is_scalar(cell) and pd.isna(cell) else str(cell) for cell in cells]
    times = [place for place, cell in enumerate(cells) if isinstance(cell, datetime.datetime) and texts[place]]
    if all(texts[place].endswith(" 00:00:00") for place in times):
        for place in times:
            texts[place] = texts[place].removesuffix(" 00:00:00")
    return texts
