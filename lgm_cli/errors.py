"""What a user is told when something is wrong: what was found, and what to change."""

from __future__ import annotations

import difflib
import errno
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

ANEW = "start the run anew in another folder"  # the remedy where a run cannot go on
# Control characters, line separators, marks that turn the direction of writing, and bytes that were no text.
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
STYLES = {"bold": "1", "yellow": "33", "red": "31"}  # of the terminal, by ECMA-48
NO_TEXTS = ("null", "true", "false", "nan", "inf")  # words that Hydra reads as something else
SHORT = 200  # characters of a value that are shown


def printable(text: str) -> str:
    """The text on one line, with what a terminal would obey instead of showing written as an escape.

    >>> print(printable("a\\x1b[31m" + chr(10) + "b"))
    a\\x1b[31m\\nb
    """
    return UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def shortened(text: str) -> str:
    """The text as far as a message has room for it."""
    return text if len(text) <= SHORT else f"{text[:SHORT]}... ({len(text):,} characters)"


def spelled(value: Any) -> str:
    """A value as the command line spells it.

    >>> spelled([None, True, "a"])
    '[null,true,a]'
    """
    if isinstance(value, dict):
        return shortened(f"{{{','.join(f'{key}:{spelled(item)}' for key, item in value.items())}}}")
    if isinstance(value, list | tuple):
        return shortened(f"[{','.join(map(spelled, value))}]")
    return shortened("null" if value is None else str(value).lower() if isinstance(value, bool) else str(value))


def quoted(text: str) -> str:
    """The text as Hydra reads it back from a command line, whatever is in it: in quotes unless it is a plain word.

    >>> print(quoted("Nr"), quoted("a b"), quoted("null"))
    Nr "a b" "null"
    """
    if re.fullmatch(r"/?[A-Za-z_][\w./-]*", text, re.ASCII) and text.casefold() not in NO_TEXTS:
        return text
    # A backslash counts double before a quote alone.
    escaped = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), text)
    return f'"{escaped}"'.replace("${", "\\${")


def proposed(key: str, value: str) -> str:
    """`key=value` as a person may paste it into a shell, for Hydra to read the value back.

    >>> print(proposed("data.index", "a b"))
    'data.index="a b"'
    """
    return shlex.quote(f"{key}={quoted(value)}")


class PrintableFormatter(logging.Formatter):
    """Formats every line of a log, on the console and in run.log, so that names and labels cannot forge another."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record).expandtabs(4))  # Hydra indents by them

    def formatException(self, ei: Any) -> str:
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def coloured(text: str, style: str, stream: TextIO | None) -> str:
    """The text in bold, yellow or red, where the stream is a terminal that shows them and NO_COLOR is not set."""
    shows = stream is not None and stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if shows and not os.environ.get("NO_COLOR") else text


class ConsoleFormatter(PrintableFormatter):
    """Formats the lines of a log on the console: a verdict is bold, a warning yellow, an error red."""

    def format(self, record: logging.LogRecord) -> str:
        style = "red" if record.levelno >= logging.ERROR else "yellow" if record.levelno >= logging.WARNING else None
        style = style or ("bold" if getattr(record, "verdict", False) else None)
        text = super().format(record)
        return coloured(text, style, sys.stdout) if style else text


class UserError(Exception):
    """Something the user can mend, found before work began: one line `what (mend)`, exit code 2."""

    exit_code = 2

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what, mend)  # both in args, so that the error survives pickling between processes
        self.what = what
        self.mend = mend

    def __str__(self) -> str:
        return printable(f"{self.what} ({self.mend})")


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
