"""How alike two images look: the structural similarity index. NumPy only."""

from __future__ import annotations

import numpy as np

SIGMA, RADIUS = 1.5, 5  # of the Gaussian window, in pixels
LUMINANCE, CONTRAST = 0.01, 0.03  # K_1 and K_2


def structural_similarity(first: np.ndarray, second: np.ndarray, span: float) -> float | None:
    """Mean structural similarity of two images (h, w), 1 where they are equal; None of images smaller than the window.

    The mean over all windows that lie within the image of

        (2 m_1 m_2 + c_1) (2 s_12 + c_2) / ((m_1^2 + m_2^2 + c_1) (s_1^2 + s_2^2 + c_2)),

    with means m, variances s^2 and covariance s_12 under a Gaussian window, c_i = (K_i span)^2. span: of the values
    that the image can take, such as largest less least.

    Wang, Bovik, Sheikh & Simoncelli (2004), Image quality assessment: from error visibility to structural similarity,
    IEEE Transactions on Image Processing 13, 600-612.
    """
    if min(first.shape) < 2 * RADIUS + 1 or not span > 0:
        return None
    mean_1, mean_2 = _smooth(first), _smooth(second)
    variances = _smooth(first**2) - mean_1**2 + _smooth(second**2) - mean_2**2
    covariance = _smooth(first * second) - mean_1 * mean_2
    c_1, c_2 = (LUMINANCE * span) ** 2, (CONTRAST * span) ** 2
    above = (2 * mean_1 * mean_2 + c_1) * (2 * covariance + c_2)
    below = (mean_1**2 + mean_2**2 + c_1) * (variances + c_2)
    return float((above / below).mean())


def _smooth(image: np.ndarray) -> np.ndarray:
    """Weighted means of the windows that lie within the image, (h - 2 RADIUS, w - 2 RADIUS)."""
    weights = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(image, len(weights), axis=axis)
        image = windows @ weights
    return image
