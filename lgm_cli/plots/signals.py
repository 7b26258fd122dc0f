"""Recovered signals and images beside what is known of them."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lgm_cli.plots.style import COLOURS, FAINT, NEGATIVE, POSITIVE, QUIET, STYLE, save

WINDOW = 200  # entries of a signal that are drawn


def image(
    mean: np.ndarray,
    deviation: np.ndarray,
    zero_filled: np.ndarray,
    path: Path,
    truth: np.ndarray | None = None,
    decibels: tuple[float, float] | None = None,
) -> Figure:
    """Images (h, w): truth, zero-filled and posterior mean on one grey scale; below, the errors of the two and the
    posterior standard deviation on another. decibels: peak signal-to-noise ratios of the two."""
    known = truth is not None
    of = ["", ""] if decibels is None else [f", {value:.1f} dB" for value in decibels]
    shown = [("zero-filled" + of[0], zero_filled), ("posterior mean" + of[1], mean)]
    below = [("posterior standard deviation", deviation)]
    if truth is not None:
        shown = [("truth", truth), *shown]
        below = [("|error| of zero-filled", np.abs(zero_filled - truth)), ("|error| of the mean", np.abs(mean - truth))]
        below += [("posterior standard deviation", deviation)]
    reference = mean if truth is None else truth
    low, high = float(reference.min()), float(reference.max())
    with matplotlib.rc_context(STYLE):
        columns = 3
        width = 3.1 * columns + 0.9
        rows = 2 if known else 1
        ratio = mean.shape[0] / mean.shape[1]
        figure = Figure((width, rows * (3.1 * min(ratio, 2.0) + 0.5)), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        first = [_show(axes, part, title, low, high) for axes, (title, part) in zip(grid[0], shown, strict=False)]
        others = grid[1] if known else grid[0, 2:]
        most = float(np.quantile(np.abs(mean - truth), 0.999)) if truth is not None else float(deviation.max())
        second = [_show(axes, part, title, 0.0, most) for axes, (title, part) in zip(others, below, strict=True)]
        unit = "units of the image"
        figure.colorbar(first[-1], ax=list(grid[0, : len(shown)]), label=unit, shrink=0.9)
        figure.colorbar(second[-1], ax=list(others), label=unit, shrink=0.9)
        return save(figure, path, "")


def _show(axes: Axes, values: np.ndarray, title: str, low: float, high: float):
    axes.set_title(title)
    axes.set_axis_off()
    return axes.imshow(values, cmap="gray", vmin=low, vmax=high, interpolation="nearest")


def signal(
    mean: np.ndarray,
    deviation: np.ndarray,
    measured: tuple[np.ndarray, np.ndarray] | None,
    coefficients: np.ndarray,
    path: Path,
    truth: np.ndarray | None = None,
    true_coefficients: np.ndarray | None = None,
) -> Figure:
    """Above, a window of the signal (n,): measurements at their places, truth, posterior mean with its 90% band; below,
    the coefficients (D,), the largest first, beside the true ones in the same order."""
    start = max(0, (len(mean) - WINDOW) // 2)
    places = np.arange(start, min(len(mean), start + WINDOW))
    with matplotlib.rc_context(STYLE):
        figure = Figure((8, 5.6), layout="constrained")
        above, below = figure.subplots(2, 1)
        half = 1.645 * deviation[places]
        above.fill_between(
            places, mean[places] - half, mean[places] + half, color=POSITIVE, alpha=0.25, linewidth=0, label="90% band"
        )
        above.plot(places, mean[places], color=POSITIVE, linewidth=1.1, label="posterior mean")
        if truth is not None:
            above.plot(places, truth[places], color=NEGATIVE, linewidth=1.1, linestyle=(0, (3, 2)), label="truth")
        if measured is not None:
            within = (measured[0] >= places[0]) & (measured[0] <= places[-1])
            above.plot(
                measured[0][within], measured[1][within], "o", color=COLOURS[6], markersize=3.5,
                label="measured; all else is unknown",
            )  # fmt: skip
        above.set_xlabel(f"entry of the signal ({len(places)} of {len(mean):,})")
        above.set_ylabel("signal [its own units]")
        above.legend(loc="upper right", fontsize=8, ncols=4)
        _room_for_a_legend(above)
        size = np.abs(coefficients if true_coefficients is None else true_coefficients)
        order = np.lexsort((-np.abs(coefficients), -size))
        shown = min(len(order), max(20, int(1.6 * np.count_nonzero(size > 0.01 * size.max()))))
        rank = np.arange(1, shown + 1)
        if true_coefficients is not None:
            below.plot(rank, size[order[:shown]], color=NEGATIVE, linewidth=1.6, label="truth")
        below.plot(rank, np.abs(coefficients[order[:shown]]), ".", color=POSITIVE, markersize=4, label="posterior mean")
        below.set_xlabel(f"coefficient, by its true size ({shown:,} of {len(order):,})")
        if true_coefficients is None:
            below.set_xlabel(f"coefficient, by its size ({shown:,} of {len(order):,})")
        below.set_ylabel("|coefficient|")
        below.axhline(0, color=FAINT, linewidth=1)
        below.legend(loc="upper right", fontsize=8)
        below.tick_params(colors=QUIET)
        title = "Signal and coefficients"
        if truth is not None and np.any(truth):
            length = np.linalg.norm(truth)
            title += f": relative error {np.linalg.norm(mean - truth) / length:.1%}"
            if measured is not None:
                known = np.zeros_like(truth)
                known[measured[0]] = measured[1]
                of_zeros = np.linalg.norm(known - truth) / length
                title += f", of zeros where nothing was measured (least squares) {of_zeros:.1%}"
        return save(figure, path, title)


def _room_for_a_legend(axes: Axes) -> None:
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.25 * (high - low))
