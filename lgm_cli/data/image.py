"""An image of the user's own: PNG, JPEG, TIFF or a NumPy array, one channel or made so."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lgm_cli.data.base.files import beginning
from lgm_cli.data.base.measured_image import measured
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError

FORMATS = ("PNG", "JPEG", "TIFF")  # no others: some are given to programs of their own, PostScript to Ghostscript
LARGEST_SIDE = 1 << 11  # 100 posterior samples of such an image take 1.6 GiB


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Read data.path and measure it as the keys say. Colours become grey levels by their luminance (ITU-R 601-2)."""
    path = Path(options["path"])
    image = _array(path) if path.suffix.lower() == ".npy" else _picture(path)
    _check_size(path, image.shape)
    with np.errstate(over="ignore"):  # what is not finite is refused
        return measured(path.name, image.astype(np.float64), options)


def _check_size(path: Path, shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or min(shape) < 2:
        said = " x ".join(map(str, shape)) or "a single number"
        raise UserError(f"{path} is {said}, not an image of one channel", "give height x width values")
    if max(shape) > LARGEST_SIDE:
        raise UserError(f"{path} is {shape[0]} x {shape[1]} pixels", f"crop it to {LARGEST_SIDE} a side")


def _array(path: Path) -> np.ndarray:
    """As it lies in the file: what a header claims takes no memory before its size is known."""
    try:
        if not beginning(path).startswith(np.lib.format.MAGIC_PREFIX):
            raise ValueError
        image = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # a damaged header is parsed as Python, whose errors are of many types
        raise UserError(f"{path} is not a NumPy array", "write it with numpy.save, without objects in it") from None
    if image.dtype.kind not in "buif":
        raise UserError(f"{path} does not hold real numbers", "for a complex image, give its magnitude")
    return image


def _picture(path: Path) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as opened:
                _check_size(path, opened.size[::-1])
                if opened.mode in ("L", "F", "I", "1") or opened.mode.startswith("I;16"):
                    return np.asarray(opened)
                if opened.has_transparency_data:  # what lies beneath shows through: white
                    opened = Image.alpha_composite(Image.new("RGBA", opened.size, "white"), opened.convert("RGBA"))
                return np.asarray(opened.convert("L"))
    except (UserError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UserError(f"{path} is not an image that can be read", "give PNG, JPEG, TIFF or .npy") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UserError(f"{path} has too many pixels", f"crop it to {LARGEST_SIDE} a side") from None
    except Exception as error:  # a damaged image raises errors of many types
        raise UserError(f"{path} cannot be read: {error}", "is the file whole?") from None
