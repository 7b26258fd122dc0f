"""Weights of a regression."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lgm_cli.plots.style import FAINT, POSITIVE, STYLE, save, shorten

HALF = 1.645  # of a 90% interval, in standard deviations
FEW, STRONGEST = 40, 25  # weights that are all drawn by name, and those of more that are


def weights(
    mean: np.ndarray,
    deviation: np.ndarray,
    scale: np.ndarray,
    names: Sequence[str],
    path: Path,
    response: str = "the response",
) -> Figure:
    """Weights (p,) with their 90% intervals, the strongest first, each times the standard deviation of its feature.

    mean, deviation: of a weight per unit of its feature. scale: (p,), standard deviations of the features. Of many
    features, the strongest are named, and all are drawn in their order as a line with a band.
    """
    mean, half = mean * scale, HALF * deviation * scale
    many = len(mean) > FEW
    order = np.argsort(-np.abs(mean), kind="stable")[: STRONGEST if many else FEW]
    unit = f"[{shorten(response, 30)} per standard deviation of the feature]"
    with matplotlib.rc_context(STYLE):
        figure = Figure((11 if many else 6.4, 1.2 + 0.2 * len(order)), layout="constrained")
        if many:
            axes, right = figure.subplots(1, 2, width_ratios=(3, 4))
            _draw_all(right, mean, half, names)
            right.set_ylabel(f"weight\n{unit}")
            right.set_title(f"all {len(mean):,}, in the order of the columns")
            axes.set_title(f"the strongest {len(order)}")
        else:
            axes = figure.subplots()
        places = -np.arange(len(order))
        axes.axvline(0, color=FAINT, linewidth=1)
        axes.errorbar(mean[order], places, xerr=half[order], fmt="o", color=POSITIVE, markersize=4, linewidth=1.2)
        axes.set_yticks(places, [shorten(names[place], 30) for place in order])
        axes.set_ylim(places[-1] - 0.6, 0.6)
        axes.set_xlabel(f"weight {unit}" if not many else f"weight\n{unit}")
        return save(figure, path, "Weights: posterior means with 90% intervals, the strongest first")


def _draw_all(axes: Axes, mean: np.ndarray, half: np.ndarray, names: Sequence[str]) -> None:
    places = np.arange(len(mean))
    axes.axhline(0, color=FAINT, linewidth=1)
    axes.fill_between(places, mean - half, mean + half, color=POSITIVE, alpha=0.25, linewidth=0)
    axes.plot(places, mean, color=POSITIVE, linewidth=1)
    shown = np.unique(np.linspace(0, len(mean) - 1, 5).round().astype(int))
    axes.set_xticks(shown, [shorten(names[place], 14) for place in shown])
    axes.set_xlabel("feature")
