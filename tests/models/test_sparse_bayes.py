"""Sparse Bayesian learning against dense computations, in every form of its posterior, and what it recovers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from lgm_cli.command import choices
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.make_table import measurements
from lgm_cli.data.base.split import hide
from lgm_cli.data.base.table import Dictionary
from lgm_cli.data.cosine import load as load_cosine
from lgm_cli.errors import UserError
from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.evaluation.subset import needs_iterations
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.method import Method
from lgm_cli.models.base.linear_gaussian_model import LinearGaussianModel
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.models.parts.signal_dictionary import bands_of, column_norms, group_of
from lgm_cli.models.sparse_bayes import SparseBayes
from lgm_cli.numerics.lanczos import lanczos_log
from lgm_cli.posteriors.dense import DensePosterior
from lgm_cli.posteriors.iterative import IterativePosterior
from lgm_cli.posteriors.operator import OperatorPosterior
from lgm_cli.run import auto, meaning
from tests import cases


def make(**options: Any) -> SparseBayes:
    given = {key: entry.default for key, entry in choices.keys("model/sparse_bayes").items()} | options
    return cases.build_model("sparse_bayes", given)  # pyright: ignore[reportReturnType]


def options_of(choice: str, **options: Any) -> dict[str, Any]:
    return {key: entry.default for key, entry in choices.keys(f"data/{choice}").items()} | {"name": choice} | options


KEPT = np.array([0, 2, 3, 5, 9, 12, 13, 15, 18, 21, 24, 30])
DICTIONARIES = {
    "cosine": Dictionary((32,), "samples", "cosine", kept=KEPT, noise_variance=0.01),
    "wavelet": Dictionary((32,), "samples", "wavelet", kept=KEPT, wavelet="db2", levels=2, noise_variance=0.01),
    "fourier of an image": Dictionary(
        (4, 8), "fourier", "wavelet", kept=KEPT[:6], wavelet="haar", levels=2, noise_variance=0.01, is_image=True
    ),
    "matrix": Dictionary(
        (32,), "matrix", "identity", matrix=np.random.default_rng(0).normal(size=(12, 32)), noise_variance=0.01
    ),
}


def data_of(name: str, tasks: int = 1, hidden: int = 2) -> Data:
    """Measurements of random signals, the first `hidden` of each kept for testing."""
    dictionary, random = DICTIONARIES[name], np.random.default_rng(1)
    m = len(dictionary.matrix) if dictionary.matrix is not None else len(KEPT)
    table = measurements("test", random.normal(size=(tasks, m)), dictionary)
    return Data(table, table.columns < hidden)


def dense(model: SparseBayes, found: dict[str, torch.Tensor], data: Data, task: int = 0) -> dict[str, np.ndarray]:
    """Posterior of the coefficients, by the inverse of the D x D precision in the data's own units."""
    matrix = model.operator.dense(torch.empty(0, dtype=torch.float64)).numpy()
    noise, alpha = float(found["noise_variance"]), found["precisions"].numpy()
    seen = data.train_columns[data.train_rows == task]
    rows, y = matrix[seen], data.train_values[data.train_rows == task]
    covariance = np.linalg.inv(np.diag(alpha) + rows.T @ rows / noise)
    mean = covariance @ rows.T @ y / noise
    marginal = rows / alpha @ rows.T + noise * np.eye(len(rows))
    density = multivariate_normal(np.zeros(len(rows)), marginal).logpdf(y)
    return {"mean": mean, "covariance": covariance, "density": density, "matrix": matrix}


@pytest.mark.parametrize("share", [1e-160, 0.9e-20, 1.1e12, 1e160])
def test_a_noise_variance_that_no_factorisation_bears_is_refused(share: float) -> None:
    data = data_of("cosine", 1)
    square = float(np.square(data.train_values).mean())
    with pytest.raises(UserError, match="times the mean square of the measurements"):
        cases.bind(make(noise_variance=share * square), data)


@pytest.mark.parametrize("share", [1.1e-20, 0.9e12])
def test_a_noise_variance_that_can_just_be_borne_has_a_likelihood(share: float) -> None:
    data = data_of("cosine", 1)
    model = cases.bind(make(noise_variance=share * float(np.square(data.train_values).mean())), data)
    assert math.isfinite(Evaluator(model, data, 0).score(model.start(0), final=True).train_log_likelihood)


