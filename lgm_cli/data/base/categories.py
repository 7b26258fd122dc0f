"""Columns of text as categories: their names, and the numbers from 0 on that stand for them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from lgm_cli.data.base.classes import rank
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError, proposed

ALL = "all"  # data.categories=all: every column of text
MOST = 50  # categories of a column
SHOWN = 10  # names in an error

Names = Mapping[str, tuple[str, ...]]  # of the categories of each column


class Texts:
    """Cells of the columns that are read as categories.

    columns: names of all columns that are read. asked: data.categories. read: the number that a text stands for, NaN
    where it stands for a missing value, None where it is no number.
    """

    def __init__(
        self, columns: Sequence[str], asked: Collection[str], target: str | None, read: Callable[[str], float | None]
    ) -> None:
        self.asked, self.read = asked, read
        for name in asked:
            if name == target:
                raise UserError(
                    f"data.categories has data.target={name}", "a response is a number: leave it out of one"
                )
            if name not in columns and name != ALL:
                raise UserError(
                    f"data.categories={name} is not among the columns that are read",
                    "it has another part, is in data.drop, or is not in data.columns: leave it out of one of them",
                )
        self._columns = {
            place: _Column(name, sure=name in asked)
            for place, name in enumerate(columns)
            if name in asked or (ALL in asked and name != target)
        }

    def add(self, fields: Sequence[str]) -> None:
        """A row. A column that was not asked for by its name is no column of text once it has a number."""
        numbers = []
        for place, column in self._columns.items():
            text = fields[place].strip()
            if not column.sure and text not in column.places:
                number = self.read(text)
                if number is not None and not math.isnan(number):
                    numbers.append(place)
                    continue
            column.add(text)
        for place in numbers:
            del self._columns[place]

    def numbered(
        self, path: Path, lines: Sequence[int], known: Names | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
        """By column, the numbers of the categories (N,), NaN where missing, and their names, in order. known: the names
        that a run has learned, the only ones there may be; without them there must be from two to MOST."""
        codes, names = {}, {}
        for column in self._columns.values():
            found = column.numbered(path, lines, self.read, None if known is None else known[column.name])
            if found is not None:
                codes[column.name], names[column.name] = found
        if self.asked and not names:
            raise UserError(
                f"data.categories={ALL}, and {path} has no column of text alone",
                "name the columns, data.categories=[A,B], or leave it out",
            )
        return codes, names


class _Column:
    """The texts of a column, by the order in which they came."""

    def __init__(self, name: str, sure: bool) -> None:
        self.name, self.sure = name, sure
        self.places: dict[str, int] = {}
        self.cells = array("q")

    def add(self, text: str) -> None:
        self.cells.append(self.places.setdefault(text, len(self.places)))

    def numbered(
        self, path: Path, lines: Sequence[int], read: Callable[[str], float | None], known: tuple[str, ...] | None
    ) -> tuple[np.ndarray, tuple[str, ...]] | None:
        """As `Texts.numbered`, of this column; None of one without a value that was not asked for by its name."""
        values = {text: read(text) for text in self.places}
        given = {text: value for text, value in values.items() if value is None or not math.isnan(value)}
        if not given and not self.sure:
            return None
        of_numbers = None not in (given if known is None else {name: _number(name) for name in known}).values()
        called = {text: text if value is None or not of_numbers else f"{value:.15g}" for text, value in given.items()}
        names = tuple(sorted(set(called.values()), key=rank)) if known is None else known
        if known is None:
            self._check(path, names)
        elif new := [text for text, name in called.items() if name not in known]:
            line = lines[self.cells.index(self.places[new[0]])]
            raise UserError(
                f"{path}, line {line}, column {self.name!r}: {new[0]!r} is no category that the run has learned",
                f"leave it empty; its categories are {', '.join(known[:SHOWN])}{', ..' * (len(known) > SHOWN)}",
            )
        number = {name: float(place) for place, name in enumerate(names)}
        code = np.array([number[called[text]] if text in called else np.nan for text in self.places])
        return code[np.asarray(self.cells)], names

    def _check(self, path: Path, names: tuple[str, ...]) -> None:
        where = f"{path}, column {self.name!r}"
        if len(names) > MOST:
            raise UserError(
                f"{where} has {len(names):,} categories, and at most {MOST} are learned from",
                f"{proposed('data.drop', self.name)}, {proposed('data.index', self.name)} if it labels the rows, "
                "or put rare ones together",
            )
        if len(names) < 2:
            what = f"a single category {names[0]!r}" if names else "no category"
            raise UserError(f"{where} has {what}", f"leave out what does not vary: {proposed('data.drop', self.name)}")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def said(names: Names) -> str:
    """What a user should know: which columns are read as categories, and how many each has."""
    each = [f"{column!r} ({len(found)})" for column, found in names.items()]
    return f"read as categories: {', '.join(each[:3])}{', ..' * (len(each) > 3)}"


# Of the columns of a table ---------------------------------------------------------------------------------------


def names_of(table: Table) -> list[tuple[str, ...]]:
    """The names of the categories of each column (M,), none where it is one of numbers."""
    if not table.categories:
        return [()] * table.shape[1]
    return [table.categories.get(str(label), ()) for label in table.column_labels]


def sizes(table: Table) -> np.ndarray:
    """How many categories each column has, (M,), zero where it is one of numbers."""
    return np.array([len(names) for names in names_of(table)], np.int64)


def named(values: np.ndarray, columns: np.ndarray, table: Table) -> np.ndarray:
    """Values of entries in these columns as they are written: names of categories, other numbers as they are."""
    if not table.categories:
        return values
    names, found = names_of(table), values.astype(object)
    for place in np.flatnonzero((sizes(table) > 0)[columns] & ~np.isnan(values)):
        found[place] = names[columns[place]][int(values[place])]
    return found


def errors(true: np.ndarray, found: np.ndarray, columns: np.ndarray, table: Table) -> np.ndarray:
    """True values less predicted ones; of categories 0 where the right one was predicted, and 1 where another was."""
    if not table.categories:
        return true - found
    wrong = np.where(np.isnan(true) | np.isnan(found), np.nan, true != found)
    return np.where((sizes(table) > 0)[columns], wrong, true - found)


def titles_of_ones(table: Table, titles: Iterable[object]) -> list[str]:
    """Titles of columns of zeros and ones (M,): `Sex=male` of two categories, of which the second is the one."""
    found = zip(map(str, titles), names_of(table), strict=True)
    return [f"{title}={names[1]}" if len(names) == 2 else title for title, names in found]


# Of the features of a regression ----------------------------------------------------------------------------------


def indicators(features: np.ndarray, labels: Sequence[str], names: Names, path: Path) -> tuple[np.ndarray, list[str]]:
    """Features (N, p) whose numbers of categories are replaced by zeros and ones: a column `name=category` for each
    category but the first. Returns them with their labels."""
    parts, called = [], []
    for place, label in enumerate(labels):
        column = features[:, place, None]
        if label in names:
            column = (column == np.arange(1, len(names[label]))).astype(np.float64)
        parts.append(column)
        called += indicator_labels(label, names.get(label))
    if twice := next((label for label in called if called.count(label) > 1), None):
        raise UserError(f"{path} has a column {twice!r}, and that is the name of a category, too", "rename one of them")
    return np.concatenate(parts, 1), called


def indicator_labels(label: str, names: tuple[str, ...] | None) -> list[str]:
    """The labels of the features that a column becomes."""
    return [label] if names is None else [f"{label}={name}" for name in names[1:]]


def as_given(table: Table) -> tuple[np.ndarray, list[str]]:
    """The features of a regression by the user's columns, (N, q): numbers of categories in place of the zeros and ones
    of `indicators`; and the labels of the columns."""
    assert table.features is not None and table.feature_labels is not None
    labels = list(map(str, table.feature_labels))
    if not table.categories:
        return table.features, labels
    first = {indicator_labels(label, names)[0]: (label, names) for label, names in table.categories.items()}
    parts, called, place = [], [], 0
    while place < len(labels):
        label, names = first.get(labels[place], (labels[place], ()))
        width = max(1, len(names) - 1)
        column = table.features[:, place : place + width]
        parts.append(column @ np.arange(1.0, len(names)) if names else column[:, 0])
        called.append(label)
        place += width
    return np.stack(parts, 1), called
