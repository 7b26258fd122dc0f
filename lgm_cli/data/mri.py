"""A slice of a brain in magnetic resonance imaging (T1, 256 x 256), which comes with the package dipy."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from lgm_cli.data.base.measured_image import measured
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Frequencies of the slice, as data.mask and its keys say; the slice is read without importing dipy."""
    spec = find_spec("dipy")
    if spec is None or spec.origin is None:
        raise UserError(
            "the MRI slice comes with the package dipy, which is not installed", "pip install 'lgm-run[data]'"
        )
    path = Path(spec.origin).parent / "data" / "files" / "t1_coronal_slice.npy"
    if not path.is_file():
        raise UserError("the installed dipy has no t1_coronal_slice.npy", "pip install -U 'lgm-run[data]'")
    return measured("mri", np.load(path).astype(np.float64), options)
