"""`lgm_cli.fit` and `lgm_cli.load`: runs of lgm-run from a notebook or a script."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lgm_cli.command import choices
from lgm_cli.command.folders import refuse_used
from lgm_cli.command.resume import folder_of
from lgm_cli.errors import UserError, cannot_write, quoted
from lgm_cli.notebook import frames, in_process
from lgm_cli.results.run_folder import key_of

if TYPE_CHECKING:
    from lgm_cli.notebook.finished import Run

FIXED = {  # keys that have an argument of their own, or a method of `Run`
    "data.path": "the table is given as the first argument",
    "hydra.run.dir": "use folder=DIR",
    "resume": "use lgm_cli.load(DIR).resume()",
    "apply": "use lgm_cli.load(DIR).apply(frame)",
    "report": "use lgm-run report=DIR on the command line",
    "plan": "use lgm-run plan=true on the command line",
}
OTHER = "use another folder, or lgm_cli.load(DIR) for the run that is there"


def load(folder: str | os.PathLike[str]) -> Run:
    """The run in a folder that lgm-run, `fit` or `Run.apply` has written, finished or not.

    UserError where there is no such folder, or nothing of a run in it.
    """
    from lgm_cli.notebook.finished import Run

    return Run(folder_of("load", os.fspath(folder)))


def fit(
    table: frames.Table, *overrides: str, folder: str | os.PathLike[str] | None = None, verbose: bool = False
) -> Run:
    """Learn a model from a table as `lgm-run` does, with the same checks and the same files.

    table: a DataFrame, a Series or an array of one or two dimensions, NaN where a value is missing. Each row is a data
    point, or a time step for the models of series. An index that is not 0, 1, .. names the rows in all outputs; the
    dates of a series order its rows. Columns of text are treated as in a file. The columns of an array are named
    column_0, column_1, ..

    overrides: the arguments of lgm-run, such as "model=ppca", "model.latent_dim=5". `data=csv` is chosen, or
    `data=series` where the model learns from a series; "data.target=NAME" names the response of a regression.

    folder: where the files go; it must hold no run. Without it they go to a temporary folder, which is removed when the
    Python process ends.

    verbose: show the log of the run. It is written to run.log in any case.

    Runs take turns: one that another thread begins waits until the first has ended. Hydra's state, the log, random
    numbers and the threads of torch are as before when it returns.

    Raises UserError with WHAT and MEND for what can be mended, its subclass RunFailed where the run began and failed or
    diverged, and KeyboardInterrupt when it is interrupted, with the folder that can be resumed.
    """
    _refuse(overrides)
    place = temporary("run") if folder is None else Path(folder).expanduser().absolute()

    def arguments(read: dict[str, str]) -> list[str]:
        given = {key_of(item) for item in overrides}
        added = [] if "data" in given else [f"data={_reader(overrides)}"]
        added += [f"{key}={quoted(value)}" for key, value in read.items() if key not in given]
        return [*overrides, *added, f"hydra.run.dir={quoted(str(place))}", *in_process.NO_LOGGING_BY_HYDRA]

    run_on(table, place, arguments, verbose)
    return load(place)


def run_on(table: frames.Table, place: Path, arguments: Callable[[dict[str, str]], list[str]], verbose: bool) -> None:
    """Write the table into a folder that holds no run and call lgm-run there; what could not begin leaves nothing.

    arguments: those of the command line, from the keys by which the table is read.
    """
    refuse_used(place)
    file, made = place / frames.FILE, not place.exists()
    if os.path.lexists(file):
        raise UserError(f"{file} is there already", OTHER)
    try:
        try:
            place.mkdir(parents=True, exist_ok=True)
            read = frames.write(table, file)
        except OSError as error:
            raise cannot_write(place, error, OTHER) from error
        in_process.call(arguments(read), place, verbose)
    except UserError:
        if not (place / "summary.json").exists():  # refused before it began: nothing of it is kept
            with suppress(OSError):
                file.unlink(missing_ok=True)
                (place / "run.log").unlink(missing_ok=True)
                if made:
                    place.rmdir()
        raise


def _refuse(overrides: tuple[str, ...]) -> None:
    """UserError for arguments that `fit` cannot pass on."""
    for item in overrides:
        if not isinstance(item, str):
            raise UserError(f"the argument {item!r} is no text", 'write it as on the command line, "key=value"')
        if item.startswith("-"):
            raise UserError(
                f"{item} is an option of the command line", "give keys alone; run sweeps by lgm-run --multirun"
            )
        if (key := key_of(item)) in FIXED or key.startswith("hydra"):
            raise UserError(f"{key} cannot be given here", FIXED.get(key, "leave it out, or use lgm-run"))
        if key == "data" and item.partition("=")[2] not in choices.owners("data", "path"):
            readers = ", ".join(f"data={name}" for name in choices.owners("data", "path") if name != "image")
            raise UserError(f"{item} does not read the table that is given", f"use one of {readers}, or leave it out")


def _reader(overrides: tuple[str, ...]) -> str:
    """The reader of the model's kind of table. An unknown model is refused later, as on the command line."""
    chosen = [item.partition("=")[2] for item in overrides if key_of(item) == "model"]
    name = chosen[-1] if chosen else choices.choices("model")[0]
    if name not in choices.choices("model"):
        return "csv"
    from lgm_cli.run.build import class_of

    kind = class_of("models", name).learns_from
    if kind == "signal":
        raise UserError(f"model={name} learns from a signal, not from a table", "use lgm-run data=image data.path=FILE")
    return "series" if kind == "series" else "csv"


def temporary(name: str) -> Path:
    """A new folder that is removed when this process ends, and in no other: a copy of the process leaves it."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_temporary_parent(os.getpid())))


@cache
def _temporary_parent(process: int) -> str:
    parent = tempfile.mkdtemp(prefix="lgm-run-")

    def remove() -> None:
        if os.getpid() == process:
            shutil.rmtree(parent, ignore_errors=True)

    atexit.register(remove)
    return parent
