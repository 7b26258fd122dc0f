"""The randomised Nystrom preconditioner beside its dense formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lgm_cli.randomness import generator
from lgm_cli.solvers.base.nystrom import ENOUGH, NystromPreconditioner, sketched
from lgm_cli.solvers.base.preconditioner import Preconditioner
from lgm_cli.solvers.conjugate_gradient import ConjugateGradient
from lgm_cli.solvers.nesterov import Nesterov
from lgm_cli.solvers.steepest_descent import SteepestDescent
from tests.matrices import MatrixPrecision, symmetric, systems

DIM = 40
FALLING = 1 + 1e8 * np.arange(1, DIM + 1) ** -6.0  # of A = I + B; below 2 from the 22nd on
FEW = np.r_[1e6, 1e4, 300.0, np.ones(DIM - 3)]


def dense(apply: object, dim: int = DIM, count: int = 3) -> Tensor:
    """A linear map of (N, R, D) as matrices, (N, D, D)."""
    identity = torch.eye(dim, dtype=torch.float64).expand(count, -1, -1)
    return apply(identity).mT  # pyright: ignore[reportCallIssue]


def of(spectrum: np.ndarray, rank: int | str) -> tuple[MatrixPrecision, NystromPreconditioner]:
    precision = MatrixPrecision(torch.as_tensor(symmetric(spectrum)))
    return precision, sketched(precision, rank)


@pytest.mark.parametrize("rank", [1, 5, 20, DIM])
def test_it_is_its_dense_formula(rank: int) -> None:
    """M^-1 = (1 + s_min) U (S + I)^-1 U^T + I - U U^T of B W (W^T B W)^-1 (B W)^T = U S U^T, written with NumPy."""
    precision, found = of(1 + 100 * np.arange(1, DIM + 1) ** -2.0, rank)
    drawn = torch.randn(DIM, rank, generator=generator(0, "sketch"), dtype=torch.float64)
    w = np.linalg.qr(drawn.numpy())[0]
    for n in range(3):
        y = (precision.matrices[n].numpy() - np.eye(DIM)) @ w
        values, vectors = np.linalg.eigh(y @ np.linalg.solve(w.T @ y, y.T))
        values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
        inverse = np.eye(DIM) + vectors * ((1 + values[-1]) / (1 + values) - 1) @ vectors.T
        np.testing.assert_allclose(dense(found.solve)[n], inverse, atol=1e-10)


@pytest.mark.parametrize("rank", [1, 5, DIM])
def test_its_maps_are_those_of_one_root(rank: int) -> None:
    """M = L L^T is symmetric positive definite, and each map is the inverse or transpose that it is called."""
    _, found = of(FALLING, rank)
    inverse, shrink, root = dense(found.solve), dense(found.shrink), dense(found.undo_shrink)
    assert float(torch.linalg.eigvalsh(inverse).min()) > 0
    identity = torch.eye(DIM, dtype=torch.float64).expand(3, -1, -1)
    torch.testing.assert_close(inverse, inverse.mT, rtol=0, atol=1e-13)
    torch.testing.assert_close(dense(found.expand) @ shrink, inverse, rtol=0, atol=1e-13)
    torch.testing.assert_close(shrink @ root, identity, rtol=0, atol=1e-10)
    torch.testing.assert_close(dense(found.expand).mT, shrink, rtol=0, atol=1e-13)
    torch.testing.assert_close(dense(found.undo_expand).mT, root, rtol=0, atol=1e-9)


def test_a_sketch_of_as_many_vectors_as_b_has_rank_is_exact() -> None:
    """M^-1 A then has two eigenvalues, and conjugate gradients take two steps."""
    _, found = of(FEW, 3)
    np.testing.assert_allclose(found.values, np.tile(FEW[:3] - 1, (3, 1)), rtol=1e-9)
    precision, b, expected = systems(FEW)
    solution = ConjugateGradient(100, 1e-8, "nystrom", rank=3).solve(precision, b)
    assert float(solution.iterations.max()) <= 2
    np.testing.assert_allclose(solution.x, expected, atol=1e-7)


def test_more_vectors_than_b_has_rank_do_no_harm() -> None:
    _, found = of(FEW, 20)
    np.testing.assert_allclose(found.values[:, :3], np.tile(FEW[:3] - 1, (3, 1)), rtol=1e-9)
    assert float(found.values[:, 3:].max()) < 1e-6
    torch.testing.assert_close(found.basis.mT @ found.basis, torch.eye(20, dtype=torch.float64).expand(3, -1, -1))


def test_the_rank_grows_until_what_is_left_is_small() -> None:
    """32 vectors for a spectrum that falls below ENOUGH at the 32nd; 16 for three eigenvalues; no more than allowed."""
    assert FALLING[31] - 1 < ENOUGH < FALLING[23] - 1
    precision, found = of(FALLING, "auto")
    assert found.values.shape == (3, 32)
    assert found.products == precision.products == 3 * (16 + 32)
    assert of(FEW, "auto")[1].values.shape == (3, 16)
    assert sketched(precision, "auto", most=10).values.shape == (3, 10)
    assert sketched(precision, 100).values.shape == (3, DIM)


def test_the_condition_number_is_that_of_what_is_left() -> None:
    """Of A after a sketch of all eigenvalues above one: below 3, where that of A is 1e8."""
    precision, found = of(FALLING, "auto")
    left = dense(found.shrink) @ precision.matrices @ dense(found.expand)
    values = torch.linalg.eigvalsh(left)
    assert float((values[:, -1] / values[:, 0]).max()) < 3


@pytest.mark.parametrize(("kind", "share"), [(ConjugateGradient, 0.2), (Nesterov, 0.02), (SteepestDescent, 0.02)])
def test_iterations_fall_and_solutions_stay(kind: type[ConjugateGradient], share: float) -> None:
    """A condition number of 1e8: to the tolerance, in a small share of the steps."""
    precision, b, expected = systems(FALLING)
    plain = kind(3000, 1e-8, "none").solve(precision, b)
    fast = kind(3000, 1e-8, "nystrom").solve(precision, b)
    assert float(fast.iterations.max()) < share * float(plain.iterations.min())
    error = np.linalg.norm(fast.x.numpy() - expected, axis=-1)
    assert np.all(error <= 1.001e-8 * np.linalg.norm(b, axis=-1))  # |x - A^-1 b| <= |r|, since A >= I


def test_random_numbers_are_those_that_are_given() -> None:
    precision = MatrixPrecision(torch.as_tensor(symmetric(FALLING)))
    first, again, other = (sketched(precision, 4, generator(seed, "sketch")).values for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_single_precision_keeps_it_positive_definite() -> None:
    """Eigenvalues up to 1e12, where 1e7 leaves rounding nothing of one."""
    spectrum = np.geomspace(1e12, 1, DIM)
    found = sketched(MatrixPrecision(torch.as_tensor(symmetric(spectrum), dtype=torch.float32)), 10)
    top = found.basis.mT
    assert bool(((found.solve(top) * top).sum(-1) > 0).all())


def test_it_is_a_constant_to_differentiation() -> None:
    """The derivative of a converged solution is that of A^-1 b, whatever the sketch was of."""
    matrix = torch.as_tensor(symmetric(FALLING[:12], 1)).requires_grad_()
    b = torch.as_tensor(np.random.default_rng(0).normal(size=(1, 2, 12)))
    target = torch.as_tensor(np.random.default_rng(1).normal(size=(1, 2, 12)))

    def gradient(x: Tensor) -> Tensor:
        (found,) = torch.autograd.grad((x * target).sum(), matrix)
        return (found + found.mT) / 2

    expected = gradient(torch.linalg.solve(matrix, b.mT).mT)
    found = gradient(ConjugateGradient(200, 1e-15, "nystrom", rank=6).solve(MatrixPrecision(matrix), b).x)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


def test_the_identity_changes_nothing() -> None:
    x = torch.randn(2, 3, 4)
    for apply in ("shrink", "expand", "undo_shrink", "undo_expand", "solve"):
        assert torch.equal(getattr(Preconditioner(), apply)(x), x)
