"""Yearly numbers of sunspots, 1700 to 1988 (Tong, Non-linear Time Series, 1990; datasets/sunspot.year of R)."""

from __future__ import annotations

from typing import Any

from lgm_cli.data.base import packaged
from lgm_cli.data.base.table import Table


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """One number a year; the last `horizon` years are hidden, to be forecast."""
    return packaged.yearly("sunspot.year", "sunspots", options["horizon"])
