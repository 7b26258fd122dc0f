"""Several random starts: the best goes on as it would have alone, whatever stops the run on the way."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lgm_cli.command.cli import main
from lgm_cli.methods.method import Method
from lgm_cli.models.gaussian_mixture import GaussianMixture
from lgm_cli.run import starts

HARD = [
    *("model=gaussian_mixture", "model.num_components=6", "model.covariance=spherical", "method=em", "data=simulated"),
    *("data.num_points=150", "data.num_dimensions=2", "data.factor_share=0.9", "data.hidden_share=0"),
    *("data.test_fraction=0", "device=cpu", "device.threads=1", "tolerance=0", "max_steps=30"),
]
SEVERAL = 6

pytestmark = pytest.mark.usefixtures("quiet")


def run(folder: Path, *arguments: str) -> Path:
    assert main([*HARD, *arguments, f"hydra.run.dir={folder}"]) == 0
    return folder


def tried(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())["starts"]


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ("fit_seconds", "peak_memory_mib")} for row in rows]


def learned(folder: Path) -> bytes:
    return (folder / "parameters.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("whole") / "run", f"starts={SEVERAL}")


def from_start(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Have runs begin at another start."""
    start = GaussianMixture.start
    monkeypatch.setattr(GaussianMixture, "start", lambda model, seed: start(model, starts.seed_of(seed, number)))


def test_the_best_goes_on_as_it_would_have_alone(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, alone = tried(whole), []
    for number in range(SEVERAL):
        with monkeypatch.context() as patch:
            from_start(patch, number)
            alone.append(run(tmp_path / str(number)))
    values = [float(next(row for row in rows_of(f) if row["step"] == "20")["train_log_likelihood"]) for f in alone]
    assert found["values"] == pytest.approx(values, abs=1e-6)
    assert found["best"] == int(np.argmax(values))
    assert max(values) > np.median(values) + 1e-3  # the case is hard: starts differ
    best = alone[found["best"]]
    assert rows_of(whole) == [row for row in rows_of(best) if int(row["step"]) >= 20]
    assert learned(whole) == learned(best)
    first = json.loads((whole / "summary.json").read_text())["last_row"]["fit_seconds"]
    assert 0 < found["seconds"] < first  # the short runs are on the clock


def test_a_start_depends_on_the_seed_and_its_own_number(whole: Path, tmp_path: Path) -> None:
    fewer = tried(run(tmp_path / "run", "starts=3"))
    assert fewer["values"] == tried(whole)["values"][:3]
    assert starts.seed_of(5, 0) == 5
    assert len({starts.seed_of(seed, number) for seed in (0, 1) for number in range(20)}) == 40


def test_one_start_is_a_run_without_others(tmp_path: Path) -> None:
    plain, one = run(tmp_path / "plain"), run(tmp_path / "one", "starts=1")
    assert learned(plain) == learned(one) and rows_of(plain) == rows_of(one)
    assert "starts" not in json.loads((one / "summary.json").read_text())


@pytest.mark.parametrize("step", [3, 50, 125])  # of all: in the first short run, in the third, after them
def test_a_run_that_was_stopped_goes_on_bit_for_bit(
    step: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, whole_step = [], Method.step

    def stopped(method: Method) -> Any:
        taken.append(1)
        if len(taken) == step:
            os.kill(os.getpid(), signal.SIGINT)
        return whole_step(method)

    with monkeypatch.context() as patch:
        patch.setattr(Method, "step", stopped)
        assert main([*HARD, f"starts={SEVERAL}", f"hydra.run.dir={tmp_path}/run"]) == 130
    known = tried(tmp_path / "run")["values"]
    assert len(known) == min(SEVERAL, step // 20)
    assert main([f"resume={tmp_path}/run"]) == 0
    assert learned(tmp_path / "run") == learned(whole) and rows_of(tmp_path / "run") == rows_of(whole)
    assert tried(tmp_path / "run")["values"] == tried(whole)["values"]


def test_time_that_is_up_among_the_starts_can_be_raised(whole: Path, tmp_path: Path) -> None:
    short = run(tmp_path / "run", f"starts={SEVERAL}", "max_seconds=1e-6")
    assert json.loads((short / "summary.json").read_text())["status"] == "max_seconds"
    assert main([f"resume={short}", "max_seconds=none"]) == 0
    assert learned(short) == learned(whole) and rows_of(short) == rows_of(whole)


def test_a_start_that_cannot_be_followed_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_step, taken = Method.step, []

    def failing(method: Method) -> Any:
        taken.append(1)
        if len(taken) <= 25:  # all of start 0, and start 1 at first
            raise torch.linalg.LinAlgError("not positive definite")  # pyright: ignore[reportAttributeAccessIssue]
        return whole_step(method)

    monkeypatch.setattr(Method, "step", failing)
    monkeypatch.setattr(starts, "STEPS", 30)
    found = tried(run(tmp_path / "run", "starts=27"))
    assert found["values"][:25] == [None] * 25 and found["best"] in (25, 26)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["starts=0"], "starts=0 is not an integer >= 1"),
        (["starts=1.5"], "starts=1.5 is not an integer"),
        (["starts=3", "max_steps=19"], "max_steps=19 is fewer"),
        (["starts=3", "method=annealed_em"], "at a temperature"),
    ],
)
def test_what_has_no_use_is_refused_in_one_line(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*HARD, *arguments, f"hydra.run.dir={tmp_path}/run"]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and "Traceback" not in error


def test_starts_that_are_all_the_same_are_one_so_that_a_sweep_over_components_goes_through(tmp_path: Path) -> None:
    for name, given in (("several", ["starts=3"]), ("one", [])):
        assert main([*HARD, *given, "model.num_components=1", f"hydra.run.dir={tmp_path / name}"]) == 0
    found = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("several", "one")]
    assert found[0]["last_row"]["train_log_likelihood"] == found[1]["last_row"]["train_log_likelihood"]
    assert "all 3 starts are the same with these data, and one was taken" in found[0]["warnings"]
    assert main([f"resume={tmp_path / 'several'}", "max_steps=40"]) == 0


@pytest.mark.parametrize(("given", "steps"), [([], starts.STEPS), (["method.optimizer=adam"], starts.GRADIENT_STEPS)])
def test_short_runs_are_as_long_as_the_update_that_was_chosen_needs(
    given: list[str], steps: int, tmp_path: Path
) -> None:
    """method=unroll leaves its update open: closed forms for a factor analysis, gradients with an optimiser."""
    size = ["data=simulated", "data.num_points=40", "data.num_dimensions=6", "model.latent_dim=1"]
    arguments = ["model=factor_analysis", *size, "starts=2", f"max_steps={steps}", "device=cpu", *given]
    assert main([*arguments, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    assert tried(tmp_path / "run")["steps"] == steps
