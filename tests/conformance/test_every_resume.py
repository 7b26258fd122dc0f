"""Each method goes on bit for bit from its saved state, on each model, and is the same for a seed.

Runs of the program are stopped and go on for two models; the methods themselves, with each of their words, for all.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lgm_cli.command.cli import main
from lgm_cli.errors import UserError
from lgm_cli.methods.method import Method
from tests import cases, matrix
from tests.conformance.test_every_method import PAIRS, Pair, step_or_retreat

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


STATES = [
    each for each in PAIRS if not each.values[0][3] and (not each.values[0][1] or each.values[0][2] in MODELS)
] + [
    pytest.param((method, {}, "ppca", {"prior_loadings": 0.5, "prior_noise": 2}), id=f"ppca-prior-{method}")
    for _, method in matrix.allowed("ppca")
]


def saved(method: Method) -> dict[str, Any]:
    """Its state, as a file gives it back."""
    file = io.BytesIO()
    torch.save(method.state(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("pair", STATES)
def test_a_method_goes_on_bit_for_bit_from_its_state(pair: Pair) -> None:
    """And one that begins anew with the same seed takes the same steps."""
    name, given, model, options = pair
    try:
        whole, chosen = matrix.build(name, model, given, options)
    except UserError:
        return  # test_a_method_learns_or_is_refused_with_a_mend_that_works
    again, resumed = (matrix.build(name, model, given, options)[0] for _ in range(2))
    steps = chosen.get("first_update", 0) + 2
    for method in (whole, again):
        for _ in range(steps):
            step_or_retreat(method)
    require_same(whole, again)
    resumed.load_state(saved(whole))
    for method in (whole, resumed):
        for _ in range(2):
            step_or_retreat(method)
    assert whole.steps == steps + 2
    require_same(whole, resumed)


def require_same(one: Method, other: Method) -> None:
    assert one.steps == other.steps
    assert one.parameters.keys() == other.parameters.keys()
    assert all(torch.equal(value, other.parameters[key]) for key, value in one.parameters.items())
