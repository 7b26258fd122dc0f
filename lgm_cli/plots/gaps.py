"""The gaps of a table, filled, beside the values that were observed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lgm_cli.plots.style import FAINT, FILLED, QUIET, STYLE, save, shorten

SINGLE = 15  # gaps of a column that have a line each
BINS, FEW = 30, 12  # of a histogram; values that have a bar each
GREY = "#D0D0D0"
WIDE = 3  # panels beside each other


@dataclass(frozen=True)
class Column:
    """The observed values of a column, and those that its gaps are filled by."""

    name: str
    observed: np.ndarray  # (n,)
    mean: np.ndarray  # (g,) of filled values
    lower: np.ndarray  # (g,) of their 90% intervals
    upper: np.ndarray  # (g,)
    gaps: int  # of the column, of which g are drawn


def filled(columns: Sequence[Column], path: Path, with_gaps: int | None = None) -> Figure:
    """One panel for each column: above, how the observed values are distributed; below, the filled values in order,
    each with its 90% interval. with_gaps: number of columns that have gaps, where not all of them are drawn."""
    wide = 2 if len(columns) == 4 else min(len(columns), WIDE)
    lines = math.ceil(len(columns) / wide)
    with matplotlib.rc_context(STYLE):
        figure = Figure((max(3.2 * wide, 6.4), 2.5 * lines + 0.8), layout="constrained")
        grid = figure.subplots(lines, wide, squeeze=False).ravel()
        for axes in grid[len(columns) :]:
            axes.set_visible(False)
        for axes, column in zip(grid, columns, strict=False):
            _draw_column(axes, column)
        handles = [
            Patch(color=GREY, label="observed values"),
            Line2D([], [], color=FILLED, marker="o", markersize=3.5, linewidth=1.4, label="filled: mean, 90% interval"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8)
        more = (
            f": the {len(columns)} columns with most, of {with_gaps:,}"
            if with_gaps and with_gaps > len(columns)
            else ""
        )
        return save(figure, path, f"Gaps of the table, filled{more}")


def _draw_column(axes: Axes, column: Column) -> None:
    """Values along the axis below; the histogram above zero, the filled values, by their order, below it."""
    values, counts = np.unique(column.observed, return_counts=True)
    whole = bool((values == np.round(values)).all())
    if len(values) <= FEW:
        width = 0.6 * np.diff(values).min(initial=np.inf) if len(values) > 1 else 1.0
        axes.bar(values, counts / counts.max(), width=width, color=GREY)
    else:
        counts, edges = np.histogram(column.observed, bins=min(BINS, max(5, int(2 * math.sqrt(column.observed.size)))))
        axes.stairs(counts / counts.max(), edges, fill=True, color=GREY)
    order = np.argsort(column.mean, kind="stable")
    mean, lower, upper = column.mean[order], column.lower[order], column.upper[order]
    height = -(np.arange(len(order)) + 0.5) / max(len(order), 1)
    if len(order) <= SINGLE:
        axes.hlines(height, lower, upper, color=FILLED, linewidth=1.4)
        axes.plot(mean, height, "o", color=FILLED, markersize=3)
    else:
        axes.fill_betweenx(height, lower, upper, color=FILLED, alpha=0.25, linewidth=0)
        axes.plot(mean, height, color=FILLED, linewidth=1.4)
    axes.axhline(0, color=FAINT, linewidth=1)
    axes.set_ylim(-1.04, 1.08)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=whole))
    axes.set_title(shorten(column.name, 40))
    total = column.observed.size + column.gaps
    axes.set_xlabel(f"{column.gaps:,} of {total:,} missing", color=QUIET, fontsize=8)
