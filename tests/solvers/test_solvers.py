"""The rate that each solver promises, and estimates of eigenvalues that may be wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lgm_cli.solvers import gradient_descent, nesterov
from lgm_cli.solvers.base.solver import Solver, divide
from lgm_cli.solvers.base.spectrum import extreme_eigenvalues
from lgm_cli.solvers.conjugate_gradient import ConjugateGradient
from lgm_cli.solvers.gradient_descent import GradientDescent
from lgm_cli.solvers.nesterov import Nesterov
from lgm_cli.solvers.steepest_descent import SteepestDescent
from tests.matrices import CONDITION, MatrixPrecision, spectra, symmetric, systems

ROOT = math.sqrt(CONDITION)
each_spectrum = pytest.mark.parametrize("spectrum", spectra(40).values(), ids=spectra(40).keys())


def errors(kind: type[Solver], spectrum: np.ndarray, limits: list[int]) -> np.ndarray:
    """|x_I - x|_A of every system after I = limits steps from zero.  # -> (len(limits), N, R)"""
    precision, b, expected = systems(spectrum)
    found = []
    for limit in limits:
        solution = kind(max_iterations=limit, tolerance=1e-15).solve(precision, b) if limit else None
        error = (0 if solution is None else solution.x.numpy()) - expected
        found.append(np.sqrt(np.einsum("nri,nij,nrj->nr", error, precision.matrices.numpy(), error)))
    return np.array(found)


def slope(error: np.ndarray, first: int, last: int) -> float:
    """Of the largest error's logarithm between two numbers of steps, per step."""
    return (math.log(error[1].max()) - math.log(error[0].max())) / (last - first)


@each_spectrum
def test_gradient_descent_contracts_by_its_rate(spectrum: np.ndarray) -> None:
    """(kappa - 1) / (kappa + 1), but for the 5% that an estimate of lambda_max may be too large."""
    found = slope(errors(GradientDescent, spectrum, [100, 300]), 100, 300)
    assert found <= 0.95 * math.log((CONDITION - 1) / (CONDITION + 1))


def test_gradient_descent_takes_the_best_step_where_the_eigenvalues_are_known() -> None:
    """Sixteen Lanczos steps know the spectrum of a small matrix: no faster, no slower than the formula."""
    found = slope(errors(GradientDescent, np.linspace(1, CONDITION, 12), [200, 400]), 200, 400)
    assert found == pytest.approx(math.log((CONDITION - 1) / (CONDITION + 1)), rel=1e-3)


@each_spectrum
def test_steepest_descent_contracts_by_its_rate_at_every_step(spectrum: np.ndarray) -> None:
    """Kantorovich: |e_{i+1}|_A <= (kappa - 1) / (kappa + 1) |e_i|_A."""
    error = errors(SteepestDescent, spectrum, list(range(0, 40)))
    assert np.all(error[1:] <= (1 + 1e-9) * (CONDITION - 1) / (CONDITION + 1) * error[:-1])


def test_steepest_descent_is_as_slow_as_its_rate_says() -> None:
    """From its worst start, equal parts of the extreme eigenvectors in the A-norm, the bound is an equality."""
    spectrum = np.linspace(1, CONDITION, 10)
    error = torch.zeros(1, 1, 10, dtype=torch.float64)
    error[..., 0], error[..., -1] = 1 / spectrum[0], 1 / spectrum[-1]
    precision = MatrixPrecision(torch.diag_embed(torch.as_tensor(spectrum)[None]))
    b = torch.ones_like(error)
    exact = b / torch.as_tensor(spectrum)
    left = SteepestDescent(max_iterations=50, tolerance=1e-15).solve(precision, b, exact + error).x - exact
    energy = [float((x * x * torch.as_tensor(spectrum)).sum().sqrt()) for x in (error, left)]
    assert energy[1] / energy[0] == pytest.approx(((CONDITION - 1) / (CONDITION + 1)) ** 50, rel=1e-6)


@each_spectrum
def test_nesterov_contracts_by_its_rate(spectrum: np.ndarray) -> None:
    """1 - 1 / sqrt(kappa) with a linear factor in front: the slope of log(error / I) is that rate's, to 7%."""
    error = errors(Nesterov, spectrum, [60, 160]) / np.array([60, 160])[:, None, None]
    assert slope(error, 60, 160) <= 0.93 * math.log(1 - 1 / ROOT)


