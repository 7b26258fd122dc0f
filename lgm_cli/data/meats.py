"""Near-infrared spectra of 215 samples of meat, 100 wavelengths, and their share of fat (Tecator; modeldata)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data import packaged
from lgm_cli.data.base import Table, regression


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Absorbances x_001 to x_100 are the features, the percentage of fat is the response."""
    frame = packaged.frame("modeldata", "meats")
    spectra = frame.filter(regex=r"^x_")
    return regression(
        name="meats",
        features=spectra.to_numpy(np.float64),
        response=frame["fat"].to_numpy(np.float64),
        row_labels=pd.Index(frame["rownames"]),
        feature_labels=spectra.columns,
        target="fat",
    )
