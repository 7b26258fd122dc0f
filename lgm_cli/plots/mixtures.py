"""Components of mixtures: regions in a plane, densities on a line, means by column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse

from lgm_cli.plots.style import COLOURS, FAINT, INK, QUIET, SHAPES, STYLE, save, shorten

REGION = 0.9  # of a component's probability, inside its ellipse
UNCERTAIN = to_rgb("#C8C8C8")  # what the colour of a data point fades to
LEGEND = 14  # components that a legend has room for
TABLE_COLUMNS = 40  # that a picture of means has room for


def _look(component: int) -> tuple[str, str]:
    """Colour and marker: the first seven components differ in both, later ones in the pair."""
    turn, place = divmod(component, len(COLOURS))
    return COLOURS[place], SHAPES[(place + turn) % len(SHAPES)]


def _faded(responsibilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest component of each data point, and its colour, fainter where others are likely too."""
    likeliest, k = responsibilities.argmax(1), responsibilities.shape[1]
    colours = np.array([to_rgb(_look(component)[0]) for component in range(k)])[likeliest]
    sure = (responsibilities.max(1) - 1 / k) / (1 - 1 / k) if k > 1 else np.ones(len(likeliest))
    return likeliest, sure[:, None] * colours + (1 - sure[:, None]) * np.array(UNCERTAIN)


def component_regions(
    points: np.ndarray,
    responsibilities: np.ndarray,
    weights: np.ndarray,
    means: np.ndarray,
    covariances: np.ndarray,
    names: Sequence[str],
    path: Path,
    classes: Sequence[str] = (),
) -> Figure:
    """Data points (n, 2) by their likeliest component, and the ellipse that holds 90% of each component: means (K, 2),
    covariances (K, 2, 2). names: of the two axes. classes: names of the first components."""
    likeliest, colours = _faded(responsibilities)
    radius = math.sqrt(-2 * math.log(1 - REGION))
    with matplotlib.rc_context(STYLE):
        figure = Figure((6.8, 4.8), layout="constrained")
        axes = figure.subplots()
        size = float(np.clip(6000 / max(1, len(points)), 5, 24))
        for component in range(len(weights)):
            colour, shape = _look(component)
            mine = likeliest == component
            axes.scatter(*points[mine].T, s=size, c=colours[mine], marker=shape, linewidths=0, alpha=0.8)
            variance, turned = np.linalg.eigh(covariances[component])
            width, height = 2 * radius * np.sqrt(np.maximum(variance[::-1], 0))
            angle = math.degrees(math.atan2(turned[1, 1], turned[0, 1]))
            lines = "-" if component < len(COLOURS) else "--"
            middle = float(means[component, 0]), float(means[component, 1])
            axes.add_patch(
                Ellipse(middle, width, height, angle=angle, facecolor="none", edgecolor=colour, linewidth=1.6,
                        linestyle=lines)
            )  # fmt: skip
            box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": colour, "linewidth": 1}
            axes.annotate(str(component + 1), middle, ha="center", va="center", color=INK, fontsize=8, bbox=box)
        axes.autoscale_view()
        axes.set_xlabel(shorten(names[0], 80))
        axes.set_ylabel(shorten(names[1], 60))
        _legend(figure, weights, True, classes)
        return save(figure, path, "Components: each ellipse holds 90% of one; pale points may be of another")


def component_densities(
    values: np.ndarray,
    weights: np.ndarray,
    means: np.ndarray,
    variances: np.ndarray,
    name: str,
    path: Path,
    classes: Sequence[str] = (),
) -> Figure:
    """A histogram of values (n,), the density of the mixture and those of its normal components: means, variances
    (K,)."""
    reach = 3 * np.sqrt(variances)
    low, high = min(values.min(), (means - reach).min()), max(values.max(), (means + reach).max())
    grid = np.union1d(np.linspace(low, high, 600), (means[:, None] + np.linspace(-1, 1, 41) * reach[:, None]).ravel())
    each = weights[:, None] * np.exp(-0.5 * (grid - means[:, None]) ** 2 / variances[:, None])
    each = each / np.sqrt(2 * np.pi * variances[:, None])
    return component_curves(values, grid, each, weights, name, path, classes)


