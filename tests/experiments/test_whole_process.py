"""A run that experiments start says what was wrong, and leaves its folder where that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.whole_process import on_threads, run_in, summary_of


def test_what_was_refused_is_an_error_in_its_words(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="there is no model=nothing"):
        summary_of("model=nothing")
    (tmp_path / "summary.json").write_text('{"status": "converged"}')  # of an earlier run: not this one's
    with pytest.raises(RuntimeError, match="there is no model=nothing"):
        run_in(tmp_path, "model=nothing", quiet=True)


def test_a_run_leaves_its_files_in_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    options = ("data=geyser", "model=hidden_markov", "max_steps=1", "device=cpu")
    summary = run_in(folder, *options, environment=on_threads(1), quiet=True)
    assert summary["last_row"]["step"] == 1 and (folder / "metrics.csv").exists()
