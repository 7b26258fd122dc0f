"""Recurrences over time beside plain loops, and limits of pivots beside SciPy's Riccati solution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_are
from torch import Tensor

from lgm_cli.numerics.recurrence import limit_pivot, recurrence


def matrix(dim: int, radius: float, seed: int = 0) -> Tensor:
    """A random matrix of a given spectral radius."""
    w = np.random.default_rng(seed).normal(size=(dim, dim))
    return torch.as_tensor(w * (radius / np.abs(np.linalg.eigvals(w)).max()))


@pytest.mark.parametrize("radius", [0.3, 0.9, 1.0])
@pytest.mark.parametrize("dim", [1, 3, 8, 33, 40])  # as one product in a block, and step by step
@pytest.mark.parametrize("steps", [1, 2, 17, 64, 150])
def test_a_recurrence_in_blocks_is_the_loop(dim: int, steps: int, radius: float) -> None:
    """To 1e-12 of the largest, forwards and backwards."""
    w = matrix(dim, radius)
    c = torch.as_tensor(np.random.default_rng(1).normal(size=(2, steps, dim)))
    forwards = recurrence(w, steps)
    for run, weight, order in ((forwards, w, range(steps)), (forwards.transposed, w.mT, range(steps - 1, -1, -1))):
        u = torch.zeros(2, run.padded(steps), dim, dtype=torch.float64)
        u[:, :steps] = c
        run.run(u)
        expected, last = torch.zeros_like(c), torch.zeros(2, dim, dtype=torch.float64)
        for t in order:
            last = c[:, t] + last @ weight
            expected[:, t] = last
        torch.testing.assert_close(u[:, :steps], expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


@pytest.mark.parametrize("radius", [0.5, 0.99, 1.3])
@pytest.mark.parametrize("dim", [1, 4, 30])
def test_the_limit_of_the_pivots_is_the_riccati_equations(dim: int, radius: float) -> None:
    """X = P^-1 + C^T C + G^T G with P the stationary covariance of the predicted state, to 1e-9 of its largest entry;
    stable or not."""
    g, c = matrix(dim, radius).numpy(), np.random.default_rng(2).normal(size=(dim + 1, dim))
    predicted = solve_discrete_are(g.T, c.T, np.eye(dim), np.eye(dim + 1))
    expected = np.linalg.inv(predicted) + c.T @ c + g.T @ g
    h = torch.as_tensor(np.eye(dim) + g.T @ g + c.T @ c)
    found = limit_pivot(h, torch.as_tensor(-g))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    residual = found - h + torch.as_tensor(g) @ torch.linalg.solve(found, torch.as_tensor(g.T))
    assert float(residual.abs().max()) < 1e-9 * float(h.abs().max())


def test_a_state_that_nothing_is_known_of_has_a_limit_too() -> None:
    """A random walk that is not observed: X = 1, which elimination nears as 1 + 1 / t."""
    found = limit_pivot(torch.tensor([[2.0]], dtype=torch.float64), torch.tensor([[-1.0]], dtype=torch.float64))
    assert float(found) == pytest.approx(1.0, abs=1e-6)
