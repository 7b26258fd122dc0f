"""A run of each method that was stopped goes on bit for bit: what it carries from step to step is in its state."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lgm_cli.command.cli import main
from tests import cases, matrix

MODELS = ("factor_analysis", "gaussian_mixture")
PRIOR = {"factor_analysis": ["model.latent_dim=2", "model.prior_noise=2", "model.prior_loadings=0.5"]}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    values = random.normal(size=(80, 2)) @ random.normal(size=(2, 5)) + random.normal(size=(80, 5))
    path = tmp_path / "table.csv"
    np.savetxt(path, cases.with_gaps(values, "masked"), delimiter=",", header="a,b,c,d,e", comments="")
    path.write_text(path.read_text().replace("nan", ""))
    return path


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(("model", "method"), matrix.allowed(*MODELS))
def test_a_run_that_was_stopped_goes_on_bit_for_bit(model: str, method: str, table: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    given = [f"model={model}", f"method={method}", "data=csv", f"data.path={table}", "tolerance=0", "device=cpu"]
    given += ["eval_every=1", *PRIOR.get(model, [])]
    assert main([*given, "max_steps=12", f"hydra.run.dir={whole}"]) == 0
    assert main([*given, "max_steps=5", f"hydra.run.dir={parts}"]) == 0
    assert main([f"resume={parts}", "max_steps=12"]) == 0
    for name in ("parameters.safetensors", "posterior.safetensors"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    rows, others = (pd.read_csv(folder / "metrics.csv").set_index("step") for folder in (whole, parts))
    shared = rows.index.intersection(others.index)
    assert len(shared) >= 12
    columns = ["train_log_likelihood", "test_log_likelihood"] + ["log_prior"] * (model in PRIOR)
    pd.testing.assert_frame_equal(rows.loc[shared, columns], others.loc[shared, columns], check_exact=True)
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["objective"] == "log-likelihood" + " + log prior" * (model in PRIOR)
    applied = tmp_path / "applied"
    assert main([f"apply={parts}", f"data.path={table}", f"hydra.run.dir={applied}"]) == 0


def test_unrolling_a_mixture_is_the_only_pair_without_a_meaning() -> None:
    every = {(model, method) for model in MODELS for method in matrix.METHODS}
    assert every - set(matrix.allowed(*MODELS)) == {("gaussian_mixture", "unroll")}
