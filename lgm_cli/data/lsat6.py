"""Five questions of section 6 of the law school admission test, by 1,000 people (Bock & Lieberman 1970; of psych)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data.base import packaged
from lgm_cli.data.base.make_table import rectangle
from lgm_cli.data.base.table import Table

QUESTIONS = ["Q1", "Q2", "Q3", "Q4", "Q5"]


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Rows are people, by number; a one is a right answer."""
    frame = packaged.frame("psych", "lsat6")
    return rectangle(
        name="lsat6",
        values=frame[QUESTIONS].to_numpy(np.float64),
        row_labels=pd.Index(frame["rownames"]),
        column_labels=pd.Index(QUESTIONS),
        index_name="rownames",
    )
