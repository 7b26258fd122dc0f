"""Linear regression against scikit-learn's BayesianRidge and against a dense computation of the evidence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.datasets import load_diabetes
from sklearn.linear_model import BayesianRidge

from lgm_cli.command import choices
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.load import load
from lgm_cli.data.base.make_table import regression
from lgm_cli.errors import UserError
from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.m_steps.gradient import Gradient
from lgm_cli.methods.method import Method
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.models.linear_regression import LinearRegression
from lgm_cli.plots import weights
from lgm_cli.run import build
from lgm_cli.solvers.conjugate_gradient import ConjugateGradient
from tests import cases


def data_of(features: np.ndarray, response: np.ndarray, hidden: int = 0) -> Data:
    n, p = features.shape
    labels = pd.RangeIndex(n), pd.Index([f"x{column}" for column in range(p)])
    table = regression("test", features, response, *labels, target="y")
    chosen = np.zeros(len(table.values), bool)
    chosen[:hidden] = True
    return Data(table, chosen)


def drawn(n: int, p: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of unequal means and scales, a response in a unit of its own.  # -> (n, p), (n,)"""
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, p)) * np.geomspace(0.5, 2, p) + random.normal(size=p)
    return features, 50 + 7 * (features @ random.normal(size=p) / np.sqrt(p) + 0.5 * random.normal(size=n))


def learned(data: Data, steps: int = 3000) -> tuple[LinearRegression, Method]:
    model = cases.bind(LinearRegression(1e-6), data)
    method = Method(model, Exact(model), ClosedForm(model, model.start(0)), 10**9, 0)
    for _ in range(steps):
        method.step()
    return model, method


def evidence(found: Parameters, features: np.ndarray, response: np.ndarray) -> float:
    """log N(y; intercept, X X^T / alpha + 1 / psi)."""
    alpha, noise, intercept = (float(found[k]) for k in ("weight_precision", "noise_variance", "intercept"))
    centred = features - found["feature_mean"].numpy()
    covariance = centred @ centred.T / alpha + noise * np.eye(len(response))
    return float(multivariate_normal(np.full(len(response), intercept), covariance).logpdf(response))


