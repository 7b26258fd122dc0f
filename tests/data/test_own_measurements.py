"""The user's own measurements of images: k-space and masks, by every convention, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lgm_cli.command import choices
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.load import load
from lgm_cli.errors import UserError

SMALL = {"levels": 1, "wavelet": "haar"}


def read(file: Path, **options: Any) -> Data:
    given = {key: entry.default for key, entry in choices.keys("data/image").items()} | {"name": "image"}
    return load(given | SMALL | {"measurements": str(file)} | options, 0, lambda _: {})


def save(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


def image(height: int = 12, width: int = 10) -> np.ndarray:
    """Bright in the middle, with neither symmetry."""
    rows, columns = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return 1 + np.exp(-3 * (rows - 0.1) ** 2 - 5 * (columns + 0.2) ** 2) + 0.1 * rows


def half(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A mask that keeps the lowest frequency."""
    mask = np.random.default_rng(seed).random(shape) < 0.6
    mask[..., 0, 0] = True
    return mask


def spectrum_of(data: Data, number: int = 0) -> np.ndarray:
    """The measurements of an image as numpy.fft.fft2(x, norm="ortho") orders them, zero elsewhere."""
    dictionary = data.table.dictionary
    assert dictionary is not None and dictionary.kept is not None
    values, count = np.zeros(data.shape[1]), len(dictionary.kept)
    mine = data.table.rows == number
    values[data.table.columns[mine]] = data.table.values[mine]
    found = np.zeros(int(np.prod(dictionary.shape)), complex)
    found[dictionary.kept] = values[:count] + 1j * values[count:]
    return found.reshape(dictionary.shape)


@pytest.mark.parametrize("size", [(12, 10), (11, 9)])
@pytest.mark.parametrize("norm", ["ortho", "backward", "forward"])
@pytest.mark.parametrize("convention", ["numpy", "shifted", "centred"])
@pytest.mark.parametrize("phase", [False, True])
def test_k_space_of_every_convention_is_that_of_the_same_image(
    size: tuple[int, int], norm: Any, convention: str, phase: bool, tmp_path: Path
) -> None:
    """fft2(x); fftshift(fft2(x)); fftshift(fft2(ifftshift(x))), which scanners and fastMRI write: each detected, the
    second with data.origin=corner."""
    x = image(*size) * (np.exp(1j * np.linspace(0, 2, size[0]))[:, None] if phase else 1)
    expected = np.where(half(size), np.fft.fft2(x, norm="ortho"), 0)
    origin = np.fft.ifftshift(x) if convention == "centred" else x
    k, mask = np.fft.fft2(origin, norm=norm), half(size)
    if convention != "numpy":
        k, mask = np.fft.fftshift(k), np.fft.fftshift(mask)
    path, mask_file = save(tmp_path / "k.npy", k), save(tmp_path / "m.npy", mask)
    more = {"levels": 1, "origin": "corner" if convention == "shifted" else "auto", "basis": "cosine"}
    data = read(path, mask_file=str(mask_file), normalisation=norm, **more)
    assert data.table.dictionary is not None
    np.testing.assert_allclose(spectrum_of(data), expected, rtol=1e-10, atol=1e-12)
    assert data.table.dictionary.is_complex == phase
    assert data.table.truth is None
    assert f"zero frequency in the {'corner' if convention == 'numpy' else 'centre'}" in data.describe()
    assert read(path, mask_file=str(mask_file), complex=not phase, **more).table.dictionary.is_complex != phase


