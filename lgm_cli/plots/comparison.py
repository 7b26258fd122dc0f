"""Several runs in one picture: likelihoods against seconds, times to come near the best, sizes to choose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lgm_cli.plots.run import scale_from_zero
from lgm_cli.plots.style import COLOURS, LINES, QUIET, SHAPES, STYLE, leave_empty, save, shorten

Curve = tuple[Sequence[float], Sequence[float], bool]  # seconds, likelihood, and whether the run ended well
Point = tuple[float, Sequence[float], Sequence[float]]  # a number, BICs and likelihoods of the runs that have it
NAMED = 20  # groups that a legend has room for


def comparison(
    curves: Mapping[str, Sequence[Curve]],
    times: Mapping[str, Sequence[float]],
    path: Path,
    track: str = "test log-likelihood",
    within: str = "within 0.01 nats per entry of the best exact run",
) -> Figure:
    """Left: every run's likelihood against seconds, one colour a group. Right: seconds until it is near the best.

    times: of each run of a group, infinite where it was never near; without any the panel says so.
    """
    groups = list(curves)
    with matplotlib.rc_context(STYLE):
        height = max(4.2, 1.6 + 0.24 * len(groups))
        figure = Figure((11.5, min(height, 17)), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        _draw_curves(left, curves)
        left.set_ylabel(f"{track} [nats per entry]")
        left.set_xlabel("time spent learning [s]")
        left.set_title("every run; a cross ends one that failed or was broken off")
        _draw_times(right, groups, times)
        right.set_title(f"seconds to come {within}")
        if len(groups) > 1:
            named = left.get_legend_handles_labels()
            figure.legend(*(part[:NAMED] for part in named), loc="outside lower left", fontsize=8, ncols=3)
        if len(groups) > NAMED:
            left.text(0.99, 0.02, f"the first {NAMED} of {len(groups)} groups are named", color=QUIET, ha="right",
                      fontsize=8, transform=left.transAxes)  # fmt: skip
        return save(figure, path, "")


def _style(index: int) -> dict[str, Any]:
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": LINES[index // len(COLOURS) % len(LINES)]}


def _draw_curves(axes: Axes, curves: Mapping[str, Sequence[Curve]]) -> None:
    ends, later, seconds = [], [], []
    many = sum(map(len, curves.values())) > 15
    for index, (label, runs) in enumerate(curves.items()):
        style = _style(index)
        axes.plot([], [], label=shorten(label, 48), **style)
        for clock, values, sound in runs:
            x, y = np.asarray(clock, float), np.asarray(values, float)
            shown = np.isfinite(x) & np.isfinite(y)
            x, y = x[shown], y[shown]
            if not x.size:
                continue
            axes.plot(x, y, linewidth=0.9 if many else 1.4, alpha=0.85, **style)
            mark = {"marker": "o", "markersize": 3} if sound else {"marker": "x", "markersize": 6}
            axes.plot(x[-1:], y[-1:], color=style["color"], zorder=5, **mark)
            seconds.append(x)
            if sound:
                ends.append(y[-1])
                later.append(y[1:] if y.size > 2 else y)
    if not seconds:
        leave_empty(axes, "no run has left a finite value")
        return
    scale_from_zero(axes, np.concatenate(seconds))
    if later:  # a poor start may leave the picture below, an end never does
        values = np.concatenate(later)
        high, low = values.max(), min(np.quantile(values, 0.1), min(ends))
        margin = 0.06 * (high - low) or 0.02 * abs(high) or 1.0
        axes.set_ylim(low - margin, high + margin)


def _draw_times(axes: Axes, groups: Sequence[str], times: Mapping[str, Sequence[float]]) -> None:
    near = [time for group in groups for time in times.get(group, ()) if math.isfinite(time)]
    if not any(times.get(group) for group in groups):
        leave_empty(axes, "there is no exact run to compare with")
        axes.set_xticks([])
        return
    for place, group in enumerate(groups):
        own = list(times.get(group, ()))
        reached = [time for time in own if math.isfinite(time)]
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(reached, [place] * len(reached), SHAPES[place % len(SHAPES)], color=colour, markersize=6, alpha=0.75)
        if missed := len(own) - len(reached):
            text = "not reached" if not reached else f"{missed} of {len(own)} not reached"
            axes.text(0.98, place, text, transform=axes.get_yaxis_transform(), ha="right",
                      va="bottom" if reached else "center", fontsize=8, color=colour)  # fmt: skip
    axes.set_yticks(range(len(groups)), [shorten(group, 44) for group in groups], fontsize=8 if len(groups) < 20 else 6)
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.set_xlabel("time spent learning [s]")
    if near:
        scale_from_zero(axes, np.array(near))
    else:
        axes.set_xticks([])


def selection(
    lines: Mapping[str, Sequence[Point]], key: str, path: Path | IO[bytes],
    track: str = "test log-likelihood",
) -> Figure:  # fmt: skip
    """BIC (where any is known) and the likelihood against a number; a ring marks what each chooses.

    lines: by their label (number, BICs, likelihoods), one value a run.
    """
    with matplotlib.rc_context(STYLE):
        kinds = [(2, f"{track}\n[nats per entry]", 1), (1, "BIC (less is better)", -1)]
        kinds = [kind for kind in kinds if any(point[kind[0]] for line in lines.values() for point in line)]
        figure = Figure((5.2 * max(len(kinds), 1), 3.6), layout="constrained")
        panels = figure.subplots(1, max(len(kinds), 1), squeeze=False)[0]
        for axes, (which, name, better) in zip(panels, kinds, strict=False):
            for index, (label, line) in enumerate(lines.items()):
                measured = [(point[0], point[1] if which == 1 else point[2]) for point in line]
                points = [(number, float(np.mean(values))) for number, values in measured if values]
                if not points:
                    continue
                style = _style(index)
                axes.plot(
                    *zip(*points, strict=True), marker=SHAPES[index % len(SHAPES)], label=shorten(label, 40), **style
                )
                for number, values in measured:
                    axes.plot([number] * len(values), values, ".", color=style["color"], alpha=0.4)
                best = max(points, key=lambda pair: better * pair[1])
                axes.plot(*best, "o", markersize=13, fillstyle="none", color=style["color"])
            axes.set_ylabel(name)
            axes.set_xlabel(key)
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
            axes.set_title("line: mean over seeds, ring: the best mean")
        if len(lines) > 1:
            panels[0].legend(fontsize=8)
        return save(figure, cast(Path, path), "")
