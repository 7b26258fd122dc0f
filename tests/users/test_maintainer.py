"""A maintainer of a cluster: what a job leaves, a killed job, exit codes, a data set of the laboratory's own."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

from tests.users.conftest import ENVIRONMENT, Command

JOB = (
    *("model=factor_analysis", "data=simulated", "data.num_points=400", "data.num_dimensions=20", "method=em"),
    *("tolerance=0", "max_steps=400", "eval_every=5", "checkpoint_seconds=0.2", "device=cpu", "device.threads=1"),
)


def test_a_killed_job_goes_on_as_if_it_had_not_been(lgm_run: Command, tmp_path: Path) -> None:
    whole = lgm_run(*JOB, "hydra.run.dir=whole")
    assert whole.returncode == 0, whole.stderr
    job = subprocess.Popen(
        [sys.executable, "-m", "lgm_cli", *JOB],
        cwd=tmp_path,
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    latest = tmp_path / "outputs" / "latest"
    until = time.monotonic() + 120
    while not (latest / "checkpoint" / "state.pt").exists() and job.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert not (latest / "summary.json").exists()
    resumed = lgm_run("resume=outputs/latest")
    assert resumed.returncode == 0, resumed.stderr
    assert "going on after step" in resumed.stdout
    expected, found = (load_file(place / "parameters.safetensors") for place in (tmp_path / "whole", latest))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    steps = [pd.read_csv(place / "metrics.csv")["step"].tolist() for place in (tmp_path / "whole", latest)]
    assert steps[0] == steps[1]
    with (tmp_path / "outputs" / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["status"], row["step"]) for row in rows] == [("max_steps", "400")]
    assert (tmp_path / "outputs" / rows[0]["folder"]).resolve() == latest.resolve()


def test_a_data_set_of_the_laboratory_and_what_help_says(lgm_run: Command, tmp_path: Path) -> None:
    (tmp_path / "ours" / "data").mkdir(parents=True)
    values = np.random.default_rng(0).normal(size=(50, 4)) @ np.diag([1, 2, 3, 4])
    pd.DataFrame(values, columns=list("abcd")).to_csv(tmp_path / "assay.csv", index=False)
    (tmp_path / "ours" / "data" / "assay.yaml").write_text("defaults: [csv, _self_]\npath: assay.csv\n")
    arguments = ("--config-dir", "ours", "data=assay", "model=ppca", "model.latent_dim=1", "method=em", "max_steps=50")
    ended = lgm_run(*arguments)
    assert ended.returncode == 0, ended.stderr
    assert "assay.csv: 50 x 4" in ended.stdout
    for word in (["--help"], ["--help", "all"], ["--help", "data=csv"], ["--version"]):
        shown = lgm_run(*word)
        assert shown.returncode == 0 and shown.stderr == "" and shown.stdout.startswith(("lgm-run 0", "data=csv: "))
    assert len(lgm_run("--help").stdout.splitlines()) <= 45


def test_exit_codes_tell_a_queue_what_to_do(lgm_run: Command, tmp_path: Path) -> None:
    for wrong in (
        ["data=nothing"],
        ["seed=-1"],
        ["data=csv", "data.path=missing.csv"],
        ["resume=nowhere"],
        ["--wrong"],
    ):
        ended = lgm_run(*wrong)
        assert ended.returncode == 2, wrong
        assert ended.stderr.startswith("lgm-run: error: ") and ended.stderr.count("\n") == 1
        assert ended.stderr.rstrip().endswith(")")  # what to do about it
    assert not (tmp_path / "outputs").exists()
