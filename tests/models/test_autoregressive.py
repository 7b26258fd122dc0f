"""The autoregression against statsmodels' Kalman filter and against dense computations with NumPy."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import signal
from scipy.linalg import solve_triangular, toeplitz
from scipy.stats import multivariate_normal

from lgm_cli import plots
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.load import load
from lgm_cli.errors import UserError
from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.m_steps.gradient import Gradient
from lgm_cli.methods.method import Method
from lgm_cli.models.autoregressive import Autoregressive
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.models.parts.autoregressive_maximisation import Windows, maximise
from lgm_cli.numerics.durbin_levinson import autocovariances, levinson, reflections, whitening_rows
from lgm_cli.plots.autoregression import periodogram
from lgm_cli.posteriors.banded import BandedPosterior
from lgm_cli.solvers.conjugate_gradient import ConjugateGradient
from tests import cases

FLOOR = 1e-6


def drawn(length: int, order: int = 3, share: float = 0.8, hidden: float = 0.2, seed: int = 0) -> dict[str, Any]:
    options = {"num_points": length, "factor_share": share, "hidden_share": hidden, "seed": seed}
    return Autoregressive(order, FLOOR).simulate(options)


def model_of(values: np.ndarray | Data, order: int) -> LatentVariableModel:
    data = values if isinstance(values, Data) else cases.as_data(values, kind="series")
    return cases.bind(Autoregressive(order, FLOOR), data)


def em(model: LatentVariableModel, steps: int) -> Parameters:
    method = Method(model, Exact(model), ClosedForm(model, model.start(0)), 10**9, 0)
    for _ in range(steps):
        method.step()
    return method.parameters


def covariance_of(exported: Parameters, length: int) -> np.ndarray:
    """Cov(z) by many terms of the moving average z_t = sum_j psi_j innovation_(t-j), without any recursion of ours."""
    a = exported["coefficients"].numpy()
    psi = np.zeros(8000)
    psi[0] = 1.0
    for j in range(1, len(psi)):
        psi[j] = a[: min(j, len(a))] @ psi[max(j - len(a), 0) : j][::-1]
    gamma = [psi[k:] @ psi[: len(psi) - k] for k in range(length)]
    return float(exported["innovation_variance"]) * toeplitz(gamma)


def kalman_filter(y: np.ndarray, exported: Parameters, trend: str = "n") -> Any:
    """statsmodels' model of an autoregression with measurement error, and the parameters as it takes them."""
    statespace = pytest.importorskip("statsmodels.tsa.statespace.sarimax")
    a = exported["coefficients"].numpy()
    centred = y - float(exported["mean"]) if trend == "n" else y
    peer = statespace.SARIMAX(centred, order=(len(a), 0, 0), trend=trend, measurement_error=True)
    assert peer.param_names[-2:] == ["var.measurement_error", "sigma2"]
    peer.ssm.tolerance = 0  # never take the covariances for settled
    return peer, np.r_[a, float(exported["noise_variance"]), float(exported["innovation_variance"])]


@pytest.mark.parametrize("order", [1, 2, 5, 12])
def test_whitening_rows_are_the_inverse_cholesky_factor_of_the_stationary_covariance(order: int) -> None:
    """And of every process that is near the unit circle; coefficients and reflections are each other's inverse."""
    random = np.random.default_rng(order)
    for size in (0.5, 1.5):
        u = random.normal(size=order) * size
        rows = whitening_rows(torch.as_tensor(u)).numpy()
        np.testing.assert_allclose(np.tanh(u), reflections(-rows[-1, 1:]), rtol=1e-6, atol=1e-9)
        gamma = autocovariances(-rows[-1, 1:], 1.0, order + 5)
        whitened = np.zeros((order + 5, order + 5))
        for t in range(order + 5):
            for i in range(min(t, order) + 1):
                whitened[t, t - i] = rows[min(t, order), i]
        factor = np.linalg.cholesky(toeplitz(gamma))
        inverse = solve_triangular(factor, np.eye(order + 5), lower=True)
        np.testing.assert_allclose(whitened, inverse, rtol=1e-6, atol=1e-6 * np.abs(inverse).max())
        np.testing.assert_allclose(levinson(gamma[: order + 1]), np.tanh(u), rtol=1e-5, atol=1e-7)


def test_autocovariances_are_those_of_the_moving_average() -> None:
    exported = {"coefficients": torch.tensor([1.2, -0.8, 0.1]).double(), "innovation_variance": torch.tensor(2.0)}
    found = autocovariances(exported["coefficients"].numpy(), 2.0, 30)
    np.testing.assert_allclose(found, covariance_of(exported, 30)[0], rtol=1e-10)


