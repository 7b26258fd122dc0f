"""What a finished run leaves beside its metrics."""

from __future__ import annotations

import numpy as np
import pytest

from lgm_cli import results
from lgm_cli.rotation import varimax


@pytest.mark.parametrize(
    ("factors", "shown"), [(1, 1), (5, 5), (results.ROTATED, results.ROTATED), (200, results.ROTATED)]
)
def test_many_factors_are_rotated_within_their_leading_axes(factors: int, shown: int) -> None:
    """Turning all pairs of 400 factors would take longer than learning them; the axes that count are kept."""
    loadings = np.random.default_rng(0).normal(size=(220, factors)) * 0.9 ** np.arange(factors)
    rotation, name = results.picture_rotation(loadings)
    assert rotation.shape == (factors, shown)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(shown), atol=1e-10)
    if factors == shown:
        assert name == "varimax"
        np.testing.assert_array_equal(rotation, varimax(loadings))
    else:
        assert name == f"varimax of the {shown} leading axes"
        leading = np.linalg.svd(loadings, compute_uv=False)[:shown]
        assert ((loadings @ rotation) ** 2).sum() == pytest.approx((leading**2).sum(), rel=1e-9)
