"""Pictures of a run, from plain arrays and metrics.csv: quiet, safe for the colour-blind, without pyplot.

Every function writes a PNG to `path` and returns its Figure; matplotlib's global state stays as it was.
"""

from __future__ import annotations

import math
import textwrap
import warnings
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

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
SHAPES = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")
POSITIVE, NEGATIVE = COLOURS[:2]
INK, QUIET, FAINT = "#333333", "#757575", "#B0B0B0"
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "font.size": 9,
    "grid.color": "#E8E8E8",
    "legend.frameon": False,
    "savefig.dpi": 150,
    "text.color": INK,
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
}
TRACKS = {  # column: the label of its axis, and whether more is better (1) or less (-1)
    "train_log_likelihood": ("train log-likelihood\n[nats per entry]", 1),
    "test_log_likelihood": ("test log-likelihood\n[nats per entry]", 1),
    "test_rmse": ("test rmse\n[{unit}]", -1),
}
CLOCKS = {"fit_seconds": "time spent learning [s]", "step": "step"}
TABLE_ITEMS, TABLE_FACTORS = 60, 12  # a larger table of loadings is summed up
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
            row[0].set_ylabel(label.format(unit=_plain(unit)))
            for axes, clock in zip(row, CLOCKS, strict=True):
                for index, run in enumerate(runs):
                    _draw_run(axes, run, clock, track, index)
                _scale_to_the_end(axes, runs, track, better, (references or {}).get(track, {}))
        for axes, (clock, label) in zip(grid[-1], CLOCKS.items(), strict=True):
            axes.set_xlabel(label)
            _scale_from_zero(axes, np.concatenate([run[clock] for run in runs]))
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
        return _save(figure, path, title)


def _read(run: pd.DataFrame | Path) -> dict[str, np.ndarray]:
    frame = run if isinstance(run, pd.DataFrame) else pd.read_csv(run)
    return {name: frame[name].to_numpy(dtype=float) for name in (*CLOCKS, *TRACKS, "log_likelihood_se")}


def _told_apart(labels: Sequence[str]) -> tuple[str, list[str]]:
    """The words that all labels share, and what each has besides them."""
    words = [_plain(label).split() for label in labels]
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


def _scale_from_zero(axes: Axes, values: np.ndarray) -> None:
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
        _leave_empty(axes, "no finite value")
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
            _note(axes, 0.01 if abs(level - last) < abs(level - first) else 0.99, level, name)  # off the curves
        elif level < low:
            _note(axes, 0.99, low, f"↓ {name}: {level:.4g}")
        else:
            _note(axes, 0.99, high, f"↑ {name}: {level:.4g}", above=False)


def _note(axes: Axes, x: float, y: float, text: str, above: bool = True) -> None:
    """Quiet words at the share x of the width and at the value y."""
    axes.annotate(
        _plain(text),
        (x, y),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2 if above else -2),
        textcoords="offset points",
        ha="right" if x > 0.5 else "left",
        va="bottom" if above else "top",
        color=QUIET,
        fontsize=8,
    )


def loadings_table(
    loadings: np.ndarray,
    names: Sequence[object],
    path: Path,
    rotated_by: str | None = "varimax",
    meaning: str = "change of the item per standard deviation of the factor",
) -> Figure:
    """Loadings (M, D), each item beside its dominant factor; of a large table, the strongest items."""
    loadings = np.asarray(loadings, float)
    items, factors = loadings.shape
    title = f"Loadings{_turned(rotated_by, factors)}\n{meaning}"
    if items > TABLE_ITEMS or factors > TABLE_FACTORS or factors == 1:
        return _strongest(loadings, names, path, title)
    strength = np.nan_to_num(np.abs(loadings))
    dominant = strength.argmax(1)
    order = np.lexsort((-strength.max(1), dominant))
    largest = strength.max() or 1.0
    decimals = 2 if largest < 10 else 1 if largest < 100 else 0
    labels = [_shorten(names[item], 48) for item in order]
    with matplotlib.rc_context(STYLE):
        width = 0.068 * max(map(len, labels)) + 0.55 * factors + 0.4
        figure = Figure((max(5.0, width), 0.2 * items + 1.3), layout="constrained")
        axes = figure.subplots()
        axes.imshow(loadings[order], cmap="RdBu", vmin=-1.1 * largest, vmax=1.1 * largest, aspect=0.2 / 0.55)
        axes.set_anchor("W")
        for (row, column), value in np.ndenumerate(loadings[order]):
            share = abs(value) / largest
            colour = "white" if share > 0.6 else INK if share > 0.25 else "#8C8C8C"
            text = f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")  # 0.0: no minus zero
            axes.text(column, row, text, color=colour, ha="center", va="center_baseline", fontsize=7)
        variance = (strength**2).sum(0)
        shares = variance / (variance.sum() or 1.0)
        axes.set_xticks(range(factors), [f"{j + 1}\n{share:.0%}" for j, share in enumerate(shares)])
        axes.set_xlabel("factor, share of the explained variance", loc="left", color=QUIET, fontsize=8)
        axes.xaxis.set_label_position("top")
        axes.xaxis.tick_top()
        axes.set_yticks(range(items), labels)
        for edge in np.flatnonzero(np.diff(dominant[order])) + 0.5:
            axes.axhline(edge, color="white", linewidth=3)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        return _save(figure, path, title)


