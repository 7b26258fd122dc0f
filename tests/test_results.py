"""What a finished run leaves beside its metrics."""

from __future__ import annotations

import numpy as np
import pytest

from lgm_cli.numerics.varimax import ROTATED, picture_rotation, varimax


@pytest.mark.parametrize(("factors", "shown"), [(1, 1), (5, 5), (ROTATED, ROTATED), (200, ROTATED)])
def test_many_factors_are_rotated_within_their_leading_axes(factors: int, shown: int) -> None:
    """Turning all pairs of 400 factors would take longer than learning them; the axes that count are kept."""
    loadings = np.random.default_rng(0).normal(size=(220, factors)) * 0.9 ** np.arange(factors)
    turn, name = picture_rotation(loadings)
    assert turn.shape == (factors, shown)
    np.testing.assert_allclose(turn.T @ turn, np.eye(shown), atol=1e-10)
    if factors == shown:
        assert name == "varimax"
        np.testing.assert_array_equal(turn, varimax(loadings))
    else:
        assert name == f"varimax of the {shown} leading axes"
        leading = np.linalg.svd(loadings, compute_uv=False)[:shown]
        assert ((loadings @ turn) ** 2).sum() == pytest.approx((leading**2).sum(), rel=1e-9)
