"""The periodic part of a series, apart from its level."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lgm_cli.data.base.time_labels import Dates

BACKFITS = 20  # turns between the level and the periodic means of a series
DAY = 86_400_000_000  # microseconds


def phases_of(dates: Dates, season: int) -> np.ndarray | None:
    """The phase of each row by the clock and the calendar of its label, that of the first being 0: an hour that is
    skipped or comes twice, or a row that is missing, does not move what follows. None where this is the same as
    counting rows, and where the period divides no day, week or year, and is not made of them."""
    times = dates.times if dates.read.all() else dates.filled()
    if times is None or len(times) < 2:
        return None
    ahead = pd.Series(dates.clock - dates.times).ffill().bfill()
    shifts = (ahead - ahead.iloc[0]).to_numpy().astype("timedelta64[us]").astype(np.int64)
    steps, months = np.diff(times.as_unit("us").asi8), np.diff(12 * times.year + times.month)
    by_month = (months > 0).all() and (len(set(times.day)) == 1 or bool(times.is_month_end.all()))
    steps = months if by_month else steps
    usual = int(np.median(steps))
    if (steps <= 0).any() or (steps % usual != 0).any():
        return None
    period, cycle = usual * season, 12 if by_month else DAY if usual < DAY else 7 * DAY
    if period % cycle != 0 and cycle % period != 0 and period not in (365 * DAY, 366 * DAY):
        return None
    rows = np.concatenate([[0], np.cumsum(steps // usual)])
    if shifts.any():
        rows += np.rint(shifts / usual).astype(np.int64)
    phases = rows % season
    return None if (phases == np.arange(len(phases)) % season).all() else phases


def periodic_means(values: np.ndarray, phase: np.ndarray, season: int) -> np.ndarray:
    """The means of each phase about a moving level, less their average, by turns (backfitting): the level of a step is
    that of the line fitted to the values without their periodic part up to one period before and after, so that a trend
    does not pass for a season.  # (T, M) with NaN for gaps, the phase of each step (T,) -> (season, M)"""
    steps = np.arange(len(values))
    first, last = np.maximum(steps - season, 0), np.minimum(steps + season + 1, len(values))
    seen = ~np.isnan(values)
    count = np.zeros((season, values.shape[1]))
    np.add.at(count, phase, seen)
    means, time = np.zeros_like(count), (steps - steps.mean())[:, None]

    def around(terms: np.ndarray) -> np.ndarray:
        """Sums over the window of each step."""
        total = np.concatenate([np.zeros((1, terms.shape[1])), np.cumsum(terms, axis=0)])
        return total[last] - total[first]

    weight, moment, square = around(seen.astype(float)), around(seen * time), around(seen * time**2)
    moment, square = moment - weight * time, square - 2 * time * moment + weight * time**2  # about each step
    determinant = weight * square - moment**2
    straight = determinant > 1e-9 * np.maximum(weight * square, 1.0)
    for _ in range(BACKFITS):
        rest = np.where(seen, values - means[phase], 0.0)
        total = around(rest)
        slope = around(rest * time) - total * time
        line = (square * total - moment * slope) / np.where(straight, determinant, 1.0)
        level = np.where(straight, line, total / np.maximum(weight, 1.0))
        total = np.zeros_like(count)
        np.add.at(total, phase, np.where(seen, values - level, 0.0))
        means = np.where(count > 0, total / np.maximum(count, 1), 0.0)
        means -= np.where(count > 0, means.sum(0) / np.maximum((count > 0).sum(0), 1), 0.0)
    return means
