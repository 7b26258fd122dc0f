"""What every run has: its course, and the predictions of hidden entries with the calibration of their intervals."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator, PercentFormatter

from lgm_cli.plots.style import COLOURS, LINES, POSITIVE, QUIET, STYLE, leave_empty, note, plain, save

TRACKS = {  # column: the label of its axis, and whether more is better (1) or less (-1)
    "train_log_likelihood": ("train log-likelihood\n[nats per entry]", 1),
    "test_log_likelihood": ("test log-likelihood\n[nats per entry]", 1),
    "test_rmse": ("test rmse\n[{unit}]", -1),
    "relative_error": ("relative error\nof the signal", -1),
    "active": ("active\ncoefficients", -1),
}
CLOCKS = {"fit_seconds": "time spent learning [s]", "step": "step"}
DRAWN = 100_000  # points of a density, at most


def convergence(
    metrics: Mapping[str, pd.DataFrame | Path],
    path: Path,
    references: Mapping[str, Mapping[str, float]] | None = None,
    unit: str = "units of the data",
) -> Figure:
    """Likelihoods and rmse against seconds and against steps, of one run or of many by their labels.

    `references` are levels to compare with, {"test_rmse": {"predicting the mean": 1.05}}. A run that ends in
    NaN has a cross at its last finite point. The words that all labels share make the title.
    """
    runs = [_read(run) for run in metrics.values()]
    title, labels = _told_apart([*metrics])
    tracks = [track for track in TRACKS if any(np.isfinite(run[track]).any() for run in runs)]
    tracks = tracks or ["train_log_likelihood"]
    many = len(runs) > 1
    with matplotlib.rc_context(STYLE):
        figure = Figure((11 if many else 8, 2.1 * len(tracks) + 0.9), layout="constrained")
        grid = figure.subplots(len(tracks), len(CLOCKS), sharey="row", sharex="col", squeeze=False)
        for row, track in zip(grid, tracks, strict=True):
            label, better = TRACKS[track]
            row[0].set_ylabel(label.format(unit=plain(unit)))
            for axes, clock in zip(row, CLOCKS, strict=True):
                for index, run in enumerate(runs):
                    _draw_run(axes, run, clock, track, index)
                _scale_to_the_end(axes, runs, track, better, (references or {}).get(track, {}))
        for axes, (clock, label) in zip(grid[-1], CLOCKS.items(), strict=True):
            axes.set_xlabel(label)
            scale_from_zero(axes, np.concatenate([run[clock] for run in runs]))
        if any(np.isfinite(run["log_likelihood_se"]).any() for run in runs):
            grid[0, 0].set_title("band: ± 1 standard error", color=QUIET, fontsize=8)
        for index, (label, run) in enumerate(zip(labels, runs, strict=True)):
            label = f"{label} (diverged)" if _diverged(run) else label
            grid[0, 0].plot([], [], label=textwrap.fill(label, 44, max_lines=2, placeholder="…"), **_stroke(index))
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


def _diverged(run: Mapping[str, np.ndarray]) -> bool:
    return not np.isfinite(run["train_log_likelihood"][-1:]).all()


def _stroke(index: int) -> dict[str, Any]:
    line = LINES[index // len(COLOURS) % len(LINES)]
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": line, "linewidth": 1.4}


def _draw_run(axes: Axes, run: Mapping[str, np.ndarray], clock: str, track: str, index: int) -> None:
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


def _scale_to_the_end(
    axes: Axes,
    runs: Sequence[Mapping[str, np.ndarray]],
    track: str,
    better: int,
    references: Mapping[str, float],
) -> None:
    """Limits that show where the runs go; a poor start, or a run that goes astray, may leave the picture."""
    sound = [run for run in runs if not _diverged(run)] or runs
    paths = [better * run[track][np.isfinite(run[track])] for run in sound]  # more is better
    paths = [path for path in paths if path.size]
    if not paths:
        leave_empty(axes, "no finite value")
        return
    later = np.concatenate([path[1:] if path.size > 2 else path for path in paths])
    high = max(path.max() for path in paths)
    low = np.quantile(later, 0.1)
    astray = 2 * low - high  # a run that fell below it has lost its way, unless it began there
    low = min([low, *(path[-1] for path in paths if path[-1] >= min(path[0], astray))])
    start = min(path[0] for path in paths)
    if start >= low - 0.5 * (high - low):
        low = min(low, start)
    margin = 0.06 * (high - low) or 0.02 * abs(high) or 1.0
    low, high = sorted((better * (low - margin), better * (high + margin)))
    span = high - low
    near = {name: level for name, level in references.items() if low - span < level < high + span}
    low = min([low, *(level - 0.05 * span for level in near.values())])
    high = max([high, *(level + 0.12 * span for level in near.values())])  # room for its name
    axes.set_ylim(low, high)
    first, last = (better * np.median([path[end] for path in paths]) for end in (0, -1))
    for name, level in references.items():
        if name in near:
            axes.axhline(level, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
            note(axes, 0.01 if abs(level - last) < abs(level - first) else 0.99, level, name)  # off the curves
        elif level < low:
            note(axes, 0.99, low, f"↓ {name}: {level:.4g}")
        else:
            note(axes, 0.99, high, f"↑ {name}: {level:.4g}")  # above: a falling curve enters here


def predictions(
    true: np.ndarray,
    mean: np.ndarray,
    standard_deviation: np.ndarray,
    path: Path,
    unit: str = "units of the data",
) -> Figure:
    """Left: predicted against true. Right: how often the true value lies within its central interval."""
    triples = np.stack([np.asarray(part, float) for part in (true, mean, standard_deviation)])
    true, mean, standard_deviation = triples[:, np.isfinite(triples).all(0)]
    with matplotlib.rc_context(STYLE):
        figure = Figure((9, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        if true.size == 0:
            leave_empty(left, "no finite prediction")
            leave_empty(right, "no interval")
        else:
            _draw_predicted(left, true, mean)
            _draw_coverage(right, np.abs(true - mean), standard_deviation)
            rmse = math.sqrt(np.mean((true - mean) ** 2))
            left.set_title(f"rmse {rmse:.4g} over {true.size:,} hidden entries")
        left.set_xlabel(f"true [{plain(unit)}]")
        left.set_ylabel(f"predicted mean [{plain(unit)}]")
        right.set_xlabel("nominal coverage of the central interval\n(grey: 95% range of well calibrated ones)")
        right.set_ylabel("share of hidden entries inside")
        return save(figure, path, "Predictions of hidden entries")


def _draw_predicted(axes: Axes, true: np.ndarray, mean: np.ndarray) -> None:
    """Boxes where the true values are few and distinct, as ratings are, else a density or the points."""
    values = np.unique(true)
    gap = np.diff(values).min() if len(values) > 1 else 1.0
    if len(values) <= 12 and np.ptp(values) <= 20 * gap and true.size >= 10 * len(values):
        boxes = []
        for value in values:
            low, lower, middle, upper, high = np.quantile(mean[true == value], [0.05, 0.25, 0.5, 0.75, 0.95])
            boxes.append({"whislo": low, "q1": lower, "med": middle, "q3": upper, "whishi": high})
        axes.bxp(
            boxes,
            positions=values,
            widths=0.55 * gap,
            showfliers=False,
            showcaps=False,
            patch_artist=True,
            manage_ticks=False,
            boxprops={"facecolor": POSITIVE, "alpha": 0.35, "linewidth": 0},
            whiskerprops={"color": POSITIVE, "linewidth": 1},
            medianprops={"color": POSITIVE, "linewidth": 2},
        )
        axes.set_xticks(values)
        low, high = values[0] - 0.6 * gap, values[-1] + 0.6 * gap
        note(axes, 0.99, low, "box: half of the predictions, line: 90%")
    else:
        low, high = np.quantile(np.concatenate([true, mean]), [0.0005, 0.9995])
        margin = 0.04 * (high - low) or 1.0
        low, high = low - margin, high + margin
        if true.size > 2000:
            some = np.random.default_rng(0).permutation(true.size)[:DRAWN]  # a density needs no more
            extent = (low, high, low, high)
            axes.hexbin(true[some], mean[some], gridsize=50, extent=extent, mincnt=1, cmap="Blues", norm=LogNorm(0.3))
            note(axes, 0.99, low, "darker: more entries")
        else:
            alpha = float(np.clip(200 / true.size, 0.3, 0.8))
            axes.scatter(true, mean, s=9, color=POSITIVE, alpha=alpha, linewidths=0)
    axes.plot([low, high], [low, high], color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")


def _draw_coverage(axes: Axes, error: np.ndarray, standard_deviation: np.ndarray) -> None:
    """Nominal against empirical coverage, and where 95% of such shares fall when the intervals are right."""
    nominal = np.linspace(0, 1, 101)[1:-1]
    quantiles = np.array([NormalDist().inv_cdf((1 + share) / 2) for share in nominal])
    certain = np.where(error > 0, np.inf, 0.0)
    away = np.divide(error, standard_deviation, out=certain, where=standard_deviation > 0)
    covered = np.searchsorted(np.sort(away), quantiles, side="right") / error.size
    spread = 1.96 * np.sqrt(nominal * (1 - nominal) / error.size)
    lower, upper = np.clip(nominal - spread, 0, 1), np.clip(nominal + spread, 0, 1)
    axes.fill_between(nominal, lower, upper, color="#D8D8D8", linewidth=0)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
    axes.plot(nominal, covered, color=POSITIVE, linewidth=1.6)
    at_90 = covered[89]
    axes.plot(0.9, at_90, "o", color=POSITIVE, markersize=5)
    axes.set_title(f"the 90% intervals cover {at_90:.1%}")
    axes.text(0.04, 0.94, "intervals too wide", color=QUIET, fontsize=8, va="top")
    axes.text(0.96, 0.06, "intervals too narrow", color=QUIET, fontsize=8, ha="right")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(0.25))
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
