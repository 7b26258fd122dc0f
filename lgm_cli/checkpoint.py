"""The state that a run goes on from: one file, replaced whole, read without running anything that is in it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lgm_cli.errors import UserError
from lgm_cli.recorder import atomic_path

FILE = "state.pt"
FORMAT = 1  # to be raised when checkpoints of earlier versions can no longer be gone on from


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Put `state` (tensors and plain values, nested) in place of what was there."""
    folder.mkdir(exist_ok=True)
    content = io.BytesIO()  # torch's own writer calls a full disk a RuntimeError
    torch.save({"format": FORMAT, **state}, content)
    with atomic_path(folder / FILE) as temporary:
        temporary.write_bytes(content.getbuffer())


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The state that was saved last, on the CPU; UserError when it is damaged or of another format."""
    path = folder / FILE
    anew = "start the run anew in another folder"
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch does not compare the checksums that it writes
        state = None if damaged else torch.load(path, weights_only=True, map_location="cpu")
    except MemoryError:
        raise
    except Exception as error:  # damage makes the reader stumble in many ways
        raise UserError(f"{path} is damaged", anew) from error
    if not isinstance(state, dict):
        raise UserError(f"{path} is damaged", anew)
    if state.get("format") != FORMAT:
        raise UserError(f"{path} was written by another version of lgm-run", f"use that version, or {anew}")
    return state
