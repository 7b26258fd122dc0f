"""The user's own series: one row per time step, one column per channel, a header line, empty or NaN = missing."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data import csv
from lgm_cli.data.base.classes import UNKNOWN, with_unknown
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.date_formats import plain
from lgm_cli.data.base.season import phases_of
from lgm_cli.data.base.several_series import extended_each, named, rows_of_each, summary_of
from lgm_cli.data.base.table import Table
from lgm_cli.data.base.time_labels import Dates, Reading, continued, ordering, read, texts_of
from lgm_cli.data.base.transform import Transform
from lgm_cli.errors import UserError

SHOWN = 3  # labels that cannot be read, in warnings
SHOWN_OF_ONE = 40  # characters
LOOKED_AT = 100  # series whose labels are looked at for something odd
FEW_PERIODS = 5  # below so many, the error of the periodic means is not small


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Read data.path; data.index names a column of dates or numbers, by which rows are ordered and named."""
    return arrange(csv.load(options, in_time=True), options)


def arrange(table: Table, options: dict[str, Any]) -> Table:
    """A table in the order of time as a series: its `last` rows, `season`, `horizon` and `forecast` as the options say,
    each optional."""
    season, horizon, ahead = options.get("season"), options.get("horizon") or 0, options.get("forecast") or 0
    if season is not None and table.categories:
        raise UserError(
            f"data.season={season} takes means off columns, and data.categories has {next(iter(table.categories))!r}",
            "leave one of them out",
        )
    if season is not None and table.num_series > 1:
        raise UserError(
            f"data.season={season} is taken off a single series, and data.series={table.series_column} names "
            f"{table.num_series:,}",
            "leave one of them out",
        )
    table = in_time(table, options.get("last"), season)
    last = len(table.row_labels)
    if table.series is not None:
        sizes = np.bincount(table.series)
        if horizon >= sizes.min():
            raise UserError(
                f"data.horizon={horizon} hides all of the {sizes.min():,} steps of {named(table, int(sizes.argmin()))}",
                "a smaller data.horizon, or leave out short series",
            )
        last = int(sizes.max())
        table = dataclasses.replace(table, notes=(*table.notes, summary_of(table)))
    if horizon >= last:
        raise UserError(f"data.horizon={horizon} hides all of {last:,} steps", f"at most data.horizon={last // 2}")
    if season is not None and 2 * season > last - horizon:
        what = f"{last:,} steps" if not horizon else f"the {last - horizon:,} steps before the horizon"
        raise UserError(
            f"data.season={season} is longer than half of {what}", f"at most data.season={(last - horizon) // 2}"
        )
    if ahead > last:
        raise UserError(f"data.forecast={ahead} is more than the {last:,} steps that are given", f"at most {last}")
    table = _without_classes_ahead(dataclasses.replace(table, horizon=horizon))
    _require_variation(table)
    table = transformed(table, options)
    notes = table.notes
    if season is not None and last - horizon < FEW_PERIODS * season:
        notes += (
            f"{(last - horizon) / season:.1f} periods for the season, which intervals take for known: too narrow",
        )
    if horizon:
        notes += (f"the last {horizon:,} steps{' of each series' * (table.num_series > 1)} among them",)
    return dataclasses.replace(extended(table, ahead), notes=notes)


def transformed(table: Table, options: dict[str, Any]) -> Table:
    """A series whose logarithms or differences are learned from, as data.log, data.difference and
    data.seasonal_difference say; UserError where there are none."""
    transform = Transform(
        options.get("log") or False, options.get("difference") or 0, options.get("seasonal_difference")
    )
    if transform == Transform():
        return table
    if table.categories:
        raise UserError(
            f"data.log and differences are of numbers, and data.categories has {next(iter(table.categories))!r}",
            "leave out one or the other",
        )
    if table.num_series > 1:
        raise UserError(
            f"data.log and differences are of a single series, and data.series={table.series_column} names "
            f"{table.num_series:,}",
            "transform the file yourself",
        )
    if transform.log and (table.values <= 0).any():
        worst = int(np.argmax(table.values <= 0))
        column, row = table.column_labels[table.columns[worst]], table.row_labels[table.rows[worst]]
        raise UserError(
            f"data.log=true, and {table.name} has {table.values[worst]:g} in {str(column)!r}, row {_shown(row)}",
            "data.log=false: only positive values have a logarithm",
        )
    steps = table.end - table.horizon
    if transform.reach >= steps - 1:
        raise UserError(
            f"differences over {transform.reach} steps leave nothing of {steps:,} steps to learn from",
            "a smaller data.difference or data.seasonal_difference, or a longer series",
        )
    lag, season = transform.seasonal_difference, table.season
    if lag is not None and season is not None and lag % season == 0:
        raise UserError(
            f"data.seasonal_difference={lag} takes off whatever has a period of data.season={season}, too",
            "leave one of them out",
        )
    note = f"learned from: {transform}"
    return dataclasses.replace(table, transform=transform, notes=(*table.notes, note))


