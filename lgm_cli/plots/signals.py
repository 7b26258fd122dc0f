"""Recovered signals and images beside what is known of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from lgm_cli.plots.style import COLOURS, FAINT, NEGATIVE, POSITIVE, QUIET, STYLE, save

HALF = 1.645  # of a 90% interval, in standard deviations
MOST_AWAY = 4.0  # standard deviations in the picture of errors
OBJECT = 0.05  # of the brightest pixel, above which a pixel belongs to the object
WINDOW = 200  # entries of a signal that are drawn


def image(
    mean: np.ndarray,
    deviation: np.ndarray,
    zero_filled: np.ndarray,
    path: Path,
    mask: np.ndarray | None = None,
    truth: np.ndarray | None = None,
    quality: tuple[str, str] = ("", ""),
    measured: str = "pixels",
) -> Figure:
    """Images (h, w): what was measured, zero-filled, posterior mean, its standard deviation on a scale of its own.

    With the truth also its errors, and the errors in standard deviations, with the share of pixels that the 90%
    intervals hold. mask: True where something was measured, of `measured`: pixels, or frequencies with zero in the
    middle. quality: what is said of the zero-filled image and of the mean.
    """
    reference = mean if truth is None else truth
    low, high = float(reference.min()), float(reference.max())
    grey = {"cmap": "gray", "vmin": low, "vmax": high}
    pictures = [(f"zero-filled{quality[0]}", zero_filled, grey), (f"posterior mean{quality[1]}", mean, grey)]
    own = {"cmap": "viridis", "vmin": 0.0, "vmax": float(deviation.max()) or 1.0}
    last = ("posterior standard deviation", deviation, own)
    rows: list[list[tuple[str, np.ndarray, dict[str, Any]]]]
    seen = (
        []
        if mask is None
        else [(f"measured: {mask.mean():.1%} of {measured}", mask, {"cmap": "gray", "vmin": 0, "vmax": 1})]
    )
    if truth is None:
        rows = [[*seen, *pictures, last]]
    else:
        errors = [np.abs(part - truth) for part in (zero_filled, mean)]
        dark = {"cmap": "magma", "vmin": 0.0, "vmax": float(np.quantile(errors[0], 0.99)) or 1.0}
        away = np.divide(errors[1], deviation, out=np.zeros_like(mean), where=deviation > 0)
        below = [("|error| of zero-filled", errors[0], dark), ("|error| of the mean", errors[1], dark)]
        ratio = ("|error| of the mean in standard deviations", away, {"cmap": "magma", "vmin": 0.0, "vmax": MOST_AWAY})
        rows = [[("truth", truth, grey), *pictures, last], [*seen, *below, ratio]]
    columns = max(map(len, rows))
    with matplotlib.rc_context(STYLE):
        shape = min(mean.shape[0] / mean.shape[1], 2.0)
        figure = Figure(
            (3.0 * columns, len(rows) * (2.9 * shape + 0.95) + 0.2), layout=ConstrainedLayoutEngine(h_pad=0.1)
        )
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for line, parts in zip(grid, rows, strict=True):
            line = line[columns - len(parts) :]  # without a mask its place stays empty
            for axes, (title, values, how) in zip(line, parts, strict=True):
                shown = axes.imshow(values, interpolation="nearest", **how)
                axes.set_title(title)
                bar = figure.colorbar(shown, ax=axes, location="bottom", shrink=0.85, aspect=30, pad=0.02)
                if values.dtype == bool:
                    bar.set_ticks([0, 1], labels=["no", "yes"])
                bar.set_label(
                    "measured" if values.dtype == bool
                    else "standard deviations" if how.get("vmax") == MOST_AWAY else "units of the image"
                )  # fmt: skip
        for axes in grid.ravel():
            axes.set_axis_off()
        words = "" if truth is None else f"Reconstruction: {coverage(truth, mean, deviation)}"
        return save(figure, path, words)


def coverage(truth: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> str:
    """What share of the pixels the 90% intervals hold: of all and, where there is a background, of the object."""
    inside = np.abs(truth - mean) <= HALF * deviation
    thing = np.abs(truth) > OBJECT * np.abs(truth).max()
    said = f"the 90% intervals hold {inside.mean():.0%} of all pixels"
    if 0 < thing.sum() < 0.95 * thing.size:
        said += f", {inside[thing].mean():.0%} of those of the object (above {OBJECT:.0%} of the brightest)"
    return said


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
        half = HALF * deviation[places]
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
