"""Probabilistic PCA against the closed form of Tipping & Bishop, and against a dense computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from lgm_cli.errors import UserError
from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.m_steps.gradient import Gradient
from lgm_cli.methods.method import Method
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.ppca import Ppca
from tests import cases

UNIT = 30.0  # of the data


def drawn(points: int, columns: int, seed: int = 0) -> np.ndarray:
    """Two components, weak enough for EM to be fast, and noise of one variance.  # -> (N, M)"""
    random = np.random.default_rng(seed)
    signal = random.normal(size=(points, 2)) * [3.0, 1.8] @ random.normal(size=(2, columns)) / np.sqrt(columns)
    return UNIT * (random.normal(size=columns) + signal + 0.6 * random.normal(size=(points, columns)))


def closed_form(y: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Loadings (M, D), mean (M,) and noise variance at the maximum, from the eigenvalues of the sample covariance."""
    values, vectors = np.linalg.eigh(np.cov(y.T, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    noise = values[dim:].mean()
    loadings = vectors[:, :dim] * np.sqrt(values[:dim] - noise)
    signs = np.sign(np.take_along_axis(loadings, np.abs(loadings).argmax(0)[None], 0))
    return loadings * signs, y.mean(0), float(noise)


def learned(y: np.ndarray, dim: int, steps: int) -> tuple[Ppca, Parameters]:
    model = cases.bind(Ppca(dim, 1e-6), y)
    method = Method(model, Exact(model), ClosedForm(model, model.start(0)), 10**9, 0)
    for _ in range(steps):
        method.step()
    return model, model.export(model.canonical(method.parameters))


@pytest.mark.parametrize(("points", "columns"), [(60, 8), (12, 30)], ids=["tall", "wide"])
def test_em_reaches_the_closed_form_on_complete_data(points: int, columns: int) -> None:
    """Parameters in canonical form and the likelihood, to 1e-8; with more columns than data points too."""
    y = drawn(points, columns)
    loadings, mean, noise = closed_form(y, 2)
    model, found = learned(y, 2, 1000)
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-8, atol=1e-8 * UNIT)
    np.testing.assert_allclose(found["loadings"], loadings, rtol=1e-8, atol=1e-8 * UNIT)
    assert float(found["noise_variance"]) == pytest.approx(noise, rel=1e-8)
    values = np.linalg.eigvalsh(np.cov(y.T, bias=True))[::-1][:2]
    logs = np.log(values).sum() + (columns - 2) * np.log(noise) + columns * (1 + np.log(2 * np.pi))
    likelihood = float(cases.log_likelihood(model, model.restore(found))) / points
    assert likelihood == pytest.approx(-0.5 * logs, rel=1e-8)


def test_likelihood_and_predictions_with_gaps_are_those_of_the_dense_computation() -> None:
    y = cases.with_gaps(drawn(20, 7), "masked")
    model = cases.bind(Ppca(2, 1e-3), y)
    parameters = cases.perturbed(model.start(0))
    found = {name: value.numpy() for name, value in model.export(parameters).items()}
    covariance = found["loadings"] @ found["loadings"].T + float(found["noise_variance"]) * np.eye(7)
    rows, columns = np.nonzero(np.isnan(y))
    mean, deviation = Evaluator(model, cases.as_data(y), 0).predict(parameters, rows, columns)
    total = 0.0
    for n, row in enumerate(y):
        seen, hidden = ~np.isnan(row), np.isnan(row)
        if seen.any():
            total += multivariate_normal(found["mean"][seen], covariance[np.ix_(seen, seen)]).logpdf(row[seen])
        gain = covariance[np.ix_(hidden, seen)] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
        expected = found["mean"][hidden] + gain @ (row[seen] - found["mean"][seen])
        left = covariance[np.ix_(hidden, hidden)] - gain @ covariance[np.ix_(seen, hidden)]
        np.testing.assert_allclose(mean[rows == n], expected, rtol=1e-9)
        np.testing.assert_allclose(deviation[rows == n], np.sqrt(np.diag(left)), rtol=1e-9)
    assert float(cases.log_likelihood(model, parameters)) == pytest.approx(total, rel=1e-10)


def test_the_canonical_form_is_the_same_model() -> None:
    """Orthogonal loadings that fall in length, the likelihood unchanged, and nothing to turn the second time."""
    model = cases.bind(Ppca(3, 1e-3), drawn(30, 9))
    parameters = cases.perturbed(model.start(0))
    canonical = model.canonical(parameters)
    gram = model.export(canonical)["loadings"].T @ model.export(canonical)["loadings"]
    assert float((gram - gram.diagonal().diag()).abs().max()) < 1e-10 * float(gram.max())
    assert torch.equal(gram.diagonal().sort(descending=True).values, gram.diagonal())
    before, after = (float(cases.log_likelihood(model, each)) for each in (parameters, canonical))
    assert after == pytest.approx(before, rel=1e-12)
    torch.testing.assert_close(model.canonical(canonical), canonical, rtol=1e-9, atol=1e-11)


def test_one_noise_variance_for_columns_of_any_scale() -> None:
    """In the data's own units: a column that hardly varies beside the others is all noise."""
    y = drawn(400, 6)
    y[:, 0] = 0.6 * UNIT * np.random.default_rng(1).normal(size=400)
    _, found = learned(y, 2, 200)
    assert float(found["noise_variance"]) == pytest.approx((0.6 * UNIT) ** 2, rel=0.1)
    assert float(found["loadings"][0].norm()) < 0.3 * float(found["loadings"][1:].norm(dim=1).min())


def test_columns_of_very_different_units_are_refused() -> None:
    y = drawn(30, 4)
    y[:, 2] *= 1e8
    with pytest.raises(UserError, match="bring them to comparable units"):
        Ppca(2, 1e-3).check(cases.as_data(y))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_step_of_one_suits_plain_gradient_descent_too(optimizer: str) -> None:
    """The noise variance is shared by all columns, so that its gradient is theirs together."""
    y = drawn(100, 40)
    model = cases.bind(Ppca(2, 1e-3), y)
    update = Gradient(model, model.start(0), optimizer, 0.5 if optimizer == "sgd" else 0.1)
    method = Method(model, Exact(model), update, 10**9, 0)
    for _ in range(300):
        method.step()
    best = float(cases.log_likelihood(model, model.restore(learned(y, 2, 300)[1])))
    found = float(cases.log_likelihood(model, method.parameters))
    assert (best - found) / y.size < 0.01


def test_data_without_noise_end_at_the_floor_and_say_so() -> None:
    random = np.random.default_rng(0)
    y = random.normal(size=(40, 2)) @ random.normal(size=(2, 6))
    model = cases.bind(Ppca(2, 1e-3), y)
    method = Method(model, Exact(model), ClosedForm(model, model.start(0)), 10**9, 0)
    for _ in range(100):
        method.step()
    (warning,) = model.warnings(method.parameters, [])
    assert "at its floor" in warning and "2 factors" in warning
