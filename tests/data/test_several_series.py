"""Several series of one file, named by data.series: their rows, horizons, what follows them, and bad columns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.naive_forecasts import naive_forecasts
from lgm_cli.errors import UserError
from lgm_cli.results import tables
from lgm_cli.results.run_folder import with_later_keys
from tests.data.test_series import series

DAYS = [f"2024-02-{day:02d}" for day in range(25, 30)]


def two(order: list[int] | None = None) -> pd.DataFrame:
    """b of five days, and a of three."""
    frame = pd.DataFrame({"id": [*"bbbbb", *"aaa"], "day": DAYS + DAYS[:3], "x": np.arange(8.0) ** 2})
    return frame if order is None else frame.iloc[order]


def read(path: Path, frame: pd.DataFrame, **options: Any) -> Data:
    return series(path, frame, **{"series": "id", "index": "day"} | options)


def test_series_have_a_horizon_each_and_labels_of_what_follows(tmp_path: Path) -> None:
    data = read(tmp_path, two(), horizon=1, forecast=2)
    table = data.table
    assert (table.end, table.shape, table.forecast, table.num_series) == (8, (12, 1), 4, 2)
    assert table.series is not None and table.series.tolist() == [0] * 5 + [1] * 3 + [0, 0, 1, 1]
    assert table.row_labels[8:].tolist() == ["2024-03-01", "2024-03-02", "2024-02-28", "2024-02-29"]
    assert data.test_rows.tolist() == [4, 7] and data.ahead.all()
    assert table.in_horizon(np.arange(12)).nonzero()[0].tolist() == [4, 7, 8, 9, 10, 11]
    assert naive_forecasts(data)["the last value"] == pytest.approx(np.sqrt(((16 - 9) ** 2 + (49 - 36) ** 2) / 2))
    assert "2 series by 'id', of 3 to 5 steps" in data.describe()
    assert "the last 1 steps of each series among them" in data.describe()
    tables.write_forecast(tmp_path / "forecast.csv", data, np.arange(4.0), np.ones(4))
    found = pd.read_csv(tmp_path / "forecast.csv")
    assert found["series"].tolist() == ["b", "b", "a", "a"] and found["row"].tolist() == list(table.row_labels[8:])
    tables.write_predictions(tmp_path / "predictions.csv", data, np.arange(2.0), np.ones(2))
    assert pd.read_csv(tmp_path / "predictions.csv")[["series", "row"]].to_numpy().tolist() == [
        ["b", DAYS[4]],
        ["a", DAYS[2]],
    ]


def test_rows_that_do_not_follow_each_other_are_grouped_and_each_series_sorted(tmp_path: Path) -> None:
    """imputed.csv has the order of the file."""
    frame = two([5, 0, 6, 1, 4, 2, 7, 3])
    frame.loc[6, "x"] = np.nan
    data = read(tmp_path, frame)
    assert data.table.series_names is not None and list(data.table.series_names) == ["a", "b"]
    assert data.table.row_labels.tolist() == DAYS[:3] + DAYS
    assert data.table.values.tolist() == [25, 49, 0, 1, 4, 9, 16]
    said = " ".join(data.table.warnings)
    assert "grouped by 'id'" in said and "sorted by 'day'" in said
    paths = tmp_path / "imputed.csv", tmp_path / "deviation.csv"
    tables.write_imputed(*paths, data, np.array([1]), np.array([0]), np.array([36.0]), np.ones(1))
    assert pd.read_csv(paths[0])[["day", "id", "x"]].to_numpy().tolist() == (
        frame.fillna(36.0)[["day", "id", "x"]].to_numpy().tolist()
    )
    other = two().assign(id=[*"bbbbaaaa"])
    assert read(tmp_path, other, index=None).fingerprint != read(tmp_path, two(), index=None).fingerprint


def test_the_last_steps_of_each_are_taken_and_positions_are_no_labels(tmp_path: Path) -> None:
    data = read(tmp_path, two([0, 5, 1, 6, 2, 7, 3, 4]), last=4, index=None, drop=["day"], forecast=1)
    assert data.table.values.tolist() == [1, 4, 9, 16, 25, 36, 49]
    assert data.table.row_labels.tolist() == ["2", "4", "6", "7", "1", "3", "5", "+1", "+1"]


def test_one_series_is_the_same_as_none_named(tmp_path: Path) -> None:
    frame = two().head(5)
    named, plain = read(tmp_path, frame), read(tmp_path, frame.drop(columns="id"), series=None)
    assert named.table.num_series == 1 and named.table.values.tolist() == plain.table.values.tolist()
    assert with_later_keys({"data": {"name": "series"}})["data"]["series"] is None


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({}, {"series": "idd"}, "data.series=idd is not a column of .*did you mean data.series=id"),
        ({"id": ""}, {}, "data.series=id names no series in any row"),
        ({"id": [*"bbb", "", *"baaa"]}, {}, "line 5 does not say in 'id' which series it is of"),
        ({"id": [*"abcdefgh"]}, {}, "gives each row of series.csv a series of its own"),
        ({}, {"series": "day"}, "data.series=day is in data.index, too"),
        ({}, {"labels": "id"}, "data.series=id is in data.labels, too"),
        ({}, {"drop": ["id"]}, "data.series=id is in data.drop, too"),
        ({}, {"columns": ["id", "x"]}, "data.series=id is in data.columns, too"),
        ({}, {"horizon": 3}, "data.horizon=3 hides all of the 3 steps of series 'a' of series.csv"),
        ({}, {"season": 2}, "data.season=2 is taken off a single series, and data.series=id names 2"),
        ({"day": [*DAYS, DAYS[1], DAYS[0], DAYS[1]]}, {}, "series 'a' of series.csv is not in the order of time"),
    ],
)
def test_columns_that_name_no_series_are_refused(
    change: dict[str, Any], options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, two().assign(**change), **options)
    assert re.search(words, str(caught.value)) is not None, str(caught.value)
