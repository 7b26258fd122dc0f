"""Series: the user's own, the packaged ones, their seasons, horizons and what comes after the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.load import load
from lgm_cli.data.base.naive_forecasts import naive_forecasts
from lgm_cli.data.base.season import periodic_means
from lgm_cli.data.series import continued
from lgm_cli.errors import UserError
from lgm_cli.observations.units import standardisation

NONE = {"index": None, "last": None, "season": None, "horizon": 0, "forecast": 0, "test_fraction": 0.0}


def series(path: Path, frame: pd.DataFrame, **options: Any) -> Data:
    frame.to_csv(path / "series.csv", index=False)
    return load({"name": "series", "path": path / "series.csv"} | NONE | options, 0, lambda _: {})


def weekly(steps: int = 60) -> pd.DataFrame:
    random = np.random.default_rng(0)
    day = pd.date_range("2024-01-28", periods=steps).strftime("%Y-%m-%d")
    wave = 5 * np.sin(2 * np.pi * np.arange(steps) / 7)
    return pd.DataFrame({"day": day, "a": 10 + wave + random.normal(size=steps), "b": random.normal(size=steps)})


def test_a_series_is_read_with_its_horizon_and_what_follows(tmp_path: Path) -> None:
    frame = weekly()
    frame.loc[3, "a"] = np.nan
    data = series(tmp_path, frame, index="day", season=7, horizon=5, forecast=4, test_fraction=0.1)
    assert data.shape == (64, 2) and data.layout == (1, 128)
    assert list(data.table.row_labels[-5:]) == ["2024-03-27", "2024-03-28", "2024-03-29", "2024-03-30", "2024-03-31"]
    assert data.ahead.sum() == 10 and (data.test_rows[data.ahead] >= 55).all()
    assert data.hidden.sum() == 10 + round(0.1 * 109)
    assert "60 x 2, 119 values (99.2% observed)" in data.describe()


def test_the_periodic_means_are_those_of_the_learning_entries(tmp_path: Path) -> None:
    """Whatever stands in the hidden entries; and the units are those of what is left."""
    frame = weekly()
    data = series(tmp_path, frame, index="day", season=7, horizon=5, test_fraction=0.1)
    values = frame[["a", "b"]].to_numpy(copy=True)
    values[data.test_rows, data.test_columns] = np.nan
    assert data.season is not None
    np.testing.assert_allclose(data.season, periodic_means(values, np.arange(len(values)) % 7, 7), rtol=0, atol=1e-12)
    np.testing.assert_allclose(data.season.mean(0), 0, atol=1e-12)
    left = values - data.season[np.arange(60) % 7]
    center, scale = standardisation(data)
    np.testing.assert_allclose(center, np.nanmean(left, axis=0), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(scale, np.nanstd(left, axis=0), rtol=1e-10)


@pytest.mark.parametrize("steps", [14, 24, 200])
def test_a_trend_is_not_taken_for_a_season(steps: int) -> None:
    """With gaps, the periodic means of a line and a season are those of the season."""
    random = np.random.default_rng(0)
    true = random.normal(size=(7, 2))
    true -= true.mean(0)
    values = np.outer(np.arange(steps), [2.7, -300.0]) + true[np.arange(steps) % 7]
    values[random.random(values.shape) < 0.1] = np.nan
    np.testing.assert_allclose(periodic_means(values, np.arange(len(values)) % 7, 7), true, rtol=0, atol=1e-6)
    assert np.abs(periodic_means(values - true[np.arange(steps) % 7], np.arange(steps) % 7, 7)).max() < 1e-6


def test_naive_forecasts_use_what_was_learned_from_alone(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [1.0, 2, 3, 4, 5, 6, np.nan, 10, 20]})
    data = series(tmp_path, frame, season=2, horizon=2)
    last, _, seasonal = naive_forecasts(data).values()
    assert last == pytest.approx(np.sqrt((4**2 + 14**2) / 2))
    assert seasonal == pytest.approx(np.sqrt((4**2 + 15**2) / 2))  # of row 5, and of row 4 as row 6 has no value


def test_the_last_steps_alone(tmp_path: Path) -> None:
    data = series(tmp_path, weekly(), index="day", last=20)
    assert data.shape == (20, 2)
    assert data.table.row_labels[0] == "2024-03-08"


@pytest.mark.parametrize(
    ("labels", "more"),
    [
        (["2024-01-31", "2024-02-29", "2024-03-31"], ["2024-04-30", "2024-05-31"]),
        (["2024-02-27", "2024-02-28"], ["2024-02-29", "2024-03-01"]),
        (["2013-01-01 22:00", "2013-01-01 23:00", "2013-01-02 00:00"], ["2013-01-02 01:00", "2013-01-02 02:00"]),
        (["2013-12-30T22:00:00Z", "2013-12-30T23:00:00Z"], ["2013-12-31T00:00:00Z", "2013-12-31T01:00:00Z"]),
        (["20240130", "20240131", "20240201"], ["20240202", "20240203"]),
        (["31/12/1999", "01/01/2000", "02/01/2000"], ["03/01/2000", "04/01/2000"]),
        (["1998", "2000", "2002"], ["2004", "2006"]),
        (["5", "6", "9"], ["10", "11"]),
        (["mon", "tue", "wed"], ["+1", "+2"]),
        (["2024-01-31"] * 3, ["+1", "+2"]),
        (["20240131"] * 3, ["+1", "+2"]),
        (["2024-01-30", "2024-01-30", "2024-01-31"], ["+1", "+2"]),
        ([f"2020-{month:02}-15" for month in range(1, 13)], ["2021-01-15", "2021-02-15"]),
        (["2020-06-15 06:00", "2020-09-15 06:00", "2020-12-15 06:00"], ["2021-03-15 06:00", "2021-06-15 06:00"]),
        (["2020-10-30", "2020-11-30", "2020-12-30"], ["2021-01-30", "2021-02-28"]),
        ([f"01/{k % 12 + 1:02}/{2019 + k // 12}" for k in range(48)], ["01/01/2023", "01/02/2023"]),
        ([f"{k % 28 + 1:02}/01/2019" for k in range(9)], ["10/01/2019", "11/01/2019"]),
        (["2020-03-28 00:00:00+01:00", "2020-03-28 01:00:00+01:00"], [f"2020-03-28 0{k}:00:00+01:00" for k in (2, 3)]),
        (["2020-03-28 00:00:00 +0100", "2020-03-28 01:00:00 +0100"], [f"2020-03-28 0{k}:00:00 +0100" for k in (2, 3)]),
        (["2020-03-28T00:00:00.000Z", "2020-03-28T01:00:00.000Z"], [f"2020-03-28T0{k}:00:00.000Z" for k in (2, 3)]),
        (["1.3.2020 00:00:00.75", "1.3.2020 00:00:01.00"], ["1.3.2020 00:00:01.25", "1.3.2020 00:00:01.50"]),
    ],
)
def test_labels_continue_at_their_own_spacing(labels: list[str], more: list[str]) -> None:
    assert list(continued(pd.Index(labels), 2)) == more


@pytest.mark.parametrize(
    ("first", "steps", "by", "more"),
    [
        ("2020-03-28 22:00", 48, "h", ["2020-03-30 23:00:00+02:00", "2020-03-31 00:00:00+02:00"]),
        ("2020-10-24 22:00", 48, "h", ["2020-10-26 21:00:00+01:00", "2020-10-26 22:00:00+01:00"]),
        ("2020-03-01", 40, "D", ["2020-04-10 00:00:00+02:00", "2020-04-11 00:00:00+02:00"]),
        ("2020-01-01", 12, "MS", ["2021-01-01 00:00:00+01:00", "2021-02-01 00:00:00+01:00"]),
    ],
)
def test_labels_across_daylight_saving(tmp_path: Path, first: str, steps: int, by: str, more: list[str]) -> None:
    labels = pd.date_range(first, periods=steps, freq=by, tz="Europe/Paris").astype(str)
    data = series(tmp_path, weekly(steps).assign(day=labels), index="day", forecast=2)
    assert list(data.table.row_labels[-2:]) == more
    assert "evenly" not in data.describe() and "order" not in data.describe()


@pytest.mark.parametrize(("steps", "noted"), [(10, True), (40, False)])
def test_dates_that_can_be_read_in_two_ways_are_noted(tmp_path: Path, steps: int, noted: bool) -> None:
    frame = weekly(steps)
    frame["day"] = [f"01/{k % 12 + 1:02}/{2019 + k // 12}" for k in range(steps)]
    note = "the labels are read as month/day/year, though they may be day/month/year"
    assert (note in series(tmp_path, frame, index="day").describe()) == noted


def test_months_on_a_day_within_them_are_evenly_spaced(tmp_path: Path) -> None:
    frame = weekly(12).assign(day=[f"2020-{month:02}-15" for month in range(1, 13)])
    assert "evenly" not in series(tmp_path, frame, index="day").describe()


def test_positions_continue(tmp_path: Path) -> None:
    assert list(continued(pd.RangeIndex(3), 2)) == [3, 4]
    data = series(tmp_path, weekly()[["a"]], last=20, forecast=3)
    assert list(data.table.row_labels) == [*range(40, 63)]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"season": 31}, "data.season=31 is longer than half of 60 steps"),
        ({"season": 30, "horizon": 4}, "data.season=30 is longer than half of the 56 steps before the horizon"),
        ({"horizon": 60}, "data.horizon=60 hides all of 60 steps"),
        ({"forecast": 61}, "data.forecast=61 is more than the 60 steps"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, options: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError, match=what):
        series(tmp_path, weekly(), index="day", **options)


def test_channels_without_anything_to_learn_are_refused(tmp_path: Path) -> None:
    frame = weekly()
    with pytest.raises(UserError, match="nothing in 'c' but its periodic means"):
        series(tmp_path, frame.assign(c=np.arange(60) % 7), index="day", season=7)
    with pytest.raises(UserError, match="no two different values of 'c' before the last 5 steps"):
        series(tmp_path, frame.assign(c=np.arange(60) > 56).astype({"c": float}), index="day", horizon=5)
    with pytest.raises(UserError, match="no two different values in column 'c'"):
        series(tmp_path, frame.assign(c=1.0), index="day")


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda days: [days[0], *days[:-1]], "the label '2024-01-28' is there more than once"),
        (lambda days: days[::-1], "goes back in time: it is sorted by 'day'"),
        (lambda days: [f"{day}T00:00:00Z" for day in (*days[:-1], "2025-01-01")], "the labels are not evenly spaced"),
        (lambda days: [*days[:-1], "2025-01-01"], "the labels are not evenly spaced"),
    ],
)
def test_odd_labels_are_noted(tmp_path: Path, change: Any, note: str) -> None:
    frame = weekly()
    frame["day"] = change(list(frame["day"]))
    assert note in series(tmp_path, frame, index="day").describe()


def test_a_single_channel_is_fine(tmp_path: Path) -> None:
    assert series(tmp_path, weekly()[["a"]]).shape == (60, 1)


def test_a_blank_line_of_a_single_channel_is_a_step(tmp_path: Path) -> None:
    (tmp_path / "series.csv").write_text("x\n1\n\n3\n\n\n4\n\n")
    data = load({"name": "series", "path": tmp_path / "series.csv"} | NONE, 0, lambda _: {})
    assert data.shape == (6, 1)
    assert data.table.rows.tolist() == [0, 2, 5]


def test_chicago_is_20_stations_and_5698_days() -> None:
    options = {"name": "chicago", "test_fraction": 0.0}
    data = load(options, 0, lambda _: {})
    assert data.shape == (5698, 20) and len(data.table.values) == 5698 * 20
    assert data.table.row_labels[0] == "2001-01-22"
    assert list(data.table.column_labels[[0, -1]]) == ["Austin", "California"]
    assert data.table.values[0] == 1.463


def test_weather_is_hourly_with_gaps() -> None:
    options = {"name": "weather", "origin": "LGA", "season": 24, "test_fraction": 0.0}
    data = load(options, 0, lambda _: {})
    assert data.shape == (8730, 7)
    assert 0.8 < len(data.table.values) / (8730 * 7) < 0.95
    assert "evenly" not in data.describe()
