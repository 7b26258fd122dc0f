"""A column of classes, known of some rows: its texts as numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from lgm_cli.data.base.files import MISSING
from lgm_cli.errors import UserError

UNKNOWN = -1
SHOWN = 10  # names in an error


def classes_of(
    texts: Sequence[str],
    column: str,
    source: str,
    missing: Collection[str] = (),
    names: Sequence[str] | None = None,
) -> tuple[np.ndarray, pd.Index]:
    """The class of each row (N,), UNKNOWN where its text is empty or stands for a missing value, and the names of the
    classes: those of most rows first, equally many in the order of the alphabet, numbers in theirs. names: the only
    classes there may be, in their order."""
    absent = MISSING | {word.strip().lower() for word in missing}
    stripped = [text.strip() for text in texts]
    counts = Counter(text for text in stripped if text.lower() not in absent)
    if names is not None:
        if new := [text for text in counts if text not in names]:
            raise UserError(
                f"data.labels={column} has the class {new[0]!r} in {source}, which the run has not learned",
                f"leave such cells empty; its classes are {', '.join(names[:SHOWN])}",
            )
        return numbers_of(stripped, names), pd.Index(names, dtype="str")
    if not counts:
        raise UserError(
            f"data.labels={column} has no class in any row of {source}", "give some, or leave data.labels out"
        )
    if len(counts) == 1:
        raise UserError(
            f"data.labels={column} has a single class {next(iter(counts))!r} in {source}",
            "give rows of at least two, or leave data.labels out",
        )
    names = sorted(counts, key=lambda name: (-counts[name], *rank(name)))
    return numbers_of(stripped, names), pd.Index(names, dtype="str")


def numbers_of(texts: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """The place of each text among the names, UNKNOWN where it is not one of them."""
    place = {name: number for number, name in enumerate(names)}
    return np.array([place.get(text.strip(), UNKNOWN) for text in texts], np.int64)


def with_unknown(classes: np.ndarray | None, rows: int) -> np.ndarray | None:
    """The classes of rows and of so many more, which are not known. None where no row has classes."""
    return None if classes is None else np.concatenate([classes, np.full(rows, UNKNOWN)])


def rank(name: str) -> tuple[bool, float, str]:
    """The place of a name in a list: numbers by their value, then texts in the order of the alphabet."""
    try:
        return False, float(name), name
    except ValueError:
        return True, 0.0, name
