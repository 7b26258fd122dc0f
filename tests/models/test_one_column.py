"""Tables of a single column: learned by mixtures that have a meaning for one, refused by models of several columns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from scipy.stats import norm, poisson

from lgm_cli.command.cli import main
from lgm_cli.data.base import packaged
from lgm_cli.data.base.check import check
from lgm_cli.errors import UserError
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.bernoulli_mixture import BernoulliMixture
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.models.gaussian_mixture import GaussianMixture
from lgm_cli.models.ppca import Ppca
from tests import cases

WAITING = packaged.frame("MASS", "geyser")["waiting"].to_numpy(float)


def dense(values: np.ndarray, parameters: dict[str, np.ndarray]) -> float:
    """The log-likelihood per entry by scipy."""
    weights = parameters["weights"]
    if "rates" in parameters:
        densities = poisson.pmf(values[:, None], parameters["rates"][:, 0])
    else:
        deviations = np.sqrt(parameters["covariances"][:, 0, 0])
        densities = norm.pdf(values[:, None], parameters["means"][:, 0], deviations)
    return float(np.log(densities @ weights).mean())


@pytest.mark.parametrize("model", ["gaussian_mixture", "poisson_mixture"])
def test_waiting_times_are_learned_and_new_ones_assigned(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lgm_cli.results.write._draw", lambda *_: None)
    path, run, applied = tmp_path / "waits.csv", tmp_path / "run", tmp_path / "applied"
    pd.DataFrame({"waiting": WAITING}).to_csv(path, index=False)
    given = [f"model={model}", "model.num_components=2", "data=csv", f"data.path={path}", "data.test_fraction=0"]
    assert main([*given, "device=cpu", "device.dtype=float64", "max_steps=60", f"hydra.run.dir={run}"]) == 0
    found = load_file(run / "parameters.safetensors")
    row = json.loads((run / "summary.json").read_text())["last_row"]
    assert row["train_log_likelihood"] == pytest.approx(dense(WAITING, found), rel=1e-9)
    path.write_text("waiting\n50\n80\n")
    assert main([f"apply={run}", f"data.path={path}", f"hydra.run.dir={applied}"]) == 0
    row = json.loads((applied / "summary.json").read_text())["last_row"]
    assert row["train_log_likelihood"] == pytest.approx(dense(np.array([50.0, 80.0]), found), rel=1e-9)
    assert load_file(applied / "posterior.safetensors")["responsibilities"].argmax(1).tolist() in ([0, 1], [1, 0])


def test_one_column_is_scikit_learns() -> None:
    from sklearn.mixture import GaussianMixture as Peer

    model = cases.bind(GaussianMixture(2, "full", 1e-9), WAITING[:, None])
    parameters = model.start(0)
    for _ in range(200):
        (chunk,) = model.observations.chunks
        parameters = model.maximise(parameters, model.statistics(chunk, model.posterior(parameters, chunk)))
    peer = Peer(2, reg_covar=1e-9, tol=1e-10, max_iter=1000, random_state=0).fit(WAITING[:, None])
    assert float(cases.log_likelihood(model, parameters)) / 299 == pytest.approx(peer.score(WAITING[:, None]), abs=1e-6)


@pytest.mark.parametrize("model", [FactorAnalysis(1, False, 1e-3), Ppca(1, 1e-3), BernoulliMixture(2, 1e-6)])
def test_models_of_what_columns_have_in_common_refuse_one(model: LatentVariableModel) -> None:
    data = cases.as_data(np.array([[0.0], [1.0], [1.0]]))
    check(data.table)
    with pytest.raises(UserError, match="has a single column, and this model is of what columns have in common"):
        model.check(data)
    model.check(cases.as_data(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])))
