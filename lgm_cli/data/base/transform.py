"""Logarithms and differences of a series, taken before learning and given back in what is predicted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Transform:
    """The series that is learned from, d_t, made of the values y_t of the user's series:

        d_t = (1 - B)^difference (1 - B^seasonal_difference) x_t,   x_t = log y_t where `log` is asked for, else y_t,

    with B x_t = x_(t-1). Natural logarithms. A step has a d_t where all values that it is made of are known, so the
    first `reach` steps have none (Box & Jenkins, Time Series Analysis, 1970, chapters 4 and 9).
    """

    log: bool = False
    difference: int = 0  # how many times
    seasonal_difference: int | None = None  # the lag of one more difference

    @property
    def lags(self) -> tuple[int, ...]:
        """The lag of each difference."""
        return (1,) * self.difference + ((self.seasonal_difference,) if self.seasonal_difference else ())

    @property
    def reach(self) -> int:
        """Steps before a step that its difference is made of."""
        return sum(self.lags)

    @property
    def weights(self) -> np.ndarray:
        """f (reach,): x_t = d_t + f_1 x_(t-1) + .. + f_reach x_(t-reach)."""
        polynomial = np.ones(1)
        for lag in self.lags:
            polynomial = np.convolve(polynomial, np.concatenate([[1.0], np.zeros(lag - 1), [-1.0]]))
        return -polynomial[1:]

    def levels(self, values: np.ndarray) -> np.ndarray:
        """x: values or their logarithms."""
        return np.log(values) if self.log else values

    def differences(self, levels: np.ndarray) -> np.ndarray:
        """d (T, M) of x (T, M); NaN where a value that it is made of is NaN, and in the first `reach` rows."""
        found = levels
        for lag in self.lags:
            found = np.concatenate([np.full_like(found[:lag], np.nan), found[lag:] - found[:-lag]])
        return found

    def __str__(self) -> str:
        parts = ["logarithms"] * self.log
        parts += [f"differences{' of differences' * (self.difference - 1)}"] * (self.difference > 0)
        parts += [f"differences at lag {self.seasonal_difference}"] * (self.seasonal_difference is not None)
        return ", then ".join(parts)
