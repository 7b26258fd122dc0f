"""Standard errors against closed forms, and against second differences of likelihoods computed independently."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, poisson
from statsmodels.tsa.statespace.sarimax import SARIMAX

from lgm_cli.errors import UserError
from lgm_cli.evaluation import information
from lgm_cli.evaluation.information import StandardErrors, require_affordable, standard_errors
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from tests import cases, matrix, reference

Arrays = dict[str, np.ndarray]


def maximum(name: str, options: dict[str, Any], data: Any, steps: int) -> tuple[LatentVariableModel, Parameters]:
    """A model and its parameters after so many steps of EM, in canonical form."""
    data = data if not isinstance(data, np.ndarray) else cases.as_data(data)
    model = cases.bind(cases.build_model(name, matrix.model_options(name, options)), data)
    parameters = model.start(0)
    with torch.no_grad():
        for _ in range(steps):
            total: dict[str, torch.Tensor] = {}
            for chunk in model.observations.chunks:
                total = model.add_statistics(total, chunk, model.posterior(parameters, chunk))
            parameters = model.maximise(parameters, model.with_prior(total))
    return model, model.canonical(parameters)


def found_by(name: str, options: dict[str, Any], data: Any, steps: int) -> tuple[Arrays, Arrays, StandardErrors]:
    """The exported parameters and their standard errors."""
    model, parameters = maximum(name, options, data, steps)
    errors = standard_errors(model, parameters)
    return arrays(model.export(parameters)), arrays(errors.values), errors


def arrays(values: Parameters) -> Arrays:
    return {name: value.numpy() for name, value in values.items()}


def covariance(likelihood: Callable[[np.ndarray], float], at: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """The inverse of minus the Hessian, by central differences with steps of a fiftieth of a unit and of a
    twenty-fifth, from which the error of second order is extrapolated away."""
    size, (one, two) = len(at), ((0.02 * unit), (0.04 * unit))

    def second(step: np.ndarray) -> np.ndarray:
        result = np.empty((size, size))
        for i in range(size):
            for j in range(i + 1):
                value = 0.0
                for a in (-1, 1):
                    for b in (-1, 1):
                        x = at.copy()
                        x[i] += a * step[i]
                        x[j] += b * step[j]
                        value += a * b * likelihood(x)
                result[i, j] = result[j, i] = value / (4 * step[i] * step[j])
        return result

    return np.linalg.inv(-(4 * second(one) - second(two)) / 3)


def through(function: Callable[[np.ndarray], np.ndarray], at: np.ndarray, covariances: np.ndarray) -> np.ndarray:
    """Standard errors of a function by the delta method, its derivatives by differences."""
    step = 1e-4 * np.sqrt(covariances.diagonal())
    rows = [(function(at + h) - function(at - h)) / (2 * h.sum()) for h in np.diag(step)]
    return np.sqrt(np.einsum("ie,ij,je->e", rows, covariances, rows))


# Closed forms -----------------------------------------------------------------------------------------------


def test_one_normal_component_has_the_textbook_errors() -> None:
    values = np.random.default_rng(0).normal(size=(80, 3)) @ np.array([[2.0, 1, 0], [0, 1, 3], [0, 0, 1]]) + 4
    exported, errors, found = found_by("gaussian_mixture", {"num_components": 1}, values, 3)
    s = exported["covariances"][0]
    np.testing.assert_allclose(errors["means"][0], np.sqrt(s.diagonal() / 80), rtol=1e-9)
    expected = np.sqrt((np.outer(s.diagonal(), s.diagonal()) + s**2) / 80)
    np.testing.assert_allclose(errors["covariances"][0], expected, rtol=1e-9)
    assert np.isnan(errors["weights"]).all()
    assert not found.warnings


@pytest.mark.parametrize("covariance_of", ["diagonal", "spherical", "tied"])
def test_other_covariances_have_theirs(covariance_of: str) -> None:
    values = np.random.default_rng(0).normal(size=(80, 3)) * [1, 2, 5]
    exported, errors, _ = found_by("gaussian_mixture", {"num_components": 1, "covariance": covariance_of}, values, 3)
    variance = exported["covariances"][0].diagonal()
    share = 3 if covariance_of == "spherical" else 1
    error = errors["covariances"][0].diagonal()
    np.testing.assert_allclose(error, variance * math.sqrt(2 / 80 / share), rtol=1e-9)
    off = errors["covariances"][0][0, 1]
    assert np.isnan(off) == (covariance_of != "tied")  # a zero that is no parameter


@pytest.mark.parametrize("name", ["bernoulli_mixture", "poisson_mixture", "multinoulli_mixture"])
def test_shares_and_rates_have_those_of_their_columns(name: str) -> None:
    random = np.random.default_rng(1)
    values = random.poisson(2.0, (70, 4)).astype(float)
    if name != "poisson_mixture":
        values = np.minimum(values, 1 if name == "bernoulli_mixture" else 2)
    values[random.random(values.shape) < 0.2] = np.nan
    exported, errors, _ = found_by(name, {"num_components": 1}, values, 3)
    count = (~np.isnan(values)).sum(0)
    if name == "poisson_mixture":
        np.testing.assert_allclose(errors["rates"][0], np.sqrt(exported["rates"][0] / count), rtol=1e-9)
        return
    share = exported["probabilities"][0]
    count = count if name == "bernoulli_mixture" else count[:, None]
    np.testing.assert_allclose(errors["probabilities"][0], np.sqrt(share * (1 - share) / count), rtol=1e-9)


def test_the_noise_and_the_mean_of_ppca_have_closed_forms() -> None:
    """For complete data Var(sigma^2) = 2 sigma^4 / (n (M - D)) and Var(mean) = S_mm / n."""
    random = np.random.default_rng(2)
    values = random.normal(size=(100, 2)) @ random.normal(size=(2, 6)) * 2 + random.normal(size=(100, 6))
    exported, errors, found = found_by("ppca", {"latent_dim": 2}, values, 4000)
    noise = float(exported["noise_variance"])
    assert float(errors["noise_variance"]) == pytest.approx(noise * math.sqrt(2 / 400), rel=1e-6)
    implied = (exported["loadings"] ** 2).sum(1) + noise
    np.testing.assert_allclose(errors["mean"], np.sqrt(implied / 100), rtol=1e-6)
    assert not found.warnings


# Second differences of dense likelihoods ---------------------------------------------------------------------


@pytest.mark.parametrize("offset", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_factor_analysis_with_gaps(offset: bool) -> None:
    """With lower triangular loadings instead of the canonical axes the mean and the noise have the same errors, and the
    delta method leads to those of the canonical loadings."""
    random = np.random.default_rng(3)
    values = random.normal(size=(70, 2)) @ random.normal(size=(2, 6)) + random.normal(size=(70, 6)) + 3
    values = values + 0.8 * offset * random.normal(size=(70, 1))
    values[random.random(values.shape) < 0.15] = np.nan
    exported, errors, _ = found_by("factor_analysis", {"latent_dim": 2, "offset": offset}, values, 6000)
    m, kept = 6, np.tril_indices(6, 0, 2)

    def parts(x: np.ndarray) -> Arrays:
        loadings = np.zeros((m, 2))
        loadings[kept] = x[: 2 * m - 1]
        found = {"loadings": loadings, "mean": x[2 * m - 1 : 3 * m - 1], "noise_variance": x[3 * m - 1 : 4 * m - 1]}
        return found | ({"offset_variance": x[-1]} if offset else {})

    def canonical(x: np.ndarray) -> np.ndarray:
        part = parts(x)
        root = np.sqrt(part["noise_variance"])[:, None]
        rows = part["loadings"] / root
        turned = rows @ np.linalg.eigh(rows.T @ rows)[1][:, ::-1]
        return (root * turned * np.sign(turned[np.abs(turned).argmax(0), [0, 1]])).ravel()

    orthogonal = np.linalg.qr(exported["loadings"][:2].T)[0]
    x = np.concatenate([(exported["loadings"] @ orthogonal)[kept], exported["mean"], exported["noise_variance"]])
    x = np.append(x, exported["offset_variance"]) if offset else x
    np.testing.assert_allclose(canonical(x), exported["loadings"].ravel(), rtol=1e-6)
    unit = np.full(len(x), 0.1)
    found = covariance(lambda x: reference.log_likelihoods(parts(x), values).sum(), x, unit)
    error = np.sqrt(found.diagonal())
    np.testing.assert_allclose(errors["mean"], error[2 * m - 1 : 3 * m - 1], rtol=2e-5)
    np.testing.assert_allclose(errors["noise_variance"], error[3 * m - 1 : 4 * m - 1], rtol=2e-5)
    if offset:
        assert float(errors["offset_variance"]) == pytest.approx(error[-1], rel=2e-5)
    np.testing.assert_allclose(errors["loadings"].ravel(), through(canonical, x, found), rtol=1e-4)


def test_two_normal_components_with_gaps() -> None:
    random = np.random.default_rng(4)
    values = np.concatenate([random.normal(size=(40, 2)), random.normal(size=(30, 2)) * [1, 2] + [4, 3]])
    values[random.random(values.shape) < 0.1] = np.nan
    exported, errors, _ = found_by("gaussian_mixture", {"num_components": 2}, values, 3000)
    kept = np.tril_indices(2)

    def likelihood(x: np.ndarray) -> float:
        total, density = np.array([x[0], 1 - x[0]]), np.zeros((len(values), 2))
        for k in range(2):
            mean, s = x[1 + 2 * k : 3 + 2 * k], np.zeros((2, 2))
            s[kept] = x[5 + 3 * k : 8 + 3 * k]
            s = s + s.T - np.diag(s.diagonal())
            for n, row in enumerate(values):
                seen = ~np.isnan(row)
                if seen.any():
                    density[n, k] = multivariate_normal.logpdf(row[seen], mean[seen], s[np.ix_(seen, seen)])
        return float(np.log(np.exp(density) @ total)[(~np.isnan(values)).any(1)].sum())

    s = exported["covariances"]
    x = np.concatenate([exported["weights"][:1], exported["means"].ravel(), s[0][kept], s[1][kept]])
    mine = np.concatenate([errors["weights"][:1], errors["means"].ravel(), *(e[kept] for e in errors["covariances"])])
    error = np.sqrt(covariance(likelihood, x, mine).diagonal())
    np.testing.assert_allclose(mine, error, rtol=1e-5)
    assert errors["weights"][1] == pytest.approx(errors["weights"][0], rel=1e-9)
    np.testing.assert_allclose(errors["covariances"], errors["covariances"].transpose(0, 2, 1), rtol=1e-9)


def test_a_hidden_markov_model_of_counts() -> None:
    random = np.random.default_rng(5)
    path = [0]
    for _ in range(79):
        path.append(path[-1] if random.random() < 0.8 else 1 - path[-1])
    counts = random.poisson(np.array([2.0, 7.0])[path]).astype(float)
    counts[30:33] = np.nan
    data = cases.as_data(counts[:, None], kind="series")
    exported, errors, found = found_by("hidden_markov", {"num_components": 2, "emission": "poisson"}, data, 3000)
    first = exported["initial"]
    assert first.max() > 1 - 1e-6 and np.isnan(errors["initial"]).all()
    assert "2 of initial" in found.warnings[0] or "1 of initial" in found.warnings[0]

    def likelihood(x: np.ndarray) -> float:
        transition, state, total = np.array([[x[0], 1 - x[0]], [1 - x[1], x[1]]]), first, 0.0
        for t, count in enumerate(counts):
            state = state if t == 0 else state @ transition
            if not np.isnan(count):
                state = state * poisson.pmf(count, x[2:])
            total, state = total + np.log(state.sum()), state / state.sum()
        return total

    x = np.concatenate([exported["transition"].diagonal(), exported["rates"][:, 0]])
    mine = np.concatenate([errors["transition"].diagonal(), errors["rates"][:, 0]])
    np.testing.assert_allclose(mine, np.sqrt(covariance(likelihood, x, mine).diagonal()), rtol=1e-5)
    np.testing.assert_allclose(errors["transition"][:, ::-1], errors["transition"], rtol=1e-9)


def test_an_autoregression_by_the_likelihood_of_statsmodels() -> None:
    random = np.random.default_rng(6)
    series = np.zeros(200)
    for t in range(2, 200):
        series[t] = 1.2 * series[t - 1] - 0.6 * series[t - 2] + random.normal()
    series = 7.0 + series + 0.7 * random.normal(size=200)
    series[50:58] = np.nan
    data = cases.as_data(series[:, None], kind="series")
    exported, errors, _ = found_by("autoregressive", {"order": 2}, data, 400)

    def likelihood(x: np.ndarray) -> float:  # order of SARIMAX: coefficients, measurement variance, innovation variance
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer = SARIMAX(series - x[4], order=(2, 0, 0), measurement_error=True)
        return float(peer.loglike(x[:4]))

    def joined(values: Arrays) -> np.ndarray:
        return np.array([*values["coefficients"], *(values[f"{n}_variance"] for n in ("noise", "innovation"))])

    x, mine = (np.append(joined(values), values["mean"]) for values in (exported, errors))
    np.testing.assert_allclose(mine, np.sqrt(covariance(likelihood, x, mine).diagonal()), rtol=1e-5)


def test_the_evidence_of_a_regression() -> None:
    data = matrix.data("linear_regression")
    model, parameters = maximum("linear_regression", {}, data, 3000)
    exported, errors = model.export(parameters), arrays(standard_errors(model, parameters).values)
    assert model.observations.features is not None
    seen = data.train_rows
    centred = (model.observations.features - exported["feature_mean"]).numpy()[seen]

    def likelihood(x: np.ndarray) -> float:
        whole = centred @ centred.T / x[0] + x[2] * np.eye(len(seen))
        return float(multivariate_normal.logpdf(data.train_values, np.full(len(seen), x[1]), whole))

    names = ("weight_precision", "intercept", "noise_variance")
    x, mine = (np.array([float(values[name]) for name in names]) for values in (exported, errors))
    np.testing.assert_allclose(mine, np.sqrt(covariance(likelihood, x, mine).diagonal()), rtol=1e-5)
    assert np.isnan(errors["feature_mean"]).all()


def test_a_state_space_model_of_one_state() -> None:
    random = np.random.default_rng(7)
    state = np.zeros(60)
    for t in range(1, 60):
        state[t] = 0.8 * state[t - 1] + random.normal()
    values = state[:, None] * [1.0, -2.0] + random.normal(size=(60, 2)) + [3.0, 8.0]
    values[20:24, 0] = np.nan
    data = cases.as_data(values, kind="series")
    exported, errors, _ = found_by("state_space", {"latent_dim": 1}, data, 6000)
    seen = ~np.isnan(values).ravel()
    start = float(exported["initial_covariance"][0, 0])
    assert start == pytest.approx(1.0, abs=1e-4)  # at its bound, which leaves the others as they are

    def likelihood(x: np.ndarray) -> float:
        g, observation, mean, noise, first = x[0], x[1:3], x[3:5], x[5:7], x[7]
        variance = [start]
        for _ in range(59):
            variance.append(g**2 * variance[-1] + 1)
        lag = np.abs(np.subtract.outer(np.arange(60), np.arange(60)))
        earlier = np.minimum.outer(np.arange(60), np.arange(60))
        states = g**lag * np.array(variance)[earlier]
        whole = np.kron(states, np.outer(observation, observation)) + np.diag(np.tile(noise, 60))
        center = (first * g ** np.arange(60)[:, None] * observation + mean).ravel()
        error = values.ravel()[seen] - center[seen]
        part = whole[np.ix_(seen, seen)]
        return -0.5 * float(error @ np.linalg.solve(part, error) + np.linalg.slogdet(2 * np.pi * part)[1])

    names = ("transition", "observation", "mean", "noise_variance", "initial_mean")
    x, mine = (np.concatenate([values[name].ravel() for name in names]) for values in (exported, errors))
    np.testing.assert_allclose(mine, np.sqrt(covariance(likelihood, x, mine).diagonal()), rtol=1e-4)
    assert np.isnan(errors["transition_covariance"]).all()


# Where there is none -----------------------------------------------------------------------------------------


def test_a_noise_variance_at_its_floor_is_held() -> None:
    random = np.random.default_rng(8)
    values = random.normal(size=(100, 1)) @ random.normal(size=(1, 5)) + 0.5 * random.normal(size=(100, 5))
    values[:, 1] = values[:, 0] + 1e-4 * random.normal(size=100)
    _, errors, found = found_by("factor_analysis", {"latent_dim": 1, "offset": False}, values, 500)
    assert np.isnan(errors["noise_variance"]).sum() in (1, 2)
    assert np.isfinite(errors["loadings"]).all() and np.isfinite(errors["mean"]).all()
    assert "of noise_variance" in found.warnings[0]


def test_what_the_data_do_not_tell_has_no_standard_error() -> None:
    """Two factors of three columns: loadings and noise are not determined, the mean is."""
    random = np.random.default_rng(9)
    values = random.normal(size=(60, 1)) @ random.normal(size=(1, 3)) + random.normal(size=(60, 3))
    _, errors, found = found_by("factor_analysis", {"latent_dim": 2, "offset": False}, values, 6000)
    assert np.isfinite(errors["mean"]).all()
    assert np.isnan(errors["loadings"]).any()
    assert any("have no standard error, since the likelihood" in line for line in found.warnings)


def test_a_run_that_ended_early_is_told_so() -> None:
    values = np.random.default_rng(0).normal(size=(200, 2)) @ np.random.default_rng(1).normal(size=(2, 6))
    values = values + np.random.default_rng(2).normal(size=values.shape)
    early = found_by("factor_analysis", {"latent_dim": 2, "offset": False}, values, 2)[2]
    late = found_by("factor_analysis", {"latent_dim": 2, "offset": False}, values, 4000)[2]
    assert any("standard errors from the maximum" in line for line in early.warnings)
    assert not late.warnings


def test_a_prior_adds_to_the_information() -> None:
    """Of one component with w imaginary rows of variance one: n + w rows tell of a variance."""
    values = np.random.default_rng(0).normal(size=(40, 1)) * 3
    exported, errors, _ = found_by(
        "gaussian_mixture", {"num_components": 1, "covariance": "diagonal", "prior_covariance": 10.0}, values, 3
    )
    variance = float(exported["covariances"][0, 0, 0])
    assert float(errors["covariances"][0, 0, 0]) == pytest.approx(variance * math.sqrt(2 / 50), rel=1e-9)


def test_too_many_parameters_are_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    model = matrix.bound("ppca")
    require_affordable(model, model.start(0))
    monkeypatch.setattr(information, "MOST", 14)
    with pytest.raises(UserError, match="up to 14 free parameters, and there are 15"):
        require_affordable(model, model.start(0))


@pytest.mark.parametrize(
    ("name", "options"), [(n, o) for n in matrix.MODELS for o in matrix.varied("model", n)], ids=str
)
def test_every_model_has_them(name: str, options: dict[str, Any]) -> None:
    """In the shapes of what is exported, and none that is zero or negative."""
    model = matrix.bound(name, options)
    parameters = model.start(0)
    with torch.no_grad():
        for _ in range(400):
            total: dict[str, torch.Tensor] = {}
            for chunk in model.observations.chunks:
                total = model.add_statistics(total, chunk, model.posterior(parameters, chunk))
            parameters = model.maximise(parameters, total)
    parameters = model.canonical(parameters)
    found = standard_errors(model, parameters).values
    exported = model.export(parameters)
    assert {key: value.shape for key, value in found.items()} == {key: v.shape for key, v in exported.items()}
    whole = torch.cat([value.flatten() for value in found.values()])
    assert bool((whole.nan_to_num(1.0) > 0).all()) and bool(whole.isfinite().any())
