"""Five questions of section 6 of the law school admission test, by 1,000 people (Bock & Lieberman 1970; of psych)."""

from __future__ import annotations

from typing import Any

from lgm_cli.data.base import packaged
from lgm_cli.data.base.table import Table

QUESTIONS = ["Q1", "Q2", "Q3", "Q4", "Q5"]


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Rows are people, by number; a one is a right answer."""
    frame = packaged.frame("psych", "lsat6")
    return packaged.columns(frame, "lsat6", frame.filter(QUESTIONS))
