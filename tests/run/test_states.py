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


def test_several_series_are_learned_applied_to_and_gone_on_with(tmp_path: Path, capsys) -> None:
    """Forecasts begin at the end of each series; new data have a column of series of their own, or none."""
    lengths, parts = {"b": 40, "a": 30, "c": 20}, []
    for seed, (name, steps) in enumerate(lengths.items()):
        parts.append(pd.DataFrame({"id": name, "t": np.arange(steps), "throw": throws(steps, seed).astype(int)}))
    frame = pd.concat(parts).sort_values("t", kind="stable")  # the series take turns in the file
    frame.to_csv(tmp_path / "old.csv", index=False)
    given = [*COMMON, "model.emission=categorical", f"data.path={tmp_path / 'old.csv'}", "data.series=id", "method=em"]
    given += ["data.index=t", "data.forecast=2", "data.horizon=3", "tolerance=0"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert main([*given, "max_steps=8", f"hydra.run.dir={whole}"]) == 0
    assert main([*given, "max_steps=3", f"hydra.run.dir={run}"]) == 0
    assert main([f"resume={run}", "max_steps=8"]) == 0
    one, exported = (load_file(folder / "parameters.safetensors") for folder in (whole, run))
    for name, value in one.items():
        assert np.array_equal(value, exported[name]), name
    forecast, inferred = pd.read_csv(run / "forecast.csv"), load_file(run / "posterior.safetensors")
    assert forecast[["series", "row"]].to_numpy().tolist() == [["b", 40], ["b", 41], ["a", 30], ["a", 31], *(
        ["c", 20], ["c", 21])]  # fmt: skip
    ends = inferred["state_probabilities"][np.cumsum(list(lengths.values())) - 1]
    wanted = ends @ exported["transition"] @ (exported["probabilities"][:, 0] @ np.arange(4))
    assert forecast["mean"][::2].to_numpy() == pytest.approx(wanted, rel=1e-9)
    hidden = pd.read_csv(run / "predictions.csv").groupby("series")["row"].max()
    assert hidden.to_dict() == {name: steps - 1 for name, steps in lengths.items()}
    assert json.loads((run / "summary.json").read_text())["data"]["series"] == 3
    total = []
    for name, new in (("both", frame[frame.id != "c"]), *((each, frame[frame.id == each]) for each in "ab")):
        new = new.drop(columns="id") if name == "b" else new
        new.to_csv(tmp_path / f"{name}.csv", index=False)
        folder = tmp_path / f"applied {name}"
        assert main([f"apply={run}", f"data.path={tmp_path / f'{name}.csv'}", f"hydra.run.dir={folder}"]) == 0
        total.append(json.loads((folder / "summary.json").read_text())["last_row"]["train_log_likelihood"] * len(new))
    assert total[0] == pytest.approx(total[1] + total[2], rel=1e-9)
    space = [item for item in given if not item.startswith("model")] + ["model=state_space"]
    assert main([*space, f"hydra.run.dir={tmp_path / 'space'}"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("lgm-run: error: data.series=id names 3 series in old.csv, and this model learns from one")