@pytest.mark.parametrize("source", ["diabetes", "few observations"])
def test_em_reaches_the_evidence_and_the_solution_of_scikit_learn(source: str) -> None:
    """Per response to 1e-6, weights and predictions too; with more features than observations as well."""
    features, response = load_diabetes(return_X_y=True) if source == "diabetes" else drawn(30, 50)
    flat = {"alpha_1": 0.0, "alpha_2": 0.0, "lambda_1": 0.0, "lambda_2": 0.0}
    peer = BayesianRidge(max_iter=5000, tol=1e-12, **flat).fit(features, response)
    data = data_of(features, response)
    model, method = learned(data)
    found = model.export(method.parameters)
    theirs = {
        "weight_precision": torch.tensor(peer.lambda_),
        "noise_variance": torch.tensor(1 / peer.alpha_),
        "intercept": torch.tensor(response.mean()),
        "feature_mean": torch.as_tensor(features.mean(0)),
    }
    n = len(response)
    assert evidence(found, features, response) / n == pytest.approx(evidence(theirs, features, response) / n, abs=1e-6)
    mean = Evaluator(model, data, 0).inferred(method.parameters)["latent_mean"]
    np.testing.assert_allclose(mean[0], peer.coef_, rtol=1e-3, atol=1e-3 * np.abs(peer.coef_).max())
    np.testing.assert_allclose(
        (features - found["feature_mean"].numpy()) @ mean[0].numpy() + float(found["intercept"]),
        peer.predict(features), rtol=1e-3,
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(25, 6), (12, 20)], ids=["tall", "wide"])
def test_the_likelihood_and_predictions_are_those_of_the_dense_computation(shape: tuple[int, int]) -> None:
    features, response = drawn(*shape)
    data = data_of(features, response, hidden=4)
    model = cases.bind(LinearRegression(1e-6), data)
    parameters = cases.perturbed(model.start(0), size=0.3)
    found = model.export(parameters)
    np.testing.assert_allclose(found["feature_mean"], features[4:].mean(0), rtol=1e-12)
    expected = evidence(found, features[4:], response[4:])
    assert float(cases.log_likelihood(model, parameters)) == pytest.approx(expected, rel=1e-10)
    joint = evidence(found, features, response)  # log p(hidden | seen) by the difference
    mean, deviation = Evaluator(model, data, 0).predict(parameters, data.test_rows, data.test_columns)
    centred = features - found["feature_mean"].numpy()
    precision = float(found["weight_precision"]) * np.eye(shape[1]) + centred[4:].T @ centred[4:] / float(
        found["noise_variance"]
    )
    weights_mean = np.linalg.solve(precision, centred[4:].T @ (response[4:] - float(found["intercept"])))
    weights_mean /= float(found["noise_variance"])
    spread = np.einsum("ij,ij->i", centred[:4] @ np.linalg.inv(precision), centred[:4])
    np.testing.assert_allclose(mean, float(found["intercept"]) + centred[:4] @ weights_mean, rtol=1e-9)
    np.testing.assert_allclose(deviation**2, spread + float(found["noise_variance"]), rtol=1e-9)
    assert joint < expected  # densities of four more responses, all below one in this unit
    latent, latent_deviation = Evaluator(model, data, 0).inferred(parameters).values()
    np.testing.assert_allclose(latent[0], weights_mean, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(latent_deviation[0] ** 2, np.diag(np.linalg.inv(precision)), rtol=1e-8)
    torch.testing.assert_close(model.export(model.restore(found)), found, rtol=1e-12, atol=1e-12)


def test_em_never_falls_and_unrolling_ends_where_it_does() -> None:
    data = data_of(*drawn(60, 15))
    model, method = learned(data, 0)
    values = []
    for _ in range(40):
        values.append(float(cases.log_likelihood(model, method.parameters)))
        method.step()
    assert np.all(np.diff(values) >= -1e-9)
    best = float(cases.log_likelihood(model, learned(data, 2000)[1].parameters)) / 60
    expectation = MonteCarlo(model, ConjugateGradient(100, 1e-4), 10, 1, 0, False)
    unroll = Method(model, expectation, Gradient(model, model.start(0), "adam", 0.1), 1, 0)
    for step in range(400):
        if step % 100 == 99:
            unroll.update.anneal()
        unroll.step()
    assert float(cases.log_likelihood(model, unroll.parameters)) / 60 == pytest.approx(best, abs=0.003)


@pytest.mark.parametrize("solver", [name for name in choices.choices("solver") if name != "cholesky"])
def test_every_solver_is_accurate_enough_as_it_comes(solver: str) -> None:
    """With much signal the gradient of the weights' precision is small beside what an inaccurate mean adds to it."""
    random = np.random.default_rng(0)
    features = random.normal(size=(60, 4))
    data = data_of(features, features @ [1.0, -2.0, 0.5, 0.0] + 0.3 * random.normal(size=60))
    model, em = learned(data, 200)
    chosen = build.solver({"solver": {"name": solver, "tolerance": "auto", "max_iterations": "auto"}}, model)
    assert (chosen.tolerance, chosen.max_iterations) == (1e-6, 1000)
    expectation = MonteCarlo(model, chosen, 10, 1, 0, False)
    unroll = Method(model, expectation, Gradient(model, model.start(0), "adam", 0.2), 1, 0)
    for step in range(300):
        if step % 60 == 59:
            unroll.update.anneal()
        unroll.step()
    found, best = (float(method.parameters["weight_precision"]) for method in (unroll, em))
    assert found == pytest.approx(best, rel=0.2)


def test_em_never_lowers_the_evidence_of_more_features_than_responses() -> None:
    """They explain the response but for the floor of the noise: y^T y is 1e6 times y^T C^-1 y."""
    random = np.random.default_rng(0)
    model = LinearRegression(1e-9)
    model = cases.bind(model, data_of(random.normal(size=(10, 40)), random.normal(size=10)))
    method = Method(model, Exact(model), ClosedForm(model, model.start(0)), 10**9, 0)
    found = []
    for _ in range(500):
        method.step()
        found.append(float(cases.log_likelihood(model, method.parameters)))
    assert float(method.parameters["noise_variance"]) == pytest.approx(1e-9)
    assert np.diff(found).min() > -1e-12


def test_a_constant_feature_adds_nothing() -> None:
    features, response = drawn(40, 5)
    with_constant = np.c_[features, np.full(40, 1.1)]
    found = []
    for each in (features, with_constant):
        model, method = learned(data_of(each, response), 300)
        mean = Evaluator(model, data_of(each, response), 0).inferred(method.parameters)["latent_mean"]
        found.append(mean[0].numpy())
    assert abs(found[1][5]) < 1e-12
    np.testing.assert_allclose(found[1][:5], found[0], rtol=0.05, atol=0.01)  # the prior is of one weight more


def test_the_gradient_is_that_of_the_evidence() -> None:
    model = cases.bind(LinearRegression(1e-6), data_of(*drawn(20, 8), hidden=3))
    parameters = cases.perturbed(model.start(0))
    found = cases.expected_gradient(model, Exact(model), parameters)
    exact = cases.exact_gradient(model, parameters)
    torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-10)


