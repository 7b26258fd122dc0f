"""Numbers of great inventions and discoveries, 1860 to 1959 (McNeil, Interactive Data Analysis, 1977; of R)."""

from __future__ import annotations

from typing import Any

from lgm_cli.data.base import packaged
from lgm_cli.data.base.table import Table


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """One count a year; the last `horizon` years are hidden, to be forecast."""
    return packaged.yearly("discoveries", "discoveries", options["horizon"])
