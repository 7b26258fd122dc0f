"""Several images, each measured at places of its own, that share their precisions: against a matrix for each image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import pywt
import scipy.fft
import torch
from scipy.stats import multivariate_normal

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.make_table import measurements
from lgm_cli.data.base.table import Dictionary
from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.method import Method
from lgm_cli.models.sparse_bayes import SparseBayes
from lgm_cli.solvers.conjugate_gradient import ConjugateGradient
from tests import cases
from tests.models.test_sparse_bayes import make

SHAPE, IMAGES, PIXELS = (4, 8), 3, 32
CASES = [(False, "cosine"), (True, "cosine"), (False, "wavelet"), (True, "wavelet")]


def masks() -> np.ndarray:
    """(J, n) bool: overlapping, of different sizes."""
    random = np.random.default_rng(5)
    return np.stack([random.permutation(PIXELS) < count for count in (9, 14, 11)])


def data_of(is_complex: bool, basis: str, hidden: bool = False) -> Data:
    mask = masks()
    kept, seen = np.flatnonzero(mask.any(0)), mask[:, mask.any(0)]
    seen = np.concatenate([seen, seen], 1)
    values = np.where(seen, np.random.default_rng(6).normal(size=seen.shape), np.nan)
    dictionary = Dictionary(
        SHAPE, "fourier", basis, kept=kept, wavelet="haar", levels=2, noise_variance=0.02, is_image=True,
        is_complex=is_complex,
    )  # fmt: skip
    table = measurements("images", values, dictionary)
    return Data(table, (table.columns % 7 == 0) & hidden)


def synthesis(basis: str) -> np.ndarray:
    """B^T, (n, n): the image of each coefficient, by scipy and PyWavelets."""
    units = np.eye(PIXELS).reshape(-1, *SHAPE)
    if basis == "cosine":
        return scipy.fft.idctn(units, axes=(1, 2), norm="ortho").reshape(PIXELS, PIXELS).T
    rows = []
    for image in units:  # the analysis of each pixel is a column of B, and B is orthogonal
        low, *bands = pywt.wavedec2(image, "haar", mode="periodization", level=2)
        rows.append(np.concatenate([low.ravel(), *(band.ravel() for level in bands for band in level)]))
    return np.stack(rows)


def sensing(data: Data) -> np.ndarray:
    """Phi, (M, D): real and imaginary parts of the kept frequencies of each coefficient's image, by numpy.fft; of a
    complex image those of 1j times it, too."""
    dictionary = data.table.dictionary
    assert dictionary is not None
    images = synthesis(dictionary.basis).T.reshape(-1, *SHAPE)
    images = np.concatenate([images, 1j * images]) if dictionary.is_complex else images
    spectra = np.fft.fft2(images, norm="ortho").reshape(len(images), -1)[:, dictionary.kept]
    return np.concatenate([spectra.real, spectra.imag], 1).T


class Dense:
    """Posterior of the coefficients of one image, by the inverse of its own D x D precision, in the data's units."""

    def __init__(self, data: Data, alpha: np.ndarray, noise: float, number: int) -> None:
        mine = data.train_rows == number
        self.rows, self.y = sensing(data)[data.train_columns[mine]], data.train_values[mine]
        self.covariance = np.linalg.inv(np.diag(alpha) + self.rows.T @ self.rows / noise)
        self.mean = self.covariance @ self.rows.T @ self.y / noise
        marginal = self.rows / alpha @ self.rows.T + noise * np.eye(len(self.y))
        self.density = float(multivariate_normal(np.zeros(len(self.y)), marginal).logpdf(self.y))
        self.square = self.mean**2 + np.diag(self.covariance)
        residual = self.y - self.rows @ self.mean
        self.misfit = residual @ residual + np.trace(self.rows @ self.covariance @ self.rows.T)


def bound(data: Data, **options: Any) -> SparseBayes:
    model = cases.bind(make(**options), data)
    assert isinstance(model, SparseBayes)
    return model


def dense_of(model: SparseBayes, data: Data, parameters: dict[str, torch.Tensor]) -> list[Dense]:
    found = model.export(parameters)
    alpha, noise = found["precisions"].numpy(), float(found["noise_variance"])
    return [Dense(data, alpha, noise, number) for number in range(IMAGES)]