@pytest.mark.parametrize(("length", "order"), [(30, 1), (75, 4), (150, 40)], ids=["one block", "three", "wide"])
def test_the_banded_posterior_is_the_dense_one(length: int, order: int) -> None:
    """Means, variances, covariances within the band, and the likelihood, on both sides of the size of a block."""
    values = drawn(length, min(order, 3))["values"]
    model = model_of(values, order)
    parameters = cases.perturbed(model.start(0), size=0.1)
    exported, y = model.export(parameters), values[:, 0]
    seen = np.flatnonzero(~np.isnan(y))
    prior, noise = covariance_of(exported, length), float(exported["noise_variance"])
    inner = prior[np.ix_(seen, seen)] + noise * np.eye(len(seen))
    gain = np.linalg.solve(inner, prior[seen]).T
    mean, covariance = gain @ (y[seen] - float(exported["mean"])), prior - gain @ prior[seen]
    (chunk,) = model.observations.chunks
    posterior = model.posterior(parameters, chunk)
    assert isinstance(posterior, BandedPosterior)
    scale = float(model.observations.scale[0])
    np.testing.assert_allclose(posterior.mean[0] * scale, mean, rtol=1e-8, atol=1e-8)
    for lag in range(order + 1):
        found = posterior.covariances[lag, lag:] * scale**2
        np.testing.assert_allclose(found, np.diag(covariance, -lag), rtol=1e-7, atol=1e-9)
    assert float(posterior.covariances[order, :order].abs().max()) == 0
    expected = multivariate_normal(np.full(len(seen), float(exported["mean"])), inner).logpdf(y[seen])
    assert float(cases.log_likelihood(model, parameters)) == pytest.approx(expected, rel=1e-10)
    data = cases.as_data(values, kind="series")
    predicted, deviation = Evaluator(model, data, 0).predict(parameters, np.arange(length), np.zeros(length, int))
    np.testing.assert_allclose(predicted, float(exported["mean"]) + mean, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(deviation**2, np.diag(covariance) + noise, rtol=1e-8)
    latent = Evaluator(model, data, 0).inferred(parameters)
    np.testing.assert_allclose(latent["latent_mean"], mean[:, None], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(latent["latent_standard_deviation"] ** 2, np.diag(covariance)[:, None], rtol=1e-7)
    np.testing.assert_allclose(
        model.implied_covariance(exported), prior + noise * np.eye(length), rtol=1e-8, atol=1e-10
    )


def test_the_gradient_is_that_of_the_dense_likelihood() -> None:
    """By finite differences of the dense log-density in the parameters that are learned."""
    values = drawn(40)["values"]
    model = model_of(values, 3)
    parameters = cases.perturbed(model.start(0))
    y = values[:, 0]
    seen = np.flatnonzero(~np.isnan(y))

    def dense(changed: Parameters) -> float:
        exported = model.export(changed)
        inner = covariance_of(exported, 40)[np.ix_(seen, seen)] + float(exported["noise_variance"]) * np.eye(len(seen))
        return float(multivariate_normal(np.full(len(seen), float(exported["mean"])), inner).logpdf(y[seen]))

    found = cases.expected_gradient(model, Exact(model), parameters)
    for name, value in parameters.items():
        for place in range(value.numel()):
            ends = []
            for change in (1e-5, -1e-5):
                moved = value.clone().reshape(-1)
                moved[place] += change
                ends.append(dense(parameters | {name: moved.reshape(value.shape)}))
            slope = (ends[0] - ends[1]) / 2e-5
            assert float(found[name].reshape(-1)[place]) == pytest.approx(slope, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("order", [1, 2, 9])
def test_the_likelihood_is_that_of_statsmodels(order: int) -> None:
    """Exact with gaps, stationary start, to 1e-8."""
    values = drawn(300, 3)["values"]
    model = model_of(values, order)
    for seed in (0, 1):
        parameters = cases.perturbed(model.start(0), seed, size=0.3)
        peer, theirs = kalman_filter(values[:, 0], model.export(parameters))
        assert float(cases.log_likelihood(model, parameters)) == pytest.approx(peer.loglike(theirs), rel=1e-8)


@pytest.mark.parametrize("source", [pytest.param("simulated", marks=pytest.mark.slow), "sunspots"])
def test_every_method_finds_the_maximum_of_statsmodels(source: str) -> None:
    """Within 1e-6 nats per entry; gradient EM from its own start. Noise is well determined in both."""
    if source == "sunspots":
        data = load({"name": "sunspots", "horizon": 11, "test_fraction": 0.1}, 0, lambda _: {})
    else:
        data = cases.as_data(drawn(400, 2, share=0.7)["values"], kind="series")
    y = np.full(data.shape[0], np.nan)
    y[data.train_rows] = data.train_values
    model = model_of(data, 2)
    learned = em(model, 600)
    peer, _ = kalman_filter(y, model.export(learned), trend="c")
    best = peer.fit(disp=0, maxiter=1000).llf
    for _ in range(3):
        best = max(best, peer.fit(peer.fit(disp=0).params, disp=0, method="nm", maxiter=2000).llf)
    count = model.observations.observed
    assert float(cases.log_likelihood(model, learned)) / count == pytest.approx(best / count, abs=1e-6)
    gradient = Method(model, Exact(model), Gradient(model, model.start(0), "adam", 0.1), 10**9, 0)
    for step in range(1200):
        if step >= 800 and step % 100 == 0:
            gradient.update.anneal()
        gradient.step()
    assert float(cases.log_likelihood(model, gradient.parameters)) / count == pytest.approx(best / count, abs=1e-6)


def test_unrolling_ends_where_em_does() -> None:
    """Within 0.002 nats per entry, by conjugate gradients alone."""
    model = model_of(drawn(200, 2)["values"], 2)
    best = float(cases.log_likelihood(model, em(model, 400)))
    expectation = MonteCarlo(model, ConjugateGradient(1000, 1e-6), 10, 1, 0, False)
    unroll = Method(model, expectation, Gradient(model, model.start(0), "adam", 0.06), 1, 0)
    for step in range(400):
        if step % 80 == 79:
            unroll.update.anneal()
        unroll.step()
    found = float(cases.log_likelihood(model, unroll.parameters))
    assert abs(found - best) / model.observations.observed < 0.002


def test_em_never_lowers_the_likelihood_near_the_unit_circle_and_at_the_floor() -> None:
    """A cycle with hardly any innovation, and one with hardly any noise."""
    t = np.arange(150.0)
    random = np.random.default_rng(0)
    for values in (
        10 * np.sin(2 * np.pi * t / 7)[:, None] + 0.1 * random.normal(size=(150, 1)),
        np.cumsum(random.normal(size=(150, 1)), 0),
    ):
        model = model_of(cases.with_gaps(values, "masked"), 2)
        method = Method(model, Exact(model), ClosedForm(model, model.start(0)), 10**9, 0)
        likelihoods = []
        for _ in range(80):
            likelihoods.append(float(cases.log_likelihood(model, method.parameters)))
            method.step()
        assert np.diff(likelihoods).min() > -1e-8
        assert float(method.parameters["innovation_variance"]) >= FLOOR


def test_a_maximisation_is_the_best_of_a_complete_series() -> None:
    """Of a series without noise or gaps, the maximum of its exact likelihood, which no change improves."""
    random = np.random.default_rng(0)
    z = random.normal(size=60).cumsum() * 0.3 + random.normal(size=60) + 5
    order = 3
    windows = np.array([[z[k - i] if k >= i else 0.0 for i in range(order + 1)] for k in range(60)])
    second = np.einsum("ti,tj->tij", windows, windows)
    moments = Windows(
        np.concatenate([second[:order], second[order:].sum(0)[None]]),
        np.concatenate([windows[:order], windows[order:].sum(0)[None]]),
        np.array([1.0] * order + [60.0 - order]),
    )
    u, q, mean = maximise(np.zeros(order), moments, 1e-9)

    def likelihood(u: np.ndarray, q: float, mean: float) -> float:
        gamma = autocovariances(-whitening_rows(torch.as_tensor(u)).numpy()[-1, 1:], q, 60)
        return float(multivariate_normal(np.full(60, mean), toeplitz(gamma)).logpdf(z))

    best = likelihood(u, q, mean)
    for _ in range(50):
        change = 1e-3 * random.normal(size=order + 2)
        assert likelihood(u + change[:order], q * np.exp(change[order]), mean + change[order + 1]) < best


def test_twenty_thousand_steps_take_seconds() -> None:
    """An EM step and an evaluation in O(T p^2): a dense posterior would take 3 GB for its covariance alone."""
    model = model_of(drawn(20_000, 9)["values"], 9)
    begun = time.monotonic()
    learned = em(model, 2)
    assert np.isfinite(float(cases.log_likelihood(model, learned)))
    assert time.monotonic() - begun < 20


def test_a_series_of_several_columns_or_too_few_steps_is_refused() -> None:
    random = np.random.default_rng(0)
    two, short = (cases.as_data(random.normal(size=shape), kind="series") for shape in ((30, 2), (5, 1)))
    with pytest.raises(UserError, match="2 columns, 'y0', 'y1', and an autoregression is of one series .*state_space"):
        Autoregressive(2, FLOOR).check(two)
    with pytest.raises(UserError, match="has 5 steps, and model.order=5 takes more .model.order=4 or less"):
        Autoregressive(5, FLOOR).check(short)
    with pytest.raises(UserError, match="learns from a table"):
        FactorAnalysis(1, False, 1e-3).check(short)
    with pytest.raises(UserError, match="learns from a series"):
        Autoregressive(1, FLOOR).check(cases.as_data(random.normal(size=(9, 3))))


def test_an_autoregression_without_noise_ends_at_the_floor_and_says_so() -> None:
    model = model_of(drawn(120, 2)["values"], 2)
    parameters = model.start(0)
    assert model.warnings(parameters, ["y0"]) == []
    tiny = model.floors()["noise_variance"]
    (warning,) = model.warnings(parameters | {"noise_variance": tiny}, ["y0"])
    assert warning.startswith("the noise variance ended at its floor, 1e-06 of what one step leaves unexplained of y0")
    (warning,) = model.warnings(parameters | {"innovation_variance": tiny}, ["y0"])
    assert "innovation variance ended at its floor" in warning


def test_a_truth_of_lower_order_is_one_of_this_order() -> None:
    truth = {name: torch.as_tensor(value) for name, value in drawn(100, 2)["truth"].items()}
    values = drawn(100, 2)["values"]
    low, high = (model_of(values, order) for order in (2, 5))
    found = [float(cases.log_likelihood(model, model.restore(truth))) for model in (low, high)]
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    assert high.parameter_error(high.restore(truth), drawn(100, 2)["truth"]) < 1e-10


@pytest.mark.parametrize("labels", ["years", "dates", "words"])
def test_a_series_is_drawn(labels: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    z = np.sin(np.arange(120.0) / 3)
    values, hidden = z.copy(), np.full(120, np.nan)
    values[[4, 50, *range(100, 120)]], hidden[50], hidden[100:110] = np.nan, z[50], z[100:110]
    index = {
        "years": np.arange(1900, 2020),
        "dates": np.array([f"{1990 + k // 12}-{1 + k % 12:02d}-01" for k in range(120)], object),
        "words": np.array([f"step {random.random()}" for _ in range(120)], object),
    }[labels]
    spread = np.full(120, 0.1)
    figure = plots.fitted_series(
        index, values, hidden, z, spread, z, 3 * spread, 100, "y$1", "when", tmp_path / "a.png"
    )
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert figure.axes[-1].get_xlabel() == ("step" if labels == "words" else "when")
    gaps = next(line for line in figure.axes[0].lines if line.get_marker() == "|")
    assert len(gaps.get_ydata()) == 1  # step 4; what was hidden, at step 50, is no gap


def test_the_periodogram_is_that_of_scipy_and_knows_no_trend() -> None:
    series = np.random.default_rng(0).normal(size=240) + np.sin(np.arange(240) / 3)
    power, at = periodogram(series)
    taper = np.sin(np.pi * (np.arange(240) + 0.5) / 240) ** 2
    expected = signal.periodogram(series, window=taper, detrend="linear", return_onesided=False)
    np.testing.assert_allclose(at, np.arange(1, 121) / 240)
    np.testing.assert_allclose(power, expected[1][1:121], rtol=1e-9)
    np.testing.assert_allclose(periodogram(series + 5 * np.arange(240) - 70)[0], power, rtol=1e-8)


def test_the_peak_of_the_spectrum_is_marked_by_its_period(tmp_path: Path) -> None:
    angle = 2 * np.pi / 8
    a = np.array([2 * 0.95 * np.cos(angle), -(0.95**2)])
    series = np.random.default_rng(0).normal(size=200)
    figure = plots.spectrum(series, a, 1.0, 0.5, tmp_path / "a.png")
    (words,) = [text.get_text() for text in figure.axes[0].texts]
    said = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert said == ["periodogram, straight trend removed, Hann taper", "autoregression and noise", "noise"]
    quiet = plots.spectrum(series, a, 1.0, 0.0, tmp_path / "c.png", missing=0.1, unit="logarithms of y").axes[0]
    said = [text.get_text() for text in quiet.get_legend().get_texts()]
    assert said == ["periodogram, straight trend removed, Hann taper, gaps filled", "autoregression"]
    assert quiet.get_ylabel() == "spectral density\n[squared logarithms of y]"
    assert float(words.split()[1]) == pytest.approx(8, rel=0.01)
    assert not list(plots.spectrum(series, np.array([0.5]), 1.0, 0.5, tmp_path / "b.png").axes[0].texts)
