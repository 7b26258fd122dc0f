"""Rides a day at 20 stations of Chicago's elevated trains, 2001 to 2016, in thousands (Kuhn & Johnson; modeldata)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data.base import packaged
from lgm_cli.data.base.make_table import rectangle
from lgm_cli.data.base.table import Table
from lgm_cli.data.series import arrange

STATIONS = slice("Austin", "California")  # without `ridership`, which is another station's, and the weather


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """A channel for each station, a row for each of 5,698 days."""
    frame = packaged.frame("modeldata", "Chicago")
    rides = frame.loc[:, STATIONS]
    labels = pd.Index(frame["date"].astype(str), dtype="str")
    return arrange(rectangle("chicago", rides.to_numpy(np.float64), labels, rides.columns, index_name="date"), options)
