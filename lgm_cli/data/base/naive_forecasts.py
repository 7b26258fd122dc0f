"""Forecasts that take no learning, beside which those of a model are put."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lgm_cli.data.base.categories import errors, sizes
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.several_series import rows_of_each


def naive_forecasts(data: Data, scale: np.ndarray | None = None) -> dict[str, float]:
    """Root mean squared errors over the horizon of the last visible value of each channel, of the line from its first
    to its last visible value drawn on, and, with a season, of its last visible value in the same phase; by name. A
    channel (or phase) without one is left out. There is no line of categories, whose errors are 1 where they are wrong:
    the last value stands for it. scale: units of the channels, (M,), in which errors are taken."""
    start, m = data.table.end - data.table.horizon, data.shape[1]
    rows, columns, true = data.test_rows[data.ahead], data.test_columns[data.ahead], data.test_values[data.ahead]
    unit, named = 1.0 if scale is None else scale[columns], (sizes(data.table) > 0)[columns]

    def error_of(found: np.ndarray) -> float:
        return _rmse(errors(true, found, columns, data.table) / unit)

    if (series := data.table.series) is not None:
        seen = np.full(data.shape, np.nan)
        seen[data.train_rows, data.train_columns] = data.train_values
        filled = pd.DataFrame(seen).groupby(series).last().to_numpy()
        drawn_on = np.full(data.shape, np.nan)
        for of_one in rows_of_each(data.table):
            drawn_on[of_one] = _drifted(seen[of_one])
        return {
            "the last value": error_of(last := filled[series[rows], columns]),
            "the last value with drift": error_of(np.where(named, last, drawn_on[rows, columns])),
        }
    seen = np.full((start, m), np.nan)
    seen[data.train_rows, data.train_columns] = data.train_values
    filled = pd.DataFrame(seen).ffill().to_numpy()[-1]
    found = {"the last value": error_of(filled[columns])}
    beyond = np.full((data.table.end - start, m), np.nan)
    drawn_on = _drifted(np.concatenate([seen, beyond]))[rows, columns]
    found["the last value with drift"] = error_of(np.where(named, filled[columns], drawn_on))
    season, transform = data.table.season, data.table.transform
    counted = None if season is not None or transform is None else transform.seasonal_difference
    if (season := season or counted) is not None:
        phases = np.arange(data.table.end)
        phases = phases % season if counted else data.table.phase(phases)
        latest, phase = np.full((season, m), np.nan), phases[:start]
        for each in np.unique(phase):
            latest[each] = pd.DataFrame(seen[phase == each]).ffill().to_numpy()[-1]
        found["the value one season before"] = error_of(latest[phases[rows], columns])
    return found


def _drifted(seen: np.ndarray) -> np.ndarray:
    """The line through the first and the last visible value of each channel, at every row (rows, M): the random walk
    with drift (Hyndman & Athanasopoulos, Forecasting: Principles and Practice, section 5.2). Level where only one value
    is visible, NaN where none is."""
    found = np.full_like(seen, np.nan)
    for column in range(seen.shape[1]):
        if len(places := np.flatnonzero(~np.isnan(seen[:, column]))):
            first, last = places[0], places[-1]
            slope = (seen[last, column] - seen[first, column]) / max(last - first, 1)
            found[:, column] = seen[last, column] + slope * (np.arange(len(seen)) - last)
    return found


def _rmse(error: np.ndarray) -> float:
    error = error[~np.isnan(error)]
    return float(np.sqrt(np.mean(error**2))) if len(error) else float("nan")
