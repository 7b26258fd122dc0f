"""A run among other processes: the signals that stop it, the lock on its folder."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lgm_cli.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

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


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other runs out of the folder, by a lock of the system's that ends with this process however it ends."""
    try:
        (folder / "checkpoint").mkdir(exist_ok=True)
        file = (folder / "checkpoint" / "lock").open("a+", encoding="ascii")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}", "check its permissions and the disk") from error
    with file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read()
            raise UserError(f"{folder} is in use by process {owner}", "wait until it has ended, or stop it") from None
        except OSError:
            log.debug("the file system of %s has no locks", folder)
        with suppress(OSError):  # a full disk: the lock holds without a name on it
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield
