"""The folder outputs/: `latest`, a link to the newest run or sweep, and index.csv, a row for each end of a run.

Both are a convenience: where they cannot be written nothing else changes.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lgm_cli.command.folders import open_own
from lgm_cli.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = "outputs"
LATEST = "latest"
INDEX = "index.csv"
FROM_LAST_ROW = ("step", "fit_seconds", "train_log_likelihood", "test_log_likelihood", "test_rmse")
COLUMNS: tuple[str, ...] = ("folder", "status", "model", "data", "method", "seed", *FROM_LAST_ROW, "overrides")

log = logging.getLogger(__name__)


def root(folder: Path) -> Path | None:
    """The folder outputs/ that a run's or a sweep's lies in; None where the user chose another place."""
    return next((parent for parent in folder.parents[:3] if parent.name == NAME), None)


def link(folder: Path, target: Path | None = None) -> Path | None:
    """Let outputs/latest lead to `target`, by default the folder itself; gives what it led to before.

    A file or folder of that name which is no link is left as it is.
    """
    place, target = root(folder), target or folder
    if place is None:
        return None
    path, new = place / LATEST, place / f".{LATEST}-{os.getpid()}"
    before = None
    with suppress(OSError):
        if path.is_symlink():
            before = place / os.readlink(path)
        elif os.path.lexists(path):
            return None
        new.symlink_to(os.path.relpath(os.path.realpath(target), os.path.realpath(place)), target_is_directory=True)
        new.replace(path)
    return before


def unlink(folder: Path, before: Path | None) -> None:
    """Let outputs/latest lead to what it led to `before` a run that has left nothing."""
    place = root(folder)
    if before is not None and before.exists():
        link(folder, before)
    elif place is not None:
        with suppress(OSError):
            if (place / LATEST).is_symlink():
                (place / LATEST).unlink()
            place.rmdir()  # the run has made it, where nothing else is in it


def new_folder(name: str) -> str:
    """Make the folder, or `name`-2, `name`-3, .. where there is one already, so that no two processes have the same."""
    for number in itertools.count(1):
        path = name if number == 1 else f"{name}-{number}"
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.mkdir(path)
        except FileExistsError:
            if os.path.isdir(os.path.dirname(path)):
                continue
        except OSError:  # said where the run finds out
            pass
        return path
    raise AssertionError


@contextmanager
def noted(folder: Path, config: dict[str, Any], latest: Path | None = None) -> Iterator[None]:
    """Note a run of the configuration: outputs/latest leads to it from now on, index.csv has its end.

    latest: what outputs/latest leads to instead of the run's own folder, that of a sweep.
    """
    before = link(folder, latest)
    try:
        yield
    finally:
        if (folder / "summary.json").exists():
            add(folder, config)
        elif latest is None and not folder.exists():
            unlink(folder, before)


def add(folder: Path, config: dict[str, Any]) -> None:
    """Append the end of a run to index.csv, in one piece, whichever processes do so at a time."""
    place = root(folder)
    if place is None:
        return
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        row = {"folder": os.path.relpath(folder, place), "status": summary["status"], "seed": config["seed"]}
        row |= {part: config[part]["name"] for part in ("model", "data", "method")}
        row |= {name: (summary.get("last_row") or {}).get(name) for name in FROM_LAST_ROW}
        row["overrides"] = " ".join(summary["overrides"])
        with os.fdopen(open_own(place / INDEX, os.O_WRONLY | os.O_APPEND), "a", encoding="utf-8", newline="") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            text = io.StringIO()
            table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
            if os.fstat(file.fileno()).st_size == 0:
                table.writeheader()
            table.writerow(row)
            file.write(text.getvalue())
    except (OSError, UserError, ValueError, LookupError, TypeError):
        log.debug("the run in %s is not in %s", folder, place / INDEX, exc_info=True)