def test_the_mask_is_where_the_file_is_not_zero_unless_it_is_given(tmp_path: Path) -> None:
    mask = half((12, 10))
    k = np.where(mask, np.fft.fft2(image(), norm="ortho"), 0)
    found = read(save(tmp_path / "k.npy", k[:, :, None]))  # a trailing axis of one
    given = read(save(tmp_path / "k.npy", k), mask_file=str(save(tmp_path / "m.npy", mask.astype(np.uint8))))
    assert found.fingerprint == given.fingerprint
    assert f"{mask.sum()} of 120 values are not zero and taken for measured (no data.mask_file)" in found.describe()
    k[~mask] = np.nan  # what was not measured is not looked at
    assert read(save(tmp_path / "k.npy", k), mask_file=str(tmp_path / "m.npy")).fingerprint == given.fingerprint


@pytest.mark.parametrize("own", [False, True])
def test_several_images_with_one_mask_or_one_each(own: bool, tmp_path: Path) -> None:
    x = np.stack([image(), image()[::-1], image()[:, ::-1]])
    mask = half((3, 12, 10)) if own else half((12, 10))
    k = np.fft.fft2(x, norm="ortho")
    save(tmp_path / "k.npy", k), save(tmp_path / "m.npy", mask)
    data = read(tmp_path / "k.npy", mask_file=str(tmp_path / "m.npy"))
    assert data.shape[0] == 3
    assert len(data.table.values) == 2 * mask.sum() * (1 if own else 3)
    for number in range(3):
        expected = np.where(mask[number] if own else mask, k[number], 0)
        np.testing.assert_allclose(spectrum_of(data, number), expected, atol=1e-12)
    one = read(tmp_path / "k.npy", mask_file=str(tmp_path / "m.npy"), slice=["1"])
    np.testing.assert_allclose(spectrum_of(one), np.where(mask[1] if own else mask, k[1], 0), atol=1e-12)
    if own:
        with pytest.raises(UserError, match=r"m.npy has a mask for each image \(data.masks=own\)"):
            read(tmp_path / "k.npy", mask_file=str(tmp_path / "m.npy"), masks="shared")


@pytest.mark.parametrize("phase", [False, True])
def test_the_noise_is_estimated(phase: bool, tmp_path: Path) -> None:
    """Of a real image from opposite frequencies to a few per cent, of a complex one from the outermost."""
    random = np.random.default_rng(3)
    x = image(64, 64) - 1
    x = x * np.exp(1j * np.linspace(0, 2, 64))[:, None] if phase else x
    k = np.fft.fft2(x, norm="ortho") + 0.03 * (random.normal(size=(64, 64)) + 1j * random.normal(size=(64, 64)))
    dictionary = read(save(tmp_path / "k.npy", k)).table.dictionary
    assert dictionary is not None and dictionary.is_complex == phase
    assert np.sqrt(dictionary.noise_variance) == pytest.approx(0.03, rel=0.25 if phase else 0.04)


def test_measured_pixels_are_read(tmp_path: Path) -> None:
    mask = half((12, 10))
    x = np.where(mask, image(), np.nan)
    options = {"sensing": "pixels", "mask_file": str(save(tmp_path / "m.npy", mask))}
    data = read(save(tmp_path / "x.npy", x), **options)
    assert data.table.dictionary is not None and data.table.dictionary.noise_variance is None
    np.testing.assert_array_equal(data.table.values, image()[mask])
    with pytest.raises(UserError, match=r"does not hold real numbers \(of k-space, data.sensing=fourier\)"):
        read(save(tmp_path / "x.npy", x * 1j), **options)
    with pytest.raises(UserError, match="data.complex=true is of frequencies"):
        read(save(tmp_path / "x.npy", x), complex=True, **options)


def test_a_mask_that_is_shifted_against_its_k_space_is_warned_of(tmp_path: Path) -> None:
    mask = half((12, 10))
    k = np.where(mask, np.fft.fft2(image()), 0)
    path = save(tmp_path / "m.npy", np.fft.fftshift(mask))
    (warning,) = read(save(tmp_path / "k.npy", k), mask_file=str(path)).table.warnings
    assert "are exactly zero where the mask says that they were measured" in warning


K = np.fft.fft2(image())
MASK = half((12, 10))