@each_spectrum
def test_conjugate_gradient_stays_below_its_bound(spectrum: np.ndarray) -> None:
    """|e_I|_A <= 2 q^I / (1 + q^(2 I)) |e_0|_A, q = (sqrt(kappa) - 1) / (sqrt(kappa) + 1), at every I."""
    limits = list(range(0, 60))
    error = errors(ConjugateGradient, spectrum, limits)
    q = ((ROOT - 1) / (ROOT + 1)) ** np.array(limits)[:, None, None]
    assert np.all(error <= (1 + 1e-9) * 2 * q / (1 + q**2) * error[0] + 1e-13)


@pytest.mark.parametrize("distinct", [1, 2, 3, 5])
def test_conjugate_gradient_needs_as_many_steps_as_there_are_eigenvalues(distinct: int) -> None:
    spectrum = np.repeat(np.linspace(1, 9, distinct), 6)
    precision, b, expected = systems(spectrum)
    solution = ConjugateGradient(max_iterations=100, tolerance=1e-10).solve(precision, b)
    assert torch.all(solution.iterations == distinct)
    np.testing.assert_allclose(solution.x, expected, atol=1e-9)


def test_conjugate_gradient_is_scipys() -> None:
    """Step by step, with the Jacobi preconditioner and a start of its own."""
    from scipy.sparse.linalg import LinearOperator, cg

    precision, b, _ = systems(spectra(30)["geometric"], right_sides=1)
    a, right = precision.matrices[0].numpy(), b[0, 0].numpy()
    start = np.random.default_rng(6).normal(size=30)
    path: list[np.ndarray] = []
    jacobi = LinearOperator((30, 30), matvec=lambda r: r / a.diagonal())
    cg(a, right, x0=start, rtol=0, atol=0, maxiter=8, M=jacobi, callback=lambda x: path.append(x.copy()))
    for taken, expected in enumerate(path, start=1):
        solver = ConjugateGradient(max_iterations=taken, tolerance=1e-15, preconditioner="jacobi")
        x = solver.solve(MatrixPrecision(precision.matrices[:1]), b[:1], torch.as_tensor(start)[None, None]).x
        np.testing.assert_allclose(x[0, 0], expected, rtol=1e-9, atol=1e-11)


# Eigenvalues ---------------------------------------------------------------------------------------------------

