"""The folder of a run: what is in it, who may write there, and what is taken back of a run that could not begin."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path

from lgm_cli.command.error_messages import OTHER_FOLDER
from lgm_cli.errors import PrintableFormatter, UserError, cannot_write

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# A folder that holds any of these belongs to a run.
RECORD = (
    *(".hydra", "run.log", "metrics.csv", "summary.json", "plots", "checkpoint"),
    *("parameters.safetensors", "apply.safetensors", "posterior.safetensors", "predictions.csv", "loadings.csv"),
    "parameters.csv",
    *("columns.csv", "report.html", "imputed.csv", "imputed_standard_deviation.csv", "forecast.csv", "season.csv"),
)
# A folder that holds all of any of these is that of a run, begun or applied; a sweep's holds none.
OF_A_RUN = ((".hydra", "checkpoint"), ("run.log", "summary.json"))
FOLDERS = (".hydra", "checkpoint", "plots")  # in that of a run, which are written into
OWN_ALONE = "a run writes into its own folder alone: put a copy there"

log = logging.getLogger(__name__)


def used(folder: Path, but: str | None = None) -> list[str]:
    """The files of a run that a folder holds. but: one that does not count."""
    return [name for name in RECORD if name != but and os.path.lexists(folder / name)]


def refuse_used(folder: Path, but: str | None = None) -> None:
    """UserError for a folder that holds any file of a run, or lies in that of another run. but: what may be there."""
    if found := used(folder, but):
        raise UserError(f"{folder} holds a run already, {found[0]} at least", OTHER_FOLDER)
    refuse_inside(folder)


def refuse_inside(folder: Path) -> None:
    """UserError for a folder that lies in that of another run."""
    for parent in Path(os.path.realpath(folder)).parents:
        if any(all(os.path.lexists(parent / name) for name in names) for names in OF_A_RUN):
            raise UserError(f"{folder} is inside the folder of another run, {parent}", OTHER_FOLDER)


@contextmanager
def fresh(folder: Path, own: Iterable[Path], keep: bool = False) -> Iterator[None]:
    """Claim a folder that holds no run, for a new one. What was written of work that could not begin is taken back, and
    the folders of its `own`, so that the same command can be given again; or else it is kept, for a sweep's comparison.
    """
    with claimed(folder) as made:
        try:
            refuse_used(folder, but="checkpoint")  # again: another process may have been here meanwhile
        except UserError:
            if made:
                shutil.rmtree(folder / "checkpoint", ignore_errors=True)
            raise
        try:
            yield
        except UserError as error:
            failed = error.exit_code != UserError.exit_code and (folder / "summary.json").exists()
            if not (failed or keep or (folder / "metrics.csv").exists()):
                _withdraw(folder)
                remove_empty(own)
            raise


def clear(folder: Path) -> None:
    """Take away what a run that failed has left, so that it can be done anew."""
    with claimed(folder):
        _withdraw(folder)


def record_refusal(folder: Path, error: UserError, overrides: list[str]) -> None:
    """Leave a summary of a sweep's run that could not begin, for the sweep's comparison."""
    from lgm_cli.results.files import write_json_atomic
    from lgm_cli.results.host import versions

    record = {"status": "failed", "error": {"what": error.what, "mend": error.mend}, "warnings": [], "last_row": {}}
    record |= {"overrides": overrides, "versions": versions(), "total_seconds": 0.0}
    write_json_atomic(folder / "summary.json", record)


def _withdraw(folder: Path) -> None:
    """Take back what was written of a run that could not begin, in a folder that held nothing of a run before."""
    for name in RECORD:
        path = folder / name
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def remove_empty(folders: Iterable[Path]) -> None:
    """Take back the folders that were made for a run that did not begin, as far as they are empty."""
    with suppress(OSError):
        for path in folders:
            path.rmdir()


def open_own(path: Path, flags: int) -> int:
    """Open a file of a run's folder for writing, made where there is none; gives its descriptor.

    A link, symbolic or hard, and what is no file are refused, since something outside the folder would be written.
    """
    flags |= os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe is not waited for
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        raise _linked(path) if os.path.islink(path) else error from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise _linked(path)
    return descriptor


def _linked(path: Path) -> UserError:
    return UserError(f"{path} is a link or not a file", OWN_ALONE)


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Keep other processes out of the folder, by a lock of the system's that ends with this process however it ends.

    Gives whether checkpoint/, where the lock lies, was made for it. Only the holder may remove the lock.
    """
    for name in FOLDERS:
        path = folder / name
        if os.path.islink(path) or (os.path.lexists(path) and not os.path.isdir(path)):
            raise UserError(f"{path} is a link or not a folder", OWN_ALONE)
    lock, made = _locked(folder / "checkpoint")
    try:
        with suppress(OSError):  # a full disk: the lock holds without a name on it
            os.ftruncate(lock, 0)
            os.write(lock, str(os.getpid()).encode())
        yield made
    finally:
        with suppress(OSError):
            os.ftruncate(lock, 0)
        os.close(lock)


def _locked(place: Path) -> tuple[int, bool]:
    """The lock in `place`, held, by its descriptor; and whether `place` was made for it."""
    path = place / "lock"
    while True:
        made = not os.path.isdir(place)
        try:
            place.mkdir(exist_ok=True)
            lock = open_own(path, os.O_RDWR)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and place.parent.is_dir():
                continue  # the holder has just removed it
            raise cannot_write(place.parent, error, "check its permissions and the disk") from error
        try:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(lock, 20).decode(errors="replace")
            os.close(lock)
            what = f"{place.parent} is in use by process {owner}"
            raise UserError(what, "wait until it has ended, or stop it") from None
        except OSError:
            log.debug("the file system of %s has no locks", place)
        with suppress(OSError):
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock, made
        os.close(lock)  # its holder removed it before it was held here


class _Log(logging.FileHandler):
    """A run's log, which is no link to a file elsewhere."""

    def _open(self) -> TextIOWrapper:
        return os.fdopen(open_own(Path(self.baseFilename), os.O_WRONLY | os.O_APPEND), "a", encoding="utf-8")


def log_to(folder: Path) -> None:
    """Log to the console and to the folder's run.log, as Hydra does for a run."""
    try:
        console, file = logging.StreamHandler(sys.stdout), _Log(folder / "run.log")
    except OSError as error:
        raise cannot_write(folder / "run.log", error, OTHER_FOLDER) from error
    console.setFormatter(PrintableFormatter("%(message)s"))
    file.setFormatter(PrintableFormatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[console, file], force=True)
