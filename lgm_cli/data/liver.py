"""Blood values of 418 patients with a disease of the liver (Dickson et al., Hepatology 10, 1989; pbc of survival)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd

from lgm_cli.data.base import packaged
from lgm_cli.data.base.table import Table

MEASURED = {
    "bili": "bilirubin [mg/dl]",
    "chol": "cholesterol [mg/dl]",
    "albumin": "albumin [g/dl]",
    "copper": "copper [ug/day]",
    "alk.phos": "phosphatase [U/l]",
    "ast": "AST [U/ml]",
    "trig": "triglyceride [mg/dl]",
    "platelet": "platelets [per nl]",
    "protime": "clotting time [s]",
}


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Rows are patients, by their numbers; columns are blood values, all positive, of which 16% are missing."""
    frame = packaged.frame("survival", "pbc")
    table = packaged.columns(frame, "liver", frame.filter(MEASURED))
    return dataclasses.replace(table, column_titles=pd.Index(list(MEASURED.values())))
