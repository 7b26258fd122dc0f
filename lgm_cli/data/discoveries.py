"""Numbers of great inventions and discoveries, 1860 to 1959 (McNeil, Interactive Data Analysis, 1977; of R)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data.base import packaged
from lgm_cli.data.base.make_table import rectangle
from lgm_cli.data.base.table import Table


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """One count a year; the last `horizon` years are hidden, to be forecast."""
    frame = packaged.frame("datasets", "discoveries")
    table = rectangle(
        name="discoveries",
        values=frame[["value"]].to_numpy(np.float64),
        row_labels=pd.Index(frame["time"].astype(int)),
        column_labels=pd.Index(["discoveries"]),
        index_name="year",
        kind="series",
    )
    return dataclasses.replace(table, horizon=options["horizon"])
