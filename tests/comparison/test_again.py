"""The same sweep in the same folder does what is missing, failed or unfinished, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lgm_cli.command.cli import main


@pytest.mark.slow
def test_a_sweep_given_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--multirun", "model=ppca", "data=penguins", "method=em", "model.latent_dim=1,nope,2,3", "max_steps=2"]
    words.append(f"hydra.sweep.dir={tmp_path}")
    assert main(words) == 1
    first, failed, gone, killed = sorted(path for path in tmp_path.iterdir() if path.is_dir())
    assert "model.latent_dim  runs  status" in capsys.readouterr().out
    before = (first / "summary.json").read_bytes()
    shutil.rmtree(gone)
    ended = json.loads((killed / "summary.json").read_text())
    (killed / "summary.json").unlink()
    assert main(words) == 1
    said = capsys.readouterr().out
    assert f"{first.name} has ended before, and is kept" in said
    assert f"{failed.name} had failed or had hardly begun, and is done anew" in said
    assert f"{killed.name} had not ended, and goes on from its checkpoint" in said
    assert (first / "summary.json").read_bytes() == before
    assert json.loads((failed / "summary.json").read_text())["error"]["what"].startswith("model.latent_dim=nope")
    assert json.loads((gone / "summary.json").read_text())["status"] == "max_steps"
    again = json.loads((killed / "summary.json").read_text())
    assert again["last_row"]["test_log_likelihood"] == ended["last_row"]["test_log_likelihood"]
    assert (tmp_path / "comparison.csv").read_text().count("\n") == 5
