"""What the terminal shows of each run of a sweep: what it is and how it ended. Its own files have the rest."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from lgm_cli.command.streams import say
from lgm_cli.errors import printable

ENDS = {"max_steps": "ended at max_steps", "max_seconds": "ended at max_seconds"}


def briefly(what: str) -> None:
    """Name the run, and keep its lines from the terminal from now on, but errors."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.addFilter(lambda record: record.levelno >= logging.ERROR)
    say(sys.stdout, f"{printable(what)}\n")


def told(summary: Mapping[str, Any]) -> None:
    """Say in one line how the run ended."""
    from lgm_cli.run.progress import describe

    row, warnings = summary.get("last_row") or {}, len(summary.get("warnings") or [])
    status = summary["status"]
    parts = [ENDS.get(status, status), f"step {row['step']}" if "step" in row else "", describe(row)]
    parts.append(f"{row['fit_seconds']:.1f} s of learning" if row.get("fit_seconds") is not None else "")
    parts.append(f"{warnings} warning{'s' * (warnings > 1)} in its summary.txt" if warnings else "")
    say(sys.stdout, f"  {', '.join(filter(None, parts))}\n")
