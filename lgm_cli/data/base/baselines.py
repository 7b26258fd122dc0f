"""Predictions that every model should beat."""

from __future__ import annotations

import numpy as np

from lgm_cli.data.base.categories import errors, sizes
from lgm_cli.data.base.data import Data


def naive_values(data: Data) -> np.ndarray:
    """What predicts each column knowing nothing of the row, (M,): its mean over the training entries, of a column of
    categories the most frequent one, of a column without a training entry the mean of all of them."""
    m, columns, values = data.shape[1], data.train_columns, data.train_values
    count = np.bincount(columns, minlength=m)
    total = np.bincount(columns, values, minlength=m)
    found = np.where(count > 0, total / np.maximum(count, 1), values.mean())
    for column in np.flatnonzero(sizes(data.table) * count):
        found[column] = np.bincount(values[columns == column].astype(np.int64)).argmax()
    return found


def baseline_rmse(data: Data) -> float:
    """Root mean squared error, when `naive_values` predict them, on the hidden entries but those to be forecast; or
    NaN."""
    scored = ~data.ahead
    if not scored.any():
        return float("nan")
    columns = data.test_columns
    wrong = errors(data.test_values, naive_values(data)[columns], columns, data.table)
    return float(np.sqrt(np.mean(wrong[scored] ** 2)))
