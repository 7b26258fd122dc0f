"""Predictions of hidden entries, and the calibration of their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, PercentFormatter

from lgm_cli.plots.style import POSITIVE, QUIET, STYLE, leave_empty, note, save, shorten

DRAWN = 100_000  # points of a density, at most


@dataclass(frozen=True)
class Group:
    """Predictions that are judged together, such as those of hidden entries or of forecasts."""

    name: str
    true: np.ndarray  # (n,)
    mean: np.ndarray  # (n,)
    distance: np.ndarray  # (n,) |true - mean| in standard deviations, by which intervals hold a value
    errors: Mapping[str, float]  # root mean squared errors by their units, as the closing lines state them


def predictions(groups: Sequence[Group], path: Path, unit: str = "units of the data") -> Figure:
    """One row for each group. Left: predicted against true values. Right: how often the true value lies within its
    central interval."""
    with matplotlib.rc_context(STYLE):
        figure = Figure((9, 4.5 * len(groups) + 0.3), layout="constrained")
        grid = figure.subplots(len(groups), 2, squeeze=False)
        for (left, right), group in zip(grid, groups, strict=True):
            triples = np.stack([np.asarray(part, float) for part in (group.true, group.mean, group.distance)])
            true, mean, distance = triples[:, np.isfinite(triples[:2]).all(0) & ~np.isnan(triples[2])]
            if true.size == 0:
                leave_empty(left, "no finite prediction")
                leave_empty(right, "no interval")
            else:
                _draw_predicted(left, true, mean)
                _draw_coverage(right, distance)
                errors = ",\n".join(f"{error:.4g} {shorten(name, 34)}" for name, error in group.errors.items())
                between = "\n" if len(group.errors) > 1 else " "
                left.set_title(f"{true.size:,} {group.name}: rmse{between}{errors}")
            left.set_xlabel(f"true [{shorten(unit, 34)}]")
            left.set_ylabel(f"predicted mean [{shorten(unit, 34)}]")
            right.set_ylabel(f"share of {group.name} inside")
        grid[-1, 1].set_xlabel("nominal coverage of the central interval\n(grey: 95% range of well calibrated ones)")
        return save(figure, path, "Predictions of values that were hidden from learning")


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


def _draw_coverage(axes: Axes, distance: np.ndarray) -> None:
    """Nominal against empirical coverage, and where 95% of such shares fall when the intervals are right."""
    nominal = np.linspace(0, 1, 101)[1:-1]
    quantiles = np.array([NormalDist().inv_cdf((1 + share) / 2) for share in nominal])
    covered = np.searchsorted(np.sort(distance), quantiles, side="right") / distance.size
    spread = 1.96 * np.sqrt(nominal * (1 - nominal) / distance.size)
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
