"""Tables of text for the closing lines of a run."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

WIDTH = 80
LEAST_NAME = 12  # characters of the first column
GAP = "  "


@dataclass(frozen=True)
class Result:
    """What a run has learned: lines of at most 80 characters, and tables by the name of their file."""

    lines: list[str]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


def ruled(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Rows of cells as lines of at most WIDTH characters. The first column is text, on the left, and is shortened where
    there is no room; the others are numbers, on the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    room = max(LEAST_NAME, WIDTH - len(indent) - sum(width + len(GAP) for width in widths[1:]))
    first = min(widths[0], room)
    lines = []
    for row in rows:
        cells = [shortened(row[0], first).ljust(first)]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append((indent + GAP.join(cells)).rstrip())
    return lines


def shortened(text: str, width: int) -> str:
    """The text in at most so many characters: whole words and an ellipsis, or part of the first word."""
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    kept = text[: width - 1]
    whole = kept.rsplit(" ", 1)[0] if text[width - 1] != " " and " " in kept else kept
    return f"{whole.rstrip()}…"


def number(value: float) -> str:
    """Four significant digits, thousands and more in full."""
    return f"{value:.4g}" if abs(value) < 1e4 or abs(value) >= 1e7 else f"{value:.0f}"


def wrapped(text: str) -> list[str]:
    """A sentence in lines of at most WIDTH characters, whose words stay whole."""
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
