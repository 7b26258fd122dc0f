"""Images from files: pictures, NumPy arrays and NIfTI volumes, and which slices of a volume are taken."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lgm_cli.data.base.files import beginning
from lgm_cli.errors import UserError

FORMATS = ("PNG", "JPEG", "TIFF")  # no others: some are given to programs of their own, PostScript to Ghostscript
LARGEST_SIDE = 1 << 11  # 100 posterior samples of such an image take 1.6 GiB
MOST_PIXELS = 1 << 24  # of all images together


def read(path: Path, asked: Sequence[str], axis: int | str) -> tuple[np.ndarray, list[str]]:
    """The real images of a file, (J, h, w), and what was decided in reading it. asked, axis: data.slice, data.axis.
    Colours become grey levels by their luminance (ITU-R 601-2)."""
    name = path.name.lower()
    if not name.endswith((".npy", ".nii", ".nii.gz")):
        if list(asked) != ["auto"]:
            raise UserError(f"data.slice={','.join(asked)} is of a volume, and {path} is a picture", "leave it out")
        return _picture(path)[None], []
    if name.endswith(".npy"):
        volume, usual = array(path), 0
        if volume.dtype.kind not in "buif":
            raise UserError(
                f"{path} does not hold real numbers",
                "for a complex image, give its magnitude; for complex k-space, data.measurements=FILE",
            )
        if len(without_ones(volume.shape)) == 3 and list(asked) == ["auto"]:
            raise UserError(
                f"{path} is {sized(volume.shape)}, not an image of one channel",
                "give height x width values; of a stack of images, say data.slice=all or data.slice=NUMBER",
            )
    else:
        volume, usual = _nifti(path), 2
    return slices(path, volume, asked, usual if axis == "auto" else int(axis))


def slices(path: Path, volume: Any, asked: Sequence[str], axis: int) -> tuple[np.ndarray, list[str]]:
    """Those of the images of an array that are asked, (J, h, w): itself, or slices across `axis` of a volume. Only
    these are read from the file. Trailing axes of one are dropped."""
    shape = without_ones(volume.shape)
    rest = (0,) * (len(volume.shape) - len(shape))
    if len(shape) == 2 and list(asked) in (["auto"], ["0"], ["all"]):
        check_size(path, shape)
        return _read(path, volume, (slice(None), slice(None), *rest))[None], []
    if len(shape) != 3:
        mend = "give height x width values" if len(shape) < 3 else "give one volume of three axes"
        mend = "leave data.slice out" if len(shape) == 2 else mend
        raise UserError(f"{path} is {sized(volume.shape)}, not an image of one channel or a volume", mend)
    count, others = shape[axis], tuple(size for place, size in enumerate(shape) if place != axis)
    chosen = _chosen(path, asked, count, axis)
    check_size(path, others, len(chosen))
    places: list[Any] = [slice(None)] * 3
    found = []
    for number in chosen:
        places[axis] = number
        found.append(_read(path, volume, (*places, *rest)))
    listed = f"slice {chosen[0]}" if len(chosen) == 1 else f"{len(chosen):,} slices"
    middle = ", the middle one" if list(asked) in (["auto"], ["middle"]) else ""
    return np.stack(found), [f"{listed} of {count:,} across axis {axis}{middle}"]


def wanted(options: Mapping[str, Any]) -> list[str]:
    """data.slice as a list of words."""
    given = options.get("slice", "auto")
    return [str(word) for word in given] if isinstance(given, list) else [str(given)]


def _chosen(path: Path, asked: Sequence[str], count: int, axis: int) -> list[int]:
    if list(asked) in (["auto"], ["middle"]):
        return [count // 2]
    if list(asked) == ["all"]:
        return list(range(count))
    for word in asked:
        if not word.isdecimal():
            raise UserError(f"data.slice={word} is no slice", "give middle, all, or numbers counted from 0, [80,90]")
        if int(word) >= count:
            mend = f"give numbers from 0 to {count - 1}, or another data.axis"
            raise UserError(f"data.slice={word}: {path} has {count:,} slices across axis {axis}", mend)
    if len(set(map(int, asked))) < len(asked):
        raise UserError(f"data.slice={','.join(asked)} names a slice twice", "name each once")
    return [int(word) for word in asked]


def without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without trailing axes of one beyond the second axis."""
    sizes = tuple(shape)
    while len(sizes) > 2 and sizes[-1] == 1:
        sizes = sizes[:-1]
    return sizes


def sized(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def check_size(path: Path, shape: tuple[int, ...], number: int = 1) -> None:
    """Refuse images that are too small, too large or too many. shape: (h, w)."""
    if len(shape) != 2 or min(shape) < 2:
        raise UserError(f"{path} is {sized(shape)}, not an image of one channel", "give height x width values")
    if max(shape) > LARGEST_SIDE:
        raise UserError(f"{path} is {shape[0]} x {shape[1]} pixels", f"crop it to {LARGEST_SIDE} a side")
    if number * shape[0] * shape[1] > MOST_PIXELS:
        most = MOST_PIXELS // (shape[0] * shape[1])
        raise UserError(f"{number:,} images of {sized(shape)} pixels are too many", f"give at most {most:,} of them")


def array(path: Path) -> np.ndarray:
    """As it lies in the file: what a header claims takes no memory before its size is known."""
    try:
        if not beginning(path).startswith(np.lib.format.MAGIC_PREFIX):
            raise ValueError
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # a damaged header is parsed as Python, whose errors are of many types
        raise UserError(f"{path} is not a NumPy array", "write it with numpy.save, without objects in it") from None


def _read(path: Path, volume: Any, places: tuple[Any, ...]) -> np.ndarray:
    try:
        return np.asarray(volume[places])
    except MemoryError:
        raise
    except Exception as error:  # a truncated or damaged volume raises errors of many types
        raise UserError(f"{path} cannot be read: {error}", "is the file whole?") from None


def _nifti(path: Path) -> Any:
    """The values of a NIfTI file, scaled as its header says, which are read from it once they are asked for."""
    try:
        import nibabel  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            f"{path} is read by the package nibabel, which is not installed", "pip install 'lgm-run[files]'"
        ) from None
    try:
        volume: Any = nibabel.load(path)
        kind, found = volume.get_data_dtype().kind, volume.dataobj
    except MemoryError:
        raise
    except Exception:  # a damaged file raises errors of many types
        raise UserError(f"{path} is not a NIfTI file that can be read", "is the file whole?") from None
    if kind not in "buif":
        mend = "for a complex image, give its magnitude; for colours, one channel"
        raise UserError(f"{path} does not hold real numbers", mend)
    return found


def _picture(path: Path) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as opened:
                check_size(path, opened.size[::-1])
                if opened.mode in ("L", "F", "I", "1") or opened.mode.startswith("I;16"):
                    return np.asarray(opened)
                if opened.has_transparency_data:  # what lies beneath shows through: white
                    opened = Image.alpha_composite(Image.new("RGBA", opened.size, "white"), opened.convert("RGBA"))
                return np.asarray(opened.convert("L"))
    except (UserError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UserError(
            f"{path} is not an image that can be read", "give PNG, JPEG, TIFF, .npy, .nii or .nii.gz"
        ) from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UserError(f"{path} has too many pixels", f"crop it to {LARGEST_SIDE} a side") from None
    except Exception as error:  # a damaged image raises errors of many types
        raise UserError(f"{path} cannot be read: {error}", "is the file whole?") from None
