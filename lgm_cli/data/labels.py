"""Labels of the steps of a series: read as dates or numbers, and continued in their own format."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.api import guess_datetime_format
from pandas.tseries.frequencies import to_offset

OFFSET = "(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)"  # from UTC, at the end of a label
FIELDS = {  # what a directive of a format may match; %q is a quarter, as pandas' periods write it
    **dict.fromkeys("YG", "[0-9]{4}"),
    **dict.fromkeys("mdHIMSV", "[0-9]{1,2}"),
    **dict.fromkeys("bBaA", r"[^\W\d_]+"),
    **{
        "y": "[0-9]{2}",
        "j": "[0-9]{1,3}",
        "q": "[1-4]",
        "u": "[1-7]",
        "f": "[0-9]{1,9}",
        "p": "[AaPp][Mm]",
        "z": OFFSET,
    },
}
CLOCK = re.compile(
    r"(.*?)([ T]?)([0-9]{1,2})(:[0-9]{2})?(:[0-9]{2})?(\.[0-9]{1,9})?(?:( ?)([AaPp][Mm]))?"
    rf"(?:( ?)({OFFSET})|( ?(?:UTC|GMT)))?"
)
# Meanings of the numbers of a date by how many digits they have, likeliest first, beside a word that has one.
NUMBERS = {
    "": {
        (4, 2, 2): ["Ymd"], (2, 2, 4): ["mdY", "dmY"], (2, 2, 2): ["mdy", "dmy", "ymd"], (4, 2): ["Ym"],
        (2, 4): ["mY"], (2, 2): ["my"], (4, 3): ["Yj"],
    },
    "b": {(4,): ["Y"], (2,): ["y"], (2, 4): ["dY"], (4, 2): ["Yd"], (2, 2): ["dy", "yd"]},
    "q": {(4,): ["Y"], (2,): ["y"]},
    "m": {(4,): ["Y"]},
    "V": {(4,): ["G"], (4, 2): ["Gu"]},
}  # fmt: skip
DIGITS = {
    6: ["Ym", "ymd"],
    7: ["Yj"],
    8: ["Ymd", "dmY", "mdY"],
    10: ["YmdH"],
    12: ["YmdHM"],
    14: ["YmdHMS"],
}  # not separated
DOUBTFUL = {
    "%Y.%m",
    "%y%m%d",
    "%Y%j",
    "%d%m%Y",
    "%m%d%Y",
}  # numbers as well as dates: believed where they are evenly spaced
MONTHS = [pd.Timestamp(2000, month, 1).month_name().lower() for month in range(1, 13)]
DAYS = [pd.Timestamp(2000, 1, day).day_name().lower() for day in range(1, 8)]
SHORT_MONTHS, SHORT_DAYS = ({name[:3] for name in names} for names in (MONTHS, DAYS))


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
        return grid if grid is not None and (grid[known] == self.times[known]).all() else None

    def written(self, place: int, texts: pd.Series) -> str:
        """A label that could not be read, as the others are written; they are evenly spaced."""
        grid = self.filled()
        assert grid is not None
        return _written(pd.DatetimeIndex([grid[place]]), self.form, texts)[0]

    def more(self, count: int, texts: pd.Series) -> list[str] | None:
        """Labels of as many more steps; None where the format cannot tell them apart."""
        grid = self.filled()
        known = np.flatnonzero(self.read)
        step: Any = None if grid is None else spacing(grid)
        if step is None:
            step = pd.Series(self.times[known]).diff().median() if len(known) > 1 else pd.Timedelta(days=1)
        if not step:  # dates that are all the same, or most of them
            return None
        last = self.clock[known[-1]]
        if grid is not None:
            last += grid[-1] - self.times[known[-1]]
        found = _stepped(last, step, range(1, count + 1))
        if found is None or found[-1].year > YEARS[1]:
            return None
        labels = _written(found, self.form, texts)
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
        """Whether they count by ones and begin again and again, as the months of years do."""
        steps, lowest = np.diff(self.values), self.values.min()
        return bool((steps < 0).any() and ((steps == 1) | (self.values[1:] == lowest)).all() and lowest < 1600)

    def filled(self) -> np.ndarray | None:
        line = self.line()
        return None if line is None else line[0] + line[1] * np.arange(len(self.values))

    def written(self, place: int, texts: pd.Series) -> str:
        grid = self.filled()
        assert grid is not None
        return self._written(grid[place], texts)

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
        found = [self._written(self.values[known[-1]] + step * (k + 1), texts) for k in range(count)]
        return found if len({texts.iloc[-1], *found}) > count else None

    def _written(self, value: float, texts: pd.Series) -> str:
        if self.digits == 0:
            return self._padded(str(round(value)), texts)
        text = repr(float(value)) if self.digits > LONG else f"{value:.{self.digits}f}"
        decimals = texts[self.read].str.partition(".")[2]
        if (decimals.str.len() != self.digits).any():  # zeros at the end are left out
            text = text.rstrip("0").removesuffix(".")
            if "." not in text and (decimals == "0").any():
                text += ".0"
        return text

    def _padded(self, text: str, texts: pd.Series) -> str:
        padded = texts[self.read].str.match(r"0\d")
        return text.zfill(texts[self.read].str.len().max()) if padded.any() and not text.startswith("-") else text


Reading = Dates | Numbers

LONGEST = 60  # characters of a label that may be a date
LONG = 11  # decimals from which a number is written as it is in full precision
YEARS = (1000, 9000)  # of a date; what lies outside is a mistake, or stands for none


def texts_of(labels: pd.Index) -> pd.Series:
    return pd.Series([str(label).strip() for label in labels], dtype="object")


def read(labels: pd.Index) -> Reading | None:
    """The labels as dates or numbers, if more than half of them are; None where they are neither."""
    texts = texts_of(labels)
    given = texts[texts != ""]
    numeric = given.str.fullmatch(r"[+-]?[0-9]{1,19}(\.[0-9]{1,18})?")
    numbers = None
    if 2 * int(numeric.sum()) > len(texts):
        values = given[numeric].astype("float64").reindex(texts.index)
        digits = int(given[numeric].str.partition(".")[2].str.len().max())
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
    if (steps >= 0).all() or (isinstance(reading, Numbers) and reading.anew()):
        return rows
    if (steps <= 0).all():
        return rows[::-1]
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
    return bool(
        years.min() >= 1600
        and years.max() <= 2200
        and (dates.read.sum() >= numbers.read.sum() or numbers.line() is None)
    )


def _dates(texts: pd.Series) -> list[Dates]:
    """The labels as dates in each format that reads more than half of them. Where the offset from UTC changes, both
    the instants and what the clock shows; and the instants where a clock without an offset is changed."""
    given = texts[texts != ""]
    forms: dict[str, None] = {}
    for place in sorted({0, len(given) // 2, len(given) - 1}):
        if 0 <= place < len(given):
            forms |= dict.fromkeys(_forms(given.iloc[place]))
    sample = given.iloc[:: max(1, len(given) // 100)]
    found: list[Dates] = []
    for form in forms:
        if 2 * int(_parsed(sample, form).notna().sum()) <= len(sample):
            continue
        clock = _parsed(texts, form)
        if 2 * int(clock.notna().sum()) <= len(texts):
            continue
        readings = [Dates(clock, clock, form)]
        if "%z" in form:
            instants = pd.DatetimeIndex(pd.to_datetime(texts, format=form, errors="coerce", utc=True)).tz_localize(None)
            last = np.flatnonzero(~clock.isna())[-1]
            readings.insert(0, Dates(instants + (clock[last] - instants[last]), clock, form))
        elif (steady := _steady(clock)) is not None:
            readings.append(Dates(steady, clock, form))
        if "%y" in form and (both := (clock.year >= 2000) & (clock.year.min() < 2000)).any():
            whole = pd.DatetimeIndex(pd.Series(clock).mask(both, pd.Series(clock) - pd.DateOffset(years=100)))
            readings.append(Dates(whole, whole, form))  # years up to 68 are those of the century before, too
        doubtful = form in DOUBTFUL or not re.search("%[YGdq]", form)
        found += [each for each in readings if not doubtful or (_even(each) and _within_years(each))]
    return found


def _parsed(texts: pd.Series, form: str) -> pd.DatetimeIndex:
    """What the clock of each label shows; NaT where the label does not have the format, or shows no possible time."""
    given = texts.where(texts.str.fullmatch(_pattern(form)))
    if "%q" in form:
        parts = given.str.extract(_pattern(form))
        quarter, year = (form.replace("%y", "%Y").index(name) for name in ("%q", "%Y"))
        quarters, years = (parts[0], parts[1]) if quarter < year else (parts[1], parts[0])
        given = years + quarters.map({str(k): f"-{3 * k - 2}" for k in range(1, 5)}).astype("object")
        form = "%Y-%m" if "%Y" in form else "%y-%m"
    elif "%V" in form and "%u" not in form:
        given, form = given + "-1", form + "-%u"
    elif "%z" in form:
        given, form = given.str.replace(f"{OFFSET}$", "", regex=True), form.replace("%z", "")
    found = pd.DatetimeIndex(pd.to_datetime(given, format=form, errors="coerce"))
    return found.where((found.year >= YEARS[0]) & (found.year <= YEARS[1]))


def _pattern(form: str) -> str:
    """A regular expression with a group for each directive."""
    parts = re.split(r"%(\w)", form)
    found = re.escape(parts[0])
    for place in range(1, len(parts), 2):
        field, before, after = (
            FIELDS[parts[place]],
            "".join(parts[place - 2 : place]),
            "".join(parts[place + 1 : place + 3]),
        )
        beside = {*(before[:1] if len(before) == 1 else ""), *(after[:1] if len(after) == 1 else "")} - set("bBaApz")
        if beside or form == "%Y.%m":  # nothing but their number tells such digits apart
            field = field.replace("{1,", "{")
        found += f"({field}){re.escape(parts[place + 1])}"
    return found


def _forms(text: str) -> list[str]:
    """The formats that a label may have, by pandas' guess and by the words and numbers in it."""
    if "%" in text or not text.isprintable() or len(text) > LONGEST or re.search(r"(?![0-9])\d", text):
        return []
    if text.isdecimal():
        return ["".join(f"%{name}" for name in order) for order in DIGITS.get(len(text), [])]
    found = _date_forms(text)
    if re.fullmatch(r"[+-]?\d+\.\d+", text):  # a number
        return found
    if split := CLOCK.fullmatch(text):
        date, between, _, minute, second, decimals, space, half, gap, offset, zone = split.groups(default="")
        clock = ("%I" if half else "%H") + ":%M" * bool(minute) + ":%S" * bool(second) + ".%f" * bool(decimals)
        clock += f"{space}%p" * bool(half) + f"{gap}%z" * bool(offset) + zone
        if between and date:
            found += [f"{form}{between}{clock}" for form in _date_forms(date) if re.search("%[dju]", form)]
        elif not date and not between and minute:
            found.append(clock)
    guesses = []
    for day_first in (False, True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a day before the month was not asked for
            try:
                guess = guess_datetime_format(text, dayfirst=day_first)
            except (ValueError, OverflowError):
                guess = None
        known = guess is not None and set(re.findall("%(.)", guess)) <= set(FIELDS)
        if guess is not None and known and not (guesses and guess.startswith("%Y")):
            guesses.append(guess)
    found = [*guesses, *found] if "." not in text else [*found, *guesses]
    return [form for form in found if len(names := re.findall("%(.)", form)) == len(set(names))]


def _date_forms(text: str) -> list[str]:
    """The formats of a label that is a date without a time of day."""
    parts = re.findall(r"\d+|[^\W\d_]+|[\W_]+", text)
    options, numbers, kinds = [[part] for part in parts], [], []
    for place, part in enumerate(parts):
        lower, before = part.lower(), parts[place - 1].lower() if place else ""
        if (lower[:3] in SHORT_MONTHS) and lower in (lower[:3], *MONTHS):
            kinds.append("b")
            options[place] = ["%b"] * (len(part) == 3) + ["%B"] * (lower in MONTHS)
        elif lower[:3] in SHORT_DAYS and lower in (lower[:3], *DAYS):
            options[place] = ["%a" if len(part) == 3 else "%A"]
        elif part in tuple("1234") and "q" in (before, *map(str.lower, parts[place + 1 : place + 2])):
            kinds.append("q")
            options[place] = ["%q"]
        elif part.isdecimal() and before in ("m", "w") and len(part) <= 2:
            kinds.append("m" if before == "m" else "V")
            options[place] = [f"%{kinds[-1]}"]
        elif part.isdecimal():
            numbers.append(place)
    if len(kinds) > 1:
        return []
    orders = NUMBERS["".join(kinds)].get(tuple(max(2, len(parts[place])) for place in numbers), [])
    found = []
    for order in sorted(orders, key=lambda order: order[0] != "d") if "." in parts else orders:
        for place, name in zip(numbers, order, strict=True):
            options[place] = [f"%{name}"]
        found += ["".join(each) for each in itertools.product(*options)]
    return found


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


def _stepped(first: pd.Timestamp, rule: Any, steps: range) -> pd.DatetimeIndex | None:
    """Dates so many steps from the first; None beyond the years that pandas knows."""
    try:
        return pd.DatetimeIndex([first + k * rule for k in steps])
    except (OverflowError, ValueError):
        return None


def _written(dates: pd.DatetimeIndex, form: str, texts: pd.Series) -> list[str]:
    """Dates in the format of the labels: with as many digits, capitals, and the last label's offset from UTC."""
    parts = re.split(r"%(\w)", form)
    shown = texts.str.extract(_pattern(form)).dropna()
    styles = [_style(name, shown[place]) for place, name in enumerate(parts[1::2])]
    return ["".join(styles[odd // 2](date) if odd % 2 else part for odd, part in enumerate(parts)) for date in dates]


def _style(name: str, seen: pd.Series) -> Callable[[pd.Timestamp], str]:
    """How a directive is written, as in the labels, in which it stands for what was seen."""
    if name == "q":
        return lambda date: str(date.quarter)
    if name == "z":
        offset = str(seen.iloc[-1])
        return lambda date: offset
    if name == "f":
        digits = int(seen.str.len().max())
        return lambda date: f"{1000 * date.microsecond + date.nanosecond:09}"[:digits]
    if name in "mdHIVj":
        width = int(seen.str.len().min())  # 1 where zeros are left out
        return lambda date: date.strftime(f"%{name}").lstrip("0").zfill(width)
    if name in "bBaAp":
        change = str.upper if seen.str.isupper().all() else str.lower if seen.str.islower().all() else str
        return lambda date: change(date.strftime(f"%{name}"))
    return lambda date: date.strftime(f"%{name}")


def continued(labels: pd.Index, count: int) -> pd.Index:
    """Labels of `count` more steps: dates and numbers at their own spacing, in their own format, else +1, +2, .."""
    if count == 0:
        return labels[:0]
    if isinstance(labels, pd.RangeIndex):
        return pd.RangeIndex(labels.stop, labels.stop + count)
    reading = read(labels)
    found = None if reading is None else reading.more(count, texts_of(labels))
    return pd.Index(found or [f"+{k + 1}" for k in range(count)], dtype="str")


def plain(form: str) -> str:
    """A format in words, for a person: year-month-day."""
    names = {"%Y": "year", "%y": "year", "%m": "month", "%b": "month", "%d": "day"}
    return re.sub(
        "%[A-Za-z]", lambda found: names.get(found[0], found[0]), form.split(" %H")[0].split(" %I")[0].split("T")[0]
    )
