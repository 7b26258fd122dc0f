"""Yearly numbers of sunspots, 1700 to 1988 (Tong, Non-linear Time Series, 1990; datasets/sunspot.year of R)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data.base import packaged
from lgm_cli.data.base.make_table import rectangle
from lgm_cli.data.base.table import Table


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """One number a year; the last `horizon` years are hidden, to be forecast."""
    frame = packaged.frame("datasets", "sunspot.year")
    table = rectangle(
        name="sunspots",
        values=frame[["value"]].to_numpy(np.float64),
        row_labels=pd.Index(frame["time"].astype(int)),
        column_labels=pd.Index(["sunspots"]),
        index_name="year",
        kind="series",
    )
    return dataclasses.replace(table, horizon=options["horizon"])