def test_the_data_and_the_model_must_be_of_one_kind() -> None:
    data = data_of(*drawn(20, 3))
    with pytest.raises(UserError, match="is a response and its features, .* learns from a table"):
        FactorAnalysis(1, False, 1e-3).check(data)
    with pytest.raises(UserError, match="learns from a response and its features .*data.target"):
        LinearRegression(1e-6).check(cases.as_data(np.random.default_rng(0).normal(size=(9, 3))))


def test_simulated_weights_are_found() -> None:
    options = {"num_points": 400, "num_dimensions": 20, "factor_share": 0.8, "hidden_share": 0.2, "seed": 0}
    model = LinearRegression(1e-6)
    data = load({"name": "simulated", "test_fraction": 0.1, **options}, 0, model.simulate)
    assert data.table.truth is not None
    model, method = learned(data, 100)
    assert model.parameter_error(method.parameters, data.table.truth) < 0.2
    exported = model.export(method.parameters)
    assert float(exported["noise_variance"]) == pytest.approx(0.25, rel=0.25)


def test_a_response_without_noise_ends_at_the_floor_and_says_so() -> None:
    features, _ = drawn(40, 5)
    model, method = learned(data_of(features, features @ np.arange(1.0, 6.0)), 200)
    (warning,) = model.warnings(method.parameters, [])
    assert "at its floor" in warning


@pytest.mark.parametrize("count", [5, 300])
def test_weights_are_drawn_few_or_many(count: int, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    mean, deviation, scale = random.normal(size=count), random.random(count), random.uniform(1, 100, count)
    names = [f"x{i}" for i in range(count)]
    figure = weights(mean, deviation, scale, names, tmp_path / "a.png", response="y")
    assert (tmp_path / "a.png").stat().st_size > 1000
    axes = figure.axes[0]
    strongest = np.argsort(-np.abs(mean * scale))[:25]
    assert [text.get_text() for text in axes.get_yticklabels()] == [names[place] for place in strongest]
    (dots,) = (line for line in axes.lines if line.get_marker() == "o")
    np.testing.assert_allclose(dots.get_xdata(), (mean * scale)[strongest])
    (bars,) = axes.collections
    widths = [np.ptp(segment[:, 0]) for segment in bars.get_segments()]  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_allclose(widths, 2 * 1.645 * (deviation * scale)[strongest])
    assert "y per standard deviation of the feature" in axes.get_xlabel()
    assert len(figure.axes) == (1 if count <= 40 else 2)
    if count > 40:
        np.testing.assert_allclose(figure.axes[1].lines[1].get_ydata(), mean * scale)
