"""Gaps, filled: every value and interval is drawn where it belongs, for one gap and for thousands."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PolyCollection

from lgm_cli import plots
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.make_table import rectangle
from lgm_cli.report import gaps
from lgm_cli.report.learned import Learned

pytestmark = pytest.mark.filterwarnings("error")


def column(count: int, name: str = "length") -> plots.Column:
    random = np.random.default_rng(count)
    mean = random.normal(size=count)
    lower, upper = mean - random.uniform(0.5, 1, size=count), mean + 1
    return plots.Column(name, random.normal(size=200), mean, lower, upper, count)


@pytest.mark.parametrize("count", [1, 15, 16, 10_000])
def test_every_gap_has_its_interval_in_the_order_of_the_means(count: int, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    own = column(count)
    axes = plots.filled([own], tmp_path / "a.png").axes[0]
    assert dict(matplotlib.rcParams) == before
    order = np.argsort(own.mean)
    (line,) = (each for each in axes.lines if len(each.get_xdata()) == count and each.get_color() != "#B0B0B0")
    np.testing.assert_array_equal(line.get_xdata(), own.mean[order])
    heights = np.asarray(line.get_ydata())
    assert (np.diff(heights) < 0).all() and -1 < heights.min() <= heights.max() < 0
    if count <= 15:
        (bars,) = (part for part in axes.collections if isinstance(part, LineCollection))
        ends = np.array([segment[:, 0] for segment in bars.get_segments()])
        np.testing.assert_allclose(ends, np.column_stack([own.lower, own.upper])[order])
    else:
        (band,) = (part for part in axes.collections if isinstance(part, PolyCollection))
        corners = {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}
        assert {(own.lower[order[7]], heights[7]), (own.upper[order[7]], heights[7])} <= corners
    assert axes.get_xlabel() == f"{count:,} of {200 + count:,} missing"


def test_many_columns_say_how_many_there_are(tmp_path: Path) -> None:
    figure = plots.filled([column(3, f"c${k}") for k in range(12)], tmp_path / "a.png", with_gaps=200)
    assert figure.get_suptitle() == "Gaps of the table, filled: the 12 columns with most, of 200"
    assert len([axes for axes in figure.axes if axes.get_visible()]) == 12
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    for place, box in enumerate(boxes):
        assert box is not None
        assert not any(box.overlaps(other) for other in boxes[:place] if other is not None)


def learned_of(values: np.ndarray, **given: object) -> Learned:
    table = rectangle("test", values, pd.RangeIndex(len(values)), pd.Index([f"c{k}" for k in range(values.shape[1])]))
    data = Data(dataclasses.replace(table, **given), np.zeros(len(table.values), bool))  # pyright: ignore
    return Learned(data, {}, dict, lambda rows, columns: (rows + 0.5 * columns, np.ones(len(rows))))


def test_gaps_are_those_of_the_table_with_most_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(400.0).reshape(20, 20)
    values[3, 1] = values[4:6, 2] = np.nan
    drawn: list[plots.Column] = []
    monkeypatch.setattr(plots, "filled", lambda columns, path, with_gaps: drawn.extend(columns))
    gaps.gaps(learned_of(values))["gaps"](tmp_path / "a.png")
    assert [each.name for each in drawn] == ["c1", "c2"]
    np.testing.assert_array_equal(drawn[1].mean, [5.0, 6.0])
    np.testing.assert_allclose(drawn[1].upper - drawn[1].mean, 1.6448536269514722)
    assert drawn[1].gaps == 2 and len(drawn[1].observed) == 18
    values[np.arange(20), np.arange(20)] = np.nan
    drawn.clear()
    gaps.gaps(learned_of(values))["gaps"](tmp_path / "a.png")
    assert len(drawn) == 12 and {"c1", "c2"} <= {each.name for each in drawn}
    assert gaps.gaps(learned_of(np.ones((3, 2)))) == {}
    assert gaps.gaps(learned_of(values, kind="series")) == {}
