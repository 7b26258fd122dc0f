"""Runs of a hidden Markov model from the command line to their files, and on new data."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from lgm_cli.command.cli import main

COMMON = ["model=hidden_markov", "model.num_components=2", "data=series", "device=cpu", "device.threads=1"]


def throws(steps: int, seed: int) -> np.ndarray:
    """Two states that stay, of which one prefers the category 3."""
    draw, state, found = np.random.default_rng(seed), 0, []
    for _ in range(steps):
        state = 1 - state if draw.random() < 0.08 else state
        found.append(draw.choice(4, p=([0.4, 0.3, 0.2, 0.1], [0.05, 0.05, 0.1, 0.8])[state]))
    return np.array(found, float)


def write(path: Path, values: np.ndarray) -> Path:
    pd.DataFrame({"throw": values}).astype("Int64").to_csv(path, index=False, na_rep="NaN")
    return path


@pytest.mark.parametrize("emission", ["poisson", "categorical"])
def test_a_run_and_its_application_agree_with_a_dense_forward_sum(emission: str, tmp_path: Path) -> None:
    learned, new = throws(150, 0), throws(12, 1)
    new[new == 3] = 2  # new data need not have all categories
    new[4] = math.nan
    run, applied = tmp_path / "run", tmp_path / "applied"
    given = [f"model.emission={emission}", f"data.path={write(tmp_path / 'old.csv', learned)}", "data.forecast=2"]
    assert main([*COMMON, *given, "method=em", "max_steps=10", f"hydra.run.dir={run}"]) == 0
    assert {path.name for path in (run / "plots").iterdir()} >= {"states.png", "convergence.png", "predictions.png"}
    inferred = load_file(run / "posterior.safetensors")
    assert inferred["state_probabilities"].shape == (152, 2)
    assert np.allclose(inferred["state_probabilities"].sum(1), 1)
    forecast = pd.read_csv(run / "forecast.csv")
    exported = load_file(run / "parameters.safetensors")
    chances = inferred["state_probabilities"][149] @ exported["transition"]
    mean = exported["rates"][:, 0] if emission == "poisson" else exported["probabilities"][:, 0] @ np.arange(4)
    assert forecast["mean"][0] == pytest.approx(chances @ mean, rel=1e-9)
    assert main([f"apply={run}", f"data.path={write(tmp_path / 'new.csv', new)}", f"hydra.run.dir={applied}"]) == 0
    total, state = 0.0, exported["initial"]
    for t, value in enumerate(new):
        state = state @ exported["transition"] if t else state
        if not math.isnan(value):
            if emission == "poisson":
                rates = exported["rates"][:, 0]
                state = state * np.exp(value * np.log(rates) - rates - math.lgamma(value + 1))
            else:
                state = state * exported["probabilities"][:, 0, int(value)]
        total, state = total + math.log(state.sum()), state / state.sum()
    summary = json.loads((applied / "summary.json").read_text())
    assert summary["last_row"]["train_log_likelihood"] == pytest.approx(total / 11, rel=1e-9)


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    given = [*COMMON, "model.emission=poisson", f"data.path={write(tmp_path / 'old.csv', throws(80, 0))}", "method=em"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main([*given, "max_steps=9", "tolerance=0", f"hydra.run.dir={whole}"]) == 0
    assert main([*given, "max_steps=4", "tolerance=0", f"hydra.run.dir={parts}"]) == 0
    assert main([f"resume={parts}", "max_steps=9"]) == 0
    one, two = (load_file(folder / "parameters.safetensors") for folder in (whole, parts))
    for name, value in one.items():
        assert np.array_equal(value, two[name]), name


def test_there_is_nothing_to_unroll(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [*COMMON, f"data.path={write(tmp_path / 'old.csv', throws(80, 0))}", "method=unroll"]
    assert main([*given, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("lgm-run: error: model=hidden_markov has no linear system")
