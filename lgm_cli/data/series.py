"""The user's own series: one row per time step, one column per channel, a header line, empty or NaN = missing."""

from __future__ import annotations

import dataclasses
import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.api import guess_datetime_format
from pandas.tseries.frequencies import to_offset

from lgm_cli.data import csv
from lgm_cli.data.base import Data, Table
from lgm_cli.errors import UserError

OFFSET = re.compile(r"(?:Z|[+-]\d\d(?::?\d\d)?)$")  # from UTC, at the end of a label

FEW_PERIODS = 5  # below so many, the error of the periodic means is not small


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Read data.path; data.index names a column of dates or identifiers that is carried through to the outputs."""
    return arrange(csv.load(options, in_time=True), options)


def arrange(table: Table, options: dict[str, Any]) -> Table:
    """A table in the order of time as a series: its `last` rows, `season`, `horizon` and `forecast` as the options say,
    each optional."""
    season, horizon, ahead = options.get("season"), options.get("horizon") or 0, options.get("forecast") or 0
    total = len(table.row_labels)
    last = min(options.get("last") or total, total)
    if last < total:
        kept = table.rows >= total - last
        table = dataclasses.replace(
            table,
            rows=table.rows[kept] - (total - last),
            columns=table.columns[kept],
            values=table.values[kept],
            row_labels=table.row_labels[total - last :],
        )
    if horizon >= last:
        raise UserError(f"data.horizon={horizon} hides all of {last:,} steps", f"at most data.horizon={last // 2}")
    if season is not None and 2 * season > last - horizon:
        what = f"{last:,} steps" if not horizon else f"the {last - horizon:,} steps before the horizon"
        raise UserError(
            f"data.season={season} is longer than half of {what}", f"at most data.season={(last - horizon) // 2}"
        )
    if ahead > last:
        raise UserError(f"data.forecast={ahead} is more than the {last:,} steps that are given", f"at most {last}")
    _require_variation(table, last - horizon, horizon)
    notes = (*table.notes, *label_notes(table.row_labels))
    if season is not None and last - horizon < FEW_PERIODS * season:
        notes += (
            f"{(last - horizon) / season:.1f} periods for the season, which intervals take for known: too narrow",
        )
    if horizon:
        notes += (f"the last {horizon:,} steps among them",)
    return dataclasses.replace(
        table, row_labels=table.row_labels.append(continued(table.row_labels, ahead)), kind="series", season=season,
        horizon=horizon, forecast=ahead, notes=notes,
    )  # fmt: skip


def _require_variation(table: Table, steps: int, horizon: int) -> None:
    """Refuse a channel that is constant before the horizon; what is so altogether is refused as in any table."""
    if not horizon:
        return
    before = table.rows < steps
    frame = pd.DataFrame({"column": table.columns[before], "value": table.values[before]})
    varied = frame.groupby("column")["value"].nunique().reindex(range(table.shape[1]), fill_value=0).to_numpy() > 1
    if not varied.all():
        name = str(table.column_labels[int(np.flatnonzero(~varied)[0])])
        raise UserError(
            f"{table.name} has no two different values of {name!r} before the last {horizon:,} steps",
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


def continued(labels: pd.Index, count: int) -> pd.Index:
    """Labels of `count` more steps: dates at their own spacing, integers counted on, else +1, +2, .."""
    if count == 0:
        return labels[:0]
    if isinstance(labels, pd.RangeIndex):
        return pd.RangeIndex(labels.stop, labels.stop + count)
    if readings := _readings(labels):
        parsed, form = readings[0]
        step: Any = _spacing(parsed)
        if step is None:
            step = pd.Series(parsed).diff().median() if len(parsed) > 1 else pd.Timedelta(days=1)
        if step:  # else dates that are all the same, or most of them
            more = pd.DatetimeIndex([parsed[-1] + (k + 1) * step for k in range(count)])
            texts = _written_alike(labels, more, form)
            if len({str(labels[-1]).strip(), *texts}) > count:  # else by less than the format can tell apart
                return pd.Index(texts, dtype="str")
    elif (numbers := _integers(labels)) is not None:
        steps = np.diff(numbers)
        by = int(steps[0]) if len(steps) and (steps == steps[0]).all() and steps[0] else 1
        return pd.Index([str(numbers[-1] + by * (k + 1)) for k in range(count)], dtype="str")
    return pd.Index([f"+{k + 1}" for k in range(count)], dtype="str")


def _integers(labels: pd.Index) -> np.ndarray | None:
    texts = [str(label).strip() for label in labels]
    return np.array([int(t) for t in texts]) if all(re.fullmatch(r"[+-]?\d{1,15}", t) for t in texts) else None


def _readings(labels: pd.Index) -> list[tuple[pd.DatetimeIndex, str]]:
    """The labels as dates and their format, in the ways that are likeliest: the month or the day first; where the
    offset from UTC changes, the instants or what the clock shows. Empty where they are no dates, as years are not."""
    first = str(labels[0]).strip() if len(labels) else ""
    if not first or (first.isdigit() and len(first) != 8):
        return []
    texts = pd.Series([str(label).strip() for label in labels])
    found: list[tuple[pd.DatetimeIndex, str]] = []
    for day_first in (False, True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a day before the month was not asked for
            form = guess_datetime_format(first, dayfirst=day_first)
        if form is None or (found and (form == found[0][1] or form.startswith("%Y"))):
            continue
        parsed = pd.to_datetime(texts, format=form, errors="coerce", utc="%z" in form)
        if parsed.isna().any():
            continue
        if "%z" not in form:
            found.append((pd.DatetimeIndex(parsed), form))
            continue
        zone = pd.to_datetime(texts.iloc[-1], format=form).tz
        found.append((pd.DatetimeIndex(parsed).tz_convert(zone), form))
        bare = texts.str.replace(OFFSET, "", regex=True)
        clock = pd.to_datetime(bare, format=form.replace("%z", ""), errors="coerce")
        shown = pd.DatetimeIndex(clock).tz_localize(zone)
        if not shown.hasnans and not shown.equals(found[-1][0]):
            found.append((shown, form))
    likely = [(_spacing(dates) is not None, dates.is_monotonic_increasing) for dates, _ in found]
    return [each for each, how in zip(found, likely, strict=True) if how == max(likely)]


def _written_alike(labels: pd.Index, dates: pd.DatetimeIndex, form: str) -> list[str]:
    """Dates in the format of the labels: with as many decimals, and an offset from UTC as that of the last one."""
    texts, last = [str(text) for text in dates.strftime(form)], str(labels[-1]).strip()
    if "%f" in form:
        digits = max(len(re.sub(r".*:\d+\.(\d+).*", r"\1", str(label))) for label in labels)
        texts = [re.sub(r"(:\d+\.)(\d+)", lambda t: t[1] + t[2].ljust(digits, "0")[:digits], text) for text in texts]
    if "%z" in form:
        offset = last[found.start() :] if (found := OFFSET.search(last)) else ""
        texts = [OFFSET.sub(offset, text) for text in texts]
    return texts


def _spacing(dates: pd.DatetimeIndex) -> pd.offsets.BaseOffset | None:
    """The calendar's rule that the dates follow, such as the ends of months; None where they follow none."""
    if len(dates) < 3:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that pandas will return an object instead of its name
        rule = pd.infer_freq(dates)
    if rule is not None:
        return to_offset(rule)
    months = np.diff(12 * dates.year + dates.month)
    alike = len(set(dates.day)) == 1 and len(set(dates - dates.normalize())) == 1
    return pd.DateOffset(months=int(months[0])) if alike and months[0] and (months == months[0]).all() else None


