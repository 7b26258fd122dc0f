"""An image of the user's own: PNG, JPEG, TIFF or a NumPy array, one channel or made so."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lgm_cli.data.base import Table
from lgm_cli.data.images import measured
from lgm_cli.errors import UserError

LARGEST_SIDE = 1 << 11  # 100 posterior samples of such an image take 1.6 GiB


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Read data.path and measure it as the keys say. Colours become grey levels by their luminance (ITU-R 601-2)."""
    path = Path(options["path"])
    image = _array(path) if path.suffix.lower() == ".npy" else _picture(path)
    if image.ndim != 2 or min(image.shape) < 2:
        shape = " x ".join(map(str, image.shape)) or "a single number"
        raise UserError(f"{path} is {shape}, not an image of one channel", "give height x width values")
    if max(image.shape) > LARGEST_SIDE:
        raise UserError(f"{path} is {image.shape[0]} x {image.shape[1]} pixels", f"crop it to {LARGEST_SIDE} a side")
    return measured(path.name, image, options)


def _array(path: Path) -> np.ndarray:
    try:
        image = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError):
        raise UserError(f"{path} is not a NumPy array", "write it with numpy.save, without objects in it") from None
    if not isinstance(image, np.ndarray) or image.dtype.kind not in "buif":
        raise UserError(f"{path} does not hold real numbers", "for a complex image, give its magnitude")
    return image.astype(np.float64)


def _picture(path: Path) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                if opened.mode in ("L", "F", "I", "1") or opened.mode.startswith("I;16"):
                    return np.asarray(opened).astype(np.float64)
                if opened.has_transparency_data:  # what lies beneath shows through: white
                    opened = Image.alpha_composite(Image.new("RGBA", opened.size, "white"), opened.convert("RGBA"))
                return np.asarray(opened.convert("L")).astype(np.float64)
    except UnidentifiedImageError:
        raise UserError(f"{path} is not an image that can be read", "give PNG, JPEG, TIFF or .npy") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UserError(f"{path} has too many pixels", f"crop it to {LARGEST_SIDE} a side") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}", "is the file whole?") from None
