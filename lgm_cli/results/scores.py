"""How well the hidden entries are predicted: by column for scores.csv, and of all columns together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data.base.baselines import naive_values
from lgm_cli.data.base.categories import errors, sizes
from lgm_cli.data.base.data import Data
from lgm_cli.report.learned import drawn_units
from lgm_cli.results.tables import interval

KINDS = ("gap", "forecast")


class Scores:
    """Scores of the predictions of the hidden entries, which come in the order of data.test_rows; gaps and forecasts
    apart.

    With e the errors of the predictions and e0 those of each column's training mean (of a column without training
    entries, of the mean of all; of categories, e is 1 where another one was predicted, and e0 where the right one is
    not the most frequent of the column),

        rmse = (mean e^2)^(1/2),   mean_rmse = (mean e0^2)^(1/2),   gain = 1 - mean e^2 / mean e0^2,

    and coverage_90 is the share of the true values inside the 90% intervals. intervals: whether there are any, or the
    columns (M,) that have them.
    """

    def __init__(self, data: Data, mean: np.ndarray, deviation: np.ndarray, intervals: bool | np.ndarray) -> None:
        m, self.columns = data.shape[1], data.test_columns
        values, places = data.train_values, data.train_columns
        count = np.bincount(places, minlength=m)
        center, named = naive_values(data), sizes(data.table) > 0
        square = np.bincount(places, (values - center[places]) ** 2, m) / np.maximum(count, 1)
        self._spread = np.sqrt(np.where((square > 0) & ~named, square, np.nan))  # of training entries, (M,)
        self._squares, self._squares_of_mean = (
            errors(data.test_values, found, self.columns, data.table) ** 2 for found in (mean, center[self.columns])
        )
        self._inside, have = np.full(len(mean), np.nan), np.broadcast_to(intervals, m)
        if have.any():
            lower, upper = interval(data.table, mean, deviation)
            inside = (lower <= data.test_values) & (data.test_values <= upper)
            self._inside[have[self.columns]] = inside[have[self.columns]]
        self._of = "" if have.all() or not have.any() else "normal columns"
        _, self._scale, self.unit = drawn_units(data)
        self._data = data
        self._kinds = {name: data.ahead == (name == "forecast") for name in KINDS}

    def by_column(self) -> pd.DataFrame:
        """A row for each kind and column with hidden entries. rmse and mean_rmse are in the column's own unit;
        rmse_in_standard_deviations is in those of the column's training entries."""
        m = self._data.shape[1]
        parts = []
        for kind, of_kind in self._kinds.items():
            at = self.columns[of_kind]
            number = np.bincount(at, minlength=m)
            chosen = np.flatnonzero(number)
            mean, base, inside = (
                np.bincount(at, values[of_kind], m)[chosen] / number[chosen]
                for values in (self._squares, self._squares_of_mean, self._inside)
            )
            with np.errstate(divide="ignore", invalid="ignore"):
                gain = np.where(base > 0, 1 - mean / base, np.nan)
            parts.append(
                pd.DataFrame(
                    {
                        "kind": kind,
                        "column": self._data.table.column_labels.take(chosen),
                        "number": number[chosen],
                        "rmse": np.sqrt(mean),
                        "rmse_in_standard_deviations": np.sqrt(mean) / self._spread[chosen],
                        "mean_rmse": np.sqrt(base),
                        "gain": gain,
                        "coverage_90": inside,
                    }
                )
            )
        return pd.concat(parts, ignore_index=True)

    def overall(self) -> dict[str, dict[str, Any]]:
        """All columns together, by kind, in the unit of the pictures: the data's own where all columns share it,
        otherwise standard deviations of each column."""
        found = {}
        for kind, of_kind in self._kinds.items():
            if not of_kind.any():
                continue
            square = self._scale[self.columns[of_kind]] ** 2
            scored = self._inside[of_kind][~np.isnan(self._inside[of_kind])]
            inside = float(scored.mean()) if len(scored) else np.nan
            found[kind] = {
                "number": int(of_kind.sum()),
                "rmse": float(np.sqrt((self._squares[of_kind] / square).mean())),
                "mean_rmse": float(np.sqrt((self._squares_of_mean[of_kind] / square).mean())),
                "unit": self.unit,
                "coverage_90": None if np.isnan(inside) else inside,
                **({"coverage_of": self._of} if self._of else {}),
            }
        return found