def _without_classes_ahead(table: Table) -> Table:
    """The classes of rows in the horizon are hidden too: they would tell of what is to be forecast."""
    if table.classes is None or not table.horizon:
        return table
    ahead = table.in_horizon(np.arange(len(table.row_labels)))
    return dataclasses.replace(table, classes=np.where(ahead, UNKNOWN, table.classes))


def _require_variation(table: Table) -> None:
    """Refuse a channel that is constant before the horizon; what is so altogether is refused as in any table."""
    if not table.horizon:
        return
    before = ~table.in_horizon(table.rows)
    frame = pd.DataFrame({"column": table.columns[before], "value": table.values[before]})
    varied = frame.groupby("column")["value"].nunique().reindex(range(table.shape[1]), fill_value=0).to_numpy() > 1
    if not varied.all():
        name = str(table.column_labels[int(np.flatnonzero(~varied)[0])])
        raise UserError(
            f"{table.name} has no two different values of {name!r} before the last {table.horizon:,} steps",
            "a smaller data.horizon, or leave out that column",
        )


def require_more_than_season(data: Data) -> None:
    """Refuse a channel of which nothing is left once its periodic means are taken off."""
    rows, columns, values = data.train_rows, data.train_columns, data.train_values
    count = np.maximum(np.bincount(columns, minlength=data.shape[1]), 1)

    def spread(values: np.ndarray) -> np.ndarray:
        mean = np.bincount(columns, values, data.shape[1]) / count
        return np.bincount(columns, (values - mean[columns]) ** 2, data.shape[1])

    left, whole = spread(values - data.seasonal(rows, columns)), spread(values)
    if (gone := left <= 1e-12 * whole).any():
        name = str(data.table.column_labels[int(np.flatnonzero(gone)[0])])
        raise UserError(
            f"{data.table.name} has nothing in {name!r} but its periodic means", "another data.season, or leave it out"
        )


def in_time(table: Table, last: int | None = None, season: int | None = None) -> Table:
    """The last rows of a series in the order of time, which labels that are dates or numbers decide, and their phases
    in the season; what is odd about the labels becomes a warning. The rows of several series come one series after the
    other, each in the order of time."""
    labels, total = table.row_labels, len(table.row_labels)
    order, notes, warnings = np.arange(total), table.notes, table.warnings
    reading = None if isinstance(labels, pd.RangeIndex) else read(labels)
    parts = [order] if table.series is None else rows_of_each(table)
    order, sorts, backward = _in_order(table, reading, parts, last)
    if (np.diff(np.concatenate(parts)) < 0).any():
        warnings += (
            f"the rows of a series do not follow each other: they are grouped by {table.series_column!r}, but for the "
            "rows of imputed.csv",
        )
    where = np.full(total, -1)
    where[order] = np.arange(len(order))
    rows = where[table.rows]
    kept = np.flatnonzero(rows >= 0)
    kept = kept[np.lexsort((table.columns[kept], rows[kept]))]
    moved = bool((np.diff(order) < 0).any())
    labels = labels.take(order) if moved or len(parts) > 1 else labels[total - len(order) :]
    series, classes = (None if of is None else of[order] for of in (table.series, table.classes))
    if sorts:
        how = "goes back in time" if backward else "is not in the order of time"
        warnings += (f"the file {how}: it is sorted by {table.index_name!r}, but for the rows of imputed.csv",)
    reading = None if reading is None else reading.take(order)
    if not isinstance(labels, pd.RangeIndex):
        warnings += _warnings_of_each(table, labels, reading, order, series)
    phases = None
    if season is not None and isinstance(reading, Dates):
        phases, change = phases_of(reading, season), _change(reading)
        at = "" if change is None else f"changes at {_shown(labels[change])}"
        if phases is None and at:
            warnings += (f"the clock of the labels {at}, and data.season={season} counts rows",)
        elif phases is not None:
            which = f"the clock of the labels, which {at}" if at else "the labels, between which rows are missing"
            notes += (f"the season follows {which}",)
    return dataclasses.replace(
        table, rows=rows[kept], columns=table.columns[kept], values=table.values[kept], row_labels=labels,
        kind="series", season=season, phases=phases, places=order if moved else None, notes=notes, warnings=warnings,
        series=series, classes=classes,
    )  # fmt: skip


