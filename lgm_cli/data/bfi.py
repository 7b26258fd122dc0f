"""The Big Five: 2,800 people's answers, 1 to 6, to 25 personality items, 0.7% missing (Revelle, psych)."""

from __future__ import annotations

from typing import Any

from lgm_cli.data.base import packaged
from lgm_cli.data.base.table import Table


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """The 25 items by name, without gender, education and age; rows go by the numbers of the respondents."""
    frame = packaged.frame("psych", "bfi")
    items = frame.iloc[:, 1:26]
    return packaged.columns(frame, "bfi", items)