@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize("name", DICTIONARIES)
def test_posteriors_predictions_and_likelihood_are_those_of_the_dense_computation(name: str, tasks: int) -> None:
    data = data_of(name, tasks)
    model = cases.bind(make(), data)
    assert isinstance(model, SparseBayes)
    parameters = cases.perturbed(model.start(0), size=1.0)
    found = model.export(parameters)
    evaluator = Evaluator(model, data, 0)
    inferred = evaluator.inferred(parameters)
    predicted = [part.reshape(tasks, -1) for part in evaluator.predict(parameters, data.test_rows, data.test_columns)]
    total = 0.0
    for task in range(tasks):
        expected = dense(model, found, data, task)
        total += float(expected["density"])
        np.testing.assert_allclose(inferred["latent_mean"][task], expected["mean"], rtol=1e-8, atol=1e-10)
        deviation = np.sqrt(np.diag(expected["covariance"]))
        np.testing.assert_allclose(inferred["latent_standard_deviation"][task], deviation, rtol=1e-8)
        synthesis = (
            np.eye(32) if model.basis is None else model.basis.dense(torch.empty(0, dtype=torch.float64)).numpy().T
        )
        signal = inferred["signal_mean"].reshape(tasks, -1)[task]
        np.testing.assert_allclose(signal, synthesis @ expected["mean"], rtol=1e-8, atol=1e-10)
        spread = np.sqrt(np.diag(synthesis @ expected["covariance"] @ synthesis.T))
        np.testing.assert_allclose(inferred["signal_standard_deviation"].reshape(tasks, -1)[task], spread, rtol=1e-7)
        rows = expected["matrix"][data.test_columns[data.test_rows == task]]
        np.testing.assert_allclose(predicted[0][task], rows @ expected["mean"], rtol=1e-8, atol=1e-10)
        variance = np.einsum("ij,ij->i", rows @ expected["covariance"], rows) + float(found["noise_variance"])
        np.testing.assert_allclose(predicted[1][task] ** 2, variance, rtol=1e-7)
    assert float(cases.log_likelihood(model, parameters)) == pytest.approx(total, rel=1e-10)
    torch.testing.assert_close(model.export(model.restore(found)), found, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["cosine", "wavelet", "fourier of an image"])
