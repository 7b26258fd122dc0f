"""What all pictures share: colours, type, words that stand as they are."""

from __future__ import annotations

import math
import textwrap
import warnings
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
SHAPES = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")
POSITIVE, NEGATIVE = COLOURS[:2]
INK, QUIET, FAINT = "#333333", "#757575", "#B0B0B0"
LEARNED, HIDDEN, FILLED, AHEAD = INK, COLOURS[1], COLOURS[0], COLOURS[4]  # values of a series, the same in all pictures
UNDATED = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "font.size": 9,
    "grid.color": "#E8E8E8",
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text of a PDF stays text
    "savefig.dpi": 150,
    "svg.hashsalt": "lgm-run",  # the same picture gives the same file
    "text.color": INK,
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
}


def note(axes: Axes, x: float, y: float, text: str, above: bool = True) -> None:
    """Quiet words at the share x of the width and at the value y."""
    axes.annotate(
        plain(text),
        (x, y),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2 if above else -2),
        textcoords="offset points",
        ha="right" if x > 0.5 else "left",
        va="bottom" if above else "top",
        color=QUIET,
        fontsize=8,
    )


def panels(count: int, columns: int, rows: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, columns)
    lines = math.ceil(count / columns)
    figure = Figure((4.8 * columns, lines * (0.21 * rows + 0.8) + 0.6), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, list(grid[:count])


def leave_empty(axes: Axes, why: str) -> None:
    axes.text(0.5, 0.5, why, color=QUIET, ha="center", transform=axes.transAxes)
    axes.set_yticks([])


def plain(text: object) -> str:
    """Text as it stands: on one line, its dollar signs no formula."""
    return " ".join(str(text).split()).replace("$", r"\$")


def shorten(text: object, width: int) -> str:
    text = " ".join(str(text).split())
    return plain(text if len(text) <= width else text[: width - 1].rstrip() + "…")


def save(figure: Figure, path: Path, title: str) -> Figure:
    """Write the figure in the format that the suffix of the path names, without the date: PNG, SVG or PDF."""
    if title:
        room = int(13 * figure.get_figwidth())  # characters
        lines = [part for line in title.split("\n") for part in textwrap.wrap(line, room)]
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a title in a script that the font lacks
        figure.savefig(path, metadata=UNDATED.get(getattr(path, "suffix", "")))
    return figure
