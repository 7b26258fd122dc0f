"""Eruptions of Old Faithful in August 1985 (Azzalini & Bowman, Applied Statistics 39 (1990) 357-365; MASS/geyser)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data.base import packaged
from lgm_cli.data.base.make_table import rectangle
from lgm_cli.data.base.table import Table

COLUMNS = ["waiting", "duration"]


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Minutes waited for an eruption and minutes that it took, one row for each of 299 in turn; the last `horizon` of
    them are hidden, to be forecast."""
    frame = packaged.frame("MASS", "geyser")
    table = rectangle(
        name="geyser",
        values=frame[COLUMNS].to_numpy(np.float64),
        row_labels=pd.RangeIndex(1, len(frame) + 1),
        column_labels=pd.Index(COLUMNS),
        index_name="eruption",
        kind="series",
    )
    return dataclasses.replace(table, horizon=options["horizon"])
