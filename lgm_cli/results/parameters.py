"""parameters.csv: the learned parameters in a table that a spreadsheet reads, beside parameters.safetensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lgm_cli.data.base.categories import titles_of_ones
from lgm_cli.data.base.intervals import INTERVAL
from lgm_cli.data.base.table import Table
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.results.files import atomic_path
from lgm_cli.results.tables import write_csv

MOST_VALUES = 1_000_000  # of one parameter; a larger one is in parameters.safetensors alone


def write_parameters(
    path: Path,
    axes_of: Mapping[str, Sequence[str]],
    exported: Parameters,
    table: Table,
    errors: Parameters | None = None,
) -> list[str]:
    """One line for each number: name, row, column, value, in the order of parameters.safetensors. Returns the names of
    those that have more than MOST_VALUES and are left out.

    axes_of: what the axes of a parameter are along, by its name. errors: standard errors in the shapes of the
    parameters, NaN where there is none; with them there are also standard_error, lower_90 and upper_90, the 90%
    interval value -+ 1.645 standard errors.

    Rows and columns are the labels of the data's columns where an axis is along these, as `axes_of` says, and
    otherwise the word of the axis and a number from 1 on (of categories from 0), such as factor_1. A scalar has
    neither. Of an array with three axes, the first is part of the name: `covariances[component_1]`. Categories with
    names have these, and a column has a line for each of its own alone.
    """
    parts, left_out = [], []
    for name, tensor in exported.items():
        value = tensor.double().numpy()
        if value.size > MOST_VALUES:
            left_out.append(name)
            continue
        words = axes_of.get(name, ("",) * value.ndim)[: value.ndim]
        axes = [_labels(word, size, table) for word, size in zip(words, value.shape, strict=True)]
        of_categories = words[-1:] == ("category",) and value.ndim == 3
        if words == ("component", "column") and name == "probabilities":  # of a one
            axes[1] = titles_of_ones(table, table.column_labels)
        outer = [f"{name}[{label}]" for label in axes.pop(0)] if value.ndim == 3 else [name]
        axes = [[""], [""], *axes][-2:] if len(axes) != 1 else [axes[0], [""]]
        grid = np.indices((len(outer), len(axes[0]), len(axes[1]))).reshape(3, -1)
        names, rows, columns = (
            np.asarray(labels, object)[place] for labels, place in zip((outer, *axes), grid, strict=True)
        )
        part = {"name": names, "row": rows, "column": columns, "value": value.ravel()}
        if errors is not None:
            error = errors[name].double().numpy().ravel()
            part["standard_error"] = error
            part["lower_90"], part["upper_90"] = (value.ravel() + side * INTERVAL * error for side in (-1, 1))
        frame = pd.DataFrame(part)
        if of_categories and table.categories:
            number, own = grid[2], [table.categories.get(label, ()) for label in axes[0]]
            named = np.array([len(names) for names in own])[grid[1]]
            called = zip(frame["column"], grid[1], number, named, strict=True)
            frame["column"] = [own[m][c] if c < size else label for label, m, c, size in called]
            frame = frame[(named == 0) | (number < named)]
        parts.append(frame)
    with atomic_path(path) as temporary:
        write_csv(pd.concat(parts, ignore_index=True), temporary, index=False)
    return left_out


def _labels(word: str | Sequence[str], size: int, table: Table) -> list[str]:
    """Names along an axis of so many entries."""
    if not isinstance(word, str):
        return list(word)
    labels = {"column": table.column_labels, "feature": table.feature_labels}.get(word)
    if labels is not None and len(labels) == size:
        return list(map(str, labels))
    first = 0 if word == "category" else 1  # categories are the numbers that data have
    return [f"{word}_{number + first}" if word else str(number + first) for number in range(size)]