@pytest.mark.parametrize(
    ("k", "mask", "options", "message"),
    [
        (image(), MASK, {}, r"does not hold complex numbers \(give complex numbers, real \+ 1j \* imaginary"),
        (np.stack([K.real, K.imag], -1), MASK, {}, "does not hold complex numbers"),
        (np.zeros((12, 10), complex), None, {}, "every measurement of .*k.npy is zero"),
        (np.zeros((12, 10), complex), MASK, {}, "every measurement of .*k.npy is zero"),
        (np.where(K[1, 2] == K, np.nan, K), None, {}, "not finite .data.mask_file=FILE says"),
        (np.where(MASK, np.inf, K), MASK, {}, "not finite"),
        (K * 1e200, MASK, {}, "too large to be squared"),
        (K * 1e-200, MASK, {}, "too close to each other"),
        (K[:, 0], None, {}, "k.npy is 12, not the k-space"),
        (K[None, None], None, {}, "k.npy is 1 x 1 x 12 x 10, not the k-space"),
        (K[:1], None, {}, "k.npy is 1 x 10"),
        (np.zeros((2, 3000), complex), None, {}, "is 2 x 3000 pixels"),
        (K, MASK[:, :5], {}, r"m.npy is 12 x 5, and k.npy needs a mask of 12 x 10"),
        (K, MASK[0], {}, r"m.npy is 10, and k.npy needs a mask of 12 x 10 .*broadcast_to\(mask, \(12, 10\)\)"),
        (K, np.zeros((12, 10), bool), {}, "m.npy masks everything"),
        (K, 2 * MASK, {}, "m.npy is not a mask"),
        (K, MASK * 1j, {}, "m.npy is not a mask"),
        (K, np.where(MASK, np.nan, 0), {}, "m.npy is not a mask"),
        (np.stack([K, K]), np.stack([MASK, 0 * MASK]), {}, "m.npy masks everything"),
        (np.stack([K, 0 * K]), None, {}, "image 1 of .*k.npy has no measurement"),
        (np.roll(K, 3, 0), MASK | True, {}, r"largest value of k.npy is at \(3, 0\), in neither corner nor centre"),
        (K[:11], MASK[:11], {}, r"data.levels=1 needs sides that are multiples of 2"),
        (np.stack([K, K]), MASK, {"slice": ["2"]}, r"data.slice=2: .*k.npy has 2 slices across axis 0"),
        (np.stack([K, K]), MASK, {"slice": ["first"]}, "data.slice=first is no slice"),
        (b"\x93NUMPY broken", None, {}, "k.npy is not a NumPy array"),
        (K, b"not a mask", {}, "m.npy is not a NumPy array"),
        (K, MASK, {"path": "x.npy"}, "data.path and data.measurements are both given"),
        (None, MASK, {"path": "x.npy", "measurements": None}, "data.mask_file is given without data.measurements"),
        (None, None, {"measurements": None}, r"none is given \(data.path=IMAGE, or data.measurements=K_SPACE\)"),
    ],
)
def test_measurements_that_cannot_be_are_refused(
    k: Any, mask: Any, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    for name, content in (("k.npy", k), ("m.npy", mask)):
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        elif content is not None:
            np.save(tmp_path / name, content)
    given = {} if mask is None else {"mask_file": str(tmp_path / "m.npy")}
    with np.errstate(all="ignore"), pytest.raises(UserError, match=message):
        read(tmp_path / "k.npy", **given, **options)


def test_files_that_are_no_arrays_are_refused_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "k.h5").write_bytes(b"x")
    with pytest.raises(UserError, match=r"data.measurements=k.h5 is not a .npy file \(write it with numpy.save\)"):
        read(tmp_path / "k.h5")
    with pytest.raises(UserError, match="data.mask_file=k.h5 is not a .npy file"):
        read(save(tmp_path / "k.npy", K), mask_file=str(tmp_path / "k.h5"))
