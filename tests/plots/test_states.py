"""The picture of a series on its states, read back from the figure's artists."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest

from lgm_cli import plots
from lgm_cli.plots.state_bands import FILLS, WINDOW

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plots.STYLE, "savefig.dpi", 50)


def draw(path: Path, steps: int, states: int, channels: int = 1, ahead: int = 5):
    random = np.random.default_rng(0)
    chain = np.arange(steps) // 10 % states
    probabilities = 0.1 / states + 0.9 * np.eye(states)[chain]
    given, hidden = chain[:, None] + random.normal(size=(steps, channels)), np.full((steps, channels), np.nan)
    given[steps - ahead :], mean, deviation = np.nan, np.full(given.shape, np.nan), np.full(given.shape, np.nan)
    given[steps - 20], hidden[steps - 20] = np.nan, 1.0
    gap = np.isnan(given)
    mean[gap], deviation[gap] = 0.5, 0.2
    names = [f"${channel}" for channel in range(channels)]
    figure = plots.state_bands(
        probabilities, chain, given, hidden, mean, deviation, names, list(range(steps)),
        [f"mean {state}" for state in range(states)], path, ahead,
    )  # fmt: skip
    assert path.stat().st_size > 1000
    return figure, chain


def test_the_background_is_the_most_probable_path(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    figure, chain = draw(tmp_path / "states.png", 60, 3)
    assert dict(matplotlib.rcParams) == before
    series, stack = figure.axes
    spans = [patch for patch in series.patches if patch.get_width() > 0]  # pyright: ignore[reportAttributeAccessIssue]
    for span in spans:
        left = span.get_x()  # pyright: ignore[reportAttributeAccessIssue]
        colour = matplotlib.colors.to_rgb(FILLS[chain[int(left + 0.5)]])
        assert span.get_facecolor()[:3] == pytest.approx(colour)
    assert sum(span.get_width() for span in spans) == pytest.approx(55)  # pyright: ignore[reportAttributeAccessIssue]
    assert len(stack.collections) == 3
    assert stack.get_ylim() == (0, 1)
    forecast = [line for line in series.lines if line.get_linestyle() == "--"]
    drawn = np.asarray(forecast[0].get_ydata(), float)
    assert np.isfinite(drawn).sum() == 5
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["1: mean 0", "2: mean 1", "3: mean 2", "hidden", "forecast: 90% interval"]


def test_a_long_series_is_drawn_by_its_end_and_as_a_whole(tmp_path: Path) -> None:
    figure, _ = draw(tmp_path / "states.png", 3000, 9, channels=6)
    assert len(figure.axes) == plots.MOST_CHANNELS + 2
    assert figure.axes[0].get_xlim() == (plots.window_begin(3000, 5) - 0.5, 2999.5)
    assert figure.axes[-1].get_xlim() == (-0.5, 2999.5)
    assert plots.window_begin(3000, 5) == 2995 - WINDOW
    looks = {
        (tuple(part.get_facecolor()[0]), part.get_hatch()) for part in figure.axes[-1].collections
    }  # more states than colours are told apart by hatches
    assert len(looks) == 9
    title = figure._suptitle  # pyright: ignore[reportAttributeAccessIssue]
    assert "4 of 6 channels" in title.get_text()
