"""The real program as a person starts it, in a folder of theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """One thread, and the program of this checkout from any folder."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def lgm_run(*arguments: str, cwd: Path, code: int = 0) -> str:
    """Everything that `lgm-run` printed. It must have ended with that exit code and without a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "lgm_cli", *arguments],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stdout
    assert "Traceback" not in done.stdout, done.stdout
    return done.stdout


def flat(printed: str) -> str:
    """The same text with single blanks, since lines are broken at the width of the terminal."""
    return " ".join(printed.split())


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())
