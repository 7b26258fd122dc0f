"""The free energy in metrics.csv: never above the likelihood of its row, and equal to it where steps gain nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from lgm_cli.command import choices
from lgm_cli.errors import UserError
from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.methods.method import Method
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.models.gaussian_mixture import GaussianMixture
from lgm_cli.results.metrics import FREE_ENERGY, Recorder
from lgm_cli.run import auto
from lgm_cli.run.loop import Learner, Limits
from lgm_cli.run.progress import Progress
from lgm_cli.run.stopping import Convergence
from tests import cases
from tests.conformance.test_every_model import data_of, simulated

METHODS = ["em", "incremental_em", "generalised_em", "ecm"]


def method_of(model: Any, name: str, word: str, **given: Any) -> Method:
    options = {key: entry.default for key, entry in choices.keys(f"method/{word}").items()}
    config = {"method": {"name": word} | options | given, "model": {"name": name}, "seed": 0}
    return auto.method(config, model, model.start(0))[0]


def rows_of(folder: Path, model: Any, data: Any, method: Method, steps: int) -> list[dict[str, Any]]:
    evaluator = Evaluator(model, data, 0)
    recorder = Recorder(folder, [FREE_ENERGY] * method.has_free_energy + evaluator.own_columns)
    limits = Limits(steps, None, 1, 1e9)
    learner = Learner(method, evaluator, recorder, Convergence(1e-13), limits, folder / "checkpoint", lambda: False)
    with Progress(steps, bar=False) as progress:
        learner.learn(progress)
    return recorder.rows


@pytest.mark.parametrize("word", METHODS)
@pytest.mark.parametrize("name", choices.choices("model"))
def test_it_is_below_the_likelihood_until_steps_gain_nothing(name: str, word: str, tmp_path: Path) -> None:
    options = cases.variants(name)[0]
    data = data_of(simulated(name, options, 40, 10), "masked")
    model = cases.bind(cases.build_model(name, options), data, block_size=10 if word == "incremental_em" else None)
    puts_together = model.averages and model.observations.shape[0] > 1
    if (word == "incremental_em" and not puts_together) or (word == "ecm" and len(model.blocks) < 2):
        with pytest.raises(UserError):
            method_of(model, name, word)
        return
    method = method_of(model, name, word)
    rows = [row for row in rows_of(tmp_path, model, data, method, 12) if row[FREE_ENERGY] is not None]
    gaps = [row["train_log_likelihood"] - row[FREE_ENERGY] for row in rows]
    assert len(gaps) >= 1
    assert min(gaps) > -1e-9
    assert gaps[0] > 1e-9


def test_the_gap_closes_at_convergence(tmp_path: Path) -> None:
    data = data_of(simulated("ppca", cases.variants("ppca")[0], 40, 10), "masked")
    model = cases.bind(cases.build_model("ppca", cases.variants("ppca")[0]), data)
    rows = rows_of(tmp_path, model, data, method_of(model, "ppca", "em"), 300)
    gaps = [row["train_log_likelihood"] - row[FREE_ENERGY] for row in rows if row[FREE_ENERGY] is not None]
    assert gaps[0] > 1e-4
    assert abs(gaps[-1]) < 1e-9


def test_of_a_factor_analysis_it_is_in_the_units_of_the_likelihood(tmp_path: Path) -> None:
    """F = log p - KL(q || posterior) summed over data points, by dense algebra in the data's own units."""
    random = np.random.default_rng(0)
    y = (random.normal(size=(60, 2)) @ random.normal(size=(2, 5)) + random.normal(size=(60, 5))) * [1, 10, 0.1, 3, 7]
    data = cases.as_data(y)
    model: Any = cases.bind(FactorAnalysis(2, False, 1e-3), data)
    method = method_of(model, "factor_analysis", "em", acceleration="none")
    method.update.measured = True
    method.step()
    old = method.parameters
    method.step()
    exported = [{key: value.numpy() for key, value in model.export(each).items()} for each in (old, method.parameters)]
    (mean_q, cov_q), (mean_p, cov_p) = (_latents(each, y) for each in exported)
    inverse = np.linalg.inv(cov_p)
    error = mean_p - mean_q
    logs = np.linalg.slogdet(cov_p)[1] - np.linalg.slogdet(cov_q)[1]
    divergence = 0.5 * (len(y) * (np.trace(inverse @ cov_q) - 2 + logs) + np.einsum("ni,ij,nj", error, inverse, error))
    new = exported[1]
    total = new["loadings"] @ new["loadings"].T + np.diag(new["noise_variance"])
    evidence = multivariate_normal(new["mean"], total).logpdf(y).sum()
    found = Evaluator(model, data, 0).per_entry(method.free_energy)
    assert found == pytest.approx((evidence - divergence) / y.size, abs=1e-10)
    assert divergence > 1e-3


def _latents(p: dict[str, np.ndarray], y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    weighted = p["loadings"] / p["noise_variance"][:, None]
    covariance = np.linalg.inv(np.eye(p["loadings"].shape[1]) + p["loadings"].T @ weighted)
    return (y - p["mean"]) @ weighted @ covariance, covariance


def test_of_a_mixture_it_is_in_the_units_of_the_likelihood() -> None:
    """F = sum r (log joint - log r), with r of the parameters before, in the data's own units."""
    random = np.random.default_rng(1)
    y = np.r_[random.normal(size=(40, 2)), random.normal(2, 1, size=(30, 2))] * [1, 50] + [3, 0]
    data = cases.as_data(y)
    options = cases.variants("gaussian_mixture")[0] | {"num_components": 2}
    model: Any = cases.bind(cases.build_model("gaussian_mixture", options), data)
    assert isinstance(model, GaussianMixture)
    method = method_of(model, "gaussian_mixture", "em", acceleration="none")
    method.update.measured = True
    method.step()
    before = _joint(model.export(method.parameters), y)
    method.step()
    logs = before - np.logaddexp.reduce(before, axis=1, keepdims=True)
    after = _joint(model.export(method.parameters), y)
    expected = (np.exp(logs) * (after - logs)).sum() / y.size
    assert Evaluator(model, data, 0).per_entry(method.free_energy) == pytest.approx(expected, abs=1e-10)
    assert np.logaddexp.reduce(after, axis=1).sum() / y.size > expected + 1e-7


def _joint(p: Any, y: np.ndarray) -> np.ndarray:
    parts = zip(p["weights"].numpy(), p["means"].numpy(), p["covariances"].numpy(), strict=True)
    return np.stack([math.log(w) + multivariate_normal(m, c).logpdf(y) for w, m, c in parts], axis=1)


@pytest.mark.parametrize(
    ("word", "expected"), [("em", True), ("annealed_em", True), ("gradient_em", False), ("monte_carlo_em", False)]
)
def test_the_column_is_there_where_the_method_can_have_it(word: str, expected: bool) -> None:
    model = cases.bind(cases.build_model("gaussian_mixture", cases.variants("gaussian_mixture")[0]), np.eye(40)[:, :3])
    assert method_of(model, "gaussian_mixture", word).has_free_energy is expected


def test_a_run_without_the_column_goes_on_without_it(tmp_path: Path) -> None:
    Recorder(tmp_path, ["active"]).row(step=0, active=3)
    resumed = Recorder.resume(tmp_path, 0, [FREE_ENERGY, "active"])
    assert FREE_ENERGY not in resumed.columns
    assert resumed.rows[0]["active"] == 3
