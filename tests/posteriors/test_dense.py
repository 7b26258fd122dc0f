"""Posteriors of a standard normal latent vector seen through weighted rows, against dense inverses."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from lgm_cli.posteriors import dense
from lgm_cli.posteriors.base import MatrixPrecision
from lgm_cli.posteriors.dense import DensePosterior, DensePrecision, symmetric_product
from lgm_cli.posteriors.samples import SamplePosterior


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.as_tensor(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("shape", [(7, 5), (3, 20, 6), (40, 16), (2, 9, 33), (5, 64)])
def test_a_symmetric_product_is_right_below_its_diagonal(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = draw(*shape)
    expected = (x.mT @ x).tril()
    torch.testing.assert_close(symmetric_product(x).tril(), expected)
    monkeypatch.setattr(dense, "TILE", 4)  # many levels of halves, of odd sizes too
    torch.testing.assert_close(symmetric_product(x).tril(), expected)


def test_a_large_symmetric_product() -> None:
    x = draw(50, 2 * dense.TILE + 17)
    torch.testing.assert_close(symmetric_product(x).tril(), (x.mT @ x).tril())


@pytest.mark.parametrize("shape", ["shared with a mask", "shared", "own"])
def test_a_gram_precision_is_its_dense_form(shape: str) -> None:
    n, m, dim = 4, 6, 3
    rows = draw(n, m, dim) if shape == "own" else draw(m, dim)
    mask = (draw(n, m, seed=1) > 0).double() if shape == "shared with a mask" else None
    precision = DensePrecision(rows, mask)
    masked = rows.expand(n, m, dim) * (1 if mask is None else mask[:, :, None])
    expected = torch.eye(dim) + masked.mT @ masked
    torch.testing.assert_close(precision.dense().expand(n, dim, dim), expected)
    torch.testing.assert_close(precision.diagonal().expand(n, dim), expected.diagonal(dim1=1, dim2=2))
    x = draw(n, 5, dim, seed=2)
    torch.testing.assert_close(precision.matvec(x), x @ expected)
    torch.testing.assert_close(precision.forward(x), x @ masked.mT)
    for precision_of in (precision.to_solve(1), precision.to_solve(2)):  # by its rows; as a matrix
        torch.testing.assert_close(precision_of.matvec(x), x @ expected)
        torch.testing.assert_close(precision_of.dense().expand(n, dim, dim), expected)
        torch.testing.assert_close(precision_of.diagonal().expand(n, dim), expected.diagonal(dim1=1, dim2=2))
    assert (type(precision.to_solve(1)), type(precision.to_solve(2))) == (DensePrecision, MatrixPrecision)
    few = DensePrecision(rows[:2] if shape == "own" else rows, None if mask is None else mask[:2])  # n < D
    torch.testing.assert_close(few.dense().expand(2, dim, dim), expected.expand(n, dim, dim)[:2])
    y = draw(n, 5, m, seed=3) * (1 if mask is None else mask[:, None, :])
    torch.testing.assert_close(precision.transpose(y), y @ masked)


@pytest.mark.parametrize(("m", "dim"), [(3, 8), (9, 4)], ids=["dual", "primal"])
def test_a_temperature_divides_the_covariance(m: int, dim: int) -> None:
    """p(y, z)^beta is a normal density with the same mean and the precision beta A, whose entropy is over beta."""
    rows, targets, beta = draw(2, m, dim), draw(2, m, seed=1), 0.3
    found = DensePosterior(rows, targets, inverse_temperature=beta)
    covariance = torch.linalg.inv(torch.eye(dim) + rows.mT @ rows) / beta
    at_one = DensePosterior(rows, targets)
    torch.testing.assert_close(found.mean, at_one.mean)
    torch.testing.assert_close(found.covariance, covariance)
    torch.testing.assert_close(found.marginal_variance, covariance.diagonal(dim1=1, dim2=2))
    variance = (rows @ covariance * rows).sum(-1)
    torch.testing.assert_close(found.observed_variance(rows), variance)
    torch.testing.assert_close(found.variance(rows), variance)
    normal = torch.distributions.MultivariateNormal(found.mean, covariance)
    torch.testing.assert_close(found.entropy(), normal.entropy() / beta)


@pytest.mark.parametrize("points", [1, 4])
@pytest.mark.parametrize("shared", [False, True], ids=["own rows", "shared rows"])
@pytest.mark.parametrize(("m", "dim"), [(3, 8), (8, 8), (9, 8), (20, 3), (1, 1)])
def test_an_exact_posterior_is_the_dense_one(m: int, dim: int, shared: bool, points: int) -> None:
    """Primal or dual, with one factorisation for all data points or one for each."""
    rows = draw(1 if shared else points, m, dim)
    targets = draw(points, m, seed=1)
    if not shared:  # the last data point observes one entry less, which is padded
        rows[-1, -1], targets[-1, -1] = 0, 0
    found = DensePosterior(rows, targets)
    assert found.dual == (m <= dim)
    every = rows.expand(points, m, dim)
    covariance = torch.linalg.inv(torch.eye(dim) + every.mT @ every)
    mean = (covariance @ every.mT @ targets[:, :, None]).squeeze(-1)
    torch.testing.assert_close(found.mean, mean)
    torch.testing.assert_close(found.covariance.expand(points, dim, dim), covariance)
    torch.testing.assert_close(found.image.expand(points, m, dim), every @ covariance)
    variance = (every @ covariance * every).sum(-1)
    torch.testing.assert_close(found.observed_variance(rows).expand(points, m), variance)
    others = draw(points, 7, dim, seed=2)
    torch.testing.assert_close(found.variance(others), (others @ covariance * others).sum(-1))
    for n in range(points):
        density = multivariate_normal(np.zeros(m), (torch.eye(m) + every[n] @ every[n].T).numpy())
        expected = density.logpdf(targets[n].numpy()) + m / 2 * np.log(2 * np.pi)
        assert found.log_density()[n].item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("shared", [False, True], ids=["own rows", "shared rows"])
@pytest.mark.parametrize(("m", "dim"), [(3, 8), (20, 3)])
def test_the_variance_of_what_was_observed_is_differentiated_with_the_covariance_held_fixed(
    m: int, dim: int, shared: bool
) -> None:
    weight = draw(4, m, seed=5)
    table = draw(m, dim) if shared else draw(4, m, dim)
    posterior = DensePosterior(table[None] if shared else table, draw(4, m, seed=1))
    gradients = []
    for quadratic in (
        posterior.observed_variance,
        lambda rows: (rows @ posterior.covariance * rows).sum(-1),
    ):
        rows = table.clone().requires_grad_()
        gradients.append(torch.autograd.grad((weight * quadratic(rows)).sum(), rows)[0])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("shape", [(6, 3), (4, 6, 3)])
def test_samples_stand_for_their_covariance(shape: tuple[int, ...]) -> None:
    samples, rows = draw(4, 10, 3), draw(*shape, seed=1)
    posterior = SamplePosterior(draw(4, 3, seed=2), samples)
    covariance = torch.einsum("nki,nkj->nij", samples, samples) / 10
    torch.testing.assert_close(posterior.covariance, covariance)
    expected = (rows @ covariance * rows).sum(-1)
    torch.testing.assert_close(posterior.observed_variance(rows), expected)
    torch.testing.assert_close(posterior.variance(rows), expected)


@pytest.mark.parametrize(("m", "dim"), [(10, 40), (80, 20)])
def test_single_precision_stands_a_noise_precision_of_1e4(m: int, dim: int) -> None:
    rows, targets = 100 * draw(5, m, dim), 100 * draw(5, m, seed=1)
    double, single = DensePosterior(rows, targets), DensePosterior(rows.float(), targets.float())
    torch.testing.assert_close(single.mean.double(), double.mean, rtol=0, atol=1e-3 * float(double.mean.abs().max()))
    torch.testing.assert_close(single.log_density().double(), double.log_density(), rtol=1e-4, atol=0.1)
    scale = float(double.covariance.abs().max())
    torch.testing.assert_close(single.covariance.double(), double.covariance, rtol=0, atol=1e-3 * scale)


@pytest.mark.parametrize(("orthogonal", "tolerance"), [(False, 1e-11), (True, 1e-14)])
@pytest.mark.parametrize(("m", "dim"), [(10, 40), (30, 5)], ids=["dual", "primal"])
def test_little_noise_costs_a_density_no_digits(m: int, dim: int, orthogonal: bool, tolerance: float) -> None:
    """Where y^T y is 1e7 times y^T C^-1 y, and a direction that no latent reaches has an eigenvalue of one; against 50
    digits."""
    rows = draw(m, dim)
    rows = 300 * (rows - rows.mean(0))
    targets = rows @ draw(dim, seed=1) + draw(m, seed=2)
    found = DensePosterior(rows[None], targets[None], orthogonal)
    with mpmath.workdps(50):
        exact = mpmath.matrix(rows.tolist())
        c = exact * exact.T + mpmath.eye(m)
        half = mpmath.lu_solve(mpmath.cholesky(c), mpmath.matrix(targets.tolist()))
        expected = float(-(mpmath.fdot(half, half) + mpmath.log(mpmath.det(c))) / 2)
    assert float(targets.square().sum()) > 1e5 * abs(expected)
    assert float(found.log_density()) == pytest.approx(expected, rel=tolerance)
    misfit = torch.linalg.solve(torch.eye(m) + rows @ rows.mT, targets)
    torch.testing.assert_close(found.residual[0], misfit, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("orthogonal", [False, True])
def test_rows_that_are_not_numbers_are_an_error_of_linear_algebra(orthogonal: bool) -> None:
    """What the learning loop takes for divergence."""
    rows = draw(2, 5, 3)
    rows[1, 2, 0] = torch.nan
    with pytest.raises(torch.linalg.LinAlgError):
        DensePosterior(rows, draw(2, 5), orthogonal)
