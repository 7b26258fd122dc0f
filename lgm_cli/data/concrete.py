"""Compressive strength of 1,030 mixtures of concrete, from their ingredients and age (Yeh 1998; modeldata)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data import packaged
from lgm_cli.data.base import Table, regression


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Seven ingredients in kg per cubic metre and the age in days are the features, the strength in MPa is the
    response."""
    frame = packaged.frame("modeldata", "concrete")
    features = frame.drop(columns=["rownames", "compressive_strength"])
    return regression(
        name="concrete",
        features=features.to_numpy(np.float64),
        response=frame["compressive_strength"].to_numpy(np.float64),
        row_labels=pd.Index(frame["rownames"]),
        feature_labels=features.columns,
        target="compressive_strength",
    )
