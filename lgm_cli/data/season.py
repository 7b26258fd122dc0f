"""The periodic part of a series, apart from its level."""

from __future__ import annotations

import numpy as np

BACKFITS = 20  # turns between the level and the periodic means of a series


def periodic_means(values: np.ndarray, season: int) -> np.ndarray:
    """The means of each phase about a moving level, less their average, by turns (backfitting): the level of a step is
    that of the line fitted to the values without their periodic part up to one period before and after, so that a trend
    does not pass for a season.  # (T, M) with NaN for gaps -> (season, M)"""
    steps = np.arange(len(values))
    first, last = np.maximum(steps - season, 0), np.minimum(steps + season + 1, len(values))
    seen = ~np.isnan(values)
    phase = steps % season
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
