"""An image as a signal: measured as the YAML says, at some of its frequencies or of its pixels, with noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lgm_cli.data.base.check import beyond
from lgm_cli.data.base.make_table import measurements
from lgm_cli.data.base.table import Dictionary, Table
from lgm_cli.errors import UserError


def measured(name: str, image: np.ndarray, options: dict[str, Any], notes: Sequence[str] = ()) -> Table:
    """Simulated measurements of an image (h, w), or of several (J, h, w), in their own units.

    data.sensing: fourier, some frequencies of its orthonormal Fourier transform (as magnetic resonance imaging takes
    them), their real and imaginary parts separate measurements; or pixels. data.fraction of them are taken, by
    data.mask: `random`, uniformly; `centre`, the data.centre lowest frequencies in each direction and uniformly random
    ones; `density`, with a chance that falls with the distance from the lowest. All images are measured at the same
    places, or with data.masks=own each at places drawn for it. Noise of standard deviation data.noise, in units of the
    largest absolute value of all pixels, is added to each.
    """
    images = image.reshape(-1, *image.shape[-2:])
    shape, total = images.shape[1:], images[0].size
    peak = float(np.abs(image).max())
    if not math.isfinite(peak):
        raise UserError(f"{name} has a pixel that is not finite", "give an image without NaN")
    if peak == 0 or image.min() == image.max():
        raise UserError(f"every pixel of {name} is {image.flat[0]:g}", "give an image that varies")
    if (wrong := beyond(image)) is not None or (wrong := beyond(np.array([0.0, peak]))) is not None:
        raise UserError(f"the pixels of {name} are {wrong[0]}", wrong[1])
    if options["basis"] == "wavelet":
        check_levels(name, shape, options["levels"])
    fourier = options["sensing"] == "fourier"
    if options["mask"] != "random" and not fourier:
        raise UserError(f"data.mask={options['mask']} is of frequencies", "data.mask=random, or data.sensing=fourier")
    random = np.random.default_rng([options["seed"], 0x1AA6E])
    own = options.get("masks") == "own"
    masks = np.stack([_mask(shape, options, random) for _ in range(len(images) if own else 1)]).reshape(-1, total)
    kept = np.flatnonzero(masks.any(0))
    seen = np.broadcast_to(masks[:, kept], (len(images), len(kept)))
    if fourier:
        spectrum = np.fft.fft2(images, norm="ortho").reshape(-1, total)[:, kept]
        values, seen = np.concatenate([spectrum.real, spectrum.imag], 1), np.concatenate([seen, seen], 1)
    else:
        values = images.reshape(-1, total)[:, kept]
    noise = options["noise"] * peak
    if beyond(np.array([0.0, noise])) is not None:
        raise UserError(
            f"data.noise={options['noise']:g} of {peak:g}, the largest pixel, cannot be squared", "nearer to one"
        )
    values = np.where(seen, values + noise * random.standard_normal(values.shape), np.nan)
    dictionary = Dictionary(
        shape, "fourier" if fourier else "samples", options["basis"], kept=kept, wavelet=options["wavelet"],
        levels=options["levels"], noise_variance=noise**2, is_image=True,
    )  # fmt: skip
    kind = "frequencies" if fourier else "pixels"
    each = " of its own for each image" if own else ""
    note = f"{masks[0].sum():,} of {total:,} {kind}, mask {options['mask']}{each}"
    return measurements(name, values, dictionary, {"signal": images.reshape(-1, total)}, (*notes, note))


def _mask(shape: tuple[int, int], options: dict[str, Any], random: np.random.Generator) -> np.ndarray:
    """Which frequencies or pixels are taken, (h, w) bool; frequencies in the order of numpy.fft."""
    total = shape[0] * shape[1]
    count = round(options["fraction"] * total)
    if count < 2:
        raise UserError(f"data.fraction={options['fraction']:g} of {total:,} leaves nothing", "take more")
    distances = [np.abs(np.fft.fftfreq(size, 1 / size)) for size in shape]
    if options["mask"] == "density":
        radius = np.hypot(*np.meshgrid(*(d / d.max() for d in distances), indexing="ij"))
        weight = (1 - radius / math.sqrt(2)).clip(0) ** DECAY + 1e-6
        # the largest keys random^(1 / weight) are a sample without replacement (Efraimidis & Spirakis 2006)
        keys = np.log(random.random(shape)) / weight
        return keys >= np.partition(keys.ravel(), total - count)[total - count]
    mask = np.zeros(shape, bool)
    if options["mask"] == "centre":
        half = options["centre"] / 2
        low = [np.fft.fftfreq(size, 1 / size) for size in shape]
        mask = np.logical_and(*np.meshgrid(*((d >= -half) & (d < half) for d in low), indexing="ij"))
        if mask.sum() > count:
            raise UserError(
                f"data.centre={options['centre']} has {mask.sum():,} frequencies and data.fraction="
                f"{options['fraction']:g} is {count:,}", "make one smaller or the other larger",
            )  # fmt: skip
    others = np.flatnonzero(~mask)
    mask.flat[random.permutation(others)[: count - mask.sum()]] = True
    return mask


DECAY = 6  # power of the density's fall


def check_levels(name: str, shape: tuple[int, int], levels: int) -> None:
    most = min(int(size & -size).bit_length() - 1 for size in shape)
    if levels > most:
        pixels = " x ".join(map(str, shape))
        raise UserError(
            f"data.levels={levels} needs sides that are multiples of {2**levels}, and {name} has {pixels} pixels",
            f"data.levels={most}" if most else "data.basis=cosine, or crop the image to even sides",
        )
