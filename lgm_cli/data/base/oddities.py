"""What is odd about the numbers of a table, and how a user may say what they are."""

from __future__ import annotations

import numpy as np

from lgm_cli.errors import proposed

FEWEST_ROWS = 5  # of a column that is taken for numbers of rows


def row_numbers(values: np.ndarray, names: list[str], target: str | None) -> list[str]:
    """What to say of columns that count the rows."""
    count = len(values)
    if count < FEWEST_ROWS:
        return []
    steps = values - np.arange(count)[:, None]
    counts = ((steps == 0) | (steps == 1)).all(axis=0) & (steps == steps[0]).all(axis=0)
    found = [name for name, counting in zip(names, counts, strict=True) if counting and name != target]
    return [f"{name!r} looks like a row number: {proposed('data.index', name)} if it is one" for name in found[:1]]


def repeated_extremes(values: np.ndarray, names: list[str]) -> tuple[str, ...]:
    """Warn of values that may stand for missing ones: the smallest or largest of a column, there more than once, whose
    distance from the next value is more than three times the range of the others. Of numbers such as 99 and -999, which
    people choose for it, half of the range is enough, and once in each of two columns."""
    found: dict[float, tuple[int, list[str]]] = {}
    for extreme, others in ((np.fmin, np.fmax), (np.fmax, np.fmin)):
        with np.errstate(over="ignore", invalid="ignore"):
            ends = extreme.reduce(values, axis=0)
            rest = np.where(values == ends, np.nan, values)
            near, far = extreme.reduce(rest, axis=0), others.reduce(rest, axis=0)
            nines = np.array([set(f"{abs(end):.15g}") == {"9"} for end in ends], bool)
            distant = np.abs(near - ends) > np.where(nines, 0.5, 3) * np.abs(far - near)
        counts = np.count_nonzero(values == ends, axis=0)
        for column in np.flatnonzero(distant & (far != near) & (nines | (counts > 1))):
            times, where = found.get(ends[column], (0, []))
            found[ends[column]] = times + int(counts[column]), [*where, names[column]]
    return tuple(
        f"{value:g} is there {times:,} times, far from all other values of {', '.join(map(repr, where[:3]))}"
        f"{' and others' if len(where) > 3 else ''}: data.missing={value:g} if it stands for a missing value"
        for value, (times, where) in found.items()
        if times > 1
    )
