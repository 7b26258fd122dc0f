"""Visits of 4,406 people to doctors and hospitals in a year (Deb & Trivedi, J. Appl. Econometrics, 1997; of AER)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd

from lgm_cli.data.base import packaged
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
    table = packaged.columns(frame, "visits", frame.filter(COUNTED))
    return dataclasses.replace(table, column_titles=pd.Index(list(COUNTED.values())))
