"""Finding a user's file and making sure that it is text."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

from lgm_cli.errors import UserError, nearest


def find(options: dict[str, Any]) -> Path:
    """The file at data.path, read once to know that it is UTF-8 text (a byte order mark is fine)."""
    if not options.get("path"):
        raise UserError(f"data={options['name']} reads your own file and data.path is not set", "data.path=FILE")
    path = Path(str(options["path"])).expanduser()
    if path.is_fifo() or path.is_char_device():
        raise UserError(f"data.path={path} can be read only once", "write the data to a file first")
    try:
        _require_text(path)
    except FileNotFoundError:
        raise UserError(f"data.path={path} does not exist", _neighbour(path)) from None
    except IsADirectoryError:
        raise UserError(f"data.path={path} is a directory", "name a file in it") from None
    except OSError as error:
        raise UserError(f"data.path={path} cannot be read: {error.strerror}", "check the file") from None
    return path


def _require_text(path: Path) -> None:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line, blank = 1, True
    with path.open("rb") as file:
        chunk = b"\n"
        while chunk:
            chunk = file.read(1 << 24)
            if b"\0" in chunk:
                raise UserError(f"{path} is a binary file", "give a text file in UTF-8")
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                raise UserError(f"{path}, line {line} is not UTF-8 text", "save the file as text in UTF-8") from None
            line += chunk.count(b"\n")
            blank = blank and not text.strip()
    if blank:
        raise UserError(f"{path} is empty", "name a file with data in it")


def _neighbour(path: Path) -> str:
    try:
        name = nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        name = None
    return f"did you mean {path.with_name(name)}?" if name else "a relative path starts at the working directory"
