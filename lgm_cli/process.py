"""A run among other processes: its standard streams, its threads and memory, the signals that stop it."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import signal
import sys
from contextlib import suppress
from typing import Any, TextIO

from lgm_cli.errors import printable, shortened

try:
    import resource
except ImportError:  # Windows
    resource = None

OUT_OF_MEMORY = (  # the words of libraries whose errors have no type of their own
    "out of memory|(can't|cannot|unable to) allocate|bad_alloc|failed to map segment|can't start new thread"
    "|storage size calculation overflowed|array is too big|maximum allowed dimension"
)
MOST_THREADS = 4  # for each core

log = logging.getLogger(__name__)


def open_streams() -> None:
    """Give the process the standard streams that it was started without: the next file would take their place."""
    for number, (name, mode) in enumerate({"stdin": "r", "stdout": "w", "stderr": "w"}.items()):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever encoding the terminal has


def say(stream: TextIO, text: str) -> None:
    """Write to a standard stream. One that is closed or full, or whose reader is gone, changes nothing else."""
    with suppress(OSError, ValueError):
        stream.write(text)
        stream.flush()


def close_streams() -> None:
    """Flush the standard streams, so that nothing is left to fail when the interpreter ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def threads_asked() -> int | None:
    """The threads that OMP_NUM_THREADS asks for; None when it is not set.

    What is not a number of threads is said and taken out, so that OpenMP, which reads it when torch is imported, does
    not complain of it too.
    """
    text = os.environ.get("OMP_NUM_THREADS")
    if text is None:
        return None
    most = MOST_THREADS * cores()
    outermost = re.fullmatch(r"\s*(\d{1,6})\s*(,\s*\d+\s*)*", text, re.ASCII)  # a list is of nested regions
    if outermost and 1 <= (threads := int(outermost[1])) <= most:
        return threads
    if text.strip():
        shown = printable(shortened(text))  # here too: bytes that were no text can go into no report
        log.warning("OMP_NUM_THREADS=%s is left aside: it is no number from 1 to %d", shown, most)
    del os.environ["OMP_NUM_THREADS"]
    return None


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_is_limited() -> bool:
    """Whether `ulimit -v` bounds the addresses of this process."""
    return resource is not None and resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory is used up. Under a limit, a library that cannot be loaded says so too."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    if re.search(OUT_OF_MEMORY, str(error), re.IGNORECASE):
        return True
    return isinstance(error, ImportError | SystemError) and memory_is_limited()


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