def _in_order(
    table: Table, reading: Reading | None, parts: list[np.ndarray], last: int | None
) -> tuple[np.ndarray, bool, bool]:
    """The last rows of each series in the order of time; whether any had to be sorted, and whether all go back."""
    found, sorts, backward = [], False, True
    for number, rows in enumerate(parts):
        own = np.arange(len(rows))
        if reading is not None:
            read_here = reading if len(parts) == 1 else reading.take(rows)
            if (ordered := ordering(read_here)) is None:
                called = table.name if len(parts) == 1 else named(table, number)
                raise _no_order(dataclasses.replace(table, name=called, row_labels=table.row_labels[rows]), read_here)
            own = ordered
        own = own[len(own) - min(last or len(own), len(own)) :]
        sorts, backward = sorts or bool((np.diff(own) < 0).any()), backward and bool((np.diff(own) == -1).all())
        found.append(rows[own])
    return np.concatenate(found), sorts, backward


def _warnings_of_each(
    table: Table, labels: pd.Index, reading: Reading | None, order: np.ndarray, series: np.ndarray | None
) -> tuple[str, ...]:
    """What a user should know of the labels; of several series, of the first one of which there is anything to say."""
    if reading is None or table.num_series == 1:
        return _warnings(labels, reading, order)
    assert series is not None
    for number in range(min(table.num_series, LOOKED_AT)):
        rows = np.flatnonzero(series == number)
        if found := _warnings(labels[rows], reading.take(rows), order[rows]):
            return (f"{named(table, number)}: {found[0]}", *found[1:])
    return ()


def extended(table: Table, ahead: int) -> Table:
    """A series with so many steps without values past its end, or past the end of each of several."""
    if table.series is not None:
        return extended_each(table, ahead)
    labels = table.row_labels.append(continued(table.row_labels, ahead))
    classes = with_unknown(table.classes, ahead)
    return dataclasses.replace(table, row_labels=labels, forecast=ahead, classes=classes)


def _no_order(table: Table, reading: Reading) -> UserError:
    """That the rows are not in the order of time, and why they cannot be sorted."""
    mend = f"mend it, or sort the rows by {table.index_name!r}"
    if not reading.read.all():
        row = int(np.flatnonzero(~reading.read)[0])
        what = f"the label of row {row + 1}, {_shown(table.row_labels[row])}, cannot be read"
    else:
        again = pd.Series(reading.values).duplicated().to_numpy()
        what, mend = f"{_shown(table.row_labels[again][0])} is there more than once", "give one row for each time"
    return UserError(f"{table.name} is not in the order of time, and {what}", mend)


def _shown(label: object) -> str:
    """A label in quotes, without its control characters, nor more of it than a line has room for."""
    return repr(f"{text[:SHOWN_OF_ONE]}.." if len(text := str(label).strip()) > SHOWN_OF_ONE else text)


def _change(reading: Dates) -> int | None:
    """The row before which the clock of the labels is changed; None where it is not."""
    ahead = np.asarray(reading.clock - reading.times)[reading.read]
    changed = np.flatnonzero(ahead[1:] != ahead[:-1])
    return int(np.flatnonzero(reading.read)[changed[0] + 1]) if len(changed) else None


def _warnings(labels: pd.Index, reading: Reading | None, order: np.ndarray) -> tuple[str, ...]:
    """What a user should know of the labels, in the order of the rows; order: where these are in the file."""
    if reading is None:
        what = f"the labels, such as {_shown(labels[0])}, are no dates or numbers that are understood"
        return (f"{what}: rows are taken in the order of the file, and what follows is called +1, +2, ..",)
    found = ()
    if isinstance(reading, Dates) and reading.other is not None:
        forms = plain(reading.form), plain(reading.other)
        found = (f"the labels are read as {forms[0]}, though they may be {forms[1]}",)
    even = len(labels) < 3 or reading.filled() is not None
    texts, unread = texts_of(labels), np.flatnonzero(~reading.read)
    for row in unread[:SHOWN]:
        what = f"{_shown(texts[row])} in" if texts.loc[row] != "" else "the blank label of"
        what += f" row {order[row] + 1}"
        if len(labels) >= 3 and even:
            found += (f"{what} is taken for {reading.written(row, texts)}, by the spacing of the others",)
        else:
            found += (f"{what} cannot be read: the row keeps its place in the file",)
    if len(unread) > SHOWN:
        found += (f"{len(unread) - SHOWN:,} more labels are treated likewise",)
    again = pd.Series(reading.values[reading.read]).duplicated().to_numpy()
    if again.any():
        label = _shown(labels[reading.read][again][0])
        return (*found, f"the label {label} is there more than once (each row is a step)")
    if not even and not len(unread):
        found += ("the labels are not evenly spaced (each row is a step: give a missing one as an empty row)",)
    return found
