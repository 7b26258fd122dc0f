"""Labels of the steps of a series: read as dates or numbers, and continued in their own format."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from lgm_cli.data.base.date_formats import YEARS, doubtful, forms_of, parse, write

LONG = 11  # decimals from which a number is written as it is in full precision


@dataclass(frozen=True)
class Dates:
    """Labels read as dates. Where the offset from UTC changes, `times` are even and `clock` is what is shown."""

    times: pd.DatetimeIndex  # (N,) at the offset of the last label; NaT where a label could not be read
    clock: pd.DatetimeIndex  # (N,)
    form: str  # as of strftime
    other: str | None = None  # a format that is as likely

    @property
    def read(self) -> np.ndarray:
        return ~self.times.isna()

    def take(self, order: np.ndarray) -> Dates:
        return Dates(self.times[order], self.clock[order], self.form, self.other)

    @property
    def values(self) -> np.ndarray:
        return self.times.asi8

    def filled(self) -> pd.DatetimeIndex | None:
        """The times, in order, with those that the spacing of the others gives; None where this is not even."""
        if self.read.all():
            return self.times if spacing(self.times) is not None else None
        known = np.flatnonzero(self.read)
        runs = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
        rule: Any = spacing(self.times[max(runs, key=len)])
        if rule is None:
            return None
        grid = _stepped(self.times[known[0]], rule, range(-int(known[0]), len(self.times) - int(known[0])))
        return grid if grid is not None and grid[known].equals(self.times[known]) else None

    def written(self, place: int, texts: pd.Series) -> str:
        """A label that could not be read, as the others are written; they are evenly spaced."""
        grid = self.filled()
        assert grid is not None
        return write(pd.DatetimeIndex([grid[place]]), self.form, texts)[0]

    def more(self, count: int, texts: pd.Series) -> list[str] | None:
        """Labels of as many more steps; None where the format cannot tell them apart."""
        grid = self.filled()
        known = np.flatnonzero(self.read)
        step: Any = None if grid is None else spacing(grid)
        if step is None:
            step = pd.Series(self.times[known]).diff().median() if len(known) > 1 else pd.Timedelta(days=1)
        if not step:  # dates that are all the same, or most of them
            return None
        last: Any = self.clock[known[-1]]
        if grid is not None:
            last += grid[-1] - self.times[known[-1]]
        found = _stepped(last, step, range(1, count + 1))
        if found is None or int(found.year.to_numpy().max()) > YEARS[1]:
            return None
        labels = write(found, self.form, texts)
        return labels if len({texts.iloc[-1], *labels}) > count else None


@dataclass(frozen=True)
class Numbers:
    """Labels read as numbers: positions, years, decimal years."""

    values: np.ndarray  # (N,) float64, NaN where a label is no number
    digits: int  # decimals, at most

    @property
    def read(self) -> np.ndarray:
        return ~np.isnan(self.values)

    def take(self, order: np.ndarray) -> Numbers:
        return Numbers(self.values[order], self.digits)

    def line(self) -> tuple[float, float] | None:
        """Start and step of numbers that are evenly spaced but for their rounding; None where they are not."""
        known = np.flatnonzero(self.read)
        if len(known) < 2:
            return None
        x = self.values[known]
        slope = (x[-1] - x[0]) / (known[-1] - known[0])
        if slope == 0:
            return None
        unit, blur = 10.0**-self.digits if self.digits else 0.0, 4e-16 * np.abs(x).max()
        parts = round(1 / slope) if self.digits and abs(slope) < 1 else 0  # of a year: 4, 12, ..
        steps = [(round(slope, self.digits), 0.0)] if self.digits <= LONG else []
        steps += [(1 / parts, unit)] if parts else []
        for step, rounding in (*steps, (slope, unit)):
            rest = x - step * known
            if np.ptp(rest) > rounding + 2 * blur:
                continue
            start = (rest.min() + rest.max()) / 2
            near = round(start * parts) / parts if parts else float(x[0] - step * known[0])
            if np.abs(x - near - step * known).max() <= unit / 2 + 2 * blur:
                start = near
            return start, step
        return None

    def anew(self) -> bool:
        """Whether they are counted by ones and begin again and again, as the months of years do."""
        steps, lowest = np.diff(self.values), self.values.min()
        again = (steps < 0) & (self.values[1:] == lowest)
        return bool(again.any() and ((steps == 1) | again).all() and lowest < 1600)

    def filled(self) -> np.ndarray | None:
        line = self.line()
        return None if line is None else line[0] + line[1] * np.arange(len(self.values))

    def written(self, place: int, texts: pd.Series) -> str:
        grid = self.filled()
        assert grid is not None
        return self._written(float(grid[place]), texts)

    def more(self, count: int, texts: pd.Series) -> list[str] | None:
        known, total = np.flatnonzero(self.read), len(self.values)
        line, last = self.line(), total - 1 - known[-1]
        if self.digits == 0:
            numbers = [int(texts.iloc[row]) for row in known[-2:]]  # exact, whatever their size
            by = (numbers[-1] - numbers[0]) // int(known[-1] - known[-2]) if line is not None else 1
            found = [numbers[-1] + by * (int(last) + k + 1) for k in range(count)]
            if self.anew():
                low, high = int(self.values.min()), int(self.values.max())
                found = [low + (number - low) % (high - low + 1) for number in found]
            return [self._padded(str(number), texts) for number in found]
        if line is not None:
            return [self._written(line[0] + line[1] * (total + k), texts) for k in range(count)]
        step = float(np.median(np.diff(self.values[known]))) if len(known) > 1 else 0.0
        final = float(self.values[known[-1]])
        found = [self._written(final + step * (k + 1), texts) for k in range(count)]
        return found if len({texts.iloc[-1], *found}) > count else None

    def _written(self, value: float, texts: pd.Series) -> str:
        if self.digits == 0:
            return self._padded(str(round(value)), texts)
        text = repr(float(value)) if self.digits > LONG else f"{value:.{self.digits}f}"
        decimals = texts.loc[self.read].str.partition(".")[2]
        if (decimals.str.len() != self.digits).any():  # zeros at the end are left out
            text = text.rstrip("0").removesuffix(".")
            if "." not in text and (decimals == "0").any():
                text += ".0"
        return text

    def _padded(self, text: str, texts: pd.Series) -> str:
        padded = texts.loc[self.read].str.match(r"0\d")
        return text.zfill(texts.loc[self.read].str.len().max()) if padded.any() and not text.startswith("-") else text


Reading = Dates | Numbers


def texts_of(labels: pd.Index) -> pd.Series:
    return pd.Series([str(label).strip() for label in labels], dtype="object")


def read(labels: pd.Index) -> Reading | None:
    """The labels as dates or numbers, if more than half of them are; None where they are neither."""
    texts = texts_of(labels)
    given = texts.loc[texts != ""]
    numeric = given.str.fullmatch(r"[+-]?[0-9]{1,19}(\.[0-9]{1,18})?")
    numbers = None
    if 2 * int(numeric.sum()) > len(texts):
        values = given.loc[numeric].astype("float64").reindex(texts.index)
        digits = int(given.loc[numeric].str.partition(".")[2].str.len().max())
        numbers = Numbers(values.to_numpy(), digits)
    readings = [each for each in _dates(texts) if numbers is None or _rather_dates(each, numbers)]
    if not readings:
        return numbers
    likely = [_likely(each) for each in readings]
    best = [each for each, how in zip(readings, likely, strict=True) if how == max(likely)]
    other = best[-1].form if best[-1].form != best[0].form else None
    return Dates(best[0].times, best[0].clock, best[0].form, other)


def ordering(reading: Reading) -> np.ndarray | None:
    """The rows in the order of time: as they are, or from the last to the first, or sorted; None where labels that
    could not be read, or that are there twice, leave this open."""
    known = reading.values[reading.read]
    rows = np.arange(len(reading.values))
    steps = np.diff(known)
    if (steps >= 0).all():
        return rows
    if (steps <= 0).all():
        return rows[::-1]
    if isinstance(reading, Numbers) and reading.anew():
        return rows
    if len(known) < len(rows) or len(np.unique(known)) < len(known):
        return None
    return np.argsort(reading.values, kind="stable")


def _even(reading: Dates) -> bool:
    order = ordering(reading)
    return order is not None and reading.take(order).filled() is not None


def _likely(reading: Dates) -> tuple[int, bool, bool, bool]:
    """By what readings are compared: how many labels are read, even spacing, order, less than a year between them."""
    steps = np.diff(reading.values[reading.read])
    in_order = bool((steps >= 0).all() or (steps <= 0).all())
    return int(reading.read.sum()), _even(reading), in_order, _within_years(reading)


def _within_years(reading: Dates) -> bool:
    steps = np.abs(np.diff(reading.clock[reading.read].as_unit("s").asi8))
    return not len(steps) or steps.min() < 300 * 86400


def _rather_dates(dates: Dates, numbers: Numbers) -> bool:
    """Whether labels that are numbers are meant as dates, such as 201912: by their years, and where all can be read, or
    where they are not evenly spaced as numbers."""
    years = dates.times.year[dates.read]
    surely = dates.read.sum() >= numbers.read.sum() and dates.form != "%y%m"  # 1901 to 1912 are years
    return bool(years.min() >= 1600 and years.max() <= 2200 and (surely or numbers.line() is None))


def _dates(texts: pd.Series) -> list[Dates]:
    """The labels as dates in each format that reads more than half of them. Where the offset from UTC changes, both
    the instants and what the clock shows; and the instants where a clock without an offset is changed."""
    given = texts.loc[texts != ""]
    forms: dict[str, None] = {}
    for place in sorted({0, len(given) // 2, len(given) - 1}):
        if 0 <= place < len(given):
            forms |= dict.fromkeys(forms_of(given.iloc[place]))
    sample = given.iloc[:: max(1, len(given) // 100)]
    found: list[Dates] = []
    for form in forms:
        if 2 * int(parse(sample, form).notna().sum()) <= len(sample):
            continue
        clock = parse(texts, form)
        if 2 * int(clock.notna().sum()) <= len(texts):
            continue
        readings = [Dates(clock, clock, form)]
        if "%z" in form:
            given = texts.where(~clock.isna())
            instants = pd.DatetimeIndex(pd.to_datetime(given, format=form, errors="coerce", utc=True)).tz_localize(None)
            last = np.flatnonzero(~clock.isna())[-1]
            readings.insert(0, Dates(instants + (clock[last] - instants[last]), clock, form))
        elif (steady := _steady(clock)) is not None:
            readings.append(Dates(steady, clock, form))
        if "%y" in form:  # years up to 68 may be those of the century before, too
            shown = pd.Series(clock)
            whole = pd.DatetimeIndex(shown.mask(shown.dt.year >= 2000, shown - pd.DateOffset(years=100)))
            readings += [Dates(whole, whole, form)] if shown.dt.year.min() < 2000 else []
        found += [each for each in readings if not doubtful(form) or (_even(each) and _within_years(each))]
    return [each for each in found if "%n" in each.form] or found  # 2000/01, 2001/02 are no months, 13 apart


def _steady(clock: pd.DatetimeIndex) -> pd.DatetimeIndex | None:
    """What a clock without summer time would have shown, where an hour of a Sunday's night is skipped or comes twice;
    None where no clock is changed."""
    if clock.hasnans or len(clock) < 3:
        return None
    shown = clock.as_unit("us").asi8
    backwards = shown[-1] < shown[0]
    if backwards:
        shown = shown[::-1]
    steps, hour = np.diff(shown), 3_600_000_000
    usual = int(np.median(steps))
    if not 0 < usual < 24 * hour:
        return None
    before = pd.DatetimeIndex(shown[:-1].astype("datetime64[us]"))
    days, hours = before.day_of_week, before.hour
    sunday = np.asarray(((days == 6) & (hours <= 3)) | ((days == 5) & (hours == 23)))
    night = sunday | np.asarray((hours <= 3) | (hours == 23)) & (steps < 0)  # no row that is there twice looks so
    changed = night * (steps - usual) // hour * (np.abs(steps - usual) == hour)
    moved = np.concatenate([[0], np.cumsum(changed)])
    others = steps[changed == 0]
    if not changed.any() or np.ptp(moved) > 1 or (others <= 0).any() or (others % usual != 0).any():
        return None
    times = pd.DatetimeIndex((shown - (moved - moved[-1]) * hour).astype("datetime64[us]"))
    return times[::-1] if backwards else times


def spacing(dates: pd.DatetimeIndex) -> pd.offsets.BaseOffset | None:
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


def _stepped(first: Any, rule: Any, steps: range) -> pd.DatetimeIndex | None:
    """Dates so many steps from the first; None beyond the years that pandas knows."""
    try:
        return pd.DatetimeIndex([first + k * rule for k in steps])
    except (OverflowError, ValueError):
        return None


def continued(labels: pd.Index, count: int) -> pd.Index:
    """Labels of `count` more steps: dates and numbers at their own spacing, in their own format, else +1, +2, .."""
    if count == 0:
        return labels[:0]
    if isinstance(labels, pd.RangeIndex):
        return pd.RangeIndex(labels.stop, labels.stop + count)
    reading = read(labels)
    found = None if reading is None else reading.more(count, texts_of(labels))
    return pd.Index(found or [f"+{k + 1}" for k in range(count)], dtype="str")
