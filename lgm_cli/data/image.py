"""An image of the user's own, measured as the keys say, or the user's own measurements of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lgm_cli.data.base.image_files import read, wanted
from lgm_cli.data.base.measured_image import measured
from lgm_cli.data.base.own_measurements import from_measurements
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Read data.path and measure it as the keys say, or read data.measurements, of which no true image is known."""
    path, measurements = options.get("path"), options.get("measurements")
    if path and measurements:
        raise UserError("data.path and data.measurements are both given", "give the image or what was measured of it")
    if not path and not measurements:
        raise UserError(
            "data=image reads your own file and none is given", "data.path=IMAGE, or data.measurements=K_SPACE"
        )
    if measurements:
        return from_measurements(Path(measurements), options)
    if options.get("mask_file"):
        raise UserError(
            "data.mask_file is given without data.measurements", "data.mask says where data.path is measured"
        )
    path = Path(str(path))
    images, notes = read(path, wanted(options), options.get("axis", "auto"))
    with np.errstate(over="ignore"):  # what is not finite is refused
        return measured(path.name, images.astype(np.float64), options, notes)
