"""Intervals of predictions, against SciPy's distributions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lgm_cli.data.base.intervals import distance, interval
from lgm_cli.data.base.make_table import rectangle
from lgm_cli.data.base.transform import Transform


@pytest.mark.parametrize("log", [False, True])
def test_the_interval_is_that_of_the_quantiles_and_holds_what_is_near(log: bool) -> None:
    table = rectangle("test", np.ones((2, 1)), pd.RangeIndex(2), pd.RangeIndex(1))
    table = dataclasses.replace(table, transform=Transform(log=True)) if log else table
    m, s = np.array([0.3, -1.0, 2.0]), np.array([0.2, 0.9, 0.01])
    law = stats.lognorm(s, scale=np.exp(m)) if log else stats.norm(m, s)
    lower, upper = interval(table, law.mean(), law.std())
    np.testing.assert_allclose(lower, law.ppf(0.05), rtol=1e-10)
    np.testing.assert_allclose(upper, law.ppf(0.95), rtol=1e-10)
    for share in (0.01, 0.049, 0.051, 0.5, 0.94, 0.96, 0.999):
        true = law.ppf(share)
        away = distance(table, true, law.mean(), law.std())
        np.testing.assert_allclose(away, abs(stats.norm.ppf(share)), rtol=1e-6, atol=1e-9)
        assert ((away <= stats.norm.ppf(0.95)) == ((lower <= true) & (true <= upper))).all()


def test_no_deviation_holds_the_value_alone() -> None:
    table = rectangle("test", np.ones((2, 1)), pd.RangeIndex(2), pd.RangeIndex(1))
    found = distance(table, np.array([1.0, 2.0]), np.ones(2), np.zeros(2))
    np.testing.assert_array_equal(found, [0.0, np.inf])
