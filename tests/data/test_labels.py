"""Labels of series: read, put in order, continued in their own format; what is odd about them is a warning."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.make_table import rectangle
from lgm_cli.data.base.naive_forecasts import naive_forecasts
from lgm_cli.data.base.table import Table
from lgm_cli.data.base.time_labels import continued
from lgm_cli.data.series import arrange, extended, in_time
from lgm_cli.errors import UserError
from lgm_cli.results.tables import write_forecast, write_imputed

FAST = settings(
    deadline=None, derandomize=True, database=None, phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
DAYS, HOURS, MONTHS = ("D", "7D", "B", "MS"), ("h", "15min", "6h", "D"), ("MS", "QS", "YS")
FORMATS = {
    **dict.fromkeys(["%Y-%m-%d", "%d.%m.%y", "%Y%m%d", "%d/%m/%Y", "%m/%d/%Y", "%d-%b-%y", "%d %B %Y"], DAYS),
    **dict.fromkeys(["%b %d, %Y", "%a, %d %b %Y", "%d%b%Y", "%Y-%j", "%y%m%d", "%Y%j", "%d%m%Y"], ("D", "7D")),
    **dict.fromkeys(["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%SZ", "%m/%d/%Y %I:%M:%S %p", "%d.%m.%Y %H:%M"], HOURS),
    **dict.fromkeys(["%Y%m%d%H%M", "%Y-%m-%d %H:%M UTC", "%Y-%m-%dT%H:%M:%S+01:00"], HOURS),
    **dict.fromkeys(["%Y%m", "%b %Y", "%b-%Y", "%Y %B", "%m/%Y", "%Y-%m", "%Y/%m", "%YM%m", "%Ym%m"], MONTHS),
    **dict.fromkeys(["%b-%y", "%y-%b", "%m/%y", "%Y.%m"], ("MS", "QS")),
    **dict.fromkeys(["%YQ{q}", "Q{q} %Y", "%Y-Q{q}", "%Y Q{q}", "{q}Q%Y", "%yQ{q}", "Q{q}/%Y"], ("QS", "YS")),
    **dict.fromkeys(["%G-W%V", "%GW%V"], ("W-MON", "4W-MON")),
    "%G-W%V-%u": ("D", "7D"),
}


def table(labels: list[Any], values: np.ndarray | None = None) -> Table:
    values = np.arange(len(labels), dtype=float) if values is None else values
    return rectangle("new.csv", values[:, None], pd.Index(labels, dtype="object"), pd.Index(["y"]), index_name="t")


def days(count: int = 30) -> list[str]:
    return list(pd.date_range("2024-01-01", periods=count).strftime("%Y-%m-%d"))


@settings(FAST, max_examples=4)
@given(start=st.datetimes(datetime(1971, 1, 1), datetime(2059, 1, 1)), steps=st.integers(30, 70), data=st.data())
@pytest.mark.parametrize("form", FORMATS)
def test_regular_dates_continue_as_pandas_would_write_them(
    form: str, start: datetime, steps: int, data: st.DataObject
) -> None:
    by = data.draw(st.sampled_from(FORMATS[form]))
    dates = pd.date_range(pd.Timestamp(start).floor("15min"), periods=steps + 5, freq=by)
    texts = [date.strftime(form.replace("{q}", str(date.quarter))) for date in dates]
    assert list(continued(pd.Index(texts[:steps]), 5)) == texts[steps:]
    assert not any("spaced" in warning or "order" in warning for warning in in_time(table(texts)).warnings)


@pytest.mark.parametrize(
    ("labels", "more"),
    [
        (["201910", "201911", "201912"], ["202001", "202002"]),
        ([str(k) for k in range(201901, 201920)], ["201920", "201921"]),  # no months, as 13 is among them
        (["100011", "100012"], ["100013", "100014"]),  # nor years
        (["8", "9", "10"], ["11", "12"]),
        (["008", "009", "010"], ["011", "012"]),
        (["1704067200000000000", "1704067200000000001"], ["1704067200000000002", "1704067200000000003"]),
        ([f"{1990 + k / 12:.3f}" for k in range(14)], ["1991.167", "1991.250"]),
        ([f"{1990 + k / 12:.12g}" for k in range(14)], ["1991.16666667", "1991.25"]),
        ([str(1990 + k / 12) for k in range(14)], ["1991.1666666666667", "1991.25"]),
        ([f"{1990 + (12 * k // 12) / 12:.2f}" for k in range(10)], ["1990.83", "1990.92"]),
        (["2019.25", "2019.5", "2019.75"], ["2020", "2020.25"]),
        (["2019.0", "2019.5", "2020.0"], ["2020.5", "2021.0"]),
        (["0.3", "0.6", "0.9"], ["1.2", "1.5"]),
        (["2019.3", "2019.4", "2020.1", "2020.2"], ["2020.3", "2020.4"]),
        (["1959:3", "1959:4", "1960:1", "1960:2"], ["1960:3", "1960:4"]),
        ([f"{year}/{(year + 1) % 100:02}" for year in range(2000, 2012)], ["2012/13", "2013/14"]),
        ([f"FY {year}-{(year + 1) % 100:02}" for year in range(1990, 2012)], ["FY 2012-13", "FY 2013-14"]),
        (["97/98", "98/99", "99/00"], ["00/01", "01/02"]),
        (["2011/11", "2011/12", "2012/01"], ["2012/02", "2012/03"]),
        (["2010H1", "2010H2", "2011H1", "2011H2"], ["2012H1", "2012H2"]),
        (["2010-H1", "2010-H2", "2011-H1"], ["2011-H2", "2012-H1"]),
        (["2010 S1", "2010 S2", "2011 S1"], ["2011 S2", "2012 S1"]),
        (["1H10", "2H10", "1H11"], ["2H11", "1H12"]),
        (["1911", "1912", "2001", "2002"], ["2003", "2004"]),  # years and months
        ([str(year) for year in range(1903, 1913)], ["1913", "1914"]),
        (["31Dec2023:22:00:00", "31Dec2023:23:00:00"], ["01Jan2024:00:00:00", "01Jan2024:01:00:00"]),
        (["20231231_223000", "20231231_230000"], ["20231231_233000", "20240101_000000"]),
        (["201911.0", "201912.0", "202001.0"], ["202002.0", "202003.0"]),
        (["0.5", "1.5", "4.5"], ["6.5", "8.5"]),
        (["JAN-10", "FEB-10", "MAR-10"], ["APR-10", "MAY-10"]),
        (["9:05 am", "9:10 am", "9:15 am"], ["9:20 am", "9:25 am"]),
        (["29/6/2024 9:00", "29/6/2024 10:00", "29/6/2024 11:00"], ["29/6/2024 12:00", "29/6/2024 13:00"]),
        (["Nov-68", "Dec-68", "Jan-69", "Feb-69"], ["Mar-69", "Apr-69"]),  # %y turns at 69
        (["Jan-29", "Jan-30", "Jan-31"], ["+1", "+2"]),  # days without a year, or years
        (["8999-12-30", "8999-12-31"], ["9000-01-01", "9000-01-02"]),
        (["9999-12-30", "9999-12-31"], ["+1", "+2"]),
        (["2024-01-01", "", "2024-01-03", "2024-01-04", "2024-01-05"], ["2024-01-06", "2024-01-07"]),
        (["1", "2", "", "4", ""], ["6", "7"]),
        ([str(month % 12 + 1) for month in range(4, 23)], ["12", "1"]),
    ],
)
def test_labels_continue(labels: list[str], more: list[str]) -> None:
    assert list(continued(pd.Index(labels), 2)) == more


PIECES = (
    *("2024", "24", "3", "31", "00", "Q4", "W16", "M12", "Jan", "may", "Monday", "T", "-", "/", ".", ":", "05:30"),
    *("PM", "Z", "+01:00", "UTC", "%", "٣", "²", "9999", "0001", "20240329", "201912", "e5", "nan", "\n", "年", " "),
)
TEXT = st.one_of(st.lists(st.sampled_from(PIECES), max_size=7).map("".join), st.text(max_size=9), st.dates().map(str))


@settings(FAST, max_examples=60)
@given(few=st.lists(TEXT, min_size=1, max_size=3), repeated=st.integers(2, 4), places=st.permutations(range(6)))
def test_no_label_ends_in_an_error(few: list[str], repeated: int, places: list[int]) -> None:
    for labels in (few * repeated, [*few, *(days(6)[place] for place in places)]):
        try:
            found = extended(in_time(table(labels), season=2), 3)
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert found.shape[0] == len(labels) + 3 and found.phase(np.arange(found.shape[0])).max() < 2


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({}, None),
        ({7: ""}, "the blank label of row 8 is taken for 2024-01-08, by the spacing of the others"),
        ({0: "", 29: ""}, "the blank label of row 30 is taken for 2024-01-30"),
        ({28: "2024-02-31"}, "'2024-02-31' in row 29 is taken for 2024-01-29"),
        ({28: "?" * 999}, "'????????????????????????????????????????..' in row 29 is taken for 2024-01-29"),
        ({28: "?\x1b[2J"}, r"'?\\x1b[2J' in row 29 is taken for"),
        ({3: "", 29: "2024-02-01"}, "the blank label of row 4 cannot be read: the row keeps its place"),
        ({29: "2024-02-01"}, "the labels are not evenly spaced"),
        ({29: "2024-01-29"}, "the label '2024-01-29' is there more than once"),
        (dict.fromkeys(range(30), "monday"), "'monday', are no dates or numbers that are understood"),
    ],
)
def test_labels_that_cannot_be_read_are_named(change: dict[int, str], warning: str | None) -> None:
    labels = [change.get(row, day) for row, day in enumerate(days())]
    found = in_time(table(labels)).warnings
    assert any(warning.replace("\\\\", "\\") in each for each in found) if warning else not found
    assert list(in_time(table(labels)).row_labels) == labels


@pytest.mark.parametrize("how", ["backwards", "shuffled"])
@pytest.mark.parametrize("last", [None, 20])
@pytest.mark.parametrize("name", ["dates", "numbers", "quarters"])
def test_rows_are_sorted_by_time(name: str, last: int | None, how: str, tmp_path: Path) -> None:
    """As if the file had been in order; imputed.csv keeps the order of the file."""
    quarters = [f"{2000 + k // 4}-Q{k % 4 + 1}" for k in range(30)]
    labels = {"dates": days(), "numbers": [str(0.5 * k) for k in range(30)], "quarters": quarters}[name]
    values = np.random.default_rng(0).normal(size=30)
    values[4], values[21] = np.nan, np.nan
    options = {"last": last, "season": 3, "forecast": 2, "horizon": 0}
    expected = arrange(table(labels, values), options)
    assert expected.places is None and not expected.warnings
    order = np.random.default_rng(1).permutation(30) if how == "shuffled" else np.arange(30)[::-1]
    found = arrange(table([labels[k] for k in order], values[order]), options)
    assert any("in time" in each or "order of time" in each for each in found.warnings)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.values, expected.values)
    assert list(found.row_labels) == list(expected.row_labels)
    data = Data(found, np.zeros(len(found.values), bool))
    gap = np.setdiff1d(np.arange(found.end), found.rows)
    deviation = np.ones(len(gap))
    write_imputed(tmp_path / "i.csv", tmp_path / "s.csv", data, gap, np.zeros_like(gap), 7 * deviation, deviation)
    written = pd.read_csv(tmp_path / "i.csv", dtype={"t": str})
    kept = [k for k in order if k >= 30 - (last or 30)]
    assert list(written["t"]) == [labels[k] for k in kept]
    np.testing.assert_array_equal(written["y"], np.where(np.isnan(values), 7, values)[kept])
    write_forecast(tmp_path / "f.csv", data, np.zeros(2), np.ones(2))
    assert list(pd.read_csv(tmp_path / "f.csv", dtype=str)["row"]) == list(continued(pd.Index(labels), 2))


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (["2024-01-01", "2024-01-03", "", "2024-01-02"], "order of time, and the label of row 3, '', cannot be read"),
        (days() + days(), "order of time, and '2024-01-01' is there more than once"),
        (["1", "3", "2", "3"], "order of time, and '3' is there more than once"),
    ],
)
def test_what_cannot_be_sorted_is_refused(labels: list[str], what: str) -> None:
    with pytest.raises(UserError, match=what):
        in_time(table(labels))


def local(zone: str, by: str, first: str, last: str, form: str) -> list[str]:
    return list(pd.date_range(first, last, freq=by, tz=zone, inclusive="left").strftime(form))


SPRING, AUTUMN = ("2024-03-20", "2024-04-05"), ("2024-10-20", "2024-11-05")


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("labels", "season"),
    [
        (local("Europe/London", "h", *SPRING, "%Y-%m-%dT%H:%M:%S%z"), 24),
        (local("Europe/London", "h", *AUTUMN, "%Y-%m-%dT%H:%M:%S%z"), 24),
        (local("Europe/Paris", "h", *SPRING, "%d.%m.%Y %H:%M"), 24),
        (local("Europe/Paris", "h", *AUTUMN, "%d.%m.%Y %H:%M"), 24),
        (local("Europe/Paris", "15min", *AUTUMN, "%m/%d/%Y %I:%M %p"), 96),
        (local("Africa/Cairo", "15min", *AUTUMN, "%Y-%m-%d %H:%M"), 96),
        (local("US/Pacific", "30min", "2024-03-01", "2024-03-15", "%Y-%m-%d %H:%M"), 48),
        (local("US/Pacific", "h", "2024-03-01", "2024-11-15", "%Y-%m-%d %H:%M"), 24 * 7),
        ([hour for hour in local("UTC", "h", *SPRING, "%Y-%m-%d %H:%M") if "03-25 1" not in hour], 24),
        ([day for day in days(60) if day[-2:] not in ("13", "24")], 7),
        ([f"{2000 + k // 12}-{k % 12 + 1:02}" for k in range(70) if k != 40], 12),
    ],
)
def test_the_season_follows_the_clock_of_the_labels(labels: list[str], season: int, backwards: bool) -> None:
    """Also past the end; a clock that changes is no uneven spacing, and its labels are in order."""
    found = extended(in_time(table(labels[::-1] if backwards else labels), season=season), 2 * season)
    assert list(found.row_labels[: len(labels)]) == labels
    shown = pd.Series(found.row_labels).str.replace("[+-]....$", "", regex=True)
    clock = pd.DatetimeIndex(pd.to_datetime(shown, format="mixed", dayfirst="." in labels[0]))
    step = clock[1] - clock[0]
    phase = np.asarray(12 * clock.year + clock.month if season == 12 else (clock - clock[0]) // step)
    np.testing.assert_array_equal(found.phase(np.arange(len(clock))), (phase - phase[0]) % season)
    assert "the season follows" in str(found.notes)
    assert all("spaced" not in each for each in found.warnings) == ("changes" in str(found.notes))


def test_a_season_that_is_none_of_the_clock_counts_rows() -> None:
    labels = local("Europe/London", "h", *SPRING, "%Y-%m-%dT%H:%M:%S%z")
    found = in_time(table(labels), season=10)
    assert found.phases is None
    assert "changes at '2024-03-31T02:00:00+0100', and data.season=10 counts rows" in found.warnings[0]
    assert in_time(table([day for day in days(60) if day[-2:] != "13"]), season=5).phases is None  # working days


def test_what_is_forecast_across_a_change_of_the_clock_has_the_right_season() -> None:
    """A wave of a day by the clock: naive forecasts and periodic means are exact, on both sides of the change."""
    labels = local("Europe/London", "h", "2024-03-01", "2024-04-20", "%Y-%m-%dT%H:%M:%S%z")
    hour = np.array([int(label[11:13]) for label in labels])
    wave = 10 * np.sin(2 * np.pi * hour / 24) + hour % 5
    options = {"season": 24, "horizon": 24, "forecast": 24}
    found = arrange(table(labels, wave), options)
    data = Data(found, found.rows >= found.end - 24)
    assert naive_forecasts(data)["the value one season before"] == pytest.approx(0, abs=1e-12)
    rows = np.arange(found.end)
    seasonal = data.seasonal(rows, np.zeros_like(rows))
    np.testing.assert_allclose(seasonal - seasonal.mean(), wave - wave.mean(), atol=0.05)
    past = data.seasonal(found.end + np.arange(24), np.zeros(24, np.int64))
    np.testing.assert_allclose(past, seasonal[-24:], rtol=1e-12)
