"""Nine properties of 699 breast tumours, graded 1 to 10, 16 of them missing (Wolberg; of MASS)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd

from lgm_cli.data.base import packaged
from lgm_cli.data.base.table import Table

GRADED = {
    "V1": "clump thickness",
    "V2": "uniformity of cell size",
    "V3": "uniformity of cell shape",
    "V4": "marginal adhesion",
    "V5": "single epithelial cell size",
    "V6": "bare nuclei",
    "V7": "bland chromatin",
    "V8": "normal nucleoli",
    "V9": "mitoses",
}


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Rows are tumours, by their row numbers, grouped as benign or malignant; columns are the grades."""
    frame = packaged.frame("MASS", "biopsy")
    table = packaged.columns(frame, "biopsy", frame.filter(GRADED))
    titles = pd.Index(list(GRADED.values()))
    return dataclasses.replace(table, row_groups=pd.Index(frame["class"]), column_titles=titles)
