"""The user's own measurements of an image: complex k-space or pixels, and the mask that says where they were taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lgm_cli.data.base.check import beyond
from lgm_cli.data.base.image_files import array, check_size, sized, slices, wanted, without_ones
from lgm_cli.data.base.make_table import measurements
from lgm_cli.data.base.measured_image import check_levels
from lgm_cli.data.base.table import Dictionary, Table
from lgm_cli.errors import UserError

FEWEST = 16  # frequencies, from which their noise can be estimated, or pairs of them, from which a phase can be seen
OUTERMOST = 0.1  # share of the measured frequencies that are taken for noise
ROUNDING = 1e-12  # of the mean square of measurements, of what single precision leaves
ASYMMETRY = 3.0  # of conjugate frequencies, in units of what the noise alone would give, from which there is a phase


def from_measurements(path: Path, options: dict[str, Any]) -> Table:
    """What was measured of J images of one size, (h, w) or (J, h, w), in the units of the file.

    data.sensing=fourier: k-space, complex. The image x is that whose orthonormal transform, as
    numpy.fft.fft2(x, norm="ortho"), it is, after data.normalisation is undone; data.zero_frequency and data.origin say
    where frequency (0, 0) and the pixel lie that the transform counts from. pixels: real values of the image.

    data.mask_file: (h, w) or (J, h, w), true where a value was measured; without it, where the file is not zero. A
    complex image is that of a real and an imaginary part with the same precisions (data.complex).
    """
    fourier = options["sensing"] == "fourier"
    values, notes = _values(path, options, fourier)
    mask, of_mask = _mask(path, values, options)
    notes += of_mask
    if not np.isfinite(values[mask]).all():
        mend = "data.mask_file=FILE says where nothing was measured" if not options["mask_file"] else "mask it"
        raise UserError(f"{path} has a measurement that is not finite", mend)
    values = np.where(mask, values, 0)
    shape = values.shape[1:]
    warnings = _unlike(path, values, mask, options)
    most = float(max(np.abs(np.real(values)).max(), np.abs(np.imag(values)).max()))
    if most == 0:
        raise UserError(f"every measurement of {path} is zero", "give k-space in which something was measured")
    if (wrong := beyond(np.array([0.0, most]))) is not None:
        raise UserError(f"the measurements of {path} are {wrong[0]}", wrong[1])
    if not (seen := mask.any(axis=(1, 2))).all():
        raise UserError(f"image {seen.argmin()} of {path} has no measurement", "leave it out: data.slice=[0,2]")
    if options["basis"] == "wavelet":
        check_levels(path.name, shape, options["levels"])
    noise, is_complex = None, False
    if fourier:
        values, mask, arranged = _arranged(path, values, mask, options)
        notes += arranged
        noise, of_noise, is_complex = _noise_and_phase(values, mask, options["complex"])
        notes += of_noise
    elif options["complex"] is True:
        raise UserError("data.complex=true is of frequencies", "data.sensing=fourier, or leave data.complex out")
    kept = np.flatnonzero(mask.any(0))
    flat, seen = (each.reshape(len(values), -1)[:, kept] for each in (values, mask))
    if fourier:
        flat, seen = np.concatenate([np.real(flat), np.imag(flat)], 1), np.concatenate([seen, seen], 1)
    dictionary = Dictionary(
        shape, "fourier" if fourier else "samples", options["basis"], kept=kept, wavelet=options["wavelet"],
        levels=options["levels"], noise_variance=noise, is_image=True, is_complex=is_complex,
    )  # fmt: skip
    found = measurements(path.name, np.where(seen, flat, np.nan), dictionary, notes=tuple(notes), warnings=warnings)
    if len(found.values) < 4:
        raise UserError(f"{path} has {mask.sum():,} measurements", "give more")
    return found


def _values(path: Path, options: dict[str, Any], fourier: bool) -> tuple[np.ndarray, list[str]]:
    """(J, h, w), complex or real in double precision, and which slices were taken."""
    if path.suffix.lower() != ".npy":
        raise UserError(f"data.measurements={path.name} is not a .npy file", "write it with numpy.save")
    stored = array(path)
    shape = without_ones(stored.shape)
    if fourier and stored.dtype.kind != "c":
        mend = "give complex numbers, real + 1j * imaginary; of measured pixels, data.sensing=pixels"
        raise UserError(f"{path} does not hold complex numbers", mend)
    if not fourier and stored.dtype.kind not in "buif":
        raise UserError(f"{path} does not hold real numbers", "of k-space, data.sensing=fourier")
    if len(shape) not in (2, 3):
        mend = "give height x width complex values, or images x height x width"
        raise UserError(f"{path} is {sized(stored.shape)}, not the k-space of one image or several", mend)
    asked = wanted(options)
    asked = ["all"] if asked == ["auto"] else asked
    found, notes = slices(path, stored, asked, 0 if options["axis"] == "auto" else options["axis"])
    if len(shape) == 3 and len(found) == shape[0] > 1:
        notes = [f"{len(found)} images with shared precisions"]
    return found.astype(np.complex128 if fourier else np.float64), notes


def _mask(path: Path, values: np.ndarray, options: dict[str, Any]) -> tuple[np.ndarray, list[str]]:
    """(J, h, w) bool, and where it is from."""
    total = values.size
    if not options["mask_file"]:
        mask = values != 0  # true of NaN, too
        note = f"{mask.sum():,} of {total:,} values are not zero and taken for measured (no data.mask_file)"
        if options["masks"] == "shared":
            mask = np.broadcast_to(mask.any(0), mask.shape)
        return mask, [note]
    file = Path(options["mask_file"])
    if file.suffix.lower() != ".npy":
        raise UserError(f"data.mask_file={file.name} is not a .npy file", "write it with numpy.save")
    stored = array(file)
    shape = without_ones(stored.shape)
    height, width = values.shape[1:]
    if len(shape) == 3 and shape[0] != len(values) and wanted(options) not in (["auto"], ["all"]):
        mask, _ = slices(file, stored, wanted(options), 0 if options["axis"] == "auto" else options["axis"])
    elif shape not in ((height, width), (len(values), height, width)):
        needed = sized((height, width)) + (f" or {sized(values.shape)}" if len(values) > 1 else "")
        mend = f"give {needed}; of one line, numpy.broadcast_to(mask, {(height, width)})"
        raise UserError(f"{file} is {sized(stored.shape)}, and {path.name} needs a mask of {needed}", mend)
    else:
        check_size(file, shape[-2:], len(values))
        mask = np.asarray(stored).reshape(shape)
    if mask.dtype.kind not in "buif" or not np.isin(mask, (0, 1)).all():
        raise UserError(f"{file} is not a mask", "give true and false, or 0 and 1")
    mask = np.broadcast_to(mask.astype(bool), values.shape)
    if not mask.any(axis=(1, 2)).all():
        raise UserError(f"{file} masks everything", "give true, or 1, where a value was measured")
    if options["masks"] == "shared" and not (mask == mask[0]).all():
        raise UserError(f"{file} has a mask for each image", "data.masks=own")
    return mask, [f"{mask.sum():,} of {total:,} values are measured"]


def _unlike(path: Path, values: np.ndarray, mask: np.ndarray, options: dict[str, Any]) -> tuple[str, ...]:
    """A warning where many values in a mask are exactly zero: one of the two files may be shifted."""
    zeros = int((values[mask] == 0).sum())
    if not options["mask_file"] or zeros <= 0.01 * mask.sum():
        return ()
    return (
        f"{zeros:,} of {mask.sum():,} values of {path.name} are exactly zero where the mask says that they were "
        "measured: are the zero frequencies of both files in the same place?",
    )


def _arranged(
    path: Path, values: np.ndarray, mask: np.ndarray, options: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """k-space as numpy.fft.fft2(x, norm="ortho") gives it, its mask, and what was decided."""
    shape = values.shape[1:]
    total = math.prod(shape)
    values = values * {"ortho": 1.0, "backward": total**-0.5, "forward": total**0.5}[options["normalisation"]]
    where, found = options["zero_frequency"], ""
    if where == "auto":
        largest = np.unravel_index(np.square(np.abs(values)).sum(0).argmax(), shape)
        far = {"corner": _distance(largest, (0, 0), shape)}
        far["centre"] = _distance(largest, (shape[0] // 2, shape[1] // 2), shape)
        where = min(far, key=lambda name: far[name])
        if far[where] > 0.125:
            place = ", ".join(map(str, largest))
            mend = "data.zero_frequency=centre or data.zero_frequency=corner"
            raise UserError(f"the largest value of {path.name} is at ({place}), in neither corner nor centre", mend)
        found = ", where the largest value is"
    notes = [f"zero frequency in the {where}{found}"]
    if where == "centre":
        values, mask = (np.fft.ifftshift(each, axes=(1, 2)) for each in (values, mask))
    if options["origin"] == "centre" or (options["origin"] == "auto" and where == "centre"):
        # K_f = exp(-2 pi i f c / n) K'_f: counted from pixel c = n // 2, as fftshift(fft2(ifftshift(x))) is
        rows, columns = (
            np.exp(-2j * np.pi * ((np.fft.fftfreq(size, 1 / size) * (size // 2)) % size) / size) for size in shape
        )
        values = values * rows[:, None] * columns
    return values, mask, notes


def _distance(place: Sequence[Any], other: tuple[int, int], shape: tuple[int, ...]) -> float:
    """Between two places of a periodic grid, the larger of both directions, as a share of its sides."""
    steps = zip(place, other, shape, strict=True)
    return max(min((here - there) % size, (there - here) % size) / size for here, there, size in steps)


def _noise_and_phase(values: np.ndarray, mask: np.ndarray, given: bool | str) -> tuple[float | None, list[str], bool]:
    """Variance of the noise of each real and imaginary part, what was decided, and whether the image is complex.

    A real image has K_-f = conj K_f; with noise of variance v in each part, E|K_f - conj K_-f|^2 = 4 v. The image is
    complex (given=auto) where that is ASYMMETRY times larger than with the v of the outermost frequencies, which hold
    little else than noise, or where too few opposites are measured. Otherwise the difference itself gives v.
    """
    rough = _outermost(values, mask)
    opposite, there = (np.roll(np.flip(each, (1, 2)), 1, (1, 2)) for each in (values, mask))
    pairs = mask & there
    known = pairs.sum() >= FEWEST
    difference = float(np.square(np.abs(values - opposite.conj())[pairs]).mean()) if known else math.inf
    rounding = ROUNDING * float(np.square(np.abs(values[mask])).mean())
    has_phase = difference > ASYMMETRY * 4 * (rough or 0.0) + rounding
    is_complex = has_phase if given == "auto" else bool(given)
    why = ""
    if given == "auto" and not known:
        why = ": too few frequencies are measured with their opposites to tell a real one (data.complex=false)"
    elif given == "auto":
        why = (
            f", since opposite frequencies are {'not ' if is_complex else ''}conjugate within the noise (data.complex)"
        )
    notes = [f"{'a complex' if is_complex else 'a real'} image{why}"]
    noise, source = rough, "the outermost frequencies"
    if known and not is_complex and not has_phase and difference > rounding:
        noise, source = difference / 4, "opposite frequencies"
    if noise is None or beyond(np.array([0.0, math.sqrt(noise)])) is not None:
        return None, notes, is_complex
    said = f"noise of standard deviation {math.sqrt(noise):.3g} as {source} have it (model.noise_variance=auto)"
    return noise, [*notes, said], is_complex


def _outermost(values: np.ndarray, mask: np.ndarray) -> float | None:
    """Half the median of |K|^2 / log 2 over the outermost tenth of the measured frequencies: of noise alone, its
    variance in each part. None where there are too few."""
    radius = np.hypot(*np.meshgrid(*(np.fft.fftfreq(size) for size in mask.shape[1:]), indexing="ij"))
    radius = np.broadcast_to(radius, mask.shape)[mask]
    count = round(OUTERMOST * len(radius))
    if count < FEWEST:
        return None
    outermost = np.argpartition(-radius, count - 1)[:count]
    return float(np.median(np.square(np.abs(values[mask][outermost])))) / (2 * math.log(2))
