"""How a command ends: its signals, its errors told or raised, and the page of a run that has ended."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lgm_cli.command import report
from lgm_cli.command.error_messages import OUT_OF_MEMORY
from lgm_cli.command.folders import log_to
from lgm_cli.command.streams import say
from lgm_cli.errors import Interrupted, RunFailed, UserError, coloured, printable, shortened
from lgm_cli.machine import out_of_memory


def _interrupt(signum: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def of_a_stream(error: Exception) -> bool:
    """Whether standard output alone is the matter: its reader is gone, or it is full. What was asked for was done."""
    return isinstance(error, OSError) and error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC)


@contextmanager
def sigterm_like_sigint(last: bool) -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, so that what is running, a launcher's workers too, is wound up.

    last: the process ends with this, so that no signal may change its exit code any more.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if last else handler)


def ended_well(work: Callable[[], dict[str, Any]], folder: Path, *, more: bool = False) -> dict[str, Any]:
    """Do the work of one run; its summary, which is returned, says how it ended, and bad ends are raised.

    more: other runs come after it.

    A signal after the last step, while files are written, changes nothing of a run's end, but ends a sweep.
    """
    try:
        summary = work()
    except Interrupted as stop:
        report.write_page(folder)
        if stop.finished is None or more:
            raise
        summary = stop.finished
    except RunFailed:
        report.write_page(folder)
        raise
    finally:
        if not more and signal.getsignal(signal.SIGTERM) is _interrupt:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
    report.write_page(folder)
    if summary["status"] in ("diverged", "failed"):
        raise RunFailed(f"the run {summary['status']}", f"what is known of it is in {folder}")
    return summary


def raise_error(error: Exception, shown: str | None = None) -> NoReturn:
    raise error


def known_error(error: Exception) -> Exception:
    """The error as one that the user can mend, where it is one."""
    if isinstance(error, OSError) and error.filename is not None:
        what = f"{shortened(str(error.filename))}: {error.strerror}"
        return UserError(what, "give another name, or mend what is wrong there")
    return OUT_OF_MEMORY if not isinstance(error, UserError) and out_of_memory(error) else error


def report_error(error: Exception, shown: str | None = None) -> int:
    """Print an error, as one line when the user can mend it, and return its exit code. shown: instead of its text."""
    error = known_error(error)
    known = isinstance(error, UserError)
    if not known or os.environ.get("HYDRA_FULL_ERROR") == "1":
        lines = "".join(traceback.format_exception(error)).split("\n")
        say(sys.stderr, "\n".join(map(printable, lines)))
    if known:
        say(sys.stderr, coloured(f"lgm-run: error: {shown or error}", "red", sys.stderr) + "\n")
    return error.exit_code if isinstance(error, UserError) else 1


@dataclass(frozen=True)
class Surroundings:
    """What a command runs in: how its errors are told, how its log is set up, whether a progress bar may be shown."""

    report: Callable[..., int] = report_error
    log_to: Callable[[Path], None] = log_to
    bar: bool = True
