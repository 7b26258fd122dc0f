"""How a run that failed is explained."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lgm_cli.errors import Interrupted, RunFailed, UserError, cannot_write
from lgm_cli.machine import memory_is_limited, out_of_memory
from lgm_cli.results import run_folder

log = logging.getLogger(__name__)


def explained(error: BaseException, config: Mapping[str, Any], folder: Path, begun: bool) -> BaseException:
    """The error as the command line reports it: in one line, with a remedy. begun: learning has."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted(f"{folder} is as it was at that moment{going_on(folder, config)}")
    if isinstance(error, OSError) and not folder.exists():
        return RunFailed(f"{folder} is gone", "leave the folder of a run where it is until the run has ended")
    if isinstance(error, PermissionError) and not begun and str(error.filename).startswith(str(folder)):
        return cannot_write(error.filename, error, "check its permissions")
    remedy = f"then{going_on(folder, config).removeprefix(';') or ' start anew'}"
    text = str(error)
    if out_of_memory(error):
        keys = ["method.batch_size"] * ("batch_size" in config["method"]) + ["model.latent_dim"]
        wanted = re.search(r"allocate ([\d.]+ \w+)", text)
        more = "raise ulimit -v" if memory_is_limited() else "free some"
        return RunFailed(
            f"out of memory{f': {wanted[1]} more were needed' if wanted else ''}",
            f"{more}, {remedy}; or use a smaller {' or '.join(keys)}, or less data",
        )
    if isinstance(error, OSError):
        what = f"{error.filename or folder}: {error.strerror or error}"
        return RunFailed(what, f"make room or mend what is wrong there, {remedy}")
    log.error("the run failed", exc_info=error)
    name = f"{type(error).__name__}: {text}".splitlines()[0]
    return RunFailed(name, f"this is an error of lgm-run's: please report it, with {folder / 'run.log'}")


def going_on(folder: Path, config: Mapping[str, Any]) -> str:
    """How to go on with a run, if one can; beyond an end that is on record, with the value that was given anew."""
    status = None
    with suppress(UserError):
        status = run_folder.status_of(folder)
    if status == "diverged" or not (folder / "checkpoint" / "state.pt").is_file():
        return ""
    command = f"lgm-run resume={shlex.quote(str(folder))}"
    if (key := run_folder.BEYOND.get(status or "")) is not None:
        command += f" {key}={'none' if config[key] is None else config[key]}"
    return f"; {command} goes on"
