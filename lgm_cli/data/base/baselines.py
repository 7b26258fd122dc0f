"""Predictions that every model should beat."""

from __future__ import annotations

import numpy as np

from lgm_cli.data.base.data import Data


def baseline_rmse(data: Data) -> float:
    """Root mean squared error, when each column's training mean predicts them, on the hidden entries but those to be
    forecast; or NaN.

    A column without a training entry is predicted by the mean of all training entries.
    """
    scored = ~data.ahead
    if not scored.any():
        return float("nan")
    m, columns, values = data.shape[1], data.train_columns, data.train_values
    count = np.bincount(columns, minlength=m)
    total = np.bincount(columns, values, minlength=m)
    mean = np.where(count > 0, total / np.maximum(count, 1), values.mean())
    return float(np.sqrt(np.mean((data.test_values - mean[data.test_columns])[scored] ** 2)))
