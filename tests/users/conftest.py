"""The command as a user gives it: a process of its own, in a folder of the user's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "80"}

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def lgm_run(tmp_path: Path) -> Command:
    """Run `lgm-run` with these arguments in the test's folder."""

    def given(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lgm_cli", *arguments],
            cwd=tmp_path,
            env={**os.environ, **ENVIRONMENT},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return given
