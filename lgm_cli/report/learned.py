"""What a finished run knows, for its pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from lgm_cli.data.base.categories import sizes
from lgm_cli.data.base.data import Data
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.observations.units import standardisation
from lgm_cli.report.text import Result

DEVIATIONS = "standard deviations of the column"
WRONG = "root of the share of wrong categories"

Picture = Callable[[Path], object]  # draws to a PNG at the path


@dataclass(frozen=True)
class Learned:
    """What a finished run knows, for its pictures.

    exported: the parameters as written. inferred: what the model's `inferred` gives of all data points, taken when
    first asked for. predict: mean and standard deviation of entries of the table, by their rows (sorted) and columns.
    errors: standard errors of what was exported, if they were asked for.
    """

    data: Data
    exported: Parameters
    inferred: Callable[[], dict[str, Tensor]]
    predict: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    errors: Parameters | None = None


def pictures(model: LatentVariableModel, learned: Learned) -> dict[str, Picture]:
    """The pictures that only this model has, by the name of their file."""
    found: dict[str, Picture] = {}
    for name in model.pictures:
        found |= import_module(f"lgm_cli.report.{name}").pictures(model, learned)
    return found


def result(model: LatentVariableModel, learned: Learned) -> Result:
    """What the run has learned, in lines and tables, by the modules that the model names."""
    lines: list[str] = []
    tables: dict[str, pd.DataFrame] = {}
    for name in model.results:
        found = import_module(f"lgm_cli.report.results.{name}").result(model, learned)
        lines += found.lines
        tables |= found.tables
    if learned.errors is not None:
        lines.append("standard errors and 90% intervals of all parameters are in parameters.csv")
    return Result(lines, tables)


def drawn_units(data: Data) -> tuple[np.ndarray, np.ndarray, str]:
    """Center (M,) and scale (M,) that columns are drawn in, and the name of that unit.

    It is the data's own unit where all columns share one, and otherwise the standard deviation of each column. The
    error of a category is one where it is wrong.
    """
    if (named := sizes(data.table) > 0).any():
        center, scale = standardisation(data)
        unit = WRONG if named.all() else f"{DEVIATIONS}, or 1 for a wrong category"
        return np.where(named, 0.0, center), np.where(named, 1.0, scale), unit
    own = np.zeros(data.shape[1]), np.ones(data.shape[1])
    if data.table.common_unit:
        return *own, "rating" if data.table.dictionary is None else "units of a measurement"
    if data.shape[1] == 1:
        return *own, str(data.table.column_labels[0])
    return *standardisation(data), DEVIATIONS
