"""AIC, BIC, the total log-likelihood and the free parameters, against scikit-learn, statsmodels and dense values."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.mixture import GaussianMixture
from statsmodels.tsa.statespace.sarimax import SARIMAX

from lgm_cli.evaluation.criteria import UNFINISHED, criteria
from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from tests import cases, matrix, reference

KEYS = ("free_parameters", "total_log_likelihood", "aic", "bic")


def learned(
    name: str, options: dict[str, Any], data: Any, steps: int = 60
) -> tuple[LatentVariableModel, Parameters, dict[str, Any]]:
    """A model after some steps of EM, and its criteria. data: an array of a table, or Data."""
    data = data if not isinstance(data, np.ndarray) else cases.as_data(data)
    model = cases.bind(cases.build_model(name, matrix.model_options(name, options)), data)
    parameters = model.start(0)
    with torch.no_grad():
        for _ in range(steps):
            total: dict[str, torch.Tensor] = {}
            for chunk in model.observations.chunks:
                total = model.add_statistics(total, chunk, model.posterior(parameters, chunk))
            parameters = model.maximise(parameters, model.with_prior(total))
    evaluator = Evaluator(model, data, 0)
    scores = evaluator.score(parameters, final=True)
    return model, parameters, criteria(model, evaluator, parameters, scores, "converged")


def table(points: int = 90, columns: int = 6) -> np.ndarray:
    random = np.random.default_rng(3)
    factors = random.normal(size=(points, 2)) @ random.normal(size=(2, columns))
    return 5.0 + np.arange(1, columns + 1) * (factors + random.normal(size=(points, columns)))


@pytest.mark.parametrize("covariance", ["full", "tied", "diagonal", "spherical"])
def test_a_gaussian_mixture_has_the_criteria_of_scikit_learn(covariance: str) -> None:
    values = table()
    model, parameters, found = learned(
        "gaussian_mixture", {"num_components": 3, "covariance": covariance, "noise_floor": 1e-9}, values
    )
    exported = {name: value.numpy() for name, value in model.export(parameters).items()}
    full = exported["covariances"]
    peer = GaussianMixture(3, covariance_type={"diagonal": "diag"}.get(covariance, covariance))
    shapes = {
        "full": full, "tied": full[0], "diagonal": full.diagonal(axis1=1, axis2=2), "spherical": full[:, 0, 0]
    }  # fmt: skip
    peer.means_, peer.weights_, peer.covariances_ = exported["means"], exported["weights"], shapes[covariance]
    inverse = np.linalg.inv(full)
    precisions = {
        "full": np.linalg.cholesky(inverse[:, ::-1, ::-1])[:, ::-1, ::-1].transpose(0, 1, 2),
        "tied": np.linalg.cholesky(inverse[0, ::-1, ::-1])[::-1, ::-1],
        "diagonal": 1 / np.sqrt(full.diagonal(axis1=1, axis2=2)),
        "spherical": 1 / np.sqrt(full[:, 0, 0]),
    }
    peer.precisions_cholesky_ = precisions[covariance]
    assert found["free_parameters"] == peer._n_parameters()
    assert found["total_log_likelihood"] == pytest.approx(peer.score_samples(values).sum(), rel=1e-9)
    assert found["aic"] == pytest.approx(peer.aic(values), rel=1e-9)
    assert found["bic"] == pytest.approx(peer.bic(values), rel=1e-9)


def test_factor_analysis_has_the_likelihood_of_scikit_learn_and_the_rotation_is_subtracted() -> None:
    values = table()
    model, parameters, found = learned("factor_analysis", {"latent_dim": 2, "offset": False}, values)
    exported = {name: value.numpy() for name, value in model.export(parameters).items()}
    peer = FactorAnalysis(2, max_iter=1, tol=1e9).fit(values)
    peer.components_, peer.mean_ = exported["loadings"].T, exported["mean"]
    peer.noise_variance_ = exported["noise_variance"]
    k = 6 * 2 + 6 + 6 - 1  # loadings, mean, noise, less one rotation
    total = peer.score(values) * len(values)
    assert found["free_parameters"] == k
    assert found["total_log_likelihood"] == pytest.approx(total, rel=1e-8)
    assert found["aic"] == pytest.approx(2 * k - 2 * total, rel=1e-8)
    assert found["bic"] == pytest.approx(k * math.log(len(values)) - 2 * total, rel=1e-8)


def test_ppca_has_the_likelihood_of_scikit_learn() -> None:
    """Whose noise variance is of covariances with n - 1 in the denominator."""
    values = table()
    _, _, found = learned("ppca", {"latent_dim": 2}, values, 3000)
    peer = PCA(2).fit(values)
    size = np.linalg.eigvalsh(np.cov(values.T, bias=True))[::-1]
    noise = size[2:].mean()
    total = -0.5 * len(values) * (6 * np.log(2 * np.pi) + np.log(size[:2]).sum() + 4 * np.log(noise) + 6)
    assert peer.noise_variance_ == pytest.approx(noise * len(values) / (len(values) - 1), rel=1e-9)
    assert found["free_parameters"] == 6 * 2 + 6 + 1 - 1
    assert found["total_log_likelihood"] == pytest.approx(total, rel=1e-8)


@pytest.mark.parametrize(("name", "offset"), [("factor_analysis", True), ("factor_analysis", False), ("ppca", False)])
def test_rows_with_gaps_count_where_they_have_a_value(name: str, offset: bool) -> None:
    values = cases.with_gaps(table(), "masked")
    values[4] = np.nan
    options = {"latent_dim": 2} | ({"offset": offset} if name == "factor_analysis" else {})
    model, parameters, found = learned(name, options, values)
    exported = {key: value.numpy() for key, value in model.export(parameters).items()}
    exported["noise_variance"] = np.broadcast_to(exported["noise_variance"], 6)
    total = reference.log_likelihoods(exported, values).sum()
    seen = int((~np.isnan(values)).any(1).sum())
    assert seen < len(values)
    assert found["total_log_likelihood"] == pytest.approx(total, rel=1e-9)
    assert found["bic"] == pytest.approx(found["free_parameters"] * math.log(seen) - 2 * total, rel=1e-9)


@pytest.mark.parametrize("gaps", [False, True])
def test_an_autoregression_has_the_criteria_of_statsmodels(gaps: bool) -> None:
    """SARIMAX with measurement error and a mean is the same model. Its n counts steps without a value."""
    random = np.random.default_rng(0)
    series = np.zeros(120)
    for t in range(2, 120):
        series[t] = 1.2 * series[t - 1] - 0.6 * series[t - 2] + random.normal()
    series = 7.0 + series + 0.5 * random.normal(size=120)
    if gaps:
        series[30:42] = np.nan
    data = cases.as_data(series[:, None], kind="series")
    model, parameters, found = learned("autoregressive", {"order": 2}, data, 30)
    exported = {name: value.numpy() for name, value in model.export(parameters).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = SARIMAX(series - exported["mean"], order=(2, 0, 0), measurement_error=True)
        fitted = peer.smooth([*exported["coefficients"], exported["noise_variance"], exported["innovation_variance"]])
    assert found["total_log_likelihood"] == pytest.approx(fitted.llf, rel=1e-8)
    assert found["free_parameters"] == fitted.df_model + 1  # the mean
    assert found["aic"] == pytest.approx(fitted.aic + 2, rel=1e-8)
    assert found["bic"] == pytest.approx(fitted.bic + math.log(fitted.nobs_effective), rel=1e-8)


def test_a_regression_has_the_evidence_of_a_dense_computation() -> None:
    data = matrix.data("linear_regression")
    model, parameters, found = learned("linear_regression", {}, data)
    exported = model.export(parameters)
    seen, entries = data.train_rows, data.train_values
    covariance = model.implied_covariance(exported).numpy()[np.ix_(seen, seen)]
    error = entries - float(exported["intercept"])
    total = -0.5 * (error @ np.linalg.solve(covariance, error) + np.linalg.slogdet(2 * np.pi * covariance)[1])
    assert found["total_log_likelihood"] == pytest.approx(total, rel=1e-9)
    assert found["free_parameters"] == 3
    assert found["bic"] == pytest.approx(3 * math.log(len(entries)) - 2 * total, rel=1e-9)


COUNTS = {  # of M = 5 columns, by hand
    ("bernoulli_mixture", ()): 2 + 3 * 5,
    ("poisson_mixture", ()): 2 + 3 * 5,
    ("multinoulli_mixture", ()): 2 + 3 * (5 * 3),  # of categories, less those that a column lacks
    ("state_space", ()): 4 + 10 + 5 + 5 + 2 + 3 - 1,  # G, C, mean, R, m and P, less one rotation; Q = I
    ("hidden_markov", ()): 2 + 3 * 2 + 3 * 5 + 3 * 15,
    ("hidden_markov", (("covariance", "tied"),)): 2 + 3 * 2 + 3 * 5 + 15,
    ("hidden_markov", (("covariance", "diagonal"),)): 2 + 3 * 2 + 3 * 5 + 3 * 5,
    ("hidden_markov", (("covariance", "spherical"),)): 2 + 3 * 2 + 3 * 5 + 3,
    ("hidden_markov", (("emission", "poisson"),)): 2 + 3 * 2 + 3 * 5,
}


@pytest.mark.parametrize(("name", "options"), COUNTS, ids=str)
def test_free_parameters_by_hand(name: str, options: tuple[tuple[str, Any], ...]) -> None:
    model = matrix.bound(name, dict(options))
    parameters = model.start(0)
    expected = COUNTS[name, options]
    if name == "multinoulli_mixture":
        lacking = int((model.export(parameters)["probabilities"][0] == 0).sum())
        expected -= 3 * lacking
    assert model.free_parameters(parameters) == expected


@pytest.mark.parametrize("name", matrix.MODELS)
def test_the_constraints_are_independent(name: str) -> None:
    """So that their number may be subtracted."""
    model = matrix.bound(name)
    parameters = {key: value.double() for key, value in model.start(0).items()}
    parameters = model.canonical(cases.moved(model, parameters))
    names = list(parameters)
    if not len(model.constraints(parameters)):
        assert model.free_parameters(parameters) == sum(value.numel() for value in parameters.values())
        return
    rows = torch.autograd.functional.jacobian(
        lambda *values: model.constraints(dict(zip(names, values, strict=True))), tuple(parameters.values())
    )
    whole = torch.cat([row.reshape(row.shape[0], -1) for row in rows], 1)
    assert int(torch.linalg.matrix_rank(whole)) == len(whole)
    assert model.free_parameters(parameters) == whole.shape[1] - len(whole)


def test_there_are_none_with_a_prior_of_a_part_or_of_an_unfinished_run() -> None:
    values = table()
    _, _, found = learned("gaussian_mixture", {"num_components": 2, "prior_covariance": 1.0}, values)
    assert found["aic"] is None and found["bic"] is None and math.isfinite(found["total_log_likelihood"])
    data = cases.as_data(values)
    model = cases.bind(cases.build_model("ppca", matrix.model_options("ppca", {})), data)
    parameters, evaluator = model.start(0), Evaluator(model, data, 0)
    scores = evaluator.score(parameters, final=True)
    for status in UNFINISHED:
        assert criteria(model, evaluator, parameters, scores, status)["total_log_likelihood"] is None
    part = criteria(model, evaluator, parameters, dataclasses.replace(scores, points=10), "converged")
    assert set(part) == set(KEYS) and part["free_parameters"] == 15 + 3
    assert all(part[key] is None for key in KEYS[1:])
