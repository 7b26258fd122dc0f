"""Weights of a regression."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from lgm_cli.plots.style import FAINT, POSITIVE, STYLE, save, shorten


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
            axes.set_yticks(-places, [shorten(name, 30) for name in names])
            axes.set_xlabel(f"weight [{shorten(response, 30)} per unit of the feature]")
        else:
            axes.axhline(0, color=FAINT, linewidth=1)
            axes.fill_between(places, mean - half, mean + half, color=POSITIVE, alpha=0.25, linewidth=0)
            axes.plot(places, mean, color=POSITIVE, linewidth=1)
            shown = np.unique(np.linspace(0, len(mean) - 1, 6).round().astype(int))
            axes.set_xticks(shown, [shorten(names[place], 14) for place in shown])
            axes.set_xlabel("feature, in the order of the columns")
            axes.set_ylabel(f"weight [{shorten(response, 30)} per unit of the feature]")
        return save(figure, path, "Weights: posterior means with 90% intervals")
