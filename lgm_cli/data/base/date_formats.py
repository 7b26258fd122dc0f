"""Formats of dates: those that a label may have, reading labels and writing dates in one."""

from __future__ import annotations

import calendar
import itertools
import re
import warnings
from collections.abc import Callable

import pandas as pd
from pandas.tseries.api import guess_datetime_format

OFFSET = "(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)"  # from UTC, at the end of a label
FIELDS = {  # what a directive may match; %q is a quarter, as in pandas, %h a half-year, %n the year after, of 2012/13
    **dict.fromkeys("YG", "[0-9]{4}"),
    **dict.fromkeys("mdHIMSV", "[0-9]{1,2}"),
    **dict.fromkeys("bBaA", r"[^\W\d_]+"),
    **{"y": "[0-9]{2}", "j": "[0-9]{1,3}", "f": "[0-9]{1,9}"},
    **{"q": "[1-4]", "h": "[12]", "n": "[0-9]{2}", "u": "[1-7]", "p": "[AaPp][Mm]", "z": OFFSET},
}
CLOCK = re.compile(
    r"(.*?)([ T_:]?)([0-9]{1,2})(:?[0-9]{2})?(:?[0-9]{2})?(\.[0-9]{1,9})?(?:( ?)([AaPp][Mm]))?"
    rf"(?:( ?)({OFFSET})|( ?(?:UTC|GMT)))?"
)
# Meanings of the numbers of a date by how many digits they have, likeliest first, beside a word that has one.
NUMBERS = {
    "": {
        (4, 2, 2): ["Ymd"], (2, 2, 4): ["mdY", "dmY"], (2, 2, 2): ["mdy", "dmy", "ymd"], (4, 2): ["Ym", "Yq", "Yn"],
        (2, 4): ["mY"], (2, 2): ["my", "yn"], (4, 3): ["Yj"],
    },
    "b": {(4,): ["Y"], (2,): ["y"], (2, 4): ["dY"], (4, 2): ["Yd"], (2, 2): ["dy", "yd"]},
    "q": {(4,): ["Y"], (2,): ["y"]},
    "h": {(4,): ["Y"], (2,): ["y"]},
    "m": {(4,): ["Y"]},
    "V": {(4,): ["G"], (4, 2): ["Gu"]},
}  # fmt: skip
DIGITS = {4: ["ym"], 6: ["Ym", "ymd"], 7: ["Yj"], 8: ["Ymd", "dmY", "mdY"], 10: ["YmdH"], 12: ["YmdHM"], 14: ["YmdHMS"]}
MONTHS = [name.lower() for name in calendar.month_name[1:]]
DAYS = [name.lower() for name in calendar.day_name]
SHORT_MONTHS, SHORT_DAYS = ({name[:3] for name in names} for names in (MONTHS, DAYS))
MONTHS_OF = {"q": 3, "h": 6}
LONGEST = 60  # characters of a label that may be a date
YEARS = (1000, 9000)  # of a date; what lies outside is a mistake, or stands for none


