"""What fits into memory."""

from __future__ import annotations

import os
from pathlib import Path

import torch


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