def _strongest(loadings: np.ndarray, names: Sequence[object], path: Path, title: str) -> Figure:
    """The items that load most on each of the first factors; with one factor there is room for more."""
    items, factors = loadings.shape
    each = min(items, TABLE_ITEMS if factors == 1 else 10)
    with matplotlib.rc_context(STYLE):
        figure, panels = _panels(min(factors, 6), 3, each)
        for factor, axes in enumerate(panels):
            strength = np.nan_to_num(np.abs(loadings[:, factor]))
            strongest = np.argsort(-strength, kind="stable")[:each]
            order = strongest[np.argsort(-loadings[strongest, factor], kind="stable")]
            _lollipops(axes, loadings[order, factor], [names[item] for item in order])
            axes.set_title(f"factor {factor + 1} of {factors}")
        figure.supxlabel("loading", fontsize=9)
        return _save(figure, path, title if each == items else f"{title}; the strongest of {items:,} items")


def factor_extremes(
    scores: np.ndarray,
    titles: Sequence[object],
    path: Path,
    weights: np.ndarray | None = None,
    weights_label: str = "number of ratings",
    rotated_by: str | None = "varimax",
    each: int = 6,
) -> Figure:
    """The points at both ends of the first four factors, by title; `weights` (N,) are the areas of the dots."""
    scores = np.asarray(scores, float)
    shown = min(scores.shape[1], 4)
    title = f"Scores at both ends of each factor{_turned(rotated_by, scores.shape[1])}"
    if weights is not None:
        title += f"\narea of a dot: {weights_label}"
    with matplotlib.rc_context(STYLE):
        figure, panels = _panels(shown, 2, min(2 * each, len(scores)))
        for factor, axes in enumerate(panels):
            column = scores[:, factor]
            order = np.argsort(-column, kind="stable")  # NaN last
            order = order[np.isfinite(column[order])]
            if len(order) > 2 * each:
                order = np.r_[order[:each], order[-each:]]
            sizes = None if weights is None else np.asarray(weights, float)[order] / np.nanmax(weights)
            _lollipops(axes, column[order], [titles[point] for point in order], sizes)
            axes.set_title(f"factor {factor + 1} of {scores.shape[1]}")
        figure.supxlabel("posterior mean [standard deviations of the factor]", fontsize=9)
        return _save(figure, path, title)


