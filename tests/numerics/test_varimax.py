"""Varimax: against R's answer, against a grid of angles, and what every rotation must keep."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import ortho_group

from lgm_cli.numerics.varimax import criterion, varimax


def simple_structure(columns: int, factors: int) -> np.ndarray:
    """Loadings (columns, factors) with one factor a column."""
    loadings = np.zeros((columns, factors))
    loadings[np.arange(columns), np.arange(columns) % factors] = np.linspace(1.0, 2.0, columns)
    return loadings


@pytest.mark.parametrize("factors", [1, 2, 3, 6])
@pytest.mark.parametrize("normalize", [True, False])
def test_rotation_is_orthogonal_ordered_signed_and_never_worse(factors: int, normalize: bool) -> None:
    for seed in range(5):
        loadings = np.random.default_rng(seed).normal(size=(20, factors)) ** 3
        rotation = varimax(loadings, normalize=normalize)
        rotated = loadings @ rotation
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(factors), atol=1e-12)
        assert np.all(np.diff((rotated**2).sum(0)) <= 1e-12)
        assert np.all(rotated.max(0) >= -rotated.min(0))
        assert criterion(rotated, normalize) >= criterion(loadings, normalize) - 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_two_factors_meet_the_best_angle_of_a_fine_search(seed: int) -> None:
    loadings = np.random.default_rng(seed).normal(size=(12, 2))

    def turned(angle: float) -> float:
        c, s = np.cos(angle), np.sin(angle)
        return criterion(loadings @ np.array([[c, -s], [s, c]]))

    grid = np.linspace(0, np.pi / 2, 200)
    start = grid[np.argmax([turned(angle) for angle in grid])]
    best = -minimize(lambda angle: -turned(angle[0]), [start], method="Nelder-Mead", tol=1e-12).fun
    assert criterion(loadings @ varimax(loadings)) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("factors", [2, 3, 5, 8])
def test_simple_structure_is_found_again_from_any_rotation(factors: int) -> None:
    truth = simple_structure(40, factors)
    order = np.argsort(-(truth**2).sum(0))
    for seed in range(3):
        hidden = truth @ ortho_group.rvs(factors, random_state=seed)
        np.testing.assert_allclose(hidden @ varimax(hidden), truth[:, order], atol=1e-6)


def test_the_rotation_that_learning_ended_in_does_not_matter() -> None:
    loadings = np.random.default_rng(0).normal(size=(30, 4))
    turned = loadings @ ortho_group.rvs(4, random_state=1)
    np.testing.assert_allclose(turned @ varimax(turned), loadings @ varimax(loadings), atol=1e-6)


def test_a_stationary_start_that_is_the_worst_is_left() -> None:
    """Of the square's two rotations, [[1, 1], [1, -1]] has gradient zero and the smallest criterion."""
    loadings = np.array([[1.0, 1.0], [1.0, -1.0]])
    np.testing.assert_allclose(np.abs(loadings @ varimax(loadings)).max(1), np.sqrt(2), atol=1e-9)


def by_singular_values(loadings: np.ndarray) -> np.ndarray:
    """Another ascent of the criterion, as in R's `varimax`: R <- orthogonal factor of the gradient."""
    unit = loadings / np.linalg.norm(loadings, axis=1, keepdims=True)
    rotation = np.eye(loadings.shape[1])
    for _ in range(1000):
        turned = unit @ rotation
        left, _, right = np.linalg.svd(unit.T @ (turned**3 - turned * (turned**2).mean(0)))
        rotation = left @ right
    return loadings @ rotation


def test_eight_physical_measurements() -> None:
    """Two factors of size (height, arm, forearm, leg) and of stoutness (weight, hips, girth, width)."""
    loadings = np.array(
        [
            [0.830, -0.396],
            [0.818, -0.469],
            [0.777, -0.470],
            [0.798, -0.401],
            [0.786, 0.500],
            [0.672, 0.458],
            [0.594, 0.444],
            [0.647, 0.333],
        ]
    )
    expected = [
        [0.879, 0.272],
        [0.919, 0.210],
        [0.890, 0.181],
        [0.858, 0.246],
        [0.239, 0.900],
        [0.183, 0.792],
        [0.135, 0.729],
        [0.250, 0.683],
    ]
    np.testing.assert_allclose(loadings @ varimax(loadings), expected, atol=6e-4)
    np.testing.assert_allclose(by_singular_values(loadings), expected, atol=6e-4)


@pytest.mark.parametrize("factors", [3, 5])
def test_it_meets_the_ascent_by_singular_values(factors: int) -> None:
    noise = np.random.default_rng(factors).normal(size=(30, factors))
    loadings = simple_structure(30, factors) + 0.2 * noise
    order = np.argsort(-(by_singular_values(loadings) ** 2).sum(0))
    np.testing.assert_allclose(loadings @ varimax(loadings), by_singular_values(loadings)[:, order], atol=1e-6)


def test_leading_factors_span_the_leading_principal_axes() -> None:
    loadings = np.random.default_rng(0).normal(size=(50, 10)) * np.linspace(3, 0.1, 10)
    rotation = varimax(loadings, factors=3)
    assert rotation.shape == (10, 3)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-12)
    explained = (np.linalg.svd(loadings)[1][:3] ** 2).sum()
    assert ((loadings @ rotation) ** 2).sum() == pytest.approx(explained)


def test_few_columns_and_zero_rows_are_fine() -> None:
    loadings = np.array([[0.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    rotation = varimax(loadings)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(loadings @ rotation, [[0, 0, 0], [2, 0, 0]], atol=1e-12)
    assert varimax(np.zeros((4, 2))).shape == (2, 2)


def test_loadings_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        varimax(np.array([[1.0, np.nan]]))
