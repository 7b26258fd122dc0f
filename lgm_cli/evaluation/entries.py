"""Entries of a table, looked up by data point."""

from __future__ import annotations

import numpy as np


class EntriesByPoint:
    """Entries sorted by data point, looked up for a group of data points."""

    def __init__(self, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> None:
        self.starts = np.searchsorted(rows, np.arange(shape[0] + 1))
        self.lengths = np.diff(self.starts)
        self.columns = columns

    def of(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns and positions (n, t), padded with column 0 at position -1."""
        lengths = self.lengths[points]
        width = int(lengths.max(initial=0))
        offset = np.arange(width)
        position = np.where(offset < lengths[:, None], self.starts[points][:, None] + offset, -1)
        return np.where(position >= 0, self.columns[position] if len(self.columns) else 0, 0), position
