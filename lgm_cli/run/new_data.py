"""A user's new file as a table that a finished run can be applied to: with the run's columns, in the run's order."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data import csv, image, ratings
from lgm_cli.data.base.categories import Names
from lgm_cli.data.base.table import Table
from lgm_cli.data.series import in_time, transformed
from lgm_cli.errors import UserError

SHOWN = 3  # names of columns in an error


def load(run: Path, options: dict[str, Any], learned: dict[str, Any], given: Collection[str] = ()) -> Table:
    """Read data.path as the run's data group says. learned: summary.json of the run on its data. given: keys that
    are asked for now; the index and the series of the run are heeded where the new file has them."""
    features, columns, classes, categories = _columns(run)
    if options["name"] == "image":
        table = _measured_alike(image.load(options), learned)
    elif options["name"] == "ratings":
        table = _known(ratings.load(options, text=not all(map(ratings.is_whole, columns))), columns)
    else:
        header = csv.header(options)
        for key in ("index", "series"):
            if f"data.{key}" not in given and options.get(key) not in header:
                options = options | {key: None}
        labelled = classes and options.get("labels") in header
        options = options | {"labels": options["labels"] if labelled else None, "class_names": classes}
        known = [column for column in categories if column in header]
        options = options | {"categories": known or None, "category_names": categories}
        for key in ("columns", "drop"):  # of the run, whose columns are known
            options = options | {key: [name for name in options[key] or () if name in header] or None}
        if features:
            table = csv.load(options | {"target": columns[0], "target_may_lack": True}, required=features)
            table = _features_in_order(table, features)
        else:
            in_time = options["name"] == "series"
            table = _in_order(csv.load(options | {"target": None}, in_time=in_time, required=columns), columns)
        if options["name"] == "series":
            table = transformed(_series(table, run, options["season"]), options)
    if not len(table.values) and not features:
        raise UserError(f"{table.name} has no value", "nothing can be inferred from it")
    return table


def _columns(run: Path) -> tuple[list[Any], list[Any], list[Any], Names]:
    """The names of the features; of the columns, which are the response alone where there are features; of classes; of
    the categories of each column."""
    names = _recorded(run, "columns.csv", dtype=str)
    if list(names) not in (["column", "role"], ["column", "role", "of"]) or names.duplicated().any():
        raise _damaged(run / "columns.csv")
    of_categories = names[names["role"] == "category"]
    if len(of_categories) and "of" not in names:
        raise _damaged(run / "columns.csv")
    names = names[names["role"] != "category"]
    features, columns, target = (
        list(names["column"][names["role"] == role]) for role in ("feature", "column", "target")
    )
    classes = list(names["column"][names["role"] == "class"])
    if names.loc[names["role"] != "class", "column"].duplicated().any():
        raise _damaged(run / "columns.csv")
    expected = (len(features) + 1 if features else len(columns)) + len(classes)
    if len(names) != expected or len(target) != bool(features):
        raise _damaged(run / "columns.csv")
    categories = {
        of: tuple(of_categories["column"][of_categories["of"] == of])
        for of in (dict.fromkeys(map(str, of_categories["of"])) if len(of_categories) else ())
    }
    if not features and not categories.keys() <= set(columns):
        raise _damaged(run / "columns.csv")
    return features, target or columns, classes, categories


def _recorded(run: Path, name: str, **options: Any) -> pd.DataFrame:
    try:
        return pd.read_csv(run / name, keep_default_na=False, **options)
    except (OSError, ValueError, OverflowError) as error:  # not there, or not as it was written
        raise _damaged(run / name, getattr(error, "strerror", None)) from None


def _damaged(path: Path, reason: str | None = None) -> UserError:
    return UserError(f"{path} cannot be read: {reason or 'it is not as it was written'}", "learn the run again")


def _positions(table: Table, given: Sequence[Any], wanted: Sequence[Any], what: str) -> np.ndarray:
    """Where each of the given columns is among those of the run; UserError unless they are the same."""
    given, wanted = [str(name) for name in given], [str(name) for name in wanted]
    missing, extra = ([n for n in one if n not in set(other)] for one, other in ((wanted, given), (given, wanted)))
    if missing or extra:
        lists = [f"{_listed(names)} {how}" for names, how in ((missing, "missing"), (extra, "too much")) if names]
        raise UserError(
            f"{table.name} does not have the {what} that the run has learned from: {'; '.join(lists)}",
            "give these and no others; data.index=NAME for a column of labels",
        )
    place = {name: position for position, name in enumerate(wanted)}
    return np.array([place[name] for name in given], np.int64)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


def _in_order(table: Table, columns: list[str]) -> Table:
    place = _positions(table, list(table.column_labels), columns, "columns")
    moved = place[table.columns]
    order = np.lexsort((moved, table.rows))
    return dataclasses.replace(
        table, rows=table.rows[order], columns=moved[order], values=table.values[order],
        column_labels=pd.Index(columns, dtype="str"),
    )  # fmt: skip


def _features_in_order(table: Table, features: list[str]) -> Table:
    assert table.features is not None and table.feature_labels is not None
    place = _positions(table, list(table.feature_labels), features, "features")
    arranged = np.ascontiguousarray(table.features[:, np.argsort(place)])
    return dataclasses.replace(table, features=arranged, feature_labels=pd.Index(features, dtype="str"))


def _known(table: Table, columns: list[str]) -> Table:
    """Ratings without those of users (or items, where users are the data points) that the run does not know."""
    place = pd.Index(columns, dtype="str").get_indexer(table.column_labels.astype("str"))
    moved, unknown = place[table.columns], int((place < 0).sum())
    if unknown == len(place):
        raise UserError(
            f"none of the {unknown:,} columns of {table.name} is known to the run",
            "give ratings by those that it has learned from, in the same data.points",
        )
    kept = np.flatnonzero(moved >= 0)
    order = kept[np.lexsort((moved[kept], table.rows[kept]))]
    gone = len(moved) - len(kept)
    note = f"{gone:,} ratings of {unknown:,} columns that the run does not know are left out"
    return dataclasses.replace(
        table, rows=table.rows[order], columns=moved[order], values=table.values[order],
        column_labels=pd.Index(columns, dtype="str"), notes=(*table.notes, note) if unknown else table.notes,
    )  # fmt: skip


def _measured_alike(table: Table, learned: dict[str, Any]) -> Table:
    assert table.dictionary is not None
    shape = learned["signal"]
    if table.dictionary.is_complex != bool(learned.get("complex", False)):
        given, needed = (
            "complex" if each else "real" for each in (table.dictionary.is_complex, learned.get("complex"))
        )
        mend = "give data.measurements=FILE, complex k-space" if needed == "complex" else "learn from such a one"
        raise UserError(f"{table.name} is of a {given} image, and the run has learned from a {needed} one", mend)
    if list(table.dictionary.shape) != shape:
        given, needed = (" x ".join(map(str, each)) for each in (table.dictionary.shape, shape))
        raise UserError(f"{table.name} has {given} pixels, and the run has learned from {needed}", "crop or resize it")
    return table


def _series(table: Table, run: Path, season: int | None) -> Table:
    """With the periodic means that the run has learned, of which phase 0 is that of the first row here too."""
    table = in_time(table, season=season)
    if season is None:
        return table
    means = _recorded(run, "season.csv", header=None, dtype=str)  # by position: a channel may be called phase, too
    phases, names = list(means.iloc[1:, 0]), list(means.iloc[0, 1:])
    if phases != [*map(str, range(season))] or names != list(table.column_labels):
        raise UserError(f"{run / 'season.csv'} is not that of the run's columns", "learn the run again")
    try:
        periodic = means.iloc[1:, 1:].to_numpy(np.float64)
    except ValueError:
        raise _damaged(run / "season.csv") from None
    if not np.isfinite(periodic).all():
        raise _damaged(run / "season.csv")
    note = f"the first row is taken to be in the phase of the run's first row, of {season} steps"
    return dataclasses.replace(table, periodic=periodic, notes=(*table.notes, note))