def test_the_structured_dual_form_equals_the_dense_one(name: str) -> None:
    """Mean, variances and log density to 1e-8, for two signals measured alike and with hidden measurements."""
    model = cases.bind(make(), data_of(name, tasks=2))
    parameters = cases.perturbed(model.start(0), size=1.0)
    (chunk,) = model.observations.chunks
    if chunk.index is None or chunk.index.dim() != 1:  # two signals are too few for a chunk of their own
        index = torch.arange(2, 12)
        chunk = type(chunk)(chunk.points, index, chunk.weight[:, 2:], chunk.values[:, 2:])
    structured = model.posterior(parameters, chunk)
    assert isinstance(structured, OperatorPosterior)
    plain = LinearGaussianModel.posterior(model, parameters, chunk)
    assert isinstance(plain, DensePosterior)
    torch.testing.assert_close(structured.mean, plain.mean, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(structured.marginal_variance, plain.marginal_variance, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(structured.covariance, plain.covariance, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(structured.log_density(), plain.log_density(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("learn_noise", [False, True])
def test_an_em_step_is_that_of_the_equations(learn_noise: bool) -> None:
    """alpha = 1 / E[w^2], 1 / psi = mean of E(y - Phi w)^2, from the D x D inverse, to 1e-8."""
    data = data_of("cosine")
    model = cases.bind(make(learn_noise=learn_noise, smallest_variance=1e-9), data)
    assert isinstance(model, SparseBayes)
    start = model.start(0)
    method = Method(model, Exact(model), ClosedForm(model, start), 1, 0)
    expected = dense(model, model.export(start), data)
    method.step()
    found = model.export(method.parameters)
    square = expected["mean"] ** 2 + np.diag(expected["covariance"])
    np.testing.assert_allclose(found["precisions"], 1 / square, rtol=1e-8)
    if learn_noise:
        rows = expected["matrix"][data.train_columns]
        misfit = (data.train_values - rows @ expected["mean"]) ** 2
        misfit += np.einsum("ij,ij->i", rows @ expected["covariance"], rows)
        assert float(found["noise_variance"]) == pytest.approx(misfit.mean(), rel=1e-8)


def test_the_default_signal_is_recovered(tmp_path) -> None:
    """To a relative error of 0.04 after 40 steps of unrolling, and it stays there."""
    options = options_of("cosine")
    table = load_cosine(options)
    data = Data(table, np.zeros(len(table.values), bool))
    model = cases.bind(make(), data, torch.float32)
    config = {
        "seed": 0,
        "method": {key: entry.default for key, entry in choices.keys("method/unroll").items()} | {"name": "unroll"},
        "solver": {key: entry.default for key, entry in choices.keys("solver/conjugate_gradient").items()}
        | {"name": "conjugate_gradient"},
    }
    method, chosen = auto.method(config, model, model.start(0))
    assert chosen["tolerance"] == model.tuning().solver["tolerance"]
    evaluator = Evaluator(model, data, 0)
    errors = []
    for step in range(1, 101):
        method.step()
        if step in (40, 100):
            errors.append(evaluator.score(method.parameters).own["relative_error"])
    assert max(errors) < 0.04
    own = evaluator.score(method.parameters).own
    assert 256 * 0.8 < own["active"] < 1024
    truth = table.truth["signal"]
    assert own["psnr_db"] == pytest.approx(
        20 * math.log10(np.abs(truth).max() * math.sqrt(truth.size) / (own["relative_error"] * np.linalg.norm(truth)))
    )


def test_evaluation_without_a_factorisation_nears_the_exact_one() -> None:
    """Log density within four standard errors, means to 1e-3 of a deviation, variances as 100 samples give them."""
    options = options_of("cosine", unknowns=256, measurements=100, nonzeros=20)
    table = load_cosine(options)
    model = cases.bind(make(), Data(table, table.columns % 10 == 0))
    parameters = cases.perturbed(model.start(0), size=1.0)
    (chunk,) = model.observations.chunks
    exact = model.posterior(parameters, chunk)
    found = IterativePosterior(*model.system(parameters, chunk), 0)
    assert float(found.standard_error) > 0
    assert float((found.log_density() - exact.log_density()).abs()) < 4 * float(found.standard_error) + 1e-3
    assert float((found.mean - exact.mean).norm()) < 1e-3 * math.sqrt(256)
    ratio = found.marginal_variance / exact.marginal_variance
    assert float(ratio.mean()) == pytest.approx(1, abs=0.05)
    assert 0.4 < float(ratio.min()) < float(ratio.max()) < 1.9


def test_lanczos_quadrature_is_exact_for_a_full_recursion_and_unbiased_over_signs() -> None:
    random = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(30, 30, generator=random, dtype=torch.float64))[0]
    values = torch.logspace(-1, 2, 30, dtype=torch.float64)
    matrix = basis * values @ basis.T
    logarithm = basis * values.log() @ basis.T
    probes = (2 * torch.randint(2, (1, 400, 30), generator=random) - 1).double()
    found = lanczos_log(lambda x: x @ matrix, probes)
    exact = torch.einsum("nki,ij,nkj->nk", probes, logarithm, probes)
    torch.testing.assert_close(found, exact, rtol=0, atol=0.2 * float(exact.std()))
    assert float(found.mean()) == pytest.approx(float(values.log().sum()), abs=4 * float(found.std()) / 20)
    one = lanczos_log(lambda x: x @ matrix, probes[:, :1])  # a single probe is followed to the end
    torch.testing.assert_close(one, exact[:, :1], rtol=1e-6, atol=1e-6)


def test_one_precision_for_each_block_of_a_band() -> None:
    dictionary = Dictionary((16, 8), "samples", "wavelet", kept=KEPT, wavelet="haar", levels=2)
    bands = bands_of(dictionary)
    assert torch.bincount(bands).tolist() == [8, 8, 8, 8, 32, 32, 32]
    groups = group_of(dictionary, 2, bands)
    sizes = torch.bincount(groups)
    assert sizes.tolist() == [4] * 32
    for group in range(len(sizes)):  # a square of its band
        members = torch.nonzero(groups == group).flatten()
        assert len(bands[members].unique()) == 1
        first = int(torch.nonzero(bands == bands[members[0]])[0])
        width = 2 if int(bands[members[0]]) < 4 else 4
        places = members - first
        rows, columns = places // width, places % width
        assert (int(rows.max() - rows.min()), int(columns.max() - columns.min())) == (1, 1)
    assert torch.equal(group_of(dictionary, 1, bands), torch.arange(128))


def test_column_norms_without_a_closed_form_are_estimated(monkeypatch) -> None:
    model = cases.bind(make(), data_of("fourier of an image"))
    assert isinstance(model, SparseBayes)
    exact = model.operator.dense(torch.empty(0, dtype=torch.float64)).square().sum(0)
    weight = torch.ones(1, model.operator.out_dim, dtype=torch.float64)
    torch.testing.assert_close(column_norms(model.operator, weight)[0], exact, rtol=1e-10, atol=1e-12)
    monkeypatch.setattr("lgm_cli.models.parts.signal_dictionary.FEW_ENTRIES", 0)
    monkeypatch.setattr("lgm_cli.models.parts.signal_dictionary.PROBES", 4000)
    torch.testing.assert_close(column_norms(model.operator, weight)[0], exact, rtol=0.15, atol=1e-6)


def test_a_learned_noise_variance_is_scaled_by_the_measurements_that_share_it() -> None:
    """And a small system keeps its scale of residuals, sqrt(D)."""
    assert cases.bind(make(), data_of("cosine")).gradient_scale() == {}
    model = cases.bind(make(learn_noise=True), data_of("cosine"))
    assert model.gradient_scale() == {"noise_variance": model.observations.shape[0] / model.observations.observed}
    (chunk,) = model.observations.chunks
    precision, _ = model.system(model.start(0), chunk)
    assert precision.to_solve(systems=1000) is precision


def test_what_memory_cannot_hold_is_refused_with_the_numbers(monkeypatch) -> None:
    model = cases.bind(make(), data_of("cosine"))
    monkeypatch.setattr("lgm_cli.run.meaning.available_memory", lambda device: 2000.0)
    with pytest.raises(UserError, match=r"exact posteriors need [\d.]+ GB, and 0.00 GB are free \(method=unroll\)"):
        meaning.refuse_what_does_not_fit(model, gradient=False)
    monkeypatch.setattr("lgm_cli.run.meaning.available_memory", lambda device: 1e6)
    meaning.refuse_what_does_not_fit(model, gradient=False)
    assert not needs_iterations(model)
    monkeypatch.setattr("lgm_cli.evaluation.subset.available_memory", lambda device: 2000.0)
    assert needs_iterations(model)


def test_the_noise_that_cannot_be_told_from_the_prior_is_warned_of() -> None:
    model = cases.bind(make(learn_noise=True), data_of("cosine"))
    parameters = model.start(0)
    assert "can hardly be told from the prior" in model.warnings(parameters, [])[-1]
    floor = parameters | {"noise_variance": torch.tensor(model.noise_floor, dtype=torch.float64)}
    assert "ended at its floor" in model.warnings(floor, [])[0]
    assert make().warnings({}, []) == []


def test_standard_deviations_hold_in_single_precision() -> None:
    """Where the data tell almost everything: 1 - diag(V^T C^-1 V) would cancel."""
    table = load_cosine(options_of("cosine", unknowns=256, measurements=100, nonzeros=15, noise=1e-3))
    found = []
    for dtype in (torch.float64, torch.float32):
        model = cases.bind(make(), Data(table, np.zeros(len(table.values), bool)), dtype)
        method = Method(model, Exact(model), ClosedForm(model, model.start(0)), 1, 0)
        for _ in range(20):
            method.step()
        parameters = {name: value.to(dtype) for name, value in (found[0][0] if found else method.parameters).items()}
        found.append((parameters, Evaluator(model, Data(table, np.zeros(100, bool)), 0).inferred(parameters)))
    for name in ("latent_standard_deviation", "signal_standard_deviation"):
        exact, rounded = (each[name].double() for _, each in found)
        assert float(rounded.min()) > 0
        torch.testing.assert_close(rounded, exact, rtol=1e-3, atol=0)


def test_single_signals_have_measurements_to_hide() -> None:
    """A tenth of them, though each is the only one of its column."""
    table = load_cosine(options_of("cosine", unknowns=256, measurements=100, nonzeros=10))
    assert hide(table, 0.1, 0).sum() == 10
    assert hide(table, 0.98, 0).sum() == 98


def test_thezero_filled_image_is_the_least_squares_one_of_least_norm() -> None:
    model = cases.bind(make(), data_of("fourier of an image", hidden=0))
    assert isinstance(model, SparseBayes) and model.basis is not None
    y = torch.as_tensor(np.random.default_rng(0).normal(size=model.operator.out_dim))
    matrix = model.operator.dense(y) @ model.basis.dense(y)  # H
    torch.testing.assert_close(model.zero_filled(y), torch.linalg.pinv(matrix) @ y, rtol=1e-9, atol=1e-10)


def test_data_of_another_kind_or_without_noise_are_refused() -> None:
    with pytest.raises(UserError, match="learns from measurements of a signal"):
        make().check(cases.as_data(np.random.default_rng(0).normal(size=(9, 3))))
    with pytest.raises(UserError, match="model=sparse_bayes"):
        FactorAnalysis(1, False, 1e-3).check(data_of("cosine"))
    table = measurements("own", np.ones((1, 2)), Dictionary((4,), "samples", "cosine", kept=np.array([0, 1])))
    with pytest.raises(UserError, match="noise of these measurements is not known"):
        make().check(Data(table, np.zeros(2, bool)))
    make(learn_noise=True).check(Data(table, np.zeros(2, bool)))
