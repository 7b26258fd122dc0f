"""How the runs of a sweep ended is read from their folders, wherever they ran, and said once for all that are alike."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from lgm_cli.command.sweep import SweepFolder, alike, all_recorded, exit_code, recorded
from lgm_cli.errors import RunFailed, UserError

REFUSED = {"status": "failed", "error": {"what": "seed=x", "mend": "seed=0"}}


def write(folder: Path, summary: object, begun: bool = True) -> Path:
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(summary))
    if begun:
        (folder / "metrics.csv").write_text("step\n0\n")
    return folder


def test_runs_of_other_processes_are_known_by_their_summaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    since = time.time() - 10
    good = write(tmp_path / "0-a", {"status": "max_steps"})
    lost = write(tmp_path / "1-a", {"status": "diverged", "error": None})
    full = write(tmp_path / "2-a", {"status": "failed", "error": {"what": "disk full", "mend": "make room"}})
    refused = write(tmp_path / "3-a", REFUSED, begun=False)
    damaged = write(tmp_path / "4-a", [1])
    earlier = write(tmp_path / "5-a", REFUSED)
    os.utime(earlier / "summary.json", (since - 10, since - 10))
    monkeypatch.setattr(SweepFolder, "path", tmp_path)
    assert recorded(damaged, since) is recorded(earlier, since) is recorded(tmp_path / "none", since) is None
    ended = all_recorded(since)
    assert [folder for folder, _ in ended] == [good, lost, full, refused]
    assert [type(error) for _, error in ended] == [type(None), RunFailed, RunFailed, UserError]
    assert list(alike(ended)) == [
        "run 1-a: the run diverged (what is known of it is in its folder)",
        "run 2-a: disk full (make room)",
        "run 3-a: seed=x (seed=0)",
    ]


def test_what_many_runs_failed_of_is_one_line() -> None:
    ended = [(Path(f"s/{k}"), RunFailed("gone", f"see s/{k}") if k % 2 else None) for k in range(20)]
    assert list(alike(ended)) == ["10 runs 1, 3, 5 and 7 more: gone (see its folder)"]


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([], 0),
        ([None, None], 0),
        ([UserError("a", "b")] * 2, 2),
        ([UserError("a", "b"), None], 1),
        ([UserError("a", "b"), RunFailed("a", "b")], 1),
        ([ZeroDivisionError()], 1),
    ],
)
def test_the_exit_code_of_a_sweep(errors: list[Exception | None], code: int) -> None:
    assert exit_code([(Path("s"), error) for error in errors]) == code
