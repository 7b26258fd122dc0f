"""What holds for every solver: this suite runs over each YAML in conf/solver and keeps no list of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lgm_cli.command import choices
from lgm_cli.run.build import of_name
from lgm_cli.solvers.base.nystrom import sketched
from lgm_cli.solvers.base.solver import Solver
from tests.matrices import CONDITION, MatrixPrecision, spectra, symmetric, systems

SOLVERS = choices.choices("solver")
ITERATIVE = tuple(name for name in SOLVERS if "max_iterations" in choices.keys(f"solver/{name}"))
CASES = [
    *((name, {}) for name in SOLVERS if name not in ITERATIVE),
    *((name, {"preconditioner": p}) for name in ITERATIVE for p in ("none", "jacobi")),
    *((name, {"preconditioner": "nystrom", "rank": 4}) for name in ITERATIVE),
]
each_solver = pytest.mark.parametrize(
    ("name", "options"),
    CASES,
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else value,
)
each_iterative = pytest.mark.parametrize("name", ITERATIVE)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def make(name: str, max_iterations: int = 1000, tolerance: float = 1e-8, **options: Any) -> Solver:
    """A solver by the name of its YAML; a direct one has no limits to set."""
    if name in ITERATIVE:
        options |= {"max_iterations": max_iterations, "tolerance": tolerance}
    return of_name("solvers", name, options)


def true_residual(precision: MatrixPrecision, x: Tensor, b: Tensor) -> np.ndarray:
    """|b - A x| / |b| in double precision, (N, R)."""
    a, x, b = (value.detach().double().numpy() for value in (precision.matrices, x, b))
    return np.linalg.norm(b - x @ a, axis=-1) / np.linalg.norm(b, axis=-1)


@each_solver
@pytest.mark.parametrize("spectrum", spectra(40).values(), ids=spectra(40).keys())
def test_it_solves_to_its_tolerance(name: str, options: dict[str, Any], spectrum: np.ndarray) -> None:
    precision, b, expected = systems(spectrum)
    solution = make(name, **options).solve(precision, b)
    assert float(solution.residual.max()) <= 1e-8
    np.testing.assert_allclose(solution.residual, true_residual(precision, solution.x, b), atol=1e-13)
    # |x - A^-1 b| <= |b - A x| / lambda_min
    error = np.linalg.norm(solution.x.numpy() - expected, axis=-1)
    assert np.all(error <= 1.001e-8 * np.linalg.norm(b, axis=-1) / spectrum.min())


@each_solver
def test_single_precision_reaches_its_own_accuracy(name: str, options: dict[str, Any]) -> None:
    precision, b, expected = systems(spectra(40)["even"], dtype=torch.float32)
    solution = make(name, tolerance=1e-5, **options).solve(precision, b)
    assert solution.x.dtype == torch.float32
    assert true_residual(precision, solution.x, b).max() < 2e-5
    np.testing.assert_allclose(solution.x, expected, atol=1e-4)


@each_solver
def test_one_dimension_and_one_system(name: str, options: dict[str, Any]) -> None:
    precision = MatrixPrecision(torch.tensor([[[4.0]]], dtype=torch.float64))
    solution = make(name, **options).solve(precision, torch.tensor([[[2.0]]], dtype=torch.float64))
    assert solution.x.item() == pytest.approx(0.5, rel=1e-8)


@each_solver
def test_a_warm_start_goes_on_from_there(name: str, options: dict[str, Any]) -> None:
    precision, b, expected = systems(spectra(40)["geometric"])
    cold = make(name, **options).solve(precision, b)
    start = torch.as_tensor(expected) + 1e-5 * torch.as_tensor(np.random.default_rng(2).normal(size=b.shape))
    warm = make(name, **options).solve(precision, b, start)
    np.testing.assert_allclose(warm.x, expected, atol=1e-7)
    if name in ITERATIVE:
        assert torch.all(warm.iterations < cold.iterations)
        from_the_solution = make(name, **options).solve(precision, b, torch.as_tensor(expected))
        assert torch.all(from_the_solution.iterations == 0)
        np.testing.assert_allclose(from_the_solution.x, expected, rtol=1e-14)


@each_solver
def test_nothing_is_written_into_what_it_is_given(name: str, options: dict[str, Any]) -> None:
    precision, b, expected = systems(spectra(12)["even"])
    start = torch.as_tensor(expected) + 0.1
    before = [value.clone() for value in (precision.matrices, b, start)]
    make(name, **options).solve(precision, b, start)
    for value, kept in zip((precision.matrices, b, start), before, strict=True):
        assert torch.equal(value, kept)


@each_solver
def test_products_are_counted_one_for_each_vector(name: str, options: dict[str, Any]) -> None:
    precision, b, expected = systems(spectra(20)["even"])
    for start in (None, torch.as_tensor(expected) + 0.1):
        precision.products = 0
        assert make(name, **options).solve(precision, b, start).products == precision.products


@each_iterative
def test_it_stops_at_its_limit_and_says_so(name: str) -> None:
    precision, b, _ = systems(spectra(40)["even"])
    for limit in (1, 2, 5):
        solution = make(name, max_iterations=limit, tolerance=1e-12).solve(precision, b)
        assert torch.all(solution.iterations == limit)
        np.testing.assert_allclose(solution.residual, true_residual(precision, solution.x, b), rtol=1e-9)
        assert float(solution.residual.min()) > 1e-12


@each_iterative
@pytest.mark.parametrize("preconditioner", ["none", "jacobi", "nystrom"])
def test_each_system_stops_by_itself(name: str, preconditioner: str) -> None:
    """A well-conditioned matrix beside a bad one, and starts of all qualities, as each would run alone."""
    matrices = np.concatenate([symmetric(np.linspace(1, 1.2, 20), 1), symmetric(np.geomspace(1, 100, 20), 1)])
    b = torch.as_tensor(np.random.default_rng(3).normal(size=(2, 3, 20)))
    exact = torch.linalg.solve(torch.as_tensor(matrices), b.mT).mT
    start = exact + torch.as_tensor([1e-9, 1e-4, 1.0])[:, None] * torch.ones(20, dtype=torch.float64)
    solver = make(name, preconditioner=preconditioner, rank=4)
    together = solver.solve(MatrixPrecision(torch.as_tensor(matrices)), b, start)
    for n in range(2):
        for k in range(3):
            alone = solver.solve(
                MatrixPrecision(torch.as_tensor(matrices[n : n + 1])),
                b[n : n + 1, k : k + 1],
                start[n : n + 1, k : k + 1],
            )
            assert together.iterations[n, k] == alone.iterations
            np.testing.assert_allclose(together.x[n, k], alone.x[0, 0], atol=1e-12)
            np.testing.assert_allclose(together.residual[n, k], alone.residual, rtol=1e-3, atol=1e-13)
    assert torch.all(together.iterations[0] < together.iterations[1])
    assert torch.all(together.iterations[:, 0] < together.iterations[:, 2])


@each_iterative
@pytest.mark.parametrize("spectrum", spectra(40).values(), ids=spectra(40).keys())
def test_it_is_no_slower_than_plain_gradient_steps(name: str, spectrum: np.ndarray) -> None:
    """|e_I| <= (1 - 1/kappa)^I |e_0|: what a step of 1 / lambda_max gives, the least that any solver here promises."""
    precision, b, expected = systems(spectrum)
    solution = make(name, max_iterations=150, tolerance=1e-15, preconditioner="none").solve(precision, b)
    error = np.linalg.norm(solution.x.numpy() - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert np.all(error <= (1 - 1 / CONDITION) ** 150)


@each_iterative
def test_jacobi_undoes_a_bad_scaling(name: str) -> None:
    """A = S B S with B well conditioned and S from 1 to 100: about as many steps as B itself takes."""
    dim = 30
    scale = np.geomspace(1, 100, dim)
    well = symmetric(np.linspace(1, 2, dim))
    badly = torch.as_tensor(scale[:, None] * well * scale)
    b = torch.as_tensor(np.random.default_rng(4).normal(size=(3, 2, dim)) * scale)
    easy = make(name, preconditioner="none").solve(MatrixPrecision(torch.as_tensor(well)), b / torch.as_tensor(scale))
    jacobi = make(name, preconditioner="jacobi").solve(MatrixPrecision(badly), b)
    plain = make(name, preconditioner="none", max_iterations=200).solve(MatrixPrecision(badly), b)
    assert float(jacobi.iterations.max()) <= 2 * float(easy.iterations.max()) + 2
    assert float(plain.iterations.min()) > 2 * float(jacobi.iterations.max())


@each_solver
@each_dtype
def test_a_zero_right_hand_side_has_the_solution_zero(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    precision, b, _ = systems(spectra(12)["even"], dtype=dtype)
    b[:, 1] = 0
    b.requires_grad_()
    precision.matrices.requires_grad_()
    solution = make(name, tolerance=1e-6, **options).solve(precision, b)
    assert torch.all(solution.x[:, 1] == 0)
    assert torch.all(solution.residual[:, 1] == 0)
    gradients = torch.autograd.grad(solution.x.square().sum(), [precision.matrices, b])
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    warm = make(name, tolerance=1e-6, max_iterations=50, **options).solve(precision, b, torch.ones_like(b))
    assert warm.x.isfinite().all()
    assert warm.residual.isfinite().all()


def fixed_bounds(monkeypatch: pytest.MonkeyPatch, solver: Solver, lowest: float, highest: float) -> None:
    """Let a solver that estimates eigenvalues use these: its steps are constants to differentiation."""

    def bounds(matvec: Callable[[Tensor], Tensor], like: Tensor, *_: Any) -> tuple[Tensor, Tensor, int]:
        one = torch.ones(like.shape[0], 1, 1, dtype=like.dtype)
        return lowest * one, highest * one, 0

    module = sys.modules[type(solver).__module__]
    if hasattr(module, "extreme_eigenvalues"):
        monkeypatch.setattr(module, "extreme_eigenvalues", bounds)


@each_solver
def test_derivatives_go_through_every_step(name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With respect to A, b and the start, far from convergence, against finite differences; a sketch is a constant, and
    here as if kept from earlier parameters."""
    spectrum = np.linspace(1, 8, 5)
    precision, b, _ = systems(spectrum, right_sides=2)
    if options.get("preconditioner") == "nystrom":
        monkeypatch.setattr(MatrixPrecision, "sketch", sketched(precision, 2).kept(), raising=False)
    solver = make(name, max_iterations=3, tolerance=1e-15, **options)
    fixed_bounds(monkeypatch, solver, 0.1, 20.0)
    start = torch.full_like(b, 0.3)

    def solved(matrices: Tensor, b: Tensor, start: Tensor) -> Tensor:
        return solver.solve(MatrixPrecision((matrices + matrices.mT) / 2), b, start).x

    inputs = [value.requires_grad_() for value in (precision.matrices, b, start)]
    assert torch.autograd.gradcheck(solved, inputs, eps=1e-6, atol=1e-6)
    assert torch.autograd.gradcheck(
        lambda m, b: solver.solve(MatrixPrecision((m + m.mT) / 2), b).x, inputs[:2], atol=1e-6
    )


