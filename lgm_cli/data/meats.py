"""Near-infrared spectra of 215 samples of meat, 100 wavelengths, and their share of fat (Tecator; modeldata)."""

from __future__ import annotations

from typing import Any

from lgm_cli.data.base import packaged
from lgm_cli.data.base.table import Table


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Absorbances x_001 to x_100 are the features, the percentage of fat is the response."""
    frame = packaged.frame("modeldata", "meats")
    return packaged.response_and_features(frame, "meats", "fat", frame.filter(regex=r"^x_").columns)
