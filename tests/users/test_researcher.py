"""A researcher who compares methods: a sweep, its table and page, the same sweep again, a comparison of any runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from tests.users.conftest import Command

SWEEP = (
    *("--multirun", "model=factor_analysis", "model.latent_dim=2", "data=simulated", "data.num_points=150"),
    *("data.num_dimensions=8", "method=em,ecm", "seed=0,1", "max_steps=60", "tolerance=1e-6"),
    "hydra.sweep.dir=study",
)


def test_which_method_wins(lgm_run: Command, tmp_path: Path) -> None:
    ended = lgm_run(*SWEEP)
    assert ended.returncode == 0, ended.stderr
    table = pd.read_csv(tmp_path / "study" / "comparison.csv")
    assert len(table) == 4
    assert set(zip(table["method"], table["seed"], strict=True)) == {(m, s) for m in ("em", "ecm") for s in (0, 1)}

    # What is printed is the mean and the standard deviation of what the runs' own files say.
    for method, own in table.groupby("method"):
        last = [
            pd.read_csv(tmp_path / "study" / name / "metrics.csv").iloc[-1]["test_log_likelihood"]
            for name in own["run"]
        ]
        np.testing.assert_allclose(own["test_log_likelihood"], last, rtol=1e-12)
        line = next(line for line in ended.stdout.splitlines() if line.startswith(f"{method} "))
        mean, spread = re.search(r"(-?\d+\.\d+) ± (\d[\d.e-]*)", line).groups()  # type: ignore[union-attr]
        np.testing.assert_allclose(float(mean), np.mean(last), atol=6e-5)
        np.testing.assert_allclose(float(spread), np.std(last, ddof=1), rtol=0.06)
    page = (tmp_path / "study" / "report.html").read_text()
    assert "Comparison of 4 runs" in page and page.count("data:image/png") >= 1
    assert "http://" not in page and "https://" not in page

    # Again: nothing is learned anew. One folder away: that run alone is.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "study").rglob("parameters.safetensors")}
    assert len(before) == 4
    again = lgm_run(*SWEEP)
    assert again.returncode == 0 and again.stdout.count("has ended before, and is kept") == 4
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "study").rglob("parameters.safetensors")}

    # A longer sweep of other runs, compared with these.
    other = lgm_run(*SWEEP[1:5], "model.latent_dim=1", "method=em", "max_steps=60", "hydra.run.dir=single")
    assert other.returncode == 0, other.stderr
    both = lgm_run("report=study,single", "hydra.run.dir=both")
    assert both.returncode == 0, both.stderr
    assert len(pd.read_csv(next(tmp_path.rglob("both/comparison.csv")))) == 5


def test_what_failed_is_said_with_its_reason_and_the_others_count(lgm_run: Command, tmp_path: Path) -> None:
    ended = lgm_run(
        *("--multirun", "data=simulated", "data.num_points=60", "data.num_dimensions=5", "method=em", "max_steps=20"),
        *("model.latent_dim=1,2,-1", "hydra.sweep.dir=study"),
    )
    assert ended.returncode == 1
    table = pd.read_csv(tmp_path / "study" / "comparison.csv").set_index("model.latent_dim")
    assert table.loc[-1, "status"] == "failed"
    assert "model.latent_dim=-1 is not an integer >= 1" in str(table.loc[-1, "reason"])
    assert "model.latent_dim=-1 is not an integer >= 1" in ended.stderr
    assert (table.loc[[1, 2], "status"] != "failed").all()
    assert "3 runs: " in ended.stdout and "1 failed" in ended.stdout
    assert "model.latent_dim=-1 is not an integer" in (tmp_path / "study" / "report.html").read_text()
