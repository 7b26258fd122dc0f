"""Reads the folders of runs: finished, failed or broken off, alone or in a sweep."""

from __future__ import annotations

import csv
import math
import os
import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lgm_cli.errors import UserError, spelled
from lgm_cli.results.metrics import FILE as METRICS
from lgm_cli.results.run_folder import key_of, summary_of

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

MARKS = ("summary.json", ".hydra/overrides.yaml", METRICS)  # a folder that has any of these is that of a run
GROUPS = ("model", "data", "method", "solver", "device")
SPLIT = ("seed", "data.split_seed")  # keys that repeat a run with other random numbers


@dataclass(frozen=True)
class Run:
    """One run as its folder tells it.

    status: the summary's word; `killed` where there is no summary, `running` where a process still holds the folder.
    reason: why it failed, or an empty text. course: rows of metrics.csv as numbers, NaN where a cell is empty.
    """

    folder: Path
    name: str
    status: str
    reason: str
    overrides: list[str]
    summary: Mapping[str, Any]
    config: Mapping[str, Any]
    course: Mapping[str, list[float]] = field(repr=False)

    def value(self, key: str) -> str | None:
        """What a key was, as the command line spells it; None where the run did not have it."""
        found: Any = self.config
        for part in [*key.split("."), *(["name"] if key in GROUPS else [])]:
            if not isinstance(found, Mapping) or part not in found:
                given = [item.partition("=")[2] for item in self.overrides if key_of(item) == key]
                return given[-1] if given else None
            found = found[part]
        return spelled(found)

    def last(self, column: str) -> float:
        """The run's final number, NaN where it has none: from the summary, or else the last row of metrics.csv."""
        row = self.summary.get("last_row")
        value = row.get(column) if isinstance(row, Mapping) and row else (self.course.get(column) or [math.nan])[-1]
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan

    def own(self, key: str) -> float:
        """A number of the summary beside the last row, such as bic; NaN where there is none."""
        value = self.summary.get(key)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan

    @property
    def sound(self) -> bool:
        """Whether its final numbers count in a mean."""
        return self.status not in ("failed", "diverged", "killed", "running", "not_mixed")

    @property
    def exact(self) -> bool:
        """Whether it learned from exact posteriors."""
        method = self.config.get("method")
        return isinstance(method, Mapping) and method.get("posterior") == "exact"

    @property
    def command(self) -> str:
        """The command that repeats it, quoted for a shell."""
        return shlex.join(["lgm-run", *self.overrides])


def is_run(folder: Path) -> bool:
    return any((folder / mark).is_file() for mark in MARKS)


def find(folders: Iterable[Path]) -> list[Run]:
    """Every run in these folders, each once, in the order of its number or name."""
    found: dict[str, Run] = {}
    for folder in folders:
        paths: list[Path] = []
        for place, names, _ in os.walk(folder):
            if is_run(Path(place)):
                paths.append(Path(place))
                names.clear()  # nothing inside a run is another
        for path in sorted(paths, key=_order):
            found.setdefault(os.path.realpath(path), read(path, folder))
    return list(found.values())


def _order(path: Path) -> tuple[str, float, str]:
    """By the number in front of a sweep's runs, which is not the order of their letters."""
    number = path.name.partition("-")[0]
    return str(path.parent), int(number) if number.isdecimal() and len(number) < 9 else math.inf, path.name


def read(folder: Path, base: Path | None = None) -> Run:
    """One run. base: the folder that its name is told from."""
    reason = ""
    try:
        summary = summary_of(folder)
    except UserError as error:
        summary, reason = {"status": "failed"}, str(error)
    if summary is None:
        status = "running" if _held(folder) else "killed"
        reason = "it has left no summary.json" if status == "killed" else "it has not ended"
        summary = {}
    else:
        status = summary["status"]
        error = summary.get("error")
        if isinstance(error, Mapping):
            reason = f"{error.get('what')} ({error.get('mend')})"
        elif status == "diverged":
            reason = "the train log-likelihood or its gradient was not finite, or fell far below the start"
    overrides = summary.get("overrides")
    if not isinstance(overrides, list):
        overrides = _yaml(folder / ".hydra" / "overrides.yaml", list)
    config = _yaml(folder / ".hydra" / "config.yaml", dict)
    inside = base is not None and base != folder and folder.is_relative_to(base)
    name = str(folder.relative_to(base)) if base is not None and inside else folder.name
    texts = [str(item) for item in overrides]
    return Run(folder, name, status, reason, texts, summary, config, _course(folder / METRICS))


def _yaml(path: Path, kind: type) -> Any:
    """What a YAML file of the record holds, empty where it cannot be read."""
    with suppress(OSError, ValueError, RecursionError, yaml.YAMLError):
        found = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if isinstance(found, kind):
            return found
    return kind()


def _course(path: Path) -> dict[str, list[float]]:
    """metrics.csv as numbers; a row that a crash has torn is left out."""
    columns: dict[str, list[float]] = {}
    with suppress(OSError, ValueError, csv.Error), path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if None in row or None in row.values():
                continue
            for name, text in row.items():
                columns.setdefault(name, []).append(_number(text))
    return columns


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _held(folder: Path) -> bool:
    """Whether a process holds the folder's lock."""
    if fcntl is None:
        return False
    try:
        with (folder / "checkpoint" / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
