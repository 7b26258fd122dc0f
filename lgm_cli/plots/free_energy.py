"""The free energy below the log-likelihood, as both rise."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lgm_cli.plots.run import scale_from_zero
from lgm_cli.plots.style import COLOURS, NEGATIVE, POSITIVE, QUIET, STYLE, note, plain, save

GAP = COLOURS[4]
CLOCKS = ("passes over the data", "seconds of learning")


def free_energy(
    metrics: pd.DataFrame | Path,
    path: Path,
    title: str = "",
    passes: float = 1.0,
    first_passes: float | None = None,
    bounds: bool = True,
    rounding: float = 3e-8,
) -> Figure:
    """Above, the log-likelihood and the free energy F against passes over the data and against seconds; below, the gap
    between them, log p - F = KL(q || posterior), on a logarithmic scale.

    passes: over the data that a step takes; first_passes: that the first step takes. bounds: whether F is a bound;
    where it is an estimate, the size of the difference is drawn. rounding: gaps below it are not drawn, nor are those
    below twice the most negative gap, which a bound has by rounding alone.
    """
    run = metrics if isinstance(metrics, pd.DataFrame) else pd.read_csv(metrics)
    run = run[["step", "fit_seconds", "train_log_likelihood", "free_energy"]].astype(float).to_numpy().T
    step, seconds, likelihood, energy = run[:, np.isfinite(run[:3]).all(0)]
    clocks = (passes_of(step, passes, first_passes), seconds)
    gap = likelihood - energy
    below = max(rounding, 2 * np.max(-gap, initial=0.0, where=np.isfinite(gap))) if bounds else rounding
    with matplotlib.rc_context(STYLE):
        figure = Figure((8, 5.4), layout="constrained")
        grid = figure.subplots(2, 2, sharex="col", sharey="row", height_ratios=(3, 2))
        for place, (clock, name) in enumerate(zip(clocks, CLOCKS, strict=True)):
            above, under = grid[0, place], grid[1, place]
            above.fill_between(clock, energy, likelihood, color=GAP, alpha=0.35, linewidth=0)
            above.plot(clock, likelihood, color=POSITIVE, linewidth=1.4, marker="o", markersize=2.5)
            above.plot(clock, energy, color=NEGATIVE, linewidth=1.2, linestyle="--", marker="s", markersize=2.5)
            _draw_gap(under, clock, gap, below, bounds)
            under.set_xlabel(name)
            scale_from_zero(under, clock)
        grid[0, 0].set_ylabel("log-likelihood, F\n[nats per entry]")
        grid[1, 0].set_ylabel("size of the difference\n[nats per entry]" if not bounds else "gap\n[nats per entry]")
        known = np.isfinite(energy)
        values = np.concatenate([likelihood[known], energy[known]])
        margin = 0.05 * np.ptp(values) or 0.02 * abs(values[0]) or 1.0
        grid[0, 0].set_ylim(values.min() - margin, values.max() + margin)  # the start, without F, may leave the picture
        _explain(figure, bounds)
        return save(figure, path, "\n".join(map(plain, title.split("\n"))))


def passes_of(step: np.ndarray, each: float, first: float | None) -> np.ndarray:
    """Passes over the data after so many steps."""
    return each * step + ((first or each) - each) * (step > 0)


def _draw_gap(axes: Axes, clock: np.ndarray, gap: np.ndarray, below: float, bounds: bool) -> None:
    size = gap if bounds else np.abs(gap)
    drawn = np.isfinite(size) & (size >= below)
    axes.set_yscale("log")
    axes.plot(clock[drawn], size[drawn], color=GAP, linewidth=1.1)
    for chosen, inside in ((drawn & (gap > 0), GAP), (drawn & (gap < 0), "white")):
        axes.plot(clock[chosen], size[chosen], "D", color=GAP, markerfacecolor=inside, markersize=3.5)
    low, high = (size[drawn].min(), size[drawn].max()) if drawn.any() else (below, 10 * below)
    if (np.isfinite(size) & ~drawn).any():
        low = below
        axes.axhline(below, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
        note(axes, 0.99, below, f"less than {below:.0e} is not drawn: rounding", above=False)
    axes.set_ylim(low / 6, 3 * high)


def _explain(figure: Figure, bounds: bool) -> None:
    white = {"markerfacecolor": "white", "linewidth": 0, "markersize": 4}
    gap = "KL(q || posterior)" if bounds else "their difference: F of averaged statistics is an estimate, no bound"
    handles = [
        Line2D([], [], color=POSITIVE, marker="o", markersize=3, label="log-likelihood"),
        Line2D([], [], color=NEGATIVE, marker="s", markersize=3, linestyle="--", label="free energy F"),
        Patch(color=GAP, alpha=0.5, linewidth=0, label=gap),
    ]
    if not bounds:
        handles.append(Line2D([], [], color=GAP, marker="D", label="F above", **white))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
