"""Descent: against SciPy, that each step descends, and that it ends where nothing can be gained."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, rosen, rosen_der
from torch import Tensor

from lgm_cli.numerics.quasi_newton import descend, flattened, unflattened


def rosenbrock(x: Tensor) -> tuple[float, Tensor]:
    return float(rosen(x.numpy())), torch.as_tensor(rosen_der(x.numpy()))


def quadratic(eigenvalues: np.ndarray, calls: list[Tensor] | None = None):
    """1/2 x^T A x - x^T 1 with these eigenvalues, and its minimum."""
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(len(eigenvalues), len(eigenvalues))))[0]
    a = torch.as_tensor(axes * eigenvalues @ axes.T)

    def function(x: Tensor) -> tuple[float, Tensor]:
        if calls is not None:
            calls.append(x)
        return float(0.5 * x @ a @ x - x.sum()), a @ x - 1

    return function, torch.linalg.solve(a, torch.ones(len(a), dtype=a.dtype))


def test_it_ends_at_the_minimum_that_scipy_finds() -> None:
    start = torch.tensor([-1.2, 1.0, -0.5, 0.8], dtype=torch.float64)
    peer = minimize(rosen, start.numpy(), jac=rosen_der, method="L-BFGS-B", options={"maxiter": 1000, "gtol": 1e-12})
    found = descend(rosenbrock, start, 200, scale=1e-3)
    np.testing.assert_allclose(found.place.numpy(), peer.x, atol=1e-5)
    assert found.value < 1e-12 and found.steps < 100
    torch.testing.assert_close(found.gradient, rosenbrock(found.place)[1])


@pytest.mark.parametrize("curvature", [True, False])
def test_every_step_descends_enough_from_a_first_step_that_is_far_too_long(curvature: bool) -> None:
    """The path of 1, 2, .. steps is one path, and its values fall."""
    start, values = torch.tensor([-1.2, 1.0], dtype=torch.float64), []
    for steps in range(12):
        found = descend(rosenbrock, start, steps, scale=1e6, curvature=curvature)
        assert found.steps == steps
        values.append(found.value)
    assert values[0] == rosenbrock(start)[0]
    assert np.all(np.diff(values) < 0)


def test_curvature_pays_on_a_badly_scaled_quadratic() -> None:
    function, best = quadratic(np.geomspace(1, 1e4, 12))
    lowest = function(best)[0]
    start = torch.zeros(12, dtype=torch.float64)
    gaps = [descend(function, start, 100, 1e-4, curvature).value - lowest for curvature in (True, False)]
    assert 0 <= gaps[0] < 1e-3 * gaps[1]


def test_the_first_step_is_the_scaled_gradient_and_later_ones_solve_the_secant_equation() -> None:
    """With one pair (s, y) an accepted direction of full length on a quadratic in one dimension is Newton's."""
    calls: list[Tensor] = []
    function, best = quadratic(np.array([3.0]), calls)
    found = descend(function, torch.zeros(1, dtype=torch.float64), 2, scale=0.1)
    assert float(calls[1]) == pytest.approx(0.1) and float(calls[2]) == pytest.approx(float(best), rel=1e-12)
    torch.testing.assert_close(found.place, best, rtol=1e-12, atol=0)


def test_it_stays_where_nothing_can_be_gained() -> None:
    calls: list[Tensor] = []
    function, best = quadratic(np.array([1.0, 2.0, 5.0]), calls)
    found = descend(function, best, 50)
    assert float((found.place - best).abs().max()) < 1e-12
    assert len(calls) < 10  # a step that rounding hides is not tried


def test_values_that_are_not_finite_are_walked_around() -> None:
    """-log x + x from x = 0.01, whose first step passes zero if it is not halved."""

    def function(x: Tensor) -> tuple[float, Tensor]:
        value = float(x)
        return (value - math.log(value), 1 - 1 / x) if value > 0 else (math.inf, torch.full_like(x, math.nan))

    found = descend(function, torch.tensor([4.0], dtype=torch.float64), 40, scale=100.0)
    assert float(found.place) == pytest.approx(1.0, abs=1e-6)
    lost = descend(lambda x: (math.nan, x), torch.ones(1, dtype=torch.float64), 5)
    assert lost.steps == 0 and torch.equal(lost.place, torch.ones(1, dtype=torch.float64))


def test_tensors_go_into_a_vector_and_back() -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(7.0)}
    back = unflattened(flattened(tensors), tensors)
    assert back.keys() == tensors.keys() and all(torch.equal(back[name], tensors[name]) for name in tensors)
