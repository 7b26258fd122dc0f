"""The machine a run is timed on, the versions behind it, and its memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from lgm_cli import __version__
from lgm_cli.results.metrics import log

LIBRARIES = ("torch", "numpy", "pandas", "hydra-core", "omegaconf", "safetensors")


def peak_memory_mib(device_mib: float = 0.0) -> float | None:
    """The most memory this process has held: resident, plus `device_mib` on a device; None where unknown.

    On Linux it is VmHWM, because ru_maxrss of a new process starts at the peak of the one that launched it.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        kibibytes = int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        try:
            import resource
        except ImportError:  # Windows
            return None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        kibibytes = peak / 1024 if sys.platform == "darwin" else peak  # bytes on macOS
    return kibibytes / 1024 + device_mib


def reset_peak_memory() -> None:
    """Start the peak anew where the system can (Linux): runs in one process do not inherit each other's."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        log.debug("the peak memory of earlier runs in this process is counted in")


def host() -> dict[str, Any]:
    """The machine a run was timed on: processor, the cores this process may use, operating system."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count()
    return {"processor": _processor(), "cores": cores, "platform": platform.platform()}


def _processor() -> str:
    try:
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except (OSError, subprocess.CalledProcessError):
        log.debug("the processor's name is not to be had")
    return platform.processor() or platform.machine()


def versions() -> dict[str, str | None]:
    """Versions of this program, Python and the libraries, from their metadata: nothing is imported."""
    found: dict[str, str | None] = {"lgm-run": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