@each_solver
@each_dtype
@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_derivatives_long_past_convergence_are_those_of_the_exact_solution(
    name: str, options: dict[str, Any], dtype: torch.dtype, scale: float
) -> None:
    """d(g^T x) = (A^-1 g)^T (db - dA x): stays true, and finite, when 500 steps are allowed and 10 are enough."""
    spectrum = np.linspace(1, 1.5, 12)
    precision, b, expected = systems(spectrum, dtype=dtype)
    b *= scale
    cotangent = torch.as_tensor(np.random.default_rng(5).normal(size=b.shape), dtype=dtype)
    inputs = [value.requires_grad_() for value in (precision.matrices, b)]
    solution = make(name, max_iterations=500, tolerance=1e-30, **options).solve(precision, b)
    to_matrix, to_right = torch.autograd.grad((solution.x * cotangent).sum(), inputs)
    adjoint = np.linalg.solve(precision.matrices.detach().double().numpy(), cotangent.double().mT.numpy())
    adjoint = adjoint.transpose(0, 2, 1)
    accuracy = 1e3 * torch.finfo(dtype).eps
    np.testing.assert_allclose(solution.x.detach() / scale, expected, atol=accuracy)
    np.testing.assert_allclose(to_right, adjoint, atol=accuracy)
    expected_to_matrix = -np.einsum("nri,nrj->nij", adjoint, expected)
    symmetrised = (to_matrix + to_matrix.mT) / scale
    np.testing.assert_allclose(
        symmetrised, expected_to_matrix + expected_to_matrix.transpose(0, 2, 1), atol=20 * accuracy
    )
