"""What the components of a mixture of whole or positive numbers differ in, and how surely rows belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lgm_cli.plots.style import COLOURS, INK, QUIET, STYLE, save, shorten

MOST_COLUMNS = 40  # of a table that a heat map has room for
MOST_COMPONENTS = 12
MOST_NAMES, LONGEST_NAME = 12, 12  # categories of a column whose names are written, and characters of one
MOST_BARS = 600  # of rows that single bars can be told apart


def component_profiles(
    shades: np.ndarray, words: np.ndarray, weights: np.ndarray, names: Sequence[str], label: str,
    limits: tuple[float, float], path: Path, word: str = "component",
) -> Figure:  # fmt: skip
    """A heat map of the components (K, M) by column, in which words (K, M) stand; the columns that differ most of many.
    Shades about zero, with limits of either sign, are drawn in two colours. word: what the components are called."""
    components, columns = min(len(shades), MOST_COMPONENTS), shades.shape[1]
    shown = np.sort(np.argsort(-np.ptp(shades, axis=0), kind="stable")[:MOST_COLUMNS])
    with matplotlib.rc_context(STYLE):
        size = (min(9.0, 3.6 + 0.55 * components), 1.2 + 0.27 * len(shown))
        figure = Figure(size, layout="constrained")
        axes = figure.subplots()
        part = shades[:components, shown].T
        colours = "PuOr_r" if limits[0] < 0 else "Blues"
        image = axes.imshow(part, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
        middle, reach = sum(limits) / 2, (limits[1] - limits[0]) / 2
        for place in np.ndindex(part.shape):
            shade = part[place]
            dark = abs(shade - middle) > 0.65 * reach if limits[0] < 0 else shade > middle + 0.2 * reach
            said = str(words[:components, shown].T[place])
            axes.annotate(said, place[::-1], ha="center", va="center", fontsize=7, color="white" if dark else INK)
        _label(axes, weights[:components], word)
        axes.set_yticks(range(len(shown)), [shorten(names[column], 34) for column in shown])
        axes.grid(False)
        figure.colorbar(image, ax=axes, label=label, pad=0.02)
        few = f"; where they differ most, of {columns:,}" if len(shown) < columns else ""
        return save(figure, path, f"{word.capitalize()}s by column{few}{_largest(components, shades, word)}")


def component_categories(
    probabilities: np.ndarray,
    weights: np.ndarray,
    names: Sequence[str],
    path: Path,
    first: int = 0,
    called: Sequence[Sequence[str]] = (),
    word: str = "component",
) -> Figure:
    """Heat maps of the probabilities (K, M, C) of categories, one for each component; NaN where a column has none.
    first: the number of the first category. called: the names of the categories of each column, which stand in the
    map where there is room. word: what the components are called."""
    most = max(map(len, called), default=0)
    written = 0 < most <= MOST_NAMES
    components, columns = min(len(probabilities), 6), probabilities.shape[1]
    apart = np.nansum(np.ptp(np.nan_to_num(probabilities), axis=0), axis=1)
    shown = np.sort(np.argsort(-apart, kind="stable")[:MOST_COLUMNS])
    with matplotlib.rc_context(STYLE):
        wide = min(components, 3)
        each = max(2.4, 0.75 * probabilities.shape[2]) if written else 2.4
        lines = -(-components // wide)
        figure = Figure((2.2 + each * wide, 0.5 + lines * (0.9 + 0.24 * len(shown))), layout="constrained")
        grid = figure.subplots(lines, wide, squeeze=False, sharey=True)
        image = None
        for component, axes in enumerate(grid.ravel()):
            if component >= components:
                axes.set_visible(False)
                continue
            edges = (first - 0.5, first + probabilities.shape[2] - 0.5, len(shown) - 0.5, -0.5)
            image = axes.imshow(
                probabilities[component, shown], cmap="Blues", vmin=0, vmax=1, aspect="auto", extent=edges
            )
            axes.set_title(f"{word} {component + 1}: {weights[component]:.0%}")
            axes.set_xlabel("category, in the order of names" if most else "category")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if written:
                own = [called[int(column)] for column in shown]
                _write_names(axes, probabilities[component, shown], own, first)
            if most and all(called):
                axes.set_xticks([])
            axes.grid(False)
        grid[0, 0].set_yticks(range(len(shown)), [shorten(names[column], 30) for column in shown])
        if image is not None:
            figure.colorbar(image, ax=grid, label="probability", pad=0.02)
        few = f"; where {word}s differ most, of {columns:,} columns" if len(shown) < columns else ""
        return save(figure, path, f"Probabilities of categories{few}{_largest(components, probabilities, word)}")


def _write_names(axes: Axes, probabilities: np.ndarray, called: Sequence[Sequence[str]], first: int) -> None:
    """The names of the categories of the columns of a heat map (M, C)."""
    for place, each in enumerate(called):
        for number, name in enumerate(each):
            dark = probabilities[place, number] > 0.6
            axes.annotate(
                shorten(name, LONGEST_NAME), (first + number, place), ha="center", va="center", fontsize=6,
                color="white" if dark else INK,
            )  # fmt: skip


def count_components(
    values: np.ndarray, masses: np.ndarray, weights: np.ndarray, name: str, path: Path, word: str = "component"
) -> Figure:
    """Shares of the counts (n,) of one column, and the masses (K, C) of the components at 0, 1, .., and their sum."""
    place = np.arange(masses.shape[1])
    with matplotlib.rc_context(STYLE):
        figure = Figure((6.8, 3.6), layout="constrained")
        axes = figure.subplots()
        shares = np.bincount(values.astype(int), minlength=len(place)) / len(values)
        axes.bar(place, shares, width=0.85, color="#DADADA", label="data")
        for component, mass in enumerate(weights[:, None] * masses):
            lines = "-" if component < len(COLOURS) else "--"
            said = f"{word} {component + 1}: {weights[component]:.0%}"
            axes.plot(place, mass, lines, marker=".", color=COLOURS[component % len(COLOURS)], label=said)
        axes.plot(place, weights @ masses, color=INK, linewidth=2, label="sum")
        axes.set_xlabel(shorten(name, 60))
        axes.set_ylabel("share of data points")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=8, labelcolor=QUIET)
        return save(figure, path, f"{word.capitalize()}s and their sum, beside the data")


def responsibilities(chances: np.ndarray, weights: np.ndarray, path: Path) -> Figure:
    """Responsibilities (N, K) of all rows, put in order by their likeliest component and how sure it is."""
    likeliest = chances.argmax(1)
    order = np.lexsort((-chances.max(1), likeliest))
    if len(order) > MOST_BARS:
        order = order[np.linspace(0, len(order) - 1, MOST_BARS).round().astype(int)]
    place = np.linspace(0, len(chances), len(order) + 1)
    with matplotlib.rc_context(STYLE):
        figure = Figure((6.8, 2.6), layout="constrained")
        axes = figure.subplots()
        below, handles = np.zeros(len(order)), []
        for component in range(chances.shape[1]):
            above = below + chances[order, component]
            colour = COLOURS[component % len(COLOURS)]
            hatch = "" if component < len(COLOURS) else "////"
            low, high = np.append(below, below[-1]), np.append(above, above[-1])
            axes.fill_between(place, low, high, step="post", color=colour, hatch=hatch, edgecolor="white", linewidth=0)
            if component < MOST_COMPONENTS:
                handles.append(Patch(facecolor=colour, hatch=hatch, label=f"{component + 1}: {weights[component]:.0%}"))
            below = above
        axes.set(xlim=(0, len(chances)), ylim=(0, 1), yticks=[0, 0.5, 1])
        axes.set_xlabel("data points, by likeliest component")
        axes.set_ylabel("responsibility")
        figure.legend(handles=handles, loc="outside right upper", fontsize=8, title="component", title_fontsize=8,
                      labelcolor=QUIET)  # fmt: skip
        sure = float((chances.max(1) > 0.9).mean())
        return save(figure, path, f"Which component data points are of: {sure:.0%} of them are surer than 90%")


def _largest(shown: int, components: np.ndarray, word: str) -> str:
    """What a title says where not all components are drawn."""
    return f"; the largest {shown} {word}s" if shown < len(components) else ""


def _label(axes: Axes, weights: np.ndarray, word: str) -> None:
    axes.set_xticks(range(len(weights)), [f"{number + 1}\n{weight:.0%}" for number, weight in enumerate(weights)])
    axes.set_xlabel(f"{word}, and its {'weight' if word == 'component' else 'share of the time'}")
