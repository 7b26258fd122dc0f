"""The state that a run goes on from: one file, replaced whole, read without running anything that is in it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from lgm_cli.errors import ANEW, UserError
from lgm_cli.recorder import atomic_path

FILE = "state.pt"
LARGEST = 2**53  # whole numbers below it are exact in every format
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


def require(found: Any, like: Any, name: str) -> None:
    """Raise ValueError, with the name of what is wrong, unless a part of a state is as it was saved.

    like: a tensor (found must have its shape and dtype, and be finite), a dictionary of the same keys, a dataclass
    whose fields were saved as a dictionary, or a type. Whole numbers are counts, which are not negative.
    """
    if isinstance(like, Tensor):
        alike = isinstance(found, Tensor) and (found.shape, found.dtype, found.layout) == (
            like.shape, like.dtype, torch.strided,
        )  # fmt: skip
        good = alike and bool(found.isfinite().all())
    elif isinstance(like, Mapping) or is_dataclass(like):
        like = get_type_hints(like) if is_dataclass(like) else like
        good = isinstance(found, dict) and found.keys() == like.keys()
        for key in like if good else ():
            require(found[key], like[key], f"{name}.{key}")
    elif isinstance(like, UnionType):
        kinds = [kind for kind in get_args(like) if kind is not type(None)]
        good = found is None or len(kinds) == 1
        if found is not None and good:
            require(found, kinds[0], name)
    elif get_origin(like) is list:
        good = isinstance(found, list)
        for number, item in enumerate(found if good else ()):
            require(item, get_args(like)[0], f"{name}[{number}]")
    elif get_origin(like) is dict:
        good = isinstance(found, dict) and all(isinstance(key, get_args(like)[0]) for key in found)
        for key in found if good else ():
            require(found[key], get_args(like)[1], f"{name}.{key}")
    elif like in (int, float):
        good = isinstance(found, int) and not isinstance(found, bool) and 0 <= found < LARGEST
        good = good or (like is float and isinstance(found, float))
    else:
        good = like is Any or found is like or (like is not None and isinstance(found, get_origin(like) or like))
    if not good:
        raise ValueError(name)
