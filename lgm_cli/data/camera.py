"""A photograph of a man with a camera (512 x 512 grey levels), which comes with the package scikit-image."""

from __future__ import annotations

from typing import Any

import numpy as np

from lgm_cli.data.base.measured_image import measured
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Some of its pixels, or of its frequencies, as the keys say."""
    try:
        from skimage import data
    except ImportError:
        raise UserError(
            "the photograph comes with the package scikit-image, which is not installed",
            "pip install 'lgm-run[data]'",
        ) from None
    return measured("camera", data.camera().astype(np.float64), options)
