"""A series with the discrete states behind it, as coloured bands over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lgm_cli.plots.series import INTERVAL, divide, time_axis
from lgm_cli.plots.style import COLOURS, INK, QUIET, STYLE, save, shorten

FILLS = (COLOURS[0], COLOURS[4], COLOURS[2], COLOURS[3], COLOURS[5], COLOURS[1], "#8C8C8C")
HATCHES = ("", "////", "....", "xxxx")
MOST_CHANNELS = 4
WINDOW = 240  # steps that single values can be told apart in
MOST_PARTED, MOST_NAMED = 60, 12  # series that lines are drawn between, and whose names are written
MOST_CATEGORIES = 6  # whose names are written beside a channel
BINS = 1200  # of the whole series


def state_bands(
    probabilities: np.ndarray,  # (T, K)
    path_of_states: np.ndarray,  # (T,) the most probable one, from 0
    given: np.ndarray,  # (T, M) values that were learned from, NaN elsewhere
    hidden: np.ndarray,  # (T, M) values that were not, NaN elsewhere
    mean: np.ndarray,  # (T, M) of values not seen, NaN where one was learned from
    deviation: np.ndarray,  # (T, M)
    names: Sequence[object],  # (M,)
    labels: Sequence[object],  # (T,)
    meanings: Sequence[str],  # (K,) what is said of each state
    path: Path,
    ahead: int,  # steps at the end that are forecast
    future: np.ndarray | None = None,  # (T,) which steps are, where it is not those at the end of one series
    series: Mapping[int, str] | None = None,  # names of several series by the places at which they begin
    categories: Sequence[Sequence[str]] = (),  # (M,) of the channels whose values are numbers of these names
) -> Figure:
    """The last steps of the channels on the colours of the most probable states; below, the probabilities of all states
    at these steps and, of a longer series, at all of them."""
    steps, states = probabilities.shape
    begin, series = window_begin(steps, ahead), dict(series or {})
    coming = np.arange(steps) >= steps - ahead if future is None else future
    breaks = [place for place in series if begin < place]
    shown = list(range(min(given.shape[1], MOST_CHANNELS)))
    heights = [1.5] * len(shown) + [0.75] + ([0.75] if begin else [])
    with matplotlib.rc_context(STYLE):
        figure = Figure((8, sum(heights) + 0.95 + 0.19 * -(-states // 2)), layout="constrained")
        grid = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        place, known = np.arange(begin, steps), steps - ahead if ahead else None
        for channel, axes in zip(shown, grid, strict=False):
            _tint(axes, path_of_states, begin, coming, breaks)
            part, called = (place, channel), categories[channel] if categories else ()
            half = np.full(len(place), np.nan) if called else INTERVAL * deviation[part]
            now = coming[begin:]
            low, high = (np.where(now, mean[part] + sign * half, np.nan) for sign in (-1, 1))
            axes.fill_between(place, low, high, color=INK, alpha=0.18, linewidth=0)
            axes.plot(place, np.where(now, mean[part], np.nan), color=INK, linewidth=1.1, linestyle="--")
            gap = ~now & np.isfinite(mean[part])
            look = {"fmt": "_" if called else "none", "color": INK, "elinewidth": 1, "alpha": 0.45}
            axes.errorbar(place[gap], mean[part][gap], half[gap], **look)
            parted = np.array(breaks, int) - begin  # a line does not go on from one series to the next
            axes.plot(
                np.insert(place.astype(float), parted, np.nan),
                np.insert(given[part], parted, np.nan),
                color=INK,
                linewidth=0.8,
                marker=".",
                markersize=3,
            )
            axes.plot(place, hidden[part], "o", color=INK, markersize=3, markerfacecolor="white", markeredgewidth=0.8)
            axes.set_ylabel(shorten(names[channel], 18), fontsize=8)
            if called:
                some = range(0, len(called), -(-len(called) // MOST_CATEGORIES))
                axes.set_yticks(some, [shorten(called[number], 10) for number in some], fontsize=7)
                axes.set_ylim(-0.4, len(called) - 0.6)
            time_axis(axes, labels, begin, steps)
            axes.tick_params(labelbottom=False)
            divide(axes, known, steps)
            _part(axes, series, begin, steps, titled=channel == 0)
            axes.set_xlim(begin - 0.5, steps - 0.5)
        if begin:
            of = f" of {len(series):,} series" if series else ""
            grid[0].set_title(f"the last {steps - begin:,} of {steps:,} steps{of}", pad=16 if series else None)
        _stack(grid[len(shown)], probabilities[begin:], place.astype(float), "probability", known, steps)
        _part(grid[len(shown)], series, begin, steps)
        time_axis(grid[len(shown)], labels, begin, steps)
        if begin:
            middles, averages = _averaged(probabilities)
            _stack(grid[-1], averages, middles, "all steps", known, steps)
            if series:  # whose times begin anew: their names say more
                grid[-1].set(xticks=[], xlim=(-0.5, steps - 0.5))
                _part(grid[-1], series, 0, steps, titled=True)
            else:
                time_axis(grid[-1], labels, 0, steps)
        _explain(figure, meanings, bool(np.isfinite(hidden).any()), bool(coming.any()))
        more = f", {len(shown)} of {given.shape[1]} channels" if given.shape[1] > len(shown) else ""
        return save(figure, path, f"States over time{more}, on the most probable path of states")


def window_begin(steps: int, ahead: int) -> int:
    """The first step that is drawn with single values."""
    begin = steps - ahead - max(WINDOW, 3 * ahead)
    return begin if begin > WINDOW // 2 else 0


def _look(state: int) -> dict[str, Any]:
    hatch = HATCHES[state // len(FILLS) % len(HATCHES)]
    return {"facecolor": FILLS[state % len(FILLS)], "hatch": hatch}


def _part(axes: Axes, series: Mapping[int, str], begin: int, steps: int, titled: bool = False) -> None:
    """Lines between several series, and the names of as many as there is room for."""
    edges = [*series, steps]
    shown = [(max(first, begin), last, series[first]) for first, last in pairwise(edges) if last > begin]
    if len(shown) > MOST_PARTED:
        return
    for first, last, name in shown:
        if first > begin:
            axes.axvline(first - 0.5, color=INK, linewidth=0.8)
        if titled and len(shown) <= MOST_NAMED:
            room = max(2, round(110 * (last - first) / (steps - begin)))
            axes.annotate(
                shorten(name, room), ((first + last - 1) / 2, 1), (0, 2), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="center", va="bottom", fontsize=8, color=QUIET,
            )  # fmt: skip


def _tint(axes: Axes, states: np.ndarray, begin: int, coming: np.ndarray, breaks: Sequence[int]) -> None:
    """The background in the colour of the state of each step but those that are forecast."""
    shown = np.where(coming, -1, states)[begin:]
    changes = {*(begin + 1 + np.flatnonzero(np.diff(shown))).tolist(), *breaks}
    for first, last in pairwise([begin, *sorted(changes), begin + len(shown)]):
        if shown[first - begin] < 0:
            continue
        look = _look(int(states[first]))
        axes.axvspan(first - 0.5, last - 0.5, alpha=0.3, linewidth=0, edgecolor="white", zorder=0, **look)


def _stack(axes: Axes, probabilities: np.ndarray, place: np.ndarray, title: str, known: int | None, steps: int) -> None:
    """Probabilities on top of each other, one at each height."""
    edges = np.concatenate([[place[0] - 0.5], (place[1:] + place[:-1]) / 2, [place[-1] + 0.5]])
    below = np.zeros(len(place))
    for state in range(probabilities.shape[1]):
        above = below + probabilities[:, state]
        low, high = (np.append(value, value[-1]) for value in (below, above))
        axes.fill_between(edges, low, high, step="post", linewidth=0, edgecolor="white", alpha=0.85, **_look(state))
        below = above
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 1])
    axes.set_ylabel(title, fontsize=8)
    divide(axes, known, steps)


def _averaged(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (n,) and averages (n, K) over so many steps that at most BINS are left."""
    size = -(-len(probabilities) // BINS)
    starts = np.arange(0, len(probabilities), size)
    count = np.diff(np.append(starts, len(probabilities)))
    return starts + (count - 1) / 2, np.add.reduceat(probabilities, starts) / count[:, None]


def _explain(figure: Figure, meanings: Sequence[str], hidden: bool, ahead: bool) -> None:
    handles: list[Artist] = []
    for state, meaning in enumerate(meanings):
        text = f"{state + 1}: {shorten(meaning, 60)}"
        handles.append(Patch(edgecolor="white", alpha=0.85, linewidth=0, label=text, **_look(state)))
    if hidden:
        white = {"markerfacecolor": "white", "markeredgewidth": 0.8}
        handles.append(Line2D([], [], color=INK, marker="o", linewidth=0, markersize=3, label="hidden", **white))
    if ahead:
        handles.append(Patch(color=INK, alpha=0.18, linewidth=0, label="forecast: 90% interval"))
    title = "state: what is typical of it (share of the time, steps that it lasts on average)"
    legend = figure.legend(
        handles=handles, loc="outside lower left", ncols=2, fontsize=8, title=title, title_fontsize=8, alignment="left"
    )
    legend.get_title().set_color(QUIET)
