"""The pictures of the free energy and of the bound draw the numbers that they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from lgm_cli import plots

pytestmark = pytest.mark.filterwarnings("error")

GAPS = np.array([np.nan, 1e-2, 1e-4, 1e-6, -4e-8, 2e-8])
LIKELIHOOD = np.array([-4.0, -1.4, -1.3, -1.25, -1.24, -1.239])


def run(gaps: np.ndarray = GAPS) -> pd.DataFrame:
    step = np.arange(len(gaps)) * 2
    frame = pd.DataFrame({"step": step, "fit_seconds": 0.5 * step, "train_log_likelihood": LIKELIHOOD})
    return frame.assign(free_energy=LIKELIHOOD - gaps)


def words(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_both_are_drawn_against_passes_and_seconds(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    run().to_csv(path, index=False)
    figure = plots.free_energy(path, tmp_path / "free_energy.png", "run", passes=0.1, first_passes=1.0)
    passes = [0, 1.1, 1.3, 1.5, 1.7, 1.9]
    for axes, clock in zip(figure.axes[:2], (passes, [0, 1, 2, 3, 4, 5]), strict=True):
        likelihood, energy = axes.lines[:2]
        np.testing.assert_allclose(likelihood.get_xdata(), clock)
        np.testing.assert_allclose(likelihood.get_ydata(), LIKELIHOOD)
        np.testing.assert_allclose(energy.get_ydata(), LIKELIHOOD - GAPS)
        assert any(isinstance(each, PolyCollection) for each in axes.collections)
    assert [axes.get_xlabel() for axes in figure.axes[2:]] == ["passes over the data", "seconds of learning"]
    assert words(figure) == ["log-likelihood", "free energy F", "KL(q || posterior)"]
    low, high = figure.axes[0].get_ylim()
    assert -1.45 < low < -1.41  # the start has no free energy, and leaves the picture
    assert -1.239 < high < -1.2
    assert (tmp_path / "free_energy.png").read_bytes().startswith(b"\x89PNG")


def test_gaps_below_rounding_are_not_drawn(tmp_path: Path) -> None:
    figure = plots.free_energy(run(), tmp_path / "picture.png")
    axes = figure.axes[2]
    assert axes.get_yscale() == "log"
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [1e-2, 1e-4, 1e-6], rtol=1e-6)
    assert axes.texts[0].get_text() == "less than 8e-08 is not drawn: rounding"  # twice the one below zero
    assert axes.get_ylim()[0] < 8e-8


def test_an_estimate_may_lie_on_either_side(tmp_path: Path) -> None:
    gaps = np.array([np.nan, -1e-2, 1e-3, -1e-3, 1e-4, 1e-4])
    figure = plots.free_energy(run(gaps), tmp_path / "picture.png", bounds=False)
    line, above, below = figure.axes[2].lines[:3]
    np.testing.assert_allclose(line.get_ydata(), np.abs(gaps[1:]), rtol=1e-6)
    assert [len(np.asarray(each.get_xdata())) for each in (above, below)] == [3, 2]
    assert not any("KL" in text for text in words(figure))


def test_a_run_whose_gaps_are_all_rounding_has_an_empty_panel(tmp_path: Path) -> None:
    figure = plots.free_energy(run(np.full(6, 1e-9)), tmp_path / "picture.png")
    assert len(np.asarray(figure.axes[2].lines[0].get_xdata())) == 0


def test_runs_without_the_column_are_compared_as_before(tmp_path: Path) -> None:
    old = run().drop(columns="free_energy")
    figure = plots.convergence({"before": old, "after": run()}, tmp_path / "picture.png")
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), LIKELIHOOD)


PLACES = np.array([-0.5, 0, 0.5, 1, 1.5, 2])


@pytest.mark.parametrize("best", [1.0, 0.5])
def test_the_bound_marks_where_it_touches_and_its_maximum(best: float, tmp_path: Path) -> None:
    below = -2 + 1 - (PLACES - best) ** 2
    likelihood = below + 0.1 * PLACES**2
    path = tmp_path / "bound.png"
    figure = plots.bound(PLACES, likelihood, below, path, "run", ", in free coordinates")
    lines = {line.get_marker(): line for line in figure.axes[0].lines if line.get_marker() != "None"}
    old = float(likelihood[1])
    assert np.asarray(lines["o"].get_xydata()).tolist() == [[0, pytest.approx(old)]]
    assert np.asarray(lines["^"].get_xydata()).tolist() == [[best, pytest.approx(-1.0)]]
    assert ("D" in lines) is (best != 1)
    assert f"gain of the step: {likelihood[3] - old:.4g}" in words(figure)
    low, high = figure.axes[0].get_ylim()
    assert low < old < likelihood.max() < high
    assert figure.axes[0].get_ylabel() == "log-likelihood and bound [nats per entry]"
    assert path.read_bytes().startswith(b"\x89PNG")
