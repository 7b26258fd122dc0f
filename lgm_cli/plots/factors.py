"""Loadings and scores of factors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lgm_cli.plots.style import COLOURS, FAINT, INK, NEGATIVE, POSITIVE, QUIET, SHAPES, STYLE, panels, save, shorten

NARROWEST = 3.5  # inches, that a title has room in
TABLE_ITEMS, TABLE_FACTORS = 60, 12  # a larger table of loadings is summed up


def loadings_table(
    loadings: np.ndarray,
    names: Sequence[object],
    path: Path,
    rotated_by: str | None = "varimax",
    meaning: str = "change of the item per standard deviation of the factor",
    latent: str = "factor",
) -> Figure:
    """Loadings (M, D), each item beside its dominant factor; of a large table, the strongest items.

    latent: what a latent dimension is called, factor or component.
    """
    loadings = np.asarray(loadings, float)
    items, factors = loadings.shape
    title = f"Loadings{_turned(rotated_by, factors)}\n{meaning}"
    if items > TABLE_ITEMS or factors > TABLE_FACTORS or factors == 1:
        return _strongest(loadings, names, path, title, latent)
    strength = np.nan_to_num(np.abs(loadings))
    dominant = strength.argmax(1)
    order = np.lexsort((-strength.max(1), dominant))
    largest = strength.max() or 1.0
    decimals = 2 if largest < 10 else 1 if largest < 100 else 0
    labels = [shorten(names[item], 48) for item in order]
    with matplotlib.rc_context(STYLE):
        beside = 0.068 * max(map(len, labels)) + 0.4
        cell = max(0.55, (NARROWEST - beside) / factors)  # inches
        figure = Figure((beside + cell * factors, 0.2 * items + 1.3), layout="constrained")
        axes = figure.subplots()
        axes.imshow(loadings[order], cmap="RdBu", vmin=-1.1 * largest, vmax=1.1 * largest, aspect=0.2 / cell)
        axes.set_anchor("W")
        for (row, column), value in np.ndenumerate(loadings[order]):
            share = abs(value) / largest
            colour = "white" if share > 0.6 else INK if share > 0.25 else "#8C8C8C"
            text = f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")  # 0.0: no minus zero
            axes.text(column, row, text, color=colour, ha="center", va="center_baseline", fontsize=7)
        variance = (strength**2).sum(0)
        shares = variance / (variance.sum() or 1.0)
        axes.set_xticks(range(factors), [f"{j + 1}\n{share:.0%}" for j, share in enumerate(shares)])
        axes.set_xlabel(f"{latent}, share of the explained variance", loc="left", color=QUIET, fontsize=8)
        axes.xaxis.set_label_position("top")
        axes.xaxis.tick_top()
        axes.set_yticks(range(items), labels)
        for edge in np.flatnonzero(np.diff(dominant[order])) + 0.5:
            axes.axhline(edge, color="white", linewidth=3)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        return save(figure, path, title)


def _strongest(loadings: np.ndarray, names: Sequence[object], path: Path, title: str, latent: str) -> Figure:
    """The items that load most on each of the first factors; with one factor there is room for more."""
    items, factors = loadings.shape
    each = min(items, TABLE_ITEMS if factors == 1 else 10)
    with matplotlib.rc_context(STYLE):
        figure, grid = panels(min(factors, 6), 3, each)
        for factor, axes in enumerate(grid):
            strength = np.nan_to_num(np.abs(loadings[:, factor]))
            strongest = np.argsort(-strength, kind="stable")[:each]
            order = strongest[np.argsort(-loadings[strongest, factor], kind="stable")]
            _lollipops(axes, loadings[order, factor], [names[item] for item in order])
            axes.set_title(f"{latent} {factor + 1} of {factors}")
        figure.supxlabel("loading", fontsize=9)
        return save(figure, path, title if each == items else f"{title}; the strongest of {items:,} items")


def factor_extremes(
    scores: np.ndarray,
    titles: Sequence[object],
    path: Path,
    weights: np.ndarray | None = None,
    weights_label: str = "number of ratings",
    rotated_by: str | None = "varimax",
    each: int = 6,
    least: float = 0,
    latent: str = "factor",
) -> Figure:
    """The points at both ends of the first four factors, by title; `weights` (N,) are the areas of the dots.

    least: the smallest weight of a point that is shown, less only where too few have as much.
    """
    scores = np.asarray(scores, float)
    if weights is not None and least:
        weights = np.asarray(weights, float)
        enough = np.sort(weights[np.isfinite(scores).all(1)])[::-1][: 2 * each]
        least = min(least, enough.min(initial=np.inf))
        scores = np.where((weights >= least)[:, None], scores, np.nan)
    shown = min(scores.shape[1], 4)
    title = f"Scores at both ends of each {latent}{_turned(rotated_by, scores.shape[1])}"
    if weights is not None:
        title += f"\narea of a dot: {weights_label}" + (f", at least {least:,.0f}" if least else "")
    with matplotlib.rc_context(STYLE):
        figure, grid = panels(shown, 2, min(2 * each, max(1, int(np.isfinite(scores).all(1).sum()))))
        for factor, axes in enumerate(grid):
            column = scores[:, factor]
            order = np.argsort(-column, kind="stable")  # NaN last
            order = order[np.isfinite(column[order])]
            if len(order) > 2 * each:
                order = np.r_[order[:each], order[-each:]]
            sizes = None if weights is None else np.asarray(weights, float)[order] / np.nanmax(weights)
            _lollipops(axes, column[order], [titles[point] for point in order], sizes)
            axes.set_title(f"{latent} {factor + 1} of {scores.shape[1]}")
        figure.supxlabel(f"posterior mean [standard deviations of the {latent}]", fontsize=9)
        return save(figure, path, title)


def latent_scatter(scores: np.ndarray, groups: Sequence[str], path: Path, latent: str = "factor") -> Figure:
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
            axes.scatter(x, y, s=26, c=colour, marker=shape, alpha=0.75, linewidths=0, label=shorten(kind, 24))
        axes.set_xlabel(f"{latent} 1 [standard deviations]")
        axes.set_ylabel(f"{latent} 2 [standard deviations]")
        axes.set_aspect("equal", adjustable="datalim")
        figure.legend(loc="outside right upper", fontsize=8)
        return save(figure, path, f"Posterior means of the first two {latent}s")


def _turned(rotated_by: str | None, factors: int) -> str:
    """What a title says of the rotation; a single factor has none."""
    if factors == 1:
        return ""
    return f", rotated by {rotated_by}" if rotated_by else ", not rotated"


def _lollipops(axes: Axes, values: np.ndarray, names: Sequence[object], sizes: np.ndarray | None = None) -> None:
    """Values from zero, in the order given, each with its name on the other side of zero, or beside the axes where all
    have one sign."""
    heights = -np.arange(len(values), dtype=float)
    colours = np.where(values >= 0, POSITIVE, NEGATIVE)
    axes.axvline(0, color=FAINT, linewidth=1)
    axes.hlines(heights, 0, values, colors=list(colours), linewidth=1.2)
    axes.scatter(values, heights, s=18 if sizes is None else 6 + 60 * sizes, c=colours, linewidths=0, zorder=3)
    reach = 1.1 * np.max(np.abs(values), initial=0.0, where=np.isfinite(values)) or 1.0
    low, high = np.nanmin(values, initial=0.0), np.nanmax(values, initial=0.0)
    axes.set_xlim(-reach if low < 0 or high == 0 else 0, reach if high > 0 or low == 0 else 0)
    axes.set_ylim(-len(values) + 0.4, 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(visible=False)  # it would strike the names through
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    if (low < 0) != (high > 0):
        axes.set_yticks(heights, [shorten(name, 40) for name in names], fontsize=8)
        if low < 0:
            axes.yaxis.tick_right()
        return
    axes.yaxis.set_visible(False)
    for value, height, name in zip(values, heights, names, strict=True):
        side = -1 if value >= 0 else 1
        axes.annotate(
            shorten(name, 40),
            (0, height),
            xytext=(4 * side, 0),
            textcoords="offset points",
            ha="right" if side < 0 else "left",
            va="center",
            fontsize=8,
        )
