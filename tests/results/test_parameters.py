"""parameters.csv: every number of parameters.safetensors, by name, row and column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from lgm_cli.command import choices, cli
from lgm_cli.command.cli import main
from lgm_cli.results import parameters
from tests import cases


@pytest.mark.parametrize("model", sorted(choices.choices("model")))
def test_the_table_has_every_number_once(model: str, tmp_path: Path) -> None:
    small = ("data=simulated", "data.num_points=90", "data.num_dimensions=6", "data.latent_dim=2", "max_steps=1")
    cli.in_python([f"model={model}", *small, "device=cpu", f"hydra.run.dir={tmp_path / 'run'}"])
    frame = pd.read_csv(tmp_path / "run" / "parameters.csv", keep_default_na=False)
    assert list(frame) == ["name", "row", "column", "value"]
    found = load_file(tmp_path / "run" / "parameters.safetensors")
    assert not frame.duplicated(["name", "row", "column"]).any()
    for name, value in found.items():
        part: Any = frame[frame["name"].str.split("[").str[0] == name]
        np.testing.assert_array_equal(part["value"].to_numpy(), value.ravel())
    assert len(frame) == sum(value.size for value in found.values())


def test_rows_and_columns_are_named(tmp_path: Path) -> None:
    cli.in_python(
        ["data=penguins", "model=gaussian_mixture", "max_steps=2", "device=cpu", f"hydra.run.dir={tmp_path}/a"]
    )
    frame = pd.read_csv(tmp_path / "a" / "parameters.csv").set_index(["name", "row", "column"])["value"]
    found = load_file(tmp_path / "a" / "parameters.safetensors")
    names: Any = pd.read_csv(tmp_path / "a" / "columns.csv")["column"]
    place = int(names[names == "body_mass_g"].index[0])
    assert frame["means", "component_2", "body_mass_g"] == found["means"][1, place]
    assert frame["covariances[component_3]", "body_mass_g", names[0]] == found["covariances"][2, place, 0]


def test_a_huge_parameter_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lgm_cli.models.factor_analysis import FactorAnalysis

    class Labels:
        column_labels, feature_labels = pd.Index(["a", "b", "c"]), None

    monkeypatch.setattr(parameters, "MOST_VALUES", 5)
    exported = {"loadings": torch.ones(3, 2, dtype=torch.float64), "mean": torch.arange(3, dtype=torch.float64)}
    left = parameters.write_parameters(tmp_path / "p.csv", FactorAnalysis.axes, exported, Labels())  # pyright: ignore[reportArgumentType]
    assert left == ["loadings"]
    assert (tmp_path / "p.csv").read_text().splitlines() == [
        "name,row,column,value",
        "mean,a,,0.0",
        "mean,b,,1.0",
        "mean,c,,2.0",
    ]


def test_intervals_hold_ninety_percent_and_what_has_no_error_is_empty(tmp_path: Path) -> None:
    table = cases.as_data(np.zeros((4, 2))).table
    errors = {"mean": torch.tensor([0.5, float("nan")], dtype=torch.float64)}
    parameters.write_parameters(
        tmp_path / "parameters.csv", {"mean": ("column",)}, {"mean": torch.tensor([1.0, 2.0])}, table, errors
    )
    found = pd.read_csv(tmp_path / "parameters.csv")
    assert list(found)[4:] == ["standard_error", "lower_90", "upper_90"]
    half = 0.5 * 1.6448536269514722
    np.testing.assert_allclose(found.iloc[0, 5:].to_numpy(float), [1 - half, 1 + half], rtol=1e-12)
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
    last = pd.read_csv(run / "parameters.csv").set_index("name")
    noise = last.loc["noise_variance"]
    assert noise["standard_error"] == pytest.approx(noise["value"] * np.sqrt(2 / (150 * 4)), rel=1e-4)
    assert not [line for line in json.loads((run / "summary.json").read_text())["warnings"] if "standard error" in line]


def test_without_the_key_there_are_no_errors_and_the_criteria_are_the_same(tmp_path: Path) -> None:
    for name, given in (("with", ["standard_errors=true"]), ("without", [])):
        assert not main([*RUN[:-1], "max_steps=20", *given, f"hydra.run.dir={tmp_path / name}"])
    assert list(pd.read_csv(tmp_path / "without" / "parameters.csv")) == ["name", "row", "column", "value"]
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
