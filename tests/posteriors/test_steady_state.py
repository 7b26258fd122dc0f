"""The steady-state preconditioner of a chain beside its dense formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lgm_cli.posteriors.chain import Chain, ChainPrecision
from lgm_cli.posteriors.steady_state import SteadyStatePreconditioner
from lgm_cli.solvers.conjugate_gradient import ConjugateGradient
from lgm_cli.solvers.nesterov import Nesterov

MAPS = ("shrink", "expand", "undo_shrink", "undo_expand", "solve")


def chain(
    steps: int, dim: int, channels: int = 4, hidden: float = 0.0, radius: float = 0.9, seen: float = 1.0
) -> Chain:
    random = np.random.default_rng(0)
    g = random.normal(size=(dim, dim))
    g *= radius / np.abs(np.linalg.eigvals(g)).max()
    start = np.linalg.cholesky(1.5 * np.eye(dim) + 0.2)
    rows, mask = seen * random.normal(size=(channels, dim)), random.random((steps, channels)) >= hidden
    return Chain(*(torch.as_tensor(value) for value in (g, start, random.normal(size=dim), rows, mask.astype(float))))


def of(made: Chain) -> tuple[ChainPrecision, SteadyStatePreconditioner]:
    precision = ChainPrecision(made, None, made.mask.numel())
    found = precision.preconditioner("auto")
    assert isinstance(found, SteadyStatePreconditioner)
    return precision, found


def dense(found: SteadyStatePreconditioner, name: str, size: int) -> Tensor:
    return getattr(found, name)(torch.eye(size, dtype=torch.float64)[None])[0].mT


@pytest.mark.parametrize(("steps", "dim"), [(3, 2), (20, 3), (150, 1), (9, 40)])
def test_of_a_chain_without_gaps_it_is_the_precision_but_for_one_block(steps: int, dim: int) -> None:
    """M_tt = A_tt everywhere but at the second step, where the pivot is taken to be at its limit already."""
    precision, found = of(chain(steps, dim))
    expected = precision.dense()[0].clone()
    root = dense(found, "undo_shrink", steps * dim)
    second = slice(dim, 2 * dim)
    m = root @ root.mT
    if steps > 3:
        g, first = precision.chain.transition, expected[:dim, :dim]
        pivot = (m - expected)[second, second] + expected[second, second] - g @ torch.linalg.solve(first, g.mT)
        limit = m[2 * dim : 3 * dim, 2 * dim : 3 * dim] - g @ torch.linalg.solve(pivot, g.mT)
        torch.testing.assert_close(pivot, limit, rtol=1e-10, atol=1e-10)
    expected[second, second] = m[second, second]
    torch.testing.assert_close(m, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("steps", "dim"), [(20, 3), (60, 1), (9, 40)])
def test_its_maps_are_those_of_one_root(steps: int, dim: int) -> None:
    """M = K K^T is symmetric positive definite, and each map is the inverse or transpose that it is called."""
    _, found = of(chain(steps, dim, hidden=0.3))
    shrink, expand, root, transposed, inverse = (dense(found, name, steps * dim) for name in MAPS)
    identity = torch.eye(steps * dim, dtype=torch.float64)
    for left, right in (
        (shrink @ root, identity), (expand, shrink.mT), (transposed, root.mT), (inverse, expand @ shrink),
        (inverse, inverse.mT),
    ):  # fmt: skip
        torch.testing.assert_close(left, right, rtol=0, atol=1e-11)
    assert float(torch.linalg.eigvalsh(inverse).min()) > 0


@pytest.mark.parametrize("kind", [ConjugateGradient, Nesterov])
def test_iterations_fall_and_solutions_stay(kind: type[ConjugateGradient]) -> None:
    """Slow states seen through much noise, 30% hidden: to the tolerance, in a quarter of the steps."""
    precision, _ = of(chain(200, 4, hidden=0.3, radius=0.99, seen=0.3))
    b = torch.as_tensor(np.random.default_rng(3).normal(size=(1, 3, 800)))
    plain = kind(5000, 1e-10, "none").solve(precision, b)
    fast = kind(5000, 1e-10, "auto").solve(precision, b)
    assert float(fast.iterations.max()) < 0.25 * float(plain.iterations.min())
    matrix = precision.dense()
    expected = torch.linalg.solve(matrix, b.mT).mT
    smallest = float(torch.linalg.eigvalsh(matrix).min())
    error = torch.linalg.vector_norm(fast.x - expected, dim=-1)
    assert bool((error <= 1.01e-10 / smallest * torch.linalg.vector_norm(b, dim=-1)).all())


@pytest.mark.parametrize("radius", [1.0, 1.2])
def test_states_that_grow_and_are_hardly_seen_leave_it_positive_definite(radius: float) -> None:
    for seen in (1e-8, 0.0):
        made = chain(30, 2, radius=radius, seen=seen)
        _, found = of(made)
        assert float(torch.linalg.eigvalsh(dense(found, "solve", 60)).min()) > 0


def test_all_its_maps_have_their_transposes_as_derivatives() -> None:
    _, found = of(chain(5, 1, hidden=0.3))
    x = torch.as_tensor(np.random.default_rng(4).normal(size=(1, 2, 5))).requires_grad_()
    for name in MAPS:
        assert torch.autograd.gradcheck(getattr(found, name), x)
        assert torch.autograd.gradgradcheck(getattr(found, name), x)


def test_it_is_a_constant_to_differentiation() -> None:
    """The derivative of a converged solution is that of A^-1 b."""
    made = chain(12, 2, hidden=0.3)
    b = torch.as_tensor(np.random.default_rng(5).normal(size=(1, 2, 24)))
    found = []
    for exact in (True, False):
        g, rows = (value.clone().requires_grad_() for value in (made.transition, made.rows))
        precision = ChainPrecision(Chain(g, made.start, made.first, rows, made.mask), None, made.mask.numel())
        if exact:
            x = torch.linalg.solve(precision.dense(), b.mT).mT
        else:
            x = ConjugateGradient(300, 1e-15, "auto").solve(precision, b).x
        found.append(torch.autograd.grad((x.sin() * b).sum(), (g, rows)))
    for exact, iterative in zip(*found, strict=True):
        torch.testing.assert_close(iterative, exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("steps", "dim", "hidden", "radius", "seen"),
    [
        (2, 2, 0.3, 0.9, 1.0), (40, 3, 0.3, 0.9, 1.0), (40, 3, 0.0, 0.9, 1.0), (9, 40, 0.3, 0.9, 1.0),
        (30, 2, 0.3, 1.2, 0.0),
    ],
)  # fmt: skip
def test_it_knows_what_the_precision_has_beside_it(
    steps: int, dim: int, hidden: float, radius: float, seen: float
) -> None:
    """A = M + (A - M), of any number of right-hand sides, with observations of which all, some or none count."""
    precision, found = of(chain(steps, dim, hidden=hidden, radius=radius, seen=seen))
    assert found.rest is not None
    matrix, root = precision.dense()[0], dense(found, "undo_shrink", steps * dim)
    x, onto = torch.as_tensor(np.random.default_rng(6).normal(size=(2, 1, 5, steps * dim)))
    expected = x @ (matrix - root @ root.mT)
    close = {"rtol": 0, "atol": 1e-11 * float(matrix.norm())}
    torch.testing.assert_close(found.rest(x, None), expected, **close)
    before = onto.clone()
    torch.testing.assert_close(found.rest(x, onto), onto + expected, **close)
    torch.testing.assert_close(onto, before, rtol=0, atol=0)


@pytest.mark.parametrize("kind", [ConjugateGradient, Nesterov])
@pytest.mark.parametrize("dim", [4, 40])
def test_a_solve_by_what_the_precision_has_beside_it_is_that_by_its_products(
    kind: type[ConjugateGradient], dim: int
) -> None:
    """Without derivatives, where A p comes of M p: as many steps, and the residual that is reported is the true one."""
    precision, _ = of(chain(60, dim, hidden=0.3, radius=0.99, seen=0.3))
    b = torch.as_tensor(np.random.default_rng(3).normal(size=(1, 3, 60 * dim)))
    by_products = kind(5000, 1e-10).solve(precision, b)
    with torch.no_grad():
        found = kind(5000, 1e-10).solve(precision, b)
    torch.testing.assert_close(found.iterations, by_products.iterations, rtol=0, atol=1)
    residual = torch.linalg.vector_norm(b - precision.matvec(found.x), dim=-1) / torch.linalg.vector_norm(b, dim=-1)
    torch.testing.assert_close(residual, found.residual, rtol=0, atol=1e-13)
    torch.testing.assert_close(found.x, by_products.x, rtol=0, atol=1e-9 * float(by_products.x.abs().max()))
