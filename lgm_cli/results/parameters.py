"""parameters.csv: every learned parameter by name, row and column, with its standard error where asked for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from lgm_cli.data.base.table import Table
from lgm_cli.results.tables import INTERVAL, write_csv


def write_parameters(
    path: Path,
    exported: Mapping[str, Tensor],
    axes: Mapping[str, Sequence[str]],
    table: Table,
    errors: Mapping[str, Tensor] | None = None,
) -> None:
    """One line for each number of parameters.safetensors, in its order: parameter, row, column, value. A row or column
    is the name of a column of the data, or a number from 1 on (of a category, the number that the data have); where
    there is none the cell is empty. Of three dimensions, the first is part of the name: covariances[2] is the second.

    axes: what the dimensions of a parameter count, by its name. errors: standard errors in the shapes of the
    parameters, NaN where there is none; with them, there are also standard_error, lower_90 and upper_90, the 90%
    interval value -+ 1.645 standard errors.
    """
    lines: list[tuple[str, Any, Any, float]] = []
    for name, value in exported.items():
        kinds = [*axes.get(name, ()), *[""] * value.dim()][: value.dim()]
        labels = [_labels(kind, size, table) for kind, size in zip(kinds, value.shape, strict=True)]
        for place, number in zip(itertools.product(*labels), value.flatten().tolist(), strict=True):
            of, shown = (f"{name}[{place[0]}]", place[1:]) if value.dim() == 3 else (name, place)
            row, column = (*shown, "", "")[:2]
            lines.append((of, row, column, number))
    frame = pd.DataFrame(lines, columns=pd.Index(["parameter", "row", "column", "value"]))
    if errors is not None:
        error = np.concatenate([errors[name].numpy().ravel() for name in exported])
        frame["standard_error"] = error
        frame["lower_90"], frame["upper_90"] = frame["value"] - INTERVAL * error, frame["value"] + INTERVAL * error
    write_csv(frame, path, index=False)


def _labels(kind: str, size: int, table: Table) -> list[str]:
    """What stands for the places 0 .. size - 1 of a dimension."""
    names = {"column": table.column_labels, "feature": table.feature_labels}.get(kind)
    if names is not None and len(names) == size:
        return [str(name) for name in names]
    first = 0 if kind == "category" else 1
    return [str(first + place) for place in range(size)]
