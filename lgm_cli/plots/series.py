"""Series over time: states, and channels with their gaps filled and their forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lgm_cli.plots.style import FAINT, INK, NEGATIVE, POSITIVE, STYLE, save, shorten

INTERVAL = 1.645  # standard deviations on each side of a mean: 90%
MOST = 8  # states or channels in one picture
LABELS = 6  # on the axis of time, at most
ROOM, WIDEST = 90, 20  # characters below an axis of full width, and of one label
BEFORE = 60  # steps before the horizon that are drawn with the forecasts, at least


def states(
    mean: np.ndarray, deviation: np.ndarray, labels: Sequence[object], path: Path, observed: int | None = None
) -> Figure:
    """Smoothed states (T, D) with 90% bands; observed: steps that were learned from, after which they are forecast."""
    shown = min(mean.shape[1], MOST)
    with matplotlib.rc_context(STYLE):
        figure = Figure((8, 0.6 + 1.05 * shown), layout="constrained")
        grid = figure.subplots(shown, 1, sharex=True, squeeze=False)[:, 0]
        place = np.arange(len(mean))
        for state, axes in enumerate(grid):
            _band(axes, place, mean[:, state], deviation[:, state], POSITIVE)
            axes.set_ylabel(f"state {state + 1}", fontsize=8)
            divide(axes, observed, len(mean))
        time_axis(grid[-1], labels, 0, len(mean))
        more = f", the first {shown} of {mean.shape[1]}" if shown < mean.shape[1] else ""
        return save(figure, path, f"Smoothed states{more} [standard deviations of an innovation], with 90% bands")


def channels(
    given: np.ndarray,
    hidden: np.ndarray,
    mean: np.ndarray,
    deviation: np.ndarray,
    names: Sequence[object],
    labels: Sequence[object],
    path: Path,
    begin: int,
    horizon: int,
    forecast: int,
    chosen: Sequence[int] | None = None,
) -> Figure:
    """Channels of a series from the step `begin` on: what was learned from, what was hidden, and 90% bands.

    given, hidden, mean, deviation: (T, M), in the data's units, T with the `forecast` steps past the end. given and
    hidden are NaN elsewhere; mean and deviation are those of a value not seen, NaN where one was learned from. The last
    `horizon` of the steps that were given are forecast, too. chosen: which channels, the first few by default.
    """
    steps = len(given)
    shown = list(range(given.shape[1]) if chosen is None else chosen)[:MOST]
    ahead = steps - forecast - horizon
    place = np.arange(begin, steps)
    with matplotlib.rc_context(STYLE):
        rows = (len(shown) + 1) // 2 if len(shown) > 2 else len(shown)
        columns = 2 if len(shown) > 2 else 1
        figure = Figure((9.6 if columns == 2 else 8, 0.9 + 1.6 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
        for axes in grid[len(shown) :]:
            axes.set_visible(False)
        for axes, channel in zip(grid, shown, strict=False):
            part = (place, channel)
            middle, spread, known = mean[part], deviation[part], given[part]
            before = place < ahead
            _band(axes, place, np.where(before, np.nan, middle), spread, NEGATIVE)
            gap = before & np.isfinite(middle)
            axes.errorbar(
                place[gap], middle[gap], yerr=INTERVAL * spread[gap], fmt="none", ecolor=POSITIVE, elinewidth=1.4,
                alpha=0.55,
            )  # fmt: skip
            axes.plot(place, known, color=INK, linewidth=0.9, marker=".", markersize=2.5)
            axes.plot(place, hidden[part], "o", color=INK, markersize=2.8, markerfacecolor="white", markeredgewidth=0.8)
            divide(axes, ahead if horizon or forecast else None, steps)
            if horizon and forecast:
                axes.axvline(steps - forecast - 0.5, color=FAINT, linewidth=1, linestyle=":")
            axes.set_title(shorten(names[channel], 40))
        for axes in grid[max(0, len(shown) - columns) : len(shown)]:
            axes.tick_params(labelbottom=True)
            time_axis(axes, labels, begin, steps, ROOM // columns)
        handles: list[Artist] = [
            Line2D([], [], color=INK, linewidth=0.9, marker=".", markersize=4, label="learned from"),
            Line2D([], [], color=INK, marker="o", linewidth=0, markersize=3.5, markerfacecolor="white", label="hidden"),
            Line2D([], [], color=POSITIVE, linewidth=2, alpha=0.55, label="gap or hidden value: 90% interval"),
        ]
        if horizon or forecast:
            handles.append(Patch(color=NEGATIVE, alpha=0.3, linewidth=0, label="forecast: 90% interval"))
        figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8)
        count = given.shape[1]
        more = f" ({len(shown)} of {count})" if len(shown) < count else ""
        title = "Channels" if count > 1 else "The series"
        return save(figure, path, f"{title}{more}: values and what the model says of those it has not seen")


def first_drawn(steps: int, horizon: int, forecast: int) -> int:
    """The step from which on channels are drawn, so that forecasts and single values can be told apart."""
    return max(0, steps - max(BEFORE, 4 * (horizon + forecast)) - horizon - forecast)


def _band(axes: Axes, place: np.ndarray, mean: np.ndarray, deviation: np.ndarray, colour: str) -> None:
    half = INTERVAL * deviation
    axes.fill_between(place, mean - half, mean + half, color=colour, alpha=0.25, linewidth=0)
    axes.plot(place, mean, color=colour, linewidth=1)


def divide(axes: Axes, observed: int | None, steps: int) -> None:
    """Where forecasts begin."""
    if observed is not None and observed < steps:
        axes.axvline(observed - 0.5, color=FAINT, linewidth=1)


def time_axis(axes: Axes, labels: Sequence[object], begin: int, end: int, room: int = ROOM) -> None:
    """Labels of some steps, as many as there is room for in so many characters."""
    longest = max(len(shorten(labels[place], WIDEST)) for place in (begin, end - 1))
    count = min(max(room // (longest + 3), 2), LABELS)
    shown = np.unique(np.linspace(begin, end - 1, count).round().astype(int))
    axes.set_xticks(shown, [shorten(labels[place], WIDEST) for place in shown])
    axes.set_xlim(begin - 0.5, end - 0.5)
    for text, side in zip((axes.get_xticklabels()[0], axes.get_xticklabels()[-1]), ("left", "right"), strict=True):
        text.set_horizontalalignment(side)
