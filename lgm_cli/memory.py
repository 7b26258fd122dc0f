"""What fits into memory."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from lgm_cli.observations.chunk import Chunk

EXACT_ELEMENTS = 1 << 24  # numbers that the posteriors of one part of a chunk may take (64 MiB in float32)
EXACT_PARTS = 4  # but at least so many data points, however large they are


def available_memory(device: torch.device) -> float:
    """Bytes that a computation on the device may still take; infinity where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    limits = [float("inf")]
    try:
        fields = Path("/proc/meminfo").read_text(encoding="ascii").split("MemAvailable:")
        limits.append(1024.0 * int(fields[1].split()[0]))
    except (OSError, IndexError, ValueError):
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            limits.append(float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE"))
    group = Path("/sys/fs/cgroup")  # a container's own limit; its page cache can be had back
    try:
        limit = float((group / "memory.max").read_text(encoding="ascii"))
        used = float((group / "memory.current").read_text(encoding="ascii"))
        cache = (group / "memory.stat").read_text(encoding="ascii").split("inactive_file ")[1].split()[0]
        limits.append(limit - used + float(cache))
    except (OSError, ValueError, IndexError):
        pass
    return min(limits)


def exact_part_size(chunk: Chunk, dim: int) -> int:
    """How many data points to factorise at once."""
    if chunk.index is not None and chunk.index.dim() == 1:
        return max(EXACT_PARTS, EXACT_ELEMENTS // (4 * dim * len(chunk.index)))  # they share one factorisation
    width = chunk.width
    each = width * dim + (min(width, dim) + 1) ** 2 + (dim + 1) ** 2 // 2
    if chunk.index is not None:
        each += width * (dim + 2) ** 2  # the statistics of a closed-form update, entry by entry
    return max(EXACT_PARTS, EXACT_ELEMENTS // each)
