"""Compressive strength of 1,030 mixtures of concrete, from their ingredients and age (Yeh 1998; modeldata)."""

from __future__ import annotations

from typing import Any

from lgm_cli.data.base import packaged
from lgm_cli.data.base.table import Table


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Seven ingredients in kg per cubic metre and the age in days are the features, the strength in MPa is the
    response."""
    frame = packaged.frame("modeldata", "concrete")
    target = "compressive_strength"
    return packaged.response_and_features(frame, "concrete", target, frame.columns.drop(["rownames", target]))
