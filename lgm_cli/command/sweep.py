"""How the runs of a sweep ended, in whichever processes a launcher had them run."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback

from lgm_cli.errors import RunFailed, UserError

Ended = tuple[Path, Exception | None]  # a run's folder, and what it failed of

ITS_FOLDER = "its folder"  # stands for each run's own in what is said of several
NAMED = 3  # runs that failed alike


class SweepFolder(Callback):
    """Notes where the sweep that this process launches writes its runs. Hydra makes one, by conf/config.yaml."""

    path: ClassVar[Path | None] = None

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        from hydra.core.override_parser.overrides_parser import OverridesParser
        from omegaconf import read_write

        SweepFolder.path = Path(config.hydra.sweep.dir)
        given = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        fixed = [item.key_or_group for item in given if not item.is_sweep_override() or "/" in str(item.input_line)]
        with read_write(config):  # what does not vary is not in the names of its runs' folders, nor are paths
            names = ",".join(fixed)
            config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys=[{names}]")


def recorded(folder: Path, since: float) -> Ended | None:
    """How the run in a folder ended, by its summary; None when that is older, or is not there."""
    path = folder / "summary.json"
    with suppress(OSError, ValueError, TypeError, LookupError, AttributeError):  # not there, or not as it is written
        if path.stat().st_mtime < since:
            return None
        summary = json.loads(path.read_text(encoding="utf-8"))
        if summary["status"] not in ("failed", "diverged"):
            return folder, None
        error = summary.get("error") or {
            "what": f"the run {summary['status']}",
            "mend": f"what is known of it is in {folder}",
        }
        begun = (folder / "metrics.csv").exists()
        return folder, (RunFailed if begun else UserError)(error["what"], error["mend"])
    return None


def all_recorded(since: float) -> list[Ended]:
    """How the runs ended that other processes ran."""
    if SweepFolder.path is None:
        return []
    found = (recorded(path.parent, since) for path in sorted(SweepFolder.path.rglob("summary.json")))
    return [ended for ended in found if ended is not None]


def alike(ended: list[Ended]) -> dict[str, Exception]:
    """One line for all runs that failed alike, which names the first of them, and the error of one."""
    groups: dict[str, list[Ended]] = {}
    for folder, error in ended:
        if error is not None:
            groups.setdefault(str(error).replace(str(folder), ITS_FOLDER), []).append((folder, error))
    lines: dict[str, Exception] = {}
    for text, failed in groups.items():
        names = ", ".join(folder.name for folder, _ in failed[:NAMED])
        more = f" and {len(failed) - NAMED:,} more" if len(failed) > NAMED else ""
        number = f"{len(failed):,} runs" if len(failed) > 1 else "run"
        error = failed[0][1]
        assert error is not None
        lines[f"{number} {names}{more}: {text}"] = error
    return lines


def exit_code(ended: list[Ended]) -> int:
    """2 when every run was refused before it began, 1 when some were run and some failed."""
    codes = {error.exit_code if isinstance(error, UserError) else int(error is not None) for _, error in ended}
    return codes.pop() if len(codes) == 1 else int(bool(codes))