def component_curves(
    values: np.ndarray,
    grid: np.ndarray,
    each: np.ndarray,
    weights: np.ndarray,
    name: str,
    path: Path,
    classes: Sequence[str] = (),
    word: str = "component",
) -> Figure:
    """A histogram of values (n,), the densities of the components at grid (G,), each (K, G) times its weight, and their
    sum. word: what the components are called."""
    with matplotlib.rc_context(STYLE):
        figure = Figure((6.8, 3.8), layout="constrained")
        axes = figure.subplots()
        bins = int(np.clip(2 * np.sqrt(len(values)), 10, 80))
        heights, *_ = axes.hist(values, bins, density=True, color="#DADADA")
        axes.plot(grid, each.sum(0), color=INK, linewidth=2)
        for component, density in enumerate(each):
            lines = "-" if component < len(COLOURS) else "--"
            axes.plot(grid, density, lines, color=_look(component)[0], linewidth=1.4)
        axes.set_ylim(0, 1.15 * max(np.max(heights), np.quantile(each.sum(0), 0.98)))
        axes.set_xlabel(shorten(name, 60))
        axes.set_ylabel("density")
        _legend(figure, weights, False, classes, word)
        return save(figure, path, f"{word.capitalize()}s and their sum, beside the data")


def component_means(
    means: np.ndarray,
    deviations: np.ndarray,
    weights: np.ndarray,
    names: Sequence[str],
    path: Path,
    unit: str,
    classes: Sequence[str] = (),
    word: str = "component",
) -> Figure:
    """Means of the components (K, M) by column, with bars of one standard deviation (K, M). word: what they are."""
    components, columns = means.shape
    shown = np.sort(np.argsort(-np.ptp(means, axis=0), kind="stable")[:TABLE_COLUMNS])
    with matplotlib.rc_context(STYLE):
        figure = Figure((6.8, 1.2 + len(shown) * max(0.3, 0.1 * min(components, LEGEND))), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=FAINT, linewidth=1)
        for component in range(components):
            colour, shape = _look(component)
            height = -np.arange(len(shown)) - 0.6 * ((component + 0.5) / components - 0.5)
            x, bar = means[component, shown], deviations[component, shown]
            axes.errorbar(x, height, xerr=bar, fmt=shape, color=colour, markersize=4.5, linewidth=1.2)
        axes.set_yticks(-np.arange(len(shown)), [shorten(names[column], 30) for column in shown])
        axes.set_ylim(-len(shown) + 0.4, 0.6)
        axes.set_xlabel(f"mean and standard deviation [{unit}]")
        _legend(figure, weights, True, classes, word)
        title = f"{word.capitalize()}s by column"
        return save(
            figure, path, title if len(shown) == columns else f"{title}; where means differ most, of {columns:,}"
        )


def _legend(
    figure: Figure, weights: np.ndarray, markers: bool, classes: Sequence[str], word: str = "component"
) -> None:
    """Number and weight of each component, and the names of those that are classes."""
    handles = []
    for component, weight in enumerate(weights[:LEGEND]):
        colour, shape = _look(component)
        line, marker = ("none", shape) if markers else ("-", "none")
        name = f" {shorten(classes[component], 20)}" if component < len(classes) else ""
        label = f"{component + 1}{name}: {weight:.0%}"
        handles.append(Line2D([], [], color=colour, label=label, linestyle=line, marker=marker, linewidth=1.4))
    if len(weights) > LEGEND:
        handles.append(Line2D([], [], linestyle="none", label=f"and {len(weights) - LEGEND} more"))
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, title=word, title_fontsize=8,
                  labelcolor=QUIET)  # fmt: skip
