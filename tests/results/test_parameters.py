"""parameters.csv: every number of parameters.safetensors, by name, row and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from lgm_cli.command import choices, cli
from lgm_cli.results import parameters


@pytest.mark.parametrize("model", sorted(choices.choices("model")))
def test_the_table_has_every_number_once(model: str, tmp_path: Path) -> None:
    cli.in_python(
        [f"model={model}", "data=simulated", "max_steps=1", "device=cpu", f"hydra.run.dir={tmp_path / 'run'}"]
    )
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
    model = FactorAnalysis(2, False, 1e-3)
    left = parameters.write_parameters(tmp_path / "p.csv", model, exported, Labels())  # pyright: ignore[reportArgumentType]
    assert left == ["loadings"]
    assert (tmp_path / "p.csv").read_text().splitlines() == [
        "name,row,column,value",
        "mean,a,,0.0",
        "mean,b,,1.0",
        "mean,c,,2.0",
    ]
