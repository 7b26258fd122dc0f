"""Series over time: states, and channels with their gaps filled and their forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lgm_cli.plots.style import AHEAD, FAINT, FILLED, HIDDEN, LEARNED, STYLE, save, shorten

INTERVAL = 1.645  # standard deviations on each side of a mean: 90%
MOST = 8  # states or channels in one picture
LABELS = 6  # on the axis of time, at most
ROOM, WIDEST = 90, 20  # characters below an axis of full width, and of one label
OPEN: dict[str, Any] = {
    "color": HIDDEN,
    "marker": "o",
    "linewidth": 0,
    "markerfacecolor": "white",
    "markeredgewidth": 0.8,
    "zorder": 4,
}  # of a value that was hidden
BEFORE = 60  # steps before the horizon that are drawn with the forecasts, at least


def states(
    mean: np.ndarray,  # (T, D)
    deviation: np.ndarray,  # (T, D)
    labels: Sequence[object],  # (T,)
    path: Path,
    observed: int | None = None,
    moves: Sequence[str] | None = None,
    chosen: Sequence[int] | None = None,
) -> Figure:
    """Smoothed states with 90% bands.

    observed: steps that were learned from, after which states are forecast. moves: what is said of each state, such as
    the channels that move with it. chosen: which states, all by default; of more than MOST, the first ones.
    """
    number = mean.shape[1]
    shown = list(range(number) if chosen is None else chosen)[:MOST]
    known = len(mean) if observed is None else observed
    with matplotlib.rc_context(STYLE):
        figure = Figure((8, 0.7 + (1.05 if moves is None else 1.25) * len(shown)), layout="constrained")
        grid = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        place = np.arange(len(mean))
        for state, axes in zip(shown, grid, strict=True):
            half = INTERVAL * deviation[:, state]
            low, high = mean[:, state] - half, mean[:, state] + half
            for part, colour in ((place[:known], FILLED), (place[max(known - 1, 0) :], AHEAD)):
                _band(axes, part, mean[part, state], low[part], high[part], colour)
            axes.set_ylabel(f"state {state + 1}", fontsize=8)
            if moves is not None:
                axes.set_title(shorten(moves[state], 110), fontsize=8)
            divide(axes, observed, len(mean))
        time_axis(grid[-1], labels, 0, len(mean))
        more = f", {len(shown)} of {number}" if len(shown) < number else ""
        return save(figure, path, f"Smoothed states{more} [standard deviations of an innovation], with 90% bands")


def channels(
    given: np.ndarray,
    hidden: np.ndarray,
    mean: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    names: Sequence[object],
    labels: Sequence[object],
    path: Path,
    begin: int,
    horizon: int,
    forecast: int,
    chosen: Sequence[int] | None = None,
) -> Figure:
    """Channels of a series from the step `begin` on: what was learned from, what was hidden, and 90% intervals.

    given, hidden, mean, lower, upper: (T, M), in the data's units, T with the `forecast` steps past the end. given and
    hidden are NaN elsewhere; mean and the ends of its interval are those of a value not seen, NaN where one was learned
    from. The last `horizon` of the steps that were given are forecast, too. chosen: which channels, the first few by
    default.
    """
    steps = len(given)
    shown = list(range(given.shape[1]) if chosen is None else chosen)[:MOST]
    ahead = steps - forecast - horizon
    place = np.arange(begin, steps)
    before = place < ahead
    with matplotlib.rc_context(STYLE):
        lines = (len(shown) + 1) // 2 if len(shown) > 2 else len(shown)
        columns = 2 if len(shown) > 2 else 1
        figure = Figure(
            (9.6 if columns == 2 else 8, 0.9 + (1.6 if len(shown) > 1 else 2.6) * lines), layout="constrained"
        )
        grid = figure.subplots(lines, columns, sharex=True, squeeze=False).ravel()
        for axes in grid[len(shown) :]:
            axes.set_visible(False)
        for axes, channel in zip(grid, shown, strict=False):
            part = (place, channel)
            middle, low, high = mean[part], lower[part], upper[part]
            _band(axes, place, np.where(before, np.nan, middle), low, high, AHEAD)
            unseen = before & np.isfinite(middle)
            gap = unseen & np.isnan(hidden[part])
            axes.vlines(place[unseen], low[unseen], high[unseen], color=FILLED, linewidth=1.6, alpha=0.7, zorder=3)
            axes.plot(place[gap], middle[gap], marker=".", color=FILLED, markersize=4, linewidth=0)
            axes.plot(place, given[part], color=LEARNED, linewidth=0.9, marker=".", markersize=2.5)
            axes.plot(place, hidden[part], **OPEN, markersize=3)
            divide(axes, ahead if horizon or forecast else None, steps)
            if horizon and forecast:
                axes.axvline(steps - forecast - 0.5, color=FAINT, linewidth=1, linestyle=":")
            axes.set_title(shorten(names[channel], 40))
        for axes in grid[max(0, len(shown) - columns) : len(shown)]:
            axes.tick_params(labelbottom=True)
            time_axis(axes, labels, begin, steps, ROOM // columns)
        rows = slice(begin, steps)
        unseen = np.isfinite(mean[rows][:, shown]) & before[:, None]
        concealed = np.isfinite(hidden[rows][:, shown])
        judged, gaps = bool((unseen & concealed).any()), bool((unseen & ~concealed).any())
        handles = _legend(bool(concealed.any()), judged, gaps, horizon + forecast > 0)
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
        count = given.shape[1]
        more = f" ({len(shown)} of {count})" if len(shown) < count else ""
        title = "Channels" if count > 1 else "The series"
        return save(figure, path, f"{title}{more}: values and what the model says of those it has not seen")


def _legend(hidden: bool, judged: bool, gaps: bool, ahead: bool) -> list[Artist]:
    """What of the four there is: hidden values, intervals of hidden values, intervals of gaps, forecasts."""
    handles: list[Artist] = [
        Line2D([], [], color=LEARNED, linewidth=0.9, marker=".", markersize=4, label="learned from")
    ]
    if hidden:
        handles.append(Line2D([], [], label="hidden", markersize=3.5, **OPEN))
    if judged or gaps:
        what = " or ".join(["hidden value"] * judged + ["gap"] * gaps)
        handles.append(Line2D([], [], color=FILLED, linewidth=2, alpha=0.7, label=f"{what}: 90% interval"))
    if ahead:
        handles.append(Patch(color=AHEAD, alpha=0.4, linewidth=0, label="forecast: 90% interval"))
    return handles


def first_drawn(steps: int, horizon: int, forecast: int) -> int:
    """The step from which on channels are drawn, so that forecasts and single values can be told apart."""
    return max(0, steps - max(BEFORE, 4 * (horizon + forecast)) - horizon - forecast)


def _band(axes: Axes, place: np.ndarray, mean: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str) -> None:
    shown = np.isfinite(mean)
    axes.fill_between(place, low, high, where=shown, color=colour, alpha=0.3, linewidth=0)
    axes.plot(place, mean, color=colour, linewidth=1)


def divide(axes: Axes, observed: int | None, steps: int) -> None:
    """Where forecasts begin."""
    if observed is not None and observed < steps:
        axes.axvline(observed - 0.5, color=FAINT, linewidth=1)


def time_axis(axes: Axes, labels: Sequence[object], begin: int, end: int, room: int = ROOM) -> None:
    """Labels of some steps, as many as there is room for in so many characters."""
    labels = dates(labels)
    longest = max(len(shorten(labels[place], WIDEST)) for place in (begin, end - 1))
    count = min(max(room // (longest + 3), 2), LABELS)
    shown = np.unique(np.linspace(begin, end - 1, count).round().astype(int))
    axes.set_xticks(shown, [shorten(labels[place], WIDEST) for place in shown])
    axes.set_xlim(begin - 0.5, end - 0.5)
    for text, side in zip((axes.get_xticklabels()[0], axes.get_xticklabels()[-1]), ("left", "right"), strict=True):
        text.set_horizontalalignment(side)


def dates(labels: Sequence[object]) -> list[str]:
    """Labels without what says nothing: the midnight of all days, the first day of all months."""
    found = [str(label) for label in labels]
    for ending in (" 00:00:00", "T00:00:00", "-01"):
        if all(text.endswith(ending) and len(text) >= len("2000-01") + len(ending) for text in found):
            found = [text.removesuffix(ending) for text in found]
    return found
