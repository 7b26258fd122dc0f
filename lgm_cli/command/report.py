"""`lgm-run report=DIR[,DIR...]`: the page of one run, or the comparison of several. Imports no torch."""

from __future__ import annotations

import logging
import os
from datetime import datetime
from pathlib import Path

from lgm_cli.command.resume import folder_of
from lgm_cli.errors import UserError, cannot_write
from lgm_cli.results.run_folder import key_of

log = logging.getLogger(__name__)

WHERE = "hydra.run.dir"


def write(options: list[str], overrides: list[str]) -> str:
    """Write what the command line asks for; what is said of it."""
    from lgm_cli.comparison import write as comparison
    from lgm_cli.comparison.read import is_run

    if refused := [*options, *(item for item in overrides if key_of(item) not in ("report", WHERE))]:
        raise UserError(f"report= cannot be joined by {', '.join(refused)}", f"only {WHERE} may be given besides")
    given = {key_of(item): item.partition("=")[2] for item in overrides}
    if len(given) < len(overrides):
        raise UserError("a key is given twice", f"{' '.join(overrides)} must name each once")
    folders = _folders(given["report"])
    into = given.get(WHERE)
    if into is not None and (into in ("", "???") or "${" in into):
        raise UserError(f"{WHERE}={into} is not the name of a folder", "write it out")
    alone = len(folders) == 1 and into is None
    try:
        if alone and is_run(folders[0]):
            return f"the report is in {comparison.single(folders[0])}\n"
        place = folders[0] if alone else Path(os.path.expanduser(into or _anew())).absolute()
        if is_run(place):
            raise UserError(f"{place} is the folder of a run", f"give another by {WHERE}=DIR")
        return comparison.report(folders, place) + "\n"
    except ValueError:
        shown = ", ".join(map(str, folders))
        raise UserError(f"there is no run in {shown}", "give the folder of a run, of a sweep or of runs") from None
    except OSError as error:
        raise cannot_write(error.filename or folders[0], error, f"give another folder by {WHERE}=DIR") from error


def _folders(text: str) -> list[Path]:
    """The folders that are named: one, whose name may have commas, or several with commas between."""
    text = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'[" else text.strip("[]")
    if Path(os.path.expanduser(text)).is_dir() or "," not in text:
        return [folder_of("report", text)]
    return [folder_of("report", part.strip()) for part in text.split(",")]


def _anew() -> str:
    return f"outputs/reports/{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"


def write_page(folder: Path) -> None:
    """The run's report.html, without which a run has ended all the same."""
    from lgm_cli.comparison import write as comparison

    try:
        comparison.single(folder)
    except (OSError, ValueError) as error:
        log.warning("report.html is left out: %s", error)


def compared(folder: Path | None) -> str:
    """Write the comparison of a sweep, however its runs ended; what is said of it, empty when there is none."""
    from lgm_cli.comparison import write as comparison
    from lgm_cli.comparison.read import is_run

    if folder is None or not folder.is_dir() or is_run(folder):
        return ""
    try:
        return comparison.report([folder], folder) + "\n"
    except ValueError:
        return ""
    except Exception as error:  # the runs are what was asked for, and they are there
        known = isinstance(error, OSError | UserError)
        log.error("the comparison is left out: %s", error, exc_info=None if known else error)
        return ""