def label_notes(labels: pd.Index) -> tuple[str, ...]:
    """What a user should know of the labels and of the order of the rows, which is taken as that of time."""
    if isinstance(labels, pd.RangeIndex):
        return ()
    readings, notes = _readings(labels), ()
    if (forms := [form for _, form in readings]) and forms[0] != forms[-1]:
        notes = (f"the labels are read as {_plain(forms[0])}, though they may be {_plain(forms[-1])}",)
    ordered = readings[0][0].asi8 if readings else _integers(labels)
    if labels.has_duplicates:
        what = f"the label {labels[labels.duplicated()][0]} is there more than once (each row is a step)"
        return (*notes, what)
    if ordered is None or len(ordered) < 3:
        return notes
    steps = np.diff(ordered)
    if not (steps > 0).all():
        return (*notes, "the labels are not in order (each row is a step, in the order of the file)")
    if (steps != steps[0]).any() and (not readings or _spacing(readings[0][0]) is None):
        return (*notes, "the labels are not evenly spaced (each row is a step: give a missing one as an empty row)")
    return notes


def _plain(form: str) -> str:
    names = {"%Y": "year", "%y": "year", "%m": "month", "%d": "day"}
    return re.sub("%[A-Za-z]", lambda found: names.get(found[0], found[0]), form.split()[0].split("T")[0])


def naive_forecasts(data: Data) -> dict[str, float]:
    """Root mean squared errors over the horizon of the last visible value of each channel and, with a season, of its
    last visible value in the same phase; by name. A channel (or phase) without one is left out."""
    start, m = data.table.end - data.table.horizon, data.shape[1]
    seen = np.full((start, m), np.nan)
    seen[data.train_rows, data.train_columns] = data.train_values
    filled = pd.DataFrame(seen).ffill().to_numpy()[-1]
    rows, columns, true = data.test_rows[data.ahead], data.test_columns[data.ahead], data.test_values[data.ahead]
    found = {"the last value": _rmse(true - filled[columns])}
    if (season := data.table.season) is not None:
        latest = np.full((season, m), np.nan)
        for phase in range(season):
            latest[phase] = pd.DataFrame(seen[phase::season]).ffill().to_numpy()[-1]
        found["the value one season before"] = _rmse(true - latest[rows % season, columns])
    return found


def _rmse(error: np.ndarray) -> float:
    error = error[~np.isnan(error)]
    return float(np.sqrt(np.mean(error**2))) if len(error) else float("nan")
