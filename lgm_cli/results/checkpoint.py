"""The state that a run goes on from: one file, replaced whole, read without running anything that is in it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lgm_cli.errors import ANEW, UserError
from lgm_cli.methods.saved_state import require
from lgm_cli.results.files import atomic_path

FILE = "state.pt"
STATE = {  # what is saved of a run; Learner.load and Method.load_state check what is in the dictionaries
    **{"format": int, "identity": dict, "convergence": dict, "info": dict | None},
    "good": {"step": int, "parameters": dict, "scores": dict | None},
    "method": {"steps": int, "update": dict, "expectation": dict},
    **{"seconds": float, "earlier_seconds": float, "due": int, "row": int},
    **{"products": int, "solved": int, "iterations": float},
}

FORMAT = 2  # to be raised when checkpoints of earlier versions can no longer be gone on from


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
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch does not compare the checksums that it writes
        state = None if damaged else torch.load(path, weights_only=True, map_location="cpu")
    except MemoryError:
        raise
    except Exception as error:  # damage makes the reader stumble in many ways
        raise UserError(f"{path} is damaged", ANEW) from error
    if not isinstance(state, dict):
        raise UserError(f"{path} is damaged", ANEW)
    if state.get("format") != FORMAT:
        raise UserError(f"{path} was written by another version of lgm-run", f"use that version, or {ANEW}")
    try:
        require({key: state.get(key) for key in STATE}, STATE, "state")  # others are checked by whoever loads them
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error} is not as it was saved", ANEW) from error
    return state
