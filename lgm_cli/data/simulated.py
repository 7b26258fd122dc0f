"""Data drawn from the model itself, so that the parameters that should be found are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data.base.make_table import measurements, rectangle, regression
from lgm_cli.data.base.table import Table


def load(options: dict[str, Any], simulate: Callable[[dict[str, Any]], dict[str, Any]]) -> Table:
    """What the model's `simulate(options)` returns: values (N, M), NaN where not observed, and the truth; the kind of
    table where it is not one of independent rows, the features of a regression, the dictionary of a signal."""
    drawn = simulate(options)
    values = np.asarray(drawn["values"], np.float64)
    if "dictionary" in drawn:
        return measurements("simulated", values, drawn["dictionary"], truth=drawn["truth"])
    if "features" in drawn:
        features = np.asarray(drawn["features"], np.float64)
        labels = pd.RangeIndex(len(features)), pd.Index([f"x{column}" for column in range(features.shape[1])])
        return regression("simulated", features, values[:, 0], *labels, target="y", truth=drawn["truth"])
    return rectangle(
        name="simulated",
        values=values,
        row_labels=pd.RangeIndex(values.shape[0]),
        column_labels=pd.Index([f"y{column}" for column in range(values.shape[1])]),
        truth=drawn["truth"],
        kind=drawn.get("kind", "table"),
    )
