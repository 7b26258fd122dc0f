"""The bound that a step of EM maximises, along the line of the step."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from lgm_cli.plots.style import COLOURS, INK, NEGATIVE, POSITIVE, STYLE, plain, save

GAIN = COLOURS[2]


def bound(
    places: np.ndarray,  # (n,) t, 0 and 1 among them
    log_likelihood: np.ndarray,  # (n,)
    below: np.ndarray,  # (n,) the bound
    path: Path,
    title: str = "",
    coordinates: str = "",
    more: str = "",
) -> Figure:
    """Log-likelihood and bound against t: where they touch, where the bound is highest, what the step gains."""
    old, new, best = (int(np.flatnonzero(places == t)[0]) for t in (0, 1, places[below.argmax()]))
    start, gain = log_likelihood[old], log_likelihood[new] - log_likelihood[old]
    with matplotlib.rc_context(STYLE):
        figure = Figure((6.4, 4.8), layout="constrained")
        axes = figure.subplots()
        axes.plot(places, log_likelihood, color=POSITIVE, linewidth=1.6, label=f"log-likelihood{more}")
        axes.plot(
            places,
            below,
            color=NEGATIVE,
            linewidth=1.6,
            linestyle="--",
            label=f"bound: E log p(y, z) + H{more}, of t = 0",
        )
        axes.plot([0, 1], [start, start], color=GAIN, linewidth=1, linestyle=":")
        axes.plot([1, 1], [start, start + gain], color=GAIN, linewidth=1.6, label=f"gain of the step: {gain:.4g}")
        shape = {"linestyle": "none", "zorder": 5, "markersize": 7, "markeredgecolor": "white"}
        axes.plot([0], [below[old]], "o", color=INK, label=f"they touch, before the step: {below[old]:.4g}", **shape)
        at = "after the step" if best == new else "on the line"
        label = f"maximum of the bound, {at}: {below[best] - start:+.4g}"
        axes.plot([places[best]], [below[best]], "^", color=NEGATIVE, label=label, **shape)
        if best != new:
            label = f"bound after the step: {below[new] - start:+.4g}"
            axes.plot([1], [below[new]], "D", color=NEGATIVE, label=label, **shape)
        reached = max(log_likelihood.max(), below.max()) - start
        height = max(reached, 1e-3 * abs(gain)) or 1.0
        lowest = min(log_likelihood.min(), below.min())
        axes.set_ylim(max(lowest, start - 0.8 * height) - 0.05 * height, start + 1.08 * height)
        axes.set_xlim(places[0], places[-1])
        axes.set_xlabel(f"t: 0 before the step, 1 after it, on the line through both{coordinates}")
        axes.set_ylabel("log-likelihood and bound [nats per entry]")
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
        return save(figure, path, "\n".join(map(plain, title.split("\n"))))
