"""Standard units of a table's columns."""

from __future__ import annotations

import numpy as np

from lgm_cli.data.base.data import Data


def standardisation(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each column's visible entries, their periodic means taken off, and their standard deviation (pooled where
    all share one unit)."""
    visible = data.train_values - data.seasonal(data.train_rows, data.train_columns)
    count = np.bincount(data.train_columns, minlength=data.shape[1]).astype(float)
    seen = np.maximum(count, 1)
    overall = visible.mean()
    center = np.bincount(data.train_columns, visible, data.shape[1]) / seen
    center[count == 0] = overall
    if data.table.dictionary is not None:
        center[:] = 0  # a signal has no mean of its own
    square = np.bincount(data.train_columns, (visible - center[data.train_columns]) ** 2, data.shape[1])
    if data.table.common_unit:
        return center, np.full(data.shape[1], np.sqrt(square.sum() / len(visible)))
    return center, np.sqrt(square / seen)


def plain_units(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Center and scale of values that are learned from as they are, such as counts."""
    return np.zeros(data.shape[1]), np.ones(data.shape[1])