DEGENERATE = {
    "identity": lambda dim: np.ones(dim),
    "a multiple of the identity": lambda dim: np.full(dim, 1e-6),
    "rank one and the identity": lambda dim: np.r_[np.ones(dim - 1), 1e4],
    "two eigenvalues": lambda dim: np.r_[np.ones(dim // 2), np.full(dim - dim // 2, 100.0)],
    "two clusters": lambda dim: np.r_[np.linspace(1, 1.001, dim // 2), np.linspace(99.9, 100, dim - dim // 2)],
    "nearly equal": lambda dim: np.linspace(1, 1 + 1e-9, dim),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dim", [1, 2, 5, 16, 17, 100])
@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate_spectra_are_bounded_tightly(kind: str, dim: int, dtype: torch.dtype) -> None:
    spectrum = DEGENERATE[kind](dim)
    precision = MatrixPrecision(torch.as_tensor(symmetric(spectrum), dtype=dtype))
    smallest, largest, products = extreme_eigenvalues(precision.matvec, torch.zeros(3, 4, dim, dtype=dtype))
    assert smallest.shape == largest.shape == (3, 1, 1)
    rounding = 20 * torch.finfo(dtype).eps * spectrum.max()
    np.testing.assert_allclose(smallest.flatten(), spectrum.min(), rtol=1e-4, atol=rounding)
    np.testing.assert_allclose(largest.flatten(), spectrum.max(), rtol=1e-3, atol=rounding)
    assert products == precision.products


@pytest.mark.parametrize("dim", [1, 7, 16])
def test_small_spectra_are_known_exactly(dim: int) -> None:
    spectrum = np.geomspace(1, 30, dim) if dim > 1 else np.ones(1)
    precision = MatrixPrecision(torch.as_tensor(symmetric(spectrum)))
    smallest, largest, _ = extreme_eigenvalues(precision.matvec, torch.zeros(3, 1, dim, dtype=torch.float64))
    np.testing.assert_allclose(smallest.flatten(), spectrum.min(), rtol=1e-9)
    np.testing.assert_allclose(largest.flatten(), spectrum.max(), rtol=1e-9)


@pytest.mark.parametrize("spectrum", spectra(200).values(), ids=spectra(200).keys())
def test_large_spectra_are_bounded_from_the_right_sides(spectrum: np.ndarray) -> None:
    """lambda_min never below the true one; lambda_max not above it by more than 5%, nor below by more than 2%."""
    for seed in range(5):
        precision = MatrixPrecision(torch.as_tensor(symmetric(spectrum, seed=seed)))
        smallest, largest, _ = extreme_eigenvalues(precision.matvec, torch.zeros(3, 1, 200, dtype=torch.float64))
        assert float(smallest.min()) >= spectrum.min() * (1 - 1e-9)
        assert 0.98 * spectrum.max() <= float(largest.min())
        assert float(largest.max()) <= 1.05 * spectrum.max()


@pytest.mark.parametrize("kind", [GradientDescent, Nesterov])
def test_single_precision_survives_an_eigenvalue_lost_in_rounding(kind: type[Solver]) -> None:
    """Condition 1e8: what is left of lambda_min = 1 beside 1e8 is noise, of either sign."""
    for dim in (2, 16, 40, 300):
        precision = MatrixPrecision(torch.as_tensor(symmetric(np.r_[np.ones(dim - 1), 1e8]), dtype=torch.float32))
        smallest, _, _ = extreme_eigenvalues(precision.matvec, torch.zeros(3, 1, dim))
        assert torch.all(smallest > 0)
        b = torch.ones(3, 1, dim)
        solution = kind(max_iterations=20, tolerance=1e-3).solve(precision, b)
        assert float(solution.residual.max()) <= 10 * float(ConjugateGradient(1).solve(precision, b).residual.max())


@pytest.mark.parametrize("start", ["zero", "smooth", "large", "adversarial"])
@pytest.mark.parametrize("factor", [0.9, 0.5, 0.1, 0.01])
@pytest.mark.parametrize(("kind", "module"), [(GradientDescent, gradient_descent), (Nesterov, nesterov)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_an_underestimated_eigenvalue_never_makes_a_solver_diverge(
    kind: type[Solver],
    module: Any,
    factor: float,
    start: str,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """lambda_max too small by up to 100: a fixed step of 2 / (lambda_max + lambda_min) would grow 99-fold at each.

    Starts: zero; an error without any part along the largest eigenvector, where the mistake shows; a million
    times the solution; an error along the largest eigenvector alone.
    """

    def underestimated(matvec: Callable[[Tensor], Tensor], like: Tensor, *_: Any) -> tuple[Tensor, Tensor, int]:
        one = torch.ones(like.shape[0], 1, 1, dtype=like.dtype)
        return one, factor * CONDITION * one, 0

    monkeypatch.setattr(module, "extreme_eigenvalues", underestimated)
    spectrum = np.geomspace(1, CONDITION, 30)
    matrices = symmetric(spectrum)
    _, vectors = np.linalg.eigh(matrices)
    random = np.random.default_rng(7)
    expected = random.normal(size=(3, 2, 30))
    top = vectors[:, None, :, -1]
    beginning = {
        "zero": None,
        "smooth": expected + (w := random.normal(size=expected.shape)) - (w * top).sum(-1, keepdims=True) * top,
        "large": 1e6 * random.normal(size=expected.shape),
        "adversarial": expected + 100 * top,
    }[start]
    precision = MatrixPrecision(torch.as_tensor(matrices, dtype=dtype))
    b = torch.as_tensor(expected @ matrices, dtype=dtype)
    x0 = None if beginning is None else torch.as_tensor(beginning, dtype=dtype)
    first = np.linalg.norm((0 if beginning is None else beginning) - expected, axis=-1)
    rounding = 300 * torch.finfo(dtype).eps * max(1.0, first.max())
    for limit, part in ((30, 1.0), (300, 1e-2), (1000, 1e-6)):
        solution = kind(max_iterations=limit, tolerance=1e-15).solve(precision, b, x0)
        error = np.linalg.norm(solution.x.double().numpy() - expected, axis=-1)
        assert np.all(error <= part * first + rounding)


def test_a_denominator_of_zero_gives_zero_and_no_gradient() -> None:
    numerator = torch.tensor([1.0, 0.0, 3.0], requires_grad=True)
    denominator = torch.tensor([2.0, 0.0, 0.0], requires_grad=True)
    quotient = divide(numerator, denominator)
    assert quotient.tolist() == [0.5, 0.0, 0.0]
    quotient.sum().backward()
    assert numerator.grad is not None and denominator.grad is not None
    assert numerator.grad.tolist() == [0.5, 0.0, 0.0]
    assert denominator.grad.tolist() == [-0.25, 0.0, 0.0]
    for many in (1, 10_000):  # in as few calls, and in as little arithmetic, as there are
        quotient = divide(numerator.detach().repeat(many), denominator.detach().repeat(many))
        assert quotient.tolist() == [0.5, 0.0, 0.0] * many
