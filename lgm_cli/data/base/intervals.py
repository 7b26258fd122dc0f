"""Intervals of predictions in the data's own units: normal, and lognormal where logarithms were learned from."""

from __future__ import annotations

import numpy as np

from lgm_cli.data.base.table import Table

INTERVAL = 1.6448536269514722  # standard deviations on each side of a mean that hold 90% of a normal distribution


def interval(table: Table, mean: np.ndarray, standard_deviation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of the 90% intervals of entries with these means and standard deviations.

    They are those of a normal distribution or, where logarithms were learned from, of a lognormal one,
    exp(m -+ 1.645 s), with m and s as in `logarithm`.
    """
    if not _of_logarithms(table):
        half = INTERVAL * standard_deviation
        return mean - half, mean + half
    center, spread = logarithm(mean, standard_deviation)
    return np.exp(center - INTERVAL * spread), np.exp(center + INTERVAL * spread)


def distance(table: Table, true: np.ndarray, mean: np.ndarray, standard_deviation: np.ndarray) -> np.ndarray:
    """How far true values lie from the middle of their intervals, |true - mean| / standard deviation, which is at most
    1.645 within the 90% interval. Infinite where the deviation is zero and the value is another. Where logarithms were
    learned from, the three are those of the logarithm."""
    if _of_logarithms(table):
        true, (mean, standard_deviation) = np.log(true), logarithm(mean, standard_deviation)
    error = np.abs(true - mean)
    certain = np.where(error > 0, np.inf, 0.0)
    return np.divide(error, standard_deviation, out=certain, where=standard_deviation > 0)


def logarithm(mean: np.ndarray, standard_deviation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean m and standard deviation s of the logarithm of a lognormal variable with this mean and standard deviation:
    s^2 = log(1 + deviation^2 / mean^2) and m = log mean - s^2 / 2 (Johnson, Kotz & Balakrishnan, Continuous Univariate
    Distributions 1, 1994, chapter 14)."""
    variance = np.log1p((standard_deviation / mean) ** 2)
    return np.log(mean) - variance / 2, np.sqrt(variance)


def _of_logarithms(table: Table) -> bool:
    return table.transform is not None and table.transform.log
