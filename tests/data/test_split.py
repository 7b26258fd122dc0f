"""Hidden entries: as many as asked for, by position and seed alone, and something left in every column."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgm_cli.data.base.make_table import rectangle, regression
from lgm_cli.data.base.split import hide, splitmix64
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError


def table(values: np.ndarray) -> Table:
    n, m = values.shape
    return rectangle("test", values, pd.RangeIndex(n), pd.RangeIndex(m))


def ratings(rows, columns, values, shape) -> Table:
    rows, columns, values = np.array(rows), np.array(columns), np.array(values, float)
    return Table("test", rows, columns, values, pd.RangeIndex(shape[0]), pd.RangeIndex(shape[1]), True, False)


@st.composite
def tables(draw) -> Table:
    """Tables with gaps, few distinct values, and 6 rows or more of which the first 2 vary in every column."""
    n, m = draw(st.integers(6, 40)), draw(st.integers(2, 8))
    values = np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, 3, (n, m)).astype(float)
    values[np.random.default_rng(draw(st.integers(0, 2**32))).random((n, m)) < 0.3] = np.nan
    values[0], values[1] = 5.0, 6.0
    return table(values)


def test_splitmix64_gives_the_published_numbers():
    # The reference implementation (Vigna, splitmix64.c) started at 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    drawn = splitmix64(np.array([1234567], np.uint64), np.arange(4))
    assert drawn.tolist() == expected


@pytest.mark.parametrize(("seed", "expected"), [(0, [5, 7, 8, 11, 12, 19]), (1, [2, 4, 8, 9, 12, 19])])
def test_the_split_of_a_seed_never_changes(seed, expected):
    """The expected positions were computed with Python's own integers, modulo 2**64."""
    assert np.flatnonzero(hide(table(np.arange(20.0).reshape(5, 4)), 0.3, seed)).tolist() == expected


@settings(max_examples=60, deadline=None)
@given(tables(), st.floats(0.05, 0.5), st.integers(0, 2**70))
def test_hides_the_exact_number_and_leaves_every_column_varying(data, fraction, seed):
    wanted = round(fraction * len(data.values))
    kept_at_least = 2 * data.shape[1]
    if wanted == 0 or wanted > len(data.values) - kept_at_least:
        with pytest.raises(UserError, match="data.test_fraction"):
            hide(data, fraction, seed)
        return
    hidden = hide(data, fraction, seed)
    assert hidden.sum() == wanted
    for column in range(data.shape[1]):
        assert len(set(data.values[(data.columns == column) & ~hidden])) >= 2


@settings(max_examples=30, deadline=None)
@given(tables(), st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_does_not_depend_on_the_order_of_entries(data, seed, random):
    order = list(range(len(data.values)))
    random.shuffle(order)
    shuffled = Table(
        "test",
        data.rows[order],
        data.columns[order],
        data.values[order],
        data.row_labels,
        data.column_labels,
        False,
        True,
    )
    assert (hide(shuffled, 0.3, seed) == hide(data, 0.3, seed)[order]).all()


def test_seeds_give_unrelated_splits():
    data = table(np.random.default_rng(0).random((1000, 20)))
    zero, one = hide(data, 0.1, 0), hide(data, 0.1, 1)
    # Independent splits share a hypergeometric number of entries, mean 200 and standard deviation 12.7.
    assert abs(int((zero & one).sum()) - 200) < 5 * 12.7


def test_is_uniform_over_rows_and_columns():
    data = table(np.random.default_rng(0).random((400, 50)))
    hidden = np.mean([hide(data, 0.2, seed) for seed in range(50)], axis=0).reshape(400, 50)
    # 50 x 400 draws in a column, 50 x 50 in a row: standard deviations 0.0028 and 0.008.
    assert np.abs(hidden.mean(axis=0) - 0.2).max() < 5 * 0.0028
    assert np.abs(hidden.mean(axis=1) - 0.2).max() < 5 * 0.008


def test_fraction_zero_hides_nothing():
    assert not hide(table(np.eye(3)), 0.0, 0).any()


def test_a_fraction_that_hides_nothing_is_refused():
    with pytest.raises(UserError, match=r"hides none of the 9 values .*at least data.test_fraction=0.11"):
        hide(table(np.eye(3)), 0.01, 0)


def test_a_fraction_that_hides_too_much_is_refused_with_the_largest_possible():
    data = table(np.arange(40.0).reshape(20, 2))
    with pytest.raises(UserError, match=r"leaves too few .*at most data.test_fraction=0.9\)"):
        hide(data, 0.95, 0)
    assert hide(data, 0.9, 0).sum() == 36


def test_ratings_keep_one_entry_in_every_column():
    """Equal ratings are fine where one scale serves all columns, so one kept entry is enough."""
    data = ratings([0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1], [3, 3, 3, 5, 5, 5], (3, 2))
    hidden = hide(data, 0.667, 0)
    assert hidden.sum() == 4
    assert np.bincount(data.columns[~hidden]).tolist() == [1, 1]


def test_what_a_regression_learns_from_always_varies():
    """A response that is zero but once: that once is never hidden."""
    response = np.zeros(40)
    response[7] = 1.0
    features = np.random.default_rng(0).normal(size=(40, 2))
    drawn = regression("test", features, response, pd.RangeIndex(40), pd.Index(["a", "b"]), target="y")
    for seed in range(50):
        hidden = hide(drawn, 0.5, seed)
        assert hidden.sum() == 20
        assert np.ptp(response[~hidden]) == 1
