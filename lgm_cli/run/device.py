"""Device, threads and precision."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from lgm_cli.errors import UserError
from lgm_cli.machine import MOST_THREADS, cores, threads_asked
from lgm_cli.models.base.latent_variable_model import LatentVariableModel

DTYPES = {"float32": torch.float32, "float64": torch.float64}


SMALL_WORK = 5e6  # half the multiplications of a product with A, up to which one thread is as good as several


def device(options: Mapping[str, Any]) -> torch.device:
    """The device of the configuration, with its threads set; UserError when it is not there."""
    name = options["name"]
    there = {"cpu": lambda: True, "cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if name == "auto":
        name = "cuda" if there["cuda"]() else "cpu"
    if not there[name]():
        found = ", ".join(kind for kind, present in there.items() if present())
        raise UserError(f"device={name} is not to be had on this machine", f"use one of: {found}")
    threads, most = options["threads"], cores()
    if threads == "auto":
        threads = threads_asked() or most  # a scheduler's word counts
    elif threads > MOST_THREADS * most:
        advice = f"use device.threads={most}, at most {MOST_THREADS * most}"
        raise UserError(f"device.threads={threads} on {most} cores", advice)
    torch.set_num_threads(threads)
    if name == "cuda":  # sums in a fixed order: the same seed gives the same numbers
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.cuda.reset_peak_memory_stats()
    return torch.device(name)


def spare_threads(options: Mapping[str, Any], model: LatentVariableModel) -> None:
    """One thread for small data where the number was left open: there, several gain little, and wait for each other
    many times as long when another process is busy."""
    small = model.product_operations(np.array([model.observations.observed]))[0] < 2 * SMALL_WORK
    if small and options["threads"] == "auto" and not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(1)


def dtype(options: Mapping[str, Any], model: LatentVariableModel) -> torch.dtype:
    """That of the configuration's device group, or double precision where the model needs it and the device has it."""
    if model.double_precision and options["name"] != "mps":
        return torch.float64
    return DTYPES[options["dtype"]]


def describe(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What a run was timed on, for summary.json: processor threads, the device, a GPU by its name, the numbers."""
    found: dict[str, Any] = {"threads": torch.get_num_threads(), "device": str(device)}
    found["dtype"] = str(dtype).removeprefix("torch.")
    return found | ({"device_name": torch.cuda.get_device_name(device)} if device.type == "cuda" else {})
