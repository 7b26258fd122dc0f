"""A run among other processes: the signals that stop it, the lock on its folder."""

from __future__ import annotations

import logging
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lgm_cli.errors import UserError, cannot_write

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

FOLDERS = (".hydra", "checkpoint", "plots")  # in that of a run, which are written into

log = logging.getLogger(__name__)


class Stop:
    """What SIGINT and SIGTERM do; use it as a context manager.

    Once `patient`, the first is noted: learning ends between two steps, and everything is written. Before that, and the
    second time, KeyboardInterrupt is raised at once.
    """

    def __init__(self) -> None:
        self.asked = self.patient = False
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self.asked

    def __enter__(self) -> Stop:
        with suppress(ValueError):  # not the main thread: whoever owns it handles signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.asked or not self.patient:
            raise KeyboardInterrupt
        self.asked = True
        log.info("%s: ending this step, then writing what was learned; again to stop now", signal.Signals(number).name)


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
    return UserError(f"{path} is a link or not a file", "a run writes into its own folder alone: put a copy there")


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Keep other processes out of the folder, by a lock of the system's that ends with this process however it ends.

    Gives whether checkpoint/, where the lock lies, was made for it. Only the holder may remove the lock.
    """
    for name in FOLDERS:
        if os.path.islink(folder / name):
            raise _linked(folder / name)
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
