"""The best pairing of two sets of equal size."""

from __future__ import annotations

import numpy as np


def best_assignment(cost: np.ndarray) -> np.ndarray:
    """Columns, one for each row of cost (K, K), whose costs have the smallest sum.

    Shortest augmenting paths, row after row, with potentials that keep reduced costs from being negative: Jonker &
    Volgenant, Computing 38 (1987) 325-340. O(K^3).
    """
    size = len(cost)
    of_row, of_column = np.zeros(size), np.zeros(size)  # potentials
    row_of = np.full(size, -1)
    for start in range(size):
        shortest, before = np.full(size, np.inf), np.full(size, -1)
        done, row, column = np.zeros(size, bool), start, -1
        reached = 0.0
        while row >= 0:
            length = reached + cost[row] - of_row[row] - of_column
            nearer = ~done & (length < shortest)
            shortest[nearer], before[nearer] = length[nearer], column
            column = int(np.where(done, np.inf, shortest).argmin())
            reached, done[column], row = shortest[column], True, row_of[column]
        of_row[start] += reached
        settled = done & (row_of >= 0)
        of_row[row_of[settled]] += reached - shortest[settled]
        of_column[done] -= reached - shortest[done]
        while column >= 0:  # along the path, each column takes the row of the one before
            previous = before[column]
            row_of[column] = start if previous < 0 else row_of[previous]
            column = previous
    return np.argsort(row_of)
