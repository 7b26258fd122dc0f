"""What a run leaves on disk: metrics.csv row by row, other files whole, the host."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import logging
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lgm_cli import __version__
from lgm_cli.errors import ANEW, UserError

COLUMNS = (
    "step",
    "fit_seconds",
    "train_log_likelihood",
    "test_log_likelihood",
    "log_likelihood_se",
    "test_rmse",
    "gradient_norm",
    "solver_iterations",
    "solver_residual",
    "matvecs",
    "peak_memory_mib",
)
LIBRARIES = ("torch", "numpy", "pandas", "hydra-core", "omegaconf", "safetensors")
FILE = "metrics.csv"

log = logging.getLogger(__name__)


class Recorder:
    """metrics.csv: one row per evaluation, on disk as soon as it is known.

    The columns are COLUMNS and then the model's own. The file is opened anew for each row, and never created
    again, so that a full disk or a folder that was removed raises its OSError at the very next row.
    """

    def __init__(
        self, folder: Path, extra_columns: Iterable[str] = (), rows: Sequence[dict[str, Any]] | None = None
    ) -> None:
        """Start the file; or, given the rows that are kept of an earlier one, leave it as it is until `rewind`."""
        self.path = Path(folder) / FILE
        self.columns = (*COLUMNS, *extra_columns)
        self.rows = list(rows or ())
        if rows is None:
            self.rewind()

    @classmethod
    def resume(cls, folder: Path, step: int, extra_columns: Iterable[str] = ()) -> Recorder:
        """Go on after the row of `step`: later rows, a second one of a step and one torn by a crash are dropped."""
        found = cls(folder, extra_columns, ())
        what = f"{found.path} is missing or is not a run's metrics"
        damaged = UserError(what, ANEW)
        try:
            header, *lines = found.path.read_text(encoding="utf-8").split("\n")
            whole = [line.split(",") for line in lines[:-1]]  # [-1] has no line end
            rows = [
                dict(zip(found.columns, map(_number, cells), strict=True))
                for cells in whole
                if len(cells) == len(found.columns)
            ]
        except (OSError, ValueError):
            raise damaged from None
        if tuple(header.split(",")) != found.columns or not all(isinstance(row["step"], int) for row in rows):
            raise damaged
        kept = {int(row["step"] or 0): row for row in reversed(rows)}  # the first of a step
        found.rows = [kept[at] for at in sorted(kept) if at <= step]
        return found

    def rewind(self) -> None:
        """Write the file anew, with the rows that are kept."""
        lines = (",".join(self.columns), *(self._line(row) for row in self.rows))
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")

    def _line(self, row: Mapping[str, Any]) -> str:
        return ",".join("" if value is None else repr(value) for value in row.values())

    def row(self, *, step: int, **values: Any) -> None:
        """Append one evaluation. What is left out, None or not a number becomes an empty cell."""
        unknown = values.keys() - set(self.columns)
        if unknown:
            raise ValueError(f"no such columns in {FILE}: {', '.join(sorted(unknown))}")
        row = {column: _present(values.get(column)) for column in self.columns} | {"step": int(step)}
        line = f"{self._line(row)}\n".encode()
        with self.path.open("r+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if file.write(line) < len(line):  # the disk is full: leave no torn row behind
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self.rows.append(row)

    @property
    def last(self) -> dict[str, Any]:
        """The newest row, with None for an empty cell; {} before the first."""
        return self.rows[-1] if self.rows else {}


def _present(value: Any) -> int | float | None:
    """A plain number, with all of its digits, or None for a cell that does not apply."""
    value = value.item() if hasattr(value, "item") else value
    return None if value is None or math.isnan(value) else value


def _number(cell: str) -> int | float | None:
    if not cell:
        return None
    return int(cell) if cell.lstrip("-").isdigit() else float(cell)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` at the end; on an error `path` stays as it was.

    The temporary file lies in the same folder, so that the replacement is one rename, and keeps the suffix,
    from which some writers infer the format.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    temporary.unlink(missing_ok=True)  # a link would be followed
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # the content before the name: a crash leaves the old file or the new one
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json_atomic(path: Path, value: Any) -> None:
    """Write strict JSON: NaN and infinity become null, arrays and scalars of any library become plain."""
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # an array or a scalar of NumPy, torch or pandas
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


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
