"""Four measurements of 344 penguins of three species, two of them not measured (Horst, Hill & Gorman, modeldata)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data.base import packaged
from lgm_cli.data.base.make_table import rectangle
from lgm_cli.data.base.table import Table

MEASURED = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Rows go by their numbers and are grouped by species; columns are the measurements."""
    frame = packaged.frame("modeldata", "penguins")
    measured = frame[list(MEASURED)]
    table = rectangle(
        name="penguins",
        values=measured.to_numpy(np.float64),
        row_labels=pd.Index(frame["rownames"]),
        column_labels=measured.columns,
        index_name="rownames",
    )
    return dataclasses.replace(table, row_groups=pd.Index(frame["species"]))