def latent_scatter(scores: np.ndarray, groups: Sequence[str], path: Path) -> Figure:
    """The data points in the plane of the first two factors, each group in a colour and a shape of its own."""
    kinds = list(dict.fromkeys(groups))
    members = np.asarray(groups)
    with matplotlib.rc_context(STYLE):
        figure = Figure((6.4, 4.6), layout="constrained")
        axes = figure.subplots()
        for number, kind in enumerate(kinds):
            colour, shape = COLOURS[number % len(COLOURS)], SHAPES[number // len(COLOURS) % len(SHAPES)]
            shape = SHAPES[number % len(SHAPES)] if len(kinds) <= len(SHAPES) else shape
            x, y = scores[members == kind].T
            axes.scatter(x, y, s=26, c=colour, marker=shape, alpha=0.75, linewidths=0, label=_shorten(kind, 24))
        axes.set_xlabel("factor 1 [standard deviations]")
        axes.set_ylabel("factor 2 [standard deviations]")
        axes.set_aspect("equal", adjustable="datalim")
        figure.legend(loc="outside right upper", fontsize=8)
        return _save(figure, path, "Posterior means of the first two factors")


def weights(
    mean: np.ndarray, deviation: np.ndarray, names: Sequence[str], path: Path, response: str = "the response"
) -> Figure:
    """Weights (p,) with their 90% intervals, in the order of the features; many as a line and a band."""
    half, places, few = 1.645 * deviation, np.arange(len(mean)), len(mean) <= 40
    with matplotlib.rc_context(STYLE):
        figure = Figure((6.4, 4.2) if not few else (6.4, 1.2 + 0.2 * len(mean)), layout="constrained")
        axes = figure.subplots()
        if few:
            axes.axvline(0, color=FAINT, linewidth=1)
            axes.errorbar(mean, -places, xerr=half, fmt="o", color=POSITIVE, markersize=4, linewidth=1.2)
            axes.set_yticks(-places, [_shorten(name, 30) for name in names])
            axes.set_xlabel(f"weight [{_shorten(response, 30)} per unit of the feature]")
        else:
            axes.axhline(0, color=FAINT, linewidth=1)
            axes.fill_between(places, mean - half, mean + half, color=POSITIVE, alpha=0.25, linewidth=0)
            axes.plot(places, mean, color=POSITIVE, linewidth=1)
            shown = np.unique(np.linspace(0, len(mean) - 1, 6).round().astype(int))
            axes.set_xticks(shown, [_shorten(names[place], 14) for place in shown])
            axes.set_xlabel("feature, in the order of the columns")
            axes.set_ylabel(f"weight [{_shorten(response, 30)} per unit of the feature]")
        return _save(figure, path, "Weights: posterior means with 90% intervals")


def _turned(rotated_by: str | None, factors: int) -> str:
    """What a title says of the rotation; a single factor has none."""
    if factors == 1:
        return ""
    return f", rotated by {rotated_by}" if rotated_by else ", not rotated"


def _panels(count: int, columns: int, rows: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, columns)
    lines = math.ceil(count / columns)
    figure = Figure((4.8 * columns, lines * (0.21 * rows + 0.8) + 0.6), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, list(grid[:count])


def _lollipops(axes: Axes, values: np.ndarray, names: Sequence[object], sizes: np.ndarray | None = None) -> None:
    """Values from zero, in the order given, each with its name on the other side of zero."""
    heights = -np.arange(len(values), dtype=float)
    colours = np.where(values >= 0, POSITIVE, NEGATIVE)
    axes.axvline(0, color=FAINT, linewidth=1)
    axes.hlines(heights, 0, values, colors=list(colours), linewidth=1.2)
    axes.scatter(values, heights, s=18 if sizes is None else 6 + 60 * sizes, c=colours, linewidths=0, zorder=3)
    for value, height, name in zip(values, heights, names, strict=True):
        side = -1 if value >= 0 else 1
        axes.annotate(
            _shorten(name, 40),
            (0, height),
            xytext=(4 * side, 0),
            textcoords="offset points",
            ha="right" if side < 0 else "left",
            va="center",
            fontsize=8,
        )
    reach = 1.1 * np.max(np.abs(values), initial=0.0, where=np.isfinite(values)) or 1.0
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-len(values) + 0.4, 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(visible=False)  # it would strike the names through
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)


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
            _leave_empty(left, "no finite prediction")
            _leave_empty(right, "no interval")
        else:
            _draw_predicted(left, true, mean)
            _draw_coverage(right, np.abs(true - mean), standard_deviation)
            rmse = math.sqrt(np.mean((true - mean) ** 2))
            left.set_title(f"rmse {rmse:.4g} over {true.size:,} hidden entries")
        left.set_xlabel(f"true [{_plain(unit)}]")
        left.set_ylabel(f"predicted mean [{_plain(unit)}]")
        right.set_xlabel("nominal coverage of the central interval\n(grey: 95% range of well calibrated ones)")
        right.set_ylabel("share of hidden entries inside")
        return _save(figure, path, "Predictions of hidden entries")


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
        _note(axes, 0.99, low, "box: half of the predictions, line: 90%")
    else:
        low, high = np.quantile(np.concatenate([true, mean]), [0.0005, 0.9995])
        margin = 0.04 * (high - low) or 1.0
        low, high = low - margin, high + margin
        if true.size > 2000:
            some = np.random.default_rng(0).permutation(true.size)[:DRAWN]  # a density needs no more
            extent = (low, high, low, high)
            axes.hexbin(true[some], mean[some], gridsize=50, extent=extent, mincnt=1, cmap="Blues", norm=LogNorm(0.3))
            _note(axes, 0.99, low, "darker: more entries")
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


def _leave_empty(axes: Axes, why: str) -> None:
    axes.text(0.5, 0.5, why, color=QUIET, ha="center", transform=axes.transAxes)
    axes.set_yticks([])


def _plain(text: object) -> str:
    """Text as it stands: on one line, its dollar signs no formula."""
    return " ".join(str(text).split()).replace("$", r"\$")


def _shorten(text: object, width: int) -> str:
    text = " ".join(str(text).split())
    return _plain(text if len(text) <= width else text[: width - 1].rstrip() + "…")


def _save(figure: Figure, path: Path, title: str) -> Figure:
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a title in a script that the font lacks
        figure.savefig(path)
    return figure
