"""What the pictures of every run say: their titles, their units, and which predictions are judged together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.make_table import rectangle
from lgm_cli.results.pictures import on_one_scale, predicted, title


def test_a_title_says_model_data_method_and_seed() -> None:
    config = {"model": {"name": "factor_analysis"}, "data": {"name": "csv", "path": "/some/where/pigs.csv"}, "seed": 7}
    assert title(config | {"method": {"name": "em"}}) == "factor analysis of pigs.csv, learned by em, seed 7"
    config |= {"data": {"name": "bfi"}, "method": {"name": "gradient_em"}}
    assert title(config) == "factor analysis of bfi, learned by gradient em, seed 7"


def data_of(values: np.ndarray, horizon: int = 0, names: list[str] | None = None) -> Data:
    table = rectangle(
        "test", values, pd.RangeIndex(len(values)), pd.Index(names or [f"c{k}" for k in range(values.shape[1])])
    )
    hidden = np.arange(len(table.rows)) % 3 == 0
    table = dataclasses.replace(table, kind="series" if horizon else "table", horizon=horizon)
    return Data(table, hidden | table.in_horizon(table.rows))


@pytest.mark.parametrize("horizon", [0, 4])
def test_errors_are_those_of_the_entries_in_their_units_gaps_and_forecasts_apart(horizon: int) -> None:
    generator = np.random.default_rng(0)
    data = data_of(generator.normal(size=(30, 2)) * [1.0, 50.0] + [0.0, 7.0], horizon)
    mean, deviation = data.test_values + generator.normal(size=len(data.test_values)), np.ones(len(data.test_values))
    groups, unit = predicted(data, mean, deviation)
    assert unit == "standard deviations of the column"
    assert [group.name for group in groups] == ["hidden entries", "forecasts"][: 2 if horizon else 1]
    scale = np.array([data.train_values[data.train_columns == column].std() for column in (0, 1)])
    for group, chosen in zip(groups, (~data.ahead, data.ahead), strict=False):
        error = (data.test_values - mean)[chosen]
        assert group.errors["in the data's own units"] == pytest.approx(np.sqrt(np.mean(error**2)))
        relative = error / scale[data.test_columns[chosen]]
        assert group.errors["standard deviations of the column"] == pytest.approx(np.sqrt(np.mean(relative**2)))
        np.testing.assert_allclose(group.true - group.mean, relative)
        np.testing.assert_allclose(group.distance, np.abs(error))


def test_answers_on_one_scale_stay_on_it_and_a_single_column_gives_its_name_to_the_unit() -> None:
    answers = np.random.default_rng(0).integers(1, 7, size=(40, 3)).astype(float)
    data = data_of(answers)
    groups, unit = predicted(data, data.test_values, np.ones(len(data.test_values)))
    assert unit == "points of the scale"
    np.testing.assert_array_equal(groups[0].true, data.test_values)
    single = data_of(answers[:, :1] * 1.5, names=["strength"])
    (group,), unit = predicted(single, single.test_values + 1, np.ones(len(single.test_values)))
    assert unit == "strength"
    assert group.errors == {"strength": pytest.approx(1.0)}
    assert not on_one_scale(answers / 2) and not on_one_scale(np.arange(13.0))
