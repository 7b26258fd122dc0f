"""The structural similarity against scikit-image's, which is not a dependency."""

from __future__ import annotations

import numpy as np
import pytest

from lgm_cli.numerics.similarity import structural_similarity


@pytest.mark.parametrize("shape", [(11, 11), (64, 48)])
@pytest.mark.parametrize("noise", [0.0, 0.05, 2.0])
def test_it_is_that_of_scikit_image(shape: tuple[int, int], noise: float) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    random = np.random.default_rng(0)
    first = np.cumsum(random.normal(size=shape), axis=1)
    second = first + noise * random.normal(size=shape)
    span = float(np.ptp(first))
    expected = metrics.structural_similarity(
        first, second, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=span
    )
    assert structural_similarity(first, second, span) == pytest.approx(expected, rel=1e-12)


def test_images_without_a_window_or_a_span_have_none() -> None:
    assert structural_similarity(np.ones((10, 40)), np.ones((10, 40)), 1.0) is None
    assert structural_similarity(np.ones((20, 20)), np.ones((20, 20)), 0.0) is None
