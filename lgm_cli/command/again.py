"""What a sweep does about the runs that its folder holds already, when the same sweep is given again."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from lgm_cli.command import resume
from lgm_cli.command.folders import clear
from lgm_cli.command.streams import say
from lgm_cli.errors import RunFailed, UserError
from lgm_cli.results.run_folder import summary_of

# What becomes of a run of a sweep that is given again, by what its folder holds of the same run.
KEEP, RESUME, ANEW = "keep", "resume", "anew"

log = logging.getLogger(__name__)


def kept(folder: Path, overrides: list[str]) -> bool:
    """Whether the folder holds the same run, ended. One that failed is cleared away. RunFailed for a diverged one."""
    found = _standing(folder, overrides)
    if found == ANEW:
        clear(folder)  # said on the terminal alone: a line in run.log would make the folder a used one again
        say(sys.stdout, f"{folder.name} had failed or had hardly begun, and is done anew\n")
    if found != KEEP:
        return False
    log.info("%s has ended before, and is kept", folder.name)
    summary = summary_of(folder)
    if summary is not None and summary["status"] == "diverged":
        raise RunFailed("the run diverged", f"what is known of it is in {folder}")
    return True


def unfinished(folder: Path, overrides: list[str]) -> resume.Resumed | None:
    """The same run to go on with, which was interrupted or killed; None where there is none."""
    if _standing(folder, overrides) != RESUME:
        return None
    log.info("%s had not ended, and goes on from its checkpoint", folder.name)
    return resume.read([], [f"resume={folder}"])


def _standing(folder: Path, overrides: list[str]) -> str | None:
    """What a sweep that is given again does about the run in a folder; None when it is not the same run, or is none.

    A run that has ended is kept, a diverged one too, which would diverge again. One that was interrupted or killed goes
    on from its checkpoint, where it has one. One that failed is done anew.
    """
    try:
        summary = summary_of(folder) or {}
    except UserError:
        summary = {}
    before: Any = summary.get("overrides")
    if before is None:
        with suppress(OSError, ValueError, yaml.YAMLError):
            before = yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
    if not isinstance(before, list) or [str(item) for item in before] != overrides:
        return None
    status = summary.get("status")
    if status in (None, "interrupted"):
        return RESUME if (folder / "checkpoint" / "state.pt").is_file() else ANEW
    return ANEW if status == "failed" else KEEP
