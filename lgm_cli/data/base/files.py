"""Finding a user's file, and reading it as text: its encoding, and whether it is packed."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TextIO, cast

from lgm_cli.errors import UserError, nearest

PACKED = b"\x1f\x8b"  # how a file begins that gzip has written
MARKS = {  # byte order marks; that of UTF-32 begins like that of UTF-16
    codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
HALVES = re.compile("[\ud800-\udfff]")  # of characters, which UTF-8 cannot write
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")  # in no text that people write

# What stands for a missing value, whatever the case, beside what data.missing adds.
MISSING = {"", "nan", "na", "n/a", "#n/a", "null", "none", "-", "?", ".", "missing"}


@dataclass(frozen=True)
class Text:
    """A file of text."""

    path: Path
    encoding: str
    packed: bool  # by gzip

    def open(self) -> TextIO:
        """The decoded text, its line ends as they are."""
        return io.TextIOWrapper(_bytes(self.path, self.packed), self.encoding, newline="")

    @property
    def notes(self) -> list[str]:
        """What was recognised and is not usual."""
        encoding = [] if self.encoding.startswith("utf-8") else [f"encoding {self.encoding}"]
        return encoding + ["unpacked by gzip"] * self.packed


def find(options: dict[str, Any]) -> Path:
    """The file at data.path, which is there and can be read."""
    if not options.get("path"):
        raise UserError(f"data={options['name']} reads your own file and data.path is not set", "data.path=FILE")
    path = Path(str(options["path"])).expanduser()
    if path.is_fifo() or path.is_char_device():
        raise UserError(f"data.path={path} can be read only once", "write the data to a file first")
    try:
        beginning(path)
    except FileNotFoundError:
        raise UserError(f"data.path={path} does not exist", _neighbour(path)) from None
    except IsADirectoryError:
        raise UserError(f"data.path={path} is a directory", "name a file in it") from None
    except OSError as error:
        raise UserError(f"data.path={path} cannot be read: {error.strerror}", "check the file") from None
    return path


def beginning(path: Path) -> bytes:
    """The first bytes, by which formats are told apart."""
    with path.open("rb") as file:
        return file.read(8)


def decoded(path: Path, encoding: str | None = None) -> Text:
    """The file as text, by the encoding given or (None, auto) recognised: a byte order mark, UTF-8, else cp1252."""
    packed = beginning(path).startswith(PACKED)
    with _bytes(path, packed) as file:
        try:
            head = file.read(4096)
        except (OSError, EOFError, zlib.error):
            raise _damaged(path) from None
    faults = []
    for candidate in _candidates(head) if encoding in (None, "auto") else [_known(encoding)]:
        line = _fault(path, packed, candidate, guessed=candidate == "cp1252" and candidate != encoding)
        if line is None:
            return Text(path, candidate, packed)
        faults.append(f"line {line} is not {candidate.upper() if candidate == 'utf-8' else candidate} text")
    raise UserError(f"{path}, {faults[0]}", "save the file as text in UTF-8, or say data.encoding=NAME")


def _bytes(path: Path, packed: bool) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if packed else path.open("rb")


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} is a damaged gzip file", "pack it again, or give it unpacked")


def _known(encoding: str) -> str:
    try:
        "".encode(encoding)
        codecs.getincrementaldecoder(encoding)
    except (LookupError, UnicodeError, ValueError):
        raise UserError(
            f"data.encoding={encoding} is not known", "utf-8, utf-16, cp1252, or another that Python has"
        ) from None
    return encoding


def _candidates(head: bytes) -> list[str]:
    """Encodings to try, from the beginning of a file."""
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            return [encoding]
    zeros = [head[parity::2].count(0) for parity in (0, 1)]
    if max(zeros) > len(head) / 5 and min(zeros) == 0:  # every other byte of most letters is zero
        return ["utf-16-be" if zeros[0] else "utf-16-le"]
    return ["utf-8", "cp1252"]


def _fault(path: Path, packed: bool, encoding: str, guessed: bool) -> int | None:
    """The line that is not in this encoding. Refuses what is no text, for a guess more strictly, and what is empty."""
    decoder, wide = (
        codecs.getincrementaldecoder(encoding)(),
        codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")),
    )
    binary = UserError(f"{path} is a binary file", "save it as text, such as CSV")
    line, blank = 1, True
    with _bytes(path, packed) as file:
        chunk = b"\n"
        while chunk:
            try:
                chunk = file.read(1 << 24)
            except (OSError, EOFError, zlib.error):
                if not packed:
                    raise
                raise _damaged(path) from None
            if b"\0" in chunk and not wide:
                raise binary
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeError as error:
                whole, start = getattr(error, "object", b""), getattr(error, "start", 0)
                return line + bytes(whole[:start]).count(b"\n")
            if "\0" in text or (guessed and CONTROL.search(text)):
                raise binary
            if not encoding.startswith("utf-8") and (half := HALVES.search(text)):
                return line + text[: half.start()].count("\n")
            line += text.count("\n")
            blank = blank and not text.strip()
    if blank:
        raise UserError(f"{path} is empty", "name a file with data in it")
    return None


def _neighbour(path: Path) -> str:
    try:
        name = nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        name = None
    return f"did you mean {path.with_name(name)}?" if name else "a relative path starts at the working directory"