@pytest.mark.parametrize(("is_complex", "basis"), CASES)
def test_posteriors_likelihood_and_predictions_are_those_of_a_matrix_for_each_image(
    is_complex: bool, basis: str
) -> None:
    data = data_of(is_complex, basis, hidden=True)
    model = bound(data)
    parameters = cases.perturbed(model.start(0), size=1.0)
    each = dense_of(model, data, parameters)
    evaluator = Evaluator(model, data, 0)
    inferred = evaluator.inferred(parameters)
    noise = float(model.export(parameters)["noise_variance"])
    predicted = evaluator.predict(parameters, data.test_rows, data.test_columns)
    full = np.kron(np.eye(2 if is_complex else 1), synthesis(basis))
    shape = (IMAGES, 2, *SHAPE) if is_complex else (IMAGES, *SHAPE)
    assert inferred["signal_mean"].shape == inferred["signal_standard_deviation"].shape == shape
    for number, expected in enumerate(each):
        np.testing.assert_allclose(inferred["latent_mean"][number], expected.mean, rtol=1e-8, atol=1e-10)
        deviation = np.sqrt(np.diag(expected.covariance))
        np.testing.assert_allclose(inferred["latent_standard_deviation"][number], deviation, rtol=1e-8)
        np.testing.assert_allclose(inferred["signal_mean"][number].flatten(), full @ expected.mean, atol=1e-9)
        spread = np.sqrt(np.diag(full @ expected.covariance @ full.T))
        np.testing.assert_allclose(inferred["signal_standard_deviation"][number].flatten(), spread, rtol=1e-8)
        hidden = data.test_rows == number
        rows = sensing(data)[data.test_columns[hidden]]
        np.testing.assert_allclose(predicted[0][hidden], rows @ expected.mean, rtol=1e-8, atol=1e-10)
        variance = np.einsum("ij,jk,ik->i", rows, expected.covariance, rows) + noise
        np.testing.assert_allclose(predicted[1][hidden], np.sqrt(variance), rtol=1e-8)
    total = sum(expected.density for expected in each)
    assert float(cases.log_likelihood(model, parameters)) == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize(("is_complex", "basis"), CASES)
@pytest.mark.parametrize("learn_noise", [False, True])
def test_an_em_step_sums_over_the_images_and_over_what_shares_a_precision(
    learn_noise: bool, is_complex: bool, basis: str
) -> None:
    """alpha_g = J |g| / sum_jd E[w_jd^2]: over images, both parts of a complex coefficient and, in a wavelet basis,
    blocks of 2 x 2; 1 / psi is the mean of E|y - Phi w|^2 over all entries."""
    data = data_of(is_complex, basis)
    model = bound(data, learn_noise=learn_noise, smallest_variance=1e-9)
    method = Method(model, Exact(model), ClosedForm(model, model.start(0)), 1, 0)
    each = dense_of(model, data, model.start(0))
    method.step()
    found = model.export(method.parameters)
    groups = model._group.numpy()
    counts = (2 if is_complex else 1) * (4 if basis == "wavelet" else 1)
    assert np.isin(np.bincount(groups), (counts, counts // 2)).all()  # the bands of 1 x 2 have blocks of two
    if is_complex:
        np.testing.assert_array_equal(groups[:PIXELS], groups[PIXELS:])
    square = np.bincount(groups, sum(expected.square for expected in each)) / (IMAGES * np.bincount(groups))
    np.testing.assert_allclose(found["precisions"], 1 / square[groups], rtol=1e-8)
    if learn_noise:
        entries = sum(len(expected.y) for expected in each)
        misfit = sum(expected.misfit for expected in each) / entries
        assert float(found["noise_variance"]) == pytest.approx(misfit, rel=1e-8)


def numerical_gradient(model: SparseBayes, data: Data, parameters: dict[str, torch.Tensor]) -> np.ndarray:
    """Of the sum of the dense log densities in log alpha_g, by central differences."""
    found = []
    for group in range(len(parameters["precisions"])):
        sides = []
        for sign in (1, -1):
            moved = parameters["precisions"].clone()
            moved[group] *= math.exp(sign * 1e-5)
            sides.append(sum(each.density for each in dense_of(model, data, parameters | {"precisions": moved})))
        found.append((sides[0] - sides[1]) / 2e-5)
    return np.array(found)


@pytest.mark.parametrize(("is_complex", "basis"), [(False, "wavelet"), (True, "wavelet")])
@pytest.mark.parametrize("gradient", ["output", "network"])
def test_gradients_of_gradient_em_and_of_unrolling_are_those_of_the_dense_likelihood(
    gradient: str, is_complex: bool, basis: str
) -> None:
    """Exact posteriors to 1e-6; samples within what 500 of them are worth."""
    data = data_of(is_complex, basis)
    model = bound(data)
    parameters = cases.perturbed(model.start(0), size=0.5)
    expected = numerical_gradient(model, data, parameters)
    scale = parameters["precisions"].numpy()
    exact = cases.expected_gradient(model, Exact(model), parameters)["precisions"].numpy() * scale
    np.testing.assert_allclose(exact, expected, rtol=1e-6, atol=1e-6)
    solver = ConjugateGradient(max_iterations=60, tolerance=1e-6, preconditioner="jacobi")
    samples = MonteCarlo(model, solver, 500, 1, 0, differentiable=gradient == "network")
    found = cases.expected_gradient(model, samples, parameters)["precisions"].numpy() * scale
    assert np.abs(found - expected).max() < 0.2 * np.abs(expected).max()
    assert np.linalg.norm(found - expected) < 0.15 * np.linalg.norm(expected)
