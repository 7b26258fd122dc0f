"""Runs of `lgm-run` in a process each, as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def summary_of(*overrides: str, **environment: str) -> dict[str, Any]:
    """summary.json of a run, whose folder is gone then. RuntimeError, with the last line of what it said, for one that
    was refused or failed."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        command = [sys.executable, "-m", "lgm_cli", *overrides, f"hydra.run.dir={folder}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
        if (folder / "summary.json").exists():
            summary = json.loads((folder / "summary.json").read_text())
            if summary["status"] != "failed":
                return summary
    raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1])
