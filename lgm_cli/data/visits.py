"""Visits of 4,406 people to doctors and hospitals in a year (Deb & Trivedi, J. Appl. Econometrics, 1997; of AER)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data.base import packaged
from lgm_cli.data.base.make_table import rectangle
from lgm_cli.data.base.table import Table

COUNTED = {
    "visits": "visits to a physician's office",
    "nvisits": "other visits to an office",
    "ovisits": "visits to a physician in a hospital",
    "novisits": "other visits to a hospital",
    "emergency": "visits to an emergency room",
    "hospital": "stays in a hospital",
}


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Rows are people, by their row numbers; columns are counts of a year."""
    frame = packaged.frame("AER", "NMES1988")
    table = rectangle(
        name="visits",
        values=frame[list(COUNTED)].to_numpy(np.float64),
        row_labels=pd.Index(frame["rownames"]),
        column_labels=pd.Index(list(COUNTED)),
        index_name="rownames",
    )
    return dataclasses.replace(table, column_titles=pd.Index(list(COUNTED.values())))
