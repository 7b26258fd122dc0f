"""Runs of `lgm-run` in a process each, as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

PROGRAM = (sys.executable, "-m", "lgm_cli")


def run_in(
    folder: Path,
    *overrides: str,
    environment: Mapping[str, str] = MappingProxyType({}),
    program: Sequence[str] = PROGRAM,
    quiet: bool = False,
) -> dict[str, Any]:
    """summary.json of a run, whose folder stays. RuntimeError for one that was refused or failed, with the last line of
    what it said. quiet: nothing that it says is shown."""
    said = subprocess.PIPE if quiet else None
    command = [*program, *overrides, f"hydra.run.dir='{folder}'"]
    done = subprocess.run(command, stdout=said, stderr=said, text=True, check=False, env={**os.environ, **environment})
    if done.returncode != 2 and (folder / "summary.json").exists():
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        if summary["status"] != "failed":
            return summary
    raise RuntimeError(((done.stderr or "").strip().splitlines() or [f"exit code {done.returncode}"])[-1])


def summary_of(*overrides: str, **environment: str) -> dict[str, Any]:
    """The same of a run whose folder is gone then, and of which nothing is shown."""
    with tempfile.TemporaryDirectory() as parent:
        return run_in(Path(parent) / "run", *overrides, environment=environment, quiet=True)


def on_threads(number: int) -> dict[str, str]:
    """The environment of a run on so many threads, whatever library brings them."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(number))
