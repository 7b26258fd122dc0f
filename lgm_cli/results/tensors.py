"""Tensors to and from safetensors files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from lgm_cli.errors import UserError
from lgm_cli.results.files import atomic_path


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with atomic_path(path) as temporary:  # save_file() would make a file that its owner alone may read
        temporary.write_bytes(save({name: value.contiguous() for name, value in tensors.items()}))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Those of a file that a run has left; none where there is no file, which a model that needs it refuses."""
    try:
        found = load_file(path) if path.exists() else {}
    except (OSError, ValueError, LookupError, SafetensorError):  # LookupError: a kind of number that torch lacks
        raise UserError(f"{path} cannot be read", "learn the run again") from None
    if not all(value.dtype == torch.float64 and bool(value.isfinite().all()) for value in found.values()):
        raise UserError(f"{path} is damaged: a run does not write such values", "learn the run again")
    return found
