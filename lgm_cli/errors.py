"""What a user is told when something is wrong: what was found, and what to change."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ANEW = "start the run anew in another folder"  # the remedy where a run cannot go on


class UserError(Exception):
    """Something the user can mend, found before work began: one line `what (mend)`, exit code 2."""

    exit_code = 2

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what, mend)  # both in args, so that the error survives pickling between processes
        self.what = what
        self.mend = mend

    def __str__(self) -> str:
        return " ".join(f"{self.what} ({self.mend})".split())


class RunFailed(UserError):
    """A run that began and cannot go on (disk full, folder gone, out of memory): one line, exit code 1."""

    exit_code = 1


def cannot_write(path: Path | str, error: OSError, mend: str) -> UserError:
    """The error for what cannot be written before work began: the user's to mend, but a full disk is a failure."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    kind, how = (RunFailed, f"make room, or {mend}") if full else (UserError, mend)
    return kind(f"cannot write to {path}: {error.strerror or error}", how)


class Interrupted(KeyboardInterrupt):
    """A run that was stopped by SIGINT or SIGTERM after it wrote what it had learned: exit code 130.

    A KeyboardInterrupt, so that a sweep stops too instead of going on with its next run. finished: the summary of a run
    that ended by itself all the same, because the signal came after its last step.
    """

    def __init__(self, message: str, finished: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.finished = finished


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice that `name` most likely stands for, or None when none is close.

    >>> nearest("grdient_em", ["em", "gradient_em", "unroll"])
    'gradient_em'
    """
    choices = list(choices)
    by_folded = {choice.casefold(): choice for choice in reversed(choices)}
    found = difflib.get_close_matches(name.casefold(), list(by_folded), n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None