def forms_of(text: str) -> list[str]:
    """The formats that a label may have, by pandas' guess and by the words and numbers in it."""
    if "%" in text or not text.isprintable() or len(text) > LONGEST or re.search(r"(?![0-9])\d", text):
        return []
    found = _date_forms(text)
    if text.endswith(".0"):  # as whole numbers are written that stood in a column with gaps
        found += [f"{form}.0" for form in _date_forms(text[:-2])]
    if re.fullmatch(r"[+-]?\d+(\.\d+)?", text):
        return found
    if split := CLOCK.fullmatch(text):
        date, between, _, minute, second, decimals, space, half, gap, offset, zone = split.groups(default="")
        clock = "%I" if half else "%H"
        clock += re.sub("[0-9]+", "%M", minute) + re.sub("[0-9]+", "%S", second) + ".%f" * bool(decimals)
        clock += f"{space}%p" * bool(half) + f"{gap}%z" * bool(offset) + zone
        if between and date:
            found += [f"{form}{between}{clock}" for form in _date_forms(date) if re.search("%[dju]", form)]
        elif not date and not between and minute.startswith(":"):
            found.append(clock)
    guesses = []
    for day_first in (False, True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a day before the month was not asked for
            try:
                guess = guess_datetime_format(text, dayfirst=day_first)
            except (ValueError, OverflowError):
                guess = None
        if guess is None or not set(re.findall("%(.)", guess)) <= set(FIELDS):
            continue
        dated = re.search("%[dj]", guess) or not re.search("%[HIMS]", guess)  # 2010H1 is no hour
        if dated and not (guesses and guess.startswith("%Y")):
            guesses.append(guess)
    found = [*guesses, *found] if "." not in text else [*found, *guesses]
    return [form for form in found if len(names := re.findall("%(.)", form)) == len(set(names))]


def _date_forms(text: str) -> list[str]:
    """The formats of a label that is a date without a time of day."""
    if text.isdecimal():
        return ["".join(f"%{name}" for name in order) for order in DIGITS.get(len(text), [])]
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
        elif part in ("1", "2") and {"h", "s"} & {before, *map(str.lower, parts[place + 1 : place + 2])}:
            kinds.append("h")
            options[place] = ["%h"]
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


def _pattern(form: str) -> str:
    """A regular expression with a group for each directive."""
    parts = re.split(r"%(\w)", form)
    found = re.escape(parts[0])
    for place in range(1, len(parts), 2):
        field, words = FIELDS[parts[place]], "bBaApz"
        before = parts[place - 1] == "" and place > 1 and parts[place - 2] not in words
        after = parts[place + 1] == "" and place + 2 < len(parts) and parts[place + 2] not in words
        if before or after or form == "%Y.%m":  # nothing but their number tells such digits apart
            field = field.replace("{1,", "{")
        found += f"({field}){re.escape(parts[place + 1])}"
    return found


def doubtful(form: str) -> bool:
    """Whether what has this format may as well be numbers, or dates of which something is not said: it is believed
    where it is evenly spaced."""
    digits = form.removesuffix(".0")
    if digits in ("%Y.%m", "%Y.%n", "%m.%Y", "%y%m", "%y%m%d", "%Y%j", "%d%m%Y", "%m%d%Y"):
        return True
    quarter = "%q" in form and "q" not in form.lower().replace("%q", "")
    return quarter or not re.search("%[YGdqhn]", form)


def parse(texts: pd.Series, form: str) -> pd.DatetimeIndex:
    """What the clock of each label shows; NaT where the label does not have the format, or shows no possible time."""
    given = texts.where(texts.str.fullmatch(_pattern(form)).astype(bool))
    part = next((name for name in "qh" if f"%{name}" in form), None)
    if part is not None:
        groups = given.str.extract(_pattern(form))
        place, year = (form.replace("%y", "%Y").index(name) for name in (f"%{part}", "%Y"))
        numbers, years = (groups[0], groups[1]) if place < year else (groups[1], groups[0])
        months = {str(k + 1): f"-{MONTHS_OF[part] * k + 1}" for k in range(4)}
        given = years + numbers.map(months).astype("object")
        form = "%Y-%m" if "%Y" in form else "%y-%m"
    elif "%n" in form:
        groups = given.str.extract(_pattern(form))
        years = groups.astype("float64")
        given = groups[0].where((years[0] + 1) % 100 == years[1])
        form = form[form.index("%") :][:2]
    elif "%V" in form and "%u" not in form:
        given, form = given + "-1", form + "-%u"
    elif "%z" in form:
        given, form = given.str.replace(f"{OFFSET}$", "", regex=True), form.replace("%z", "")
    found = pd.Series(pd.to_datetime(given, format=form, errors="coerce"))
    return pd.DatetimeIndex(found.where(found.dt.year.between(*YEARS)))


def write(dates: pd.DatetimeIndex, form: str, texts: pd.Series) -> list[str]:
    """Dates in the format of the labels: with as many digits, capitals, and the last label's offset from UTC."""
    parts = re.split(r"%(\w)", form)
    shown = texts.str.extract(_pattern(form)).dropna()
    styles = [_style(name, shown[place]) for place, name in enumerate(parts[1::2])]
    return ["".join(styles[odd // 2](date) if odd % 2 else part for odd, part in enumerate(parts)) for date in dates]


def _style(name: str, seen: pd.Series) -> Callable[[pd.Timestamp], str]:
    """How a directive is written, as in the labels, in which it stands for what was seen."""
    if name in MONTHS_OF:
        return lambda date: str((date.month - 1) // MONTHS_OF[name] + 1)
    if name == "n":
        return lambda date: f"{(date.year + 1) % 100:02}"
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


def plain(form: str) -> str:
    """The date of a format in words, for a person: year-month-day."""
    names = {"%Y": "year", "%y": "year", "%m": "month", "%b": "month", "%B": "month", "%d": "day", "%q": "quarter"}
    names |= {"%h": "half-year", "%n": "year after"}
    date = re.split("[ T]%[HI]", form)[0]
    return re.sub("%[A-Za-z]", lambda found: names.get(found[0], found[0]), date)
