"""The course of learning: likelihoods and errors against time."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lgm_cli.plots.style import COLOURS, FAINT, LINES, QUIET, STYLE, leave_empty, note, plain, save, shorten

TRACKS = {  # column: the label of its axis
    "train_log_likelihood": "train log-likelihood\n[nats per entry]",
    "test_log_likelihood": "test log-likelihood\n[nats per entry]",
    "test_rmse": "test rmse\n[{unit}]",
    "relative_error": "relative error\nof the signal",
    "active": "active\ncoefficients",
}
CLOCKS = {"fit_seconds": "time spent learning [s]", "step": "step"}
ENLARGED = 5e-3, 0.3  # shares of the whole range between which the range of the end is drawn once more
INSETS = [(x, y, 0.4, 0.5) for x in (0.57, 0.34, 0.12) for y in (0.13, 0.25, 0.38)]  # left, bottom, width, height

Run = Mapping[str, np.ndarray]


def convergence(
    metrics: Mapping[str, pd.DataFrame | Path],
    path: Path,
    references: Mapping[str, Mapping[str, float]] | None = None,
    unit: str = "units of the data",
) -> Figure:
    """Likelihoods and rmse against seconds, of one run, with its steps above, or of many runs by their labels.

    Each panel shows the whole course, and its end once more in an inset where the end is a small part of the range.
    `references` are levels to compare with, {"test_rmse": {"predicting the mean": 1.05}}, drawn as dashed lines. A run
    that ends in NaN has a cross at its last finite point, and leaves the range to the others. The words that all labels
    share make the title.
    """
    runs = [_read(run) for run in metrics.values()]
    title, labels = _told_apart([*metrics])
    tracks = [track for track in TRACKS if any(np.isfinite(run[track]).any() for run in runs)]
    tracks = tracks or ["train_log_likelihood"]
    many = len(runs) > 1
    clock = "fit_seconds" if any((run["fit_seconds"] > 0).any() for run in runs) else "step"
    with matplotlib.rc_context(STYLE):
        figure = Figure((11 if many else 8, 2.2 * len(tracks) + 0.9), layout="constrained")
        grid = figure.subplots(len(tracks), 1, sharex="col", squeeze=False)[:, 0]
        scale_from_zero(grid[0], np.concatenate([run[clock] for run in runs]))
        for axes, track in zip(grid, tracks, strict=True):
            axes.set_ylabel(TRACKS[track].format(unit=shorten(unit, 34)))
            _draw_track(axes, runs, clock, track, (references or {}).get(track, {}))
        grid[-1].set_xlabel(CLOCKS[clock])
        if not many and clock != "step":
            _count_steps(grid[0], runs[0])
        if any(np.isfinite(run["log_likelihood_se"]).any() for run in runs):
            grid[0].set_ylabel(f"{grid[0].get_ylabel()}\nband: ± 1 standard error")
        for index, (label, run) in enumerate(zip(labels, runs, strict=True)):
            label = f"{label} (diverged)" if _diverged(run) else label
            grid[0].plot([], [], label=textwrap.fill(label, 44, max_lines=2, placeholder="…"), **_stroke(index))
        if many:
            columns = math.ceil(len(runs) / 28)
            figure.legend(loc="outside right upper", fontsize=7.5, ncols=columns, handlelength=3)
        elif _diverged(runs[0]):
            title += " (diverged)"
        return save(figure, path, title)


def _read(run: pd.DataFrame | Path) -> dict[str, np.ndarray]:
    frame = run if isinstance(run, pd.DataFrame) else pd.read_csv(run)
    frame = frame.reindex(columns=[*CLOCKS, *TRACKS, "log_likelihood_se"])  # some are another model's
    return {name: frame[name].to_numpy(dtype=float) for name in frame.columns}


def _told_apart(labels: Sequence[str]) -> tuple[str, list[str]]:
    """The words that all labels share, and what each has besides them."""
    words = [plain(label).split() for label in labels]
    shared = [word for word in words[0] if all(word in label for label in words)]
    rest = [" ".join(word for word in label if word not in shared) for label in words]
    return " ".join(shared), [text or "(nothing else)" for text in rest]


def _diverged(run: Run) -> bool:
    return not np.isfinite(run["train_log_likelihood"][-1:]).all()


def _stroke(index: int) -> dict[str, Any]:
    line = LINES[index // len(COLOURS) % len(LINES)]
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": line, "linewidth": 1.4}


def _draw_run(axes: Axes, run: Run, clock: str, track: str, index: int) -> None:
    shown = np.isfinite(run[track]) & np.isfinite(run[clock])
    x, y = run[clock][shown], run[track][shown]
    stroke = _stroke(index)
    axes.plot(x, y, **stroke)
    end = {"marker": "x", "markersize": 6} if _diverged(run) else {"marker": "o", "markersize": 3.5}
    axes.plot(x[-1:], y[-1:], **end, color=stroke["color"], zorder=5)
    error = np.nan_to_num(run["log_likelihood_se"][shown])
    if track == "train_log_likelihood" and error.any():
        axes.fill_between(x, y - error, y + error, color=stroke["color"], alpha=0.2, linewidth=0)


def scale_from_zero(axes: Axes, values: np.ndarray) -> None:
    """Logarithmic where the values span decades, with room for the zero at which every run starts."""
    positive = values[np.isfinite(values) & (values > 0)]
    largest = positive.max(initial=0.0) or 1.0
    if largest > 30 * positive.min(initial=largest):
        first_decade = 10.0 ** math.floor(math.log10(max(positive.min(), largest / 1e5)))
        axes.set_xscale("symlog", linthresh=first_decade, linscale=0.4)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlim(-0.15 * first_decade, 1.15 * largest)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=largest >= 5))
        axes.set_xlim(-0.02 * largest, 1.03 * largest)


def _draw_track(axes: Axes, runs: Sequence[Run], clock: str, track: str, references: Mapping[str, float]) -> None:
    """One panel: every run whole, the levels to compare with, and the end enlarged."""
    for index, run in enumerate(runs):
        _draw_run(axes, run, clock, track, index)
    sound = [run for run in runs if not _diverged(run)] or runs
    paths = [run[track][np.isfinite(run[track])] for run in sound]
    paths = [path for path in paths if path.size]
    if not paths:
        leave_empty(axes, "no finite value")
        return
    values = np.concatenate([*paths, list(references.values())])
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 0.02 * abs(high) or 1.0
    axes.set_ylim(low - margin, high + margin * (2.5 if references else 1))  # room for a name above its line
    first, last = (float(np.median([path[end] for path in paths])) for end in (0, -1))
    for name, level in references.items():
        axes.axhline(level, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
        note(axes, 0.01 if abs(level - last) < abs(level - first) else 0.99, level, f"{name}: {level:.4g}")
    _enlarge_the_end(axes, runs, sound, clock, track, references)


def _enlarge_the_end(
    axes: Axes, runs: Sequence[Run], sound: Sequence[Run], clock: str, track: str, references: Mapping[str, float]
) -> None:
    """The last nine tenths of the time in an inset, where the curves leave most room, if they span little there."""
    until = max(float(np.nanmax(run[clock], initial=0.0)) for run in sound)
    ends = [run[track][np.isfinite(run[track]) & (run[clock] >= 0.1 * until)] for run in sound]
    later = np.concatenate(ends)
    low, high = axes.get_ylim()
    if max(map(len, ends)) < 3 or not ENLARGED[0] < np.ptp(later) / (high - low) < ENLARGED[1]:
        return
    inset = axes.inset_axes(_freest(axes, references))
    for index, run in enumerate(runs):
        _draw_run(inset, run, clock, track, index)
    for level in references.values():
        inset.axhline(level, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
    margin = 0.08 * np.ptp(later)
    inset.set_ylim(later.min() - margin, later.max() + margin)
    inset.set_xlim(0.1 * until, 1.03 * until)
    inset.xaxis.set_major_locator(MaxNLocator(4))
    inset.yaxis.set_major_locator(MaxNLocator(3))
    inset.tick_params(labelsize=7, length=2)
    inset.set_title("the end, enlarged", fontsize=7.5, color=QUIET, pad=2)
    inset.spines[:].set_visible(True)
    inset.spines[:].set_color(FAINT)


def _freest(axes: Axes, references: Mapping[str, float]) -> tuple[float, float, float, float]:
    """The place for an inset, in shares of the axes, that holds the least of the lines drawn so far."""
    drawn = []
    to_axes = axes.transAxes.inverted()
    for line in axes.lines[: 2 * 40]:
        corners = np.asarray(line.get_xydata(), float)
        if len(corners) < 2:
            continue
        corners = to_axes.transform(line.get_transform().transform(corners))
        along = np.linspace(0, len(corners) - 1, 40 * min(len(corners), 50))
        drawn.append(np.column_stack([np.interp(along, np.arange(len(corners)), part) for part in corners.T]))
    for level in references.values():  # its name
        height = to_axes.transform(axes.transData.transform((axes.get_xlim()[1], level)))[1]
        drawn.append(np.column_stack([np.linspace(0.7, 1, 40), np.full(40, height + 0.06)]))
    x, y = np.concatenate(drawn).T

    def covered(place: tuple[float, float, float, float]) -> int:
        left, bottom, width, height = place
        inside = (x > left - 0.1) & (x < left + width + 0.02) & (y > bottom - 0.13) & (y < bottom + height + 0.1)
        return int(inside.sum())

    return min(INSETS, key=covered)


def _count_steps(axes: Axes, run: Run) -> None:
    """The steps of a run, at the seconds at which it had taken them, above the picture."""
    known = np.isfinite(run["fit_seconds"]) & np.isfinite(run["step"])
    seconds, steps = run["fit_seconds"][known], run["step"][known]
    if not len(steps) or steps.max() < 1:
        return
    last = int(steps.max())
    decades = {10**power for power in range(1 + int(math.log10(last)))}
    ticks = [0, *decades, last]
    if axes.get_xscale() != "symlog":
        ticks = MaxNLocator(6, integer=True).tick_values(0, last)
    places = axes.transAxes.inverted()
    right = math.inf
    for step in sorted({float(tick) for tick in ticks if 0 <= tick <= last}, reverse=True):
        x = float(np.interp(step, steps, seconds))
        at = float(places.transform(axes.transData.transform((x, 0)))[0])
        if right - at < (0.06 if step < last / 10 else 0.1):
            continue
        text = f"{step:,.0f}" if right < math.inf else f"{step:,.0f} step{'s' * (step != 1)}"
        axes.annotate(
            text, (x, 1), (0, 6), xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=8,
            ha="center", color=QUIET, arrowprops={"arrowstyle": "-", "color": FAINT, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
        right = at
