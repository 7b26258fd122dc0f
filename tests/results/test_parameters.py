"""parameters.csv: every number of parameters.safetensors by name, row and column, with its standard error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from lgm_cli.command.cli import main
from lgm_cli.results.parameters import write_parameters
from lgm_cli.results.tables import INTERVAL
from tests import cases

AXES = {"means": ("component", "column"), "probabilities": ("component", "column", "category"), "mean": ("column",)}


def test_rows_and_columns_have_the_names_of_the_data(tmp_path: Path) -> None:
    table = cases.as_data(np.zeros((4, 2))).table
    exported = {
        "noise_variance": torch.tensor(3.0),
        "mean": torch.arange(2.0),
        "means": torch.arange(6.0).view(3, 2),
        "probabilities": torch.arange(12.0).view(2, 2, 3),
        "transition": torch.arange(4.0).view(2, 2),
    }
    write_parameters(tmp_path / "parameters.csv", exported, AXES, table)
    found = pd.read_csv(tmp_path / "parameters.csv", dtype={"row": str, "column": str}, keep_default_na=False)
    assert list(found) == ["parameter", "row", "column", "value"]
    np.testing.assert_array_equal(found["value"], torch.cat([value.flatten() for value in exported.values()]))
    places = {tuple(line) for line in found[["parameter", "row", "column"]].itertuples(index=False)}
    assert len(places) == len(found)
    assert {("noise_variance", "", ""), ("mean", "y1", ""), ("means", "3", "y0")} <= places
    assert {("probabilities[2]", "y1", "0"), ("transition", "1", "2")} <= places


def test_intervals_hold_ninety_percent_and_what_has_no_error_is_empty(tmp_path: Path) -> None:
    table = cases.as_data(np.zeros((4, 2))).table
    errors = {"mean": torch.tensor([0.5, float("nan")], dtype=torch.float64)}
    write_parameters(tmp_path / "parameters.csv", {"mean": torch.tensor([1.0, 2.0])}, AXES, table, errors)
    found = pd.read_csv(tmp_path / "parameters.csv")
    assert list(found)[4:] == ["standard_error", "lower_90", "upper_90"]
    assert found["lower_90"][0] == pytest.approx(1 - INTERVAL / 2) and found["upper_90"][0] == pytest.approx(
        1 + INTERVAL / 2
    )
    assert found.iloc[1, 4:].isna().all()


RUN = [
    *("model=ppca", "model.latent_dim=2", "method=em", "data=simulated", "data.num_points=150"),
    *("data.num_dimensions=6", "device=cpu", "device.threads=1", "device.dtype=float64"),
    *("data.hidden_share=0", "data.test_fraction=0", "tolerance=1e-9", "max_steps=2000"),
]


def test_a_run_writes_them_and_a_resumed_one_again(tmp_path: Path) -> None:
    """Of complete data, Var(sigma^2) = 2 sigma^4 / (n (M - D))."""
    run = tmp_path / "run"
    assert not main([*RUN[:-1], "max_steps=5", "standard_errors=true", f"hydra.run.dir={run}"])
    first = pd.read_csv(run / "parameters.csv")
    parameters = load_file(run / "parameters.safetensors")
    np.testing.assert_allclose(first["value"], np.concatenate([v.ravel() for v in parameters.values()]), rtol=1e-12)
    assert np.isfinite(first["standard_error"]).all()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["standard_error_seconds"] > 0
    assert not main([f"resume={run}", "max_steps=2000"])
    last = pd.read_csv(run / "parameters.csv").set_index("parameter")
    noise = last.loc["noise_variance"]
    assert noise["standard_error"] == pytest.approx(noise["value"] * np.sqrt(2 / (150 * 4)), rel=1e-4)
    assert not [line for line in json.loads((run / "summary.json").read_text())["warnings"] if "standard error" in line]


def test_without_the_key_there_are_no_errors_and_the_criteria_are_the_same(tmp_path: Path) -> None:
    for name, given in (("with", ["standard_errors=true"]), ("without", [])):
        assert not main([*RUN[:-1], "max_steps=20", *given, f"hydra.run.dir={tmp_path / name}"])
    assert list(pd.read_csv(tmp_path / "without" / "parameters.csv")) == ["parameter", "row", "column", "value"]
    keys = ("free_parameters", "total_log_likelihood", "aic", "bic")
    found = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("with", "without")]
    assert [found[0][key] for key in keys] == [found[1][key] for key in keys]
    assert found[1]["free_parameters"] == 6 * 2 + 6 + 1 - 1 and found[1]["bic"] > found[1]["aic"]


def test_too_many_parameters_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    many = ["data=simulated", "data.num_dimensions=2000", "standard_errors=true", f"hydra.run.dir={run}"]
    assert main([*RUN[:3], *many, "data.num_points=60"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("lgm-run: error: standard_errors=true") and "6,000" in line
    assert not (run / "metrics.csv").exists() and not (run / "parameters.csv").exists()
