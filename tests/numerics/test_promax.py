"""Promax: R's published answer, R's algorithm written down independently, and what an oblique rotation must keep."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ortho_group

from lgm_cli.numerics.promax import promax

# R's `factanal(factors = 2, covmat = ability.cov)` as its manual prints it (Smith & Stanley 1983), and with
# rotation = "promax", which prints nothing below 0.1. Rows: general, picture, blocks, maze, reading, vocab.
VARIMAX = [[0.499, 0.543], [0.156, 0.622], [0.206, 0.860], [0.109, 0.468], [0.956, 0.182], [0.785, 0.225]]
PROMAX = [[0.364, 0.470], [np.nan, 0.671], [np.nan, 0.932], [np.nan, 0.508], [1.023, np.nan], [0.811, np.nan]]


def by_r(loadings: np.ndarray, power: float = 4) -> np.ndarray:
    """Loadings by R's `promax`, after its `varimax`: Kaiser's normalisation, repeated singular value decompositions."""
    lengths = np.sqrt((loadings**2).sum(1))
    x, turn = loadings / lengths[:, None], np.eye(loadings.shape[1])
    for _ in range(20000):
        z = x @ turn
        u, _, v = np.linalg.svd(x.T @ (z**3 - z * (z**2).mean(0)))
        turn = u @ v
    z = loadings @ turn
    solution = np.linalg.solve(z.T @ z, z.T @ (z * np.abs(z) ** (power - 1)))
    return z @ solution @ np.diag(np.sqrt(np.diag(np.linalg.inv(solution.T @ solution))))


def test_the_published_example_of_r() -> None:
    given = np.array(VARIMAX)
    turn, _ = promax(given)
    found, expected = given @ turn, np.array(PROMAX)
    found = found[:, np.argsort(-np.abs(found[4]))]  # reading is of the first factor
    small = np.isnan(expected)
    np.testing.assert_allclose(found[~small], expected[~small], atol=2e-3)
    assert (np.abs(found[small]) < 0.1).all()


@pytest.mark.parametrize("factors", [2, 3, 5])
def test_the_algorithm_of_r(factors: int) -> None:
    random = np.random.default_rng(factors)
    simple = np.zeros((24, factors))
    simple[np.arange(24), np.arange(24) % factors] = random.uniform(0.5, 0.9, 24)
    loadings = (simple + 0.1 * random.normal(size=simple.shape)) @ ortho_group.rvs(factors, random_state=1)
    turn, correlations = promax(loadings)
    found, expected = loadings @ turn, by_r(loadings)
    order = [int(np.argmax(np.abs(expected.T @ column))) for column in found.T]
    assert sorted(order) == list(range(factors))
    expected = expected[:, order]
    np.testing.assert_allclose(found, expected * np.sign((expected * found).sum(0)), atol=1e-6)
    np.testing.assert_allclose(correlations.diagonal(), 1, atol=1e-12)
    np.testing.assert_allclose(found @ correlations @ found.T, loadings @ loadings.T, atol=1e-12)


def test_factors_without_a_solution_are_turned_by_varimax() -> None:
    one = np.random.default_rng(0).normal(size=(8, 1)) @ np.array([[1.0, 2.0]])
    turn, correlations = promax(one)
    np.testing.assert_allclose(turn.T @ turn, np.eye(2), atol=1e-12)
    np.testing.assert_array_equal(correlations, np.eye(2))
