"""Signals and images: what is measured of them, where, and which files are read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.fft
from PIL import Image

from lgm_cli.command import choices
from lgm_cli.data.base.load import load
from lgm_cli.data.base.measured_image import _mask
from lgm_cli.errors import UserError


def read(choice: str, **options: Any):
    given = {key: entry.default for key, entry in choices.keys(f"data/{choice}").items()} | {"name": choice}
    return load(given | options, 0, lambda _: {})


def test_a_cosine_signal_has_the_coefficients_that_were_drawn() -> None:
    data = read("cosine", unknowns=64, measurements=20, nonzeros=5, noise=0.1, tasks=3)
    assert data.table.dictionary is not None and data.table.truth is not None
    assert data.shape == (3, 20)
    coefficients = scipy.fft.dct(data.table.truth["signal"], norm="ortho")
    active = np.abs(coefficients) > 1e-9
    assert active.sum(1).tolist() == [5, 5, 5]
    assert (active == active[0]).all()
    noise = data.table.values.reshape(3, 20) - data.table.truth["signal"][:, data.table.dictionary.kept]
    assert 0.06 < noise.std() < 0.14
    assert data.table.dictionary.noise_variance == pytest.approx(0.01)
    assert data.describe() == "cosine: 3 signals of 64 entries, 20 measurements each, 0 hidden for testing"
    assert data.fingerprint != read("cosine", unknowns=64, measurements=20, nonzeros=5, tasks=3, seed=1).fingerprint
    with pytest.raises(UserError, match="data.measurements=65 of data.unknowns=64"):
        read("cosine", unknowns=64, measurements=65)


def test_the_mri_slice_is_measured_at_its_lowest_frequencies_and_others() -> None:
    pytest.importorskip("dipy")
    data = read("mri")
    dictionary, truth = data.table.dictionary, data.table.truth
    assert dictionary is not None and dictionary.kept is not None and truth is not None
    assert data.shape == (1, 2 * 16384)
    mask = np.zeros(256 * 256, bool)
    mask[dictionary.kept] = True
    centre = np.fft.fftshift(mask.reshape(256, 256))[104:152, 104:152]
    assert centre.all()
    assert mask.sum() == 16384
    spectrum = np.fft.fft2(truth["signal"].reshape(256, 256), norm="ortho").ravel()[dictionary.kept]
    noise = data.table.values - np.concatenate([spectrum.real, spectrum.imag])
    assert noise.std() == pytest.approx(0.005 * truth["signal"].max(), rel=0.02)


def test_the_photograph_is_measured_at_half_of_its_pixels() -> None:
    pytest.importorskip("skimage")
    data = read("camera")
    assert data.table.dictionary is not None and data.table.truth is not None
    assert data.shape == (1, 512 * 512 // 2)
    clean = data.table.truth["signal"][0, data.table.dictionary.kept]
    assert np.std(data.table.values - clean) == pytest.approx(2.55, rel=0.02)


def test_masks_take_what_they_say() -> None:
    random = np.random.default_rng(0)
    for mask in ("random", "centre", "density"):
        taken = _mask((32, 48), {"fraction": 0.25, "centre": 8, "mask": mask}, random)
        assert taken.sum() == 384
        middle = np.fft.fftshift(taken)[12:20, 20:28].mean()
        assert {"random": middle < 0.5, "centre": middle == 1, "density": middle > 0.8}[mask]


def pixels() -> np.ndarray:
    return np.arange(16 * 8).reshape(16, 8) * 2


def test_pictures_and_arrays_are_read(tmp_path: Path) -> None:
    """Eight and sixteen bits, colours by their luminance, floating point, and NumPy's own."""
    small = {"sensing": "pixels", "mask": "random", "fraction": 1.0, "levels": 2, "noise": 1e-6}
    grey = pixels()
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray((grey * 200).astype(np.uint16)).save(tmp_path / "b.tiff")
    Image.fromarray(np.repeat(grey[:, :, None], 3, 2).astype(np.uint8)).save(tmp_path / "c.png")
    Image.fromarray(grey.astype(np.float32) / 255).save(tmp_path / "d.tif")
    np.save(tmp_path / "e.npy", grey / 7)
    for name, expected in (
        ("a.png", grey), ("b.tiff", grey * 200), ("c.png", grey), ("d.tif", grey / 255), ("e.npy", grey / 7),
    ):  # fmt: skip
        table = read("image", path=str(tmp_path / name), **small).table
        assert table.dictionary is not None and table.truth is not None
        assert table.dictionary.shape == (16, 8)
        np.testing.assert_allclose(table.truth["signal"].reshape(16, 8), expected, rtol=1e-6)
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "f.jpg", quality=100)
    found = read("image", path=str(tmp_path / "f.jpg"), **small).table.truth
    assert found is not None
    np.testing.assert_allclose(found["signal"].reshape(16, 8), grey, atol=4)


def altered(old: str, new: str) -> bytes:
    """The file of an array with a part of its header exchanged, at the cost of the blanks that follow."""
    file = io.BytesIO()
    np.save(file, pixels().astype(float))
    length = max(len(old), len(new))
    return file.getvalue().replace(old.ljust(length).encode(), new.ljust(length).encode())


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (np.zeros((16, 8)), {}, "every pixel of a.npy is 0"),
        (np.full((16, 8), 3.0), {}, "every pixel of a.npy is 3"),
        (np.where(pixels() == 4, np.nan, pixels()), {}, "not finite"),
        (np.arange(16), {}, "is 16, not an image of one channel"),
        (np.zeros((4, 4, 3)), {}, "is 4 x 4 x 3, not an image of one channel"),
        (pixels() * 1j, {}, "does not hold real numbers"),
        (np.array([["a"]], dtype=object), {}, "is not a NumPy array"),
        (b"\x93NUMPY broken", {}, "is not a NumPy array"),
        (b"PK\x03\x04", {}, "is not a NumPy array"),
        (altered("(16, 8), }", "(16, 8, "), {}, "is not a NumPy array"),  # TokenError
        (altered("(16, 8), }", "(1600000000000, 8000), }"), {}, "is not a NumPy array"),
        (pixels() * 1e200, {}, "the pixels of a.npy are too large to be squared"),
        (np.where(pixels() == 4, -1e308, 1e308), {}, "the pixels of a.npy are too large to be squared"),
        (pixels() * 1e-310, {}, "the pixels of a.npy are too close to each other to be squared"),
        (pixels() * 1e-170, {}, "the pixels of a.npy are too close to each other to be squared"),
        (np.full((16, 8), np.longdouble("1e4000")), {}, "not finite"),
        (
            pixels(),
            {"levels": 2, "centre": 4, "noise": 1e-300},
            "data.noise=1e-300 of 254, the largest pixel, cannot be squared",
        ),
        (
            pixels(),
            {"levels": 2, "centre": 4, "noise": 1e300},
            r"data.noise=1e\+300 of 254, the largest pixel, cannot be squared",
        ),
        (pixels(), {"levels": 4}, r"data.levels=4 needs sides .* 16 x 8 pixels \(data.levels=3\)"),
        (pixels(), {"levels": 2, "centre": 12, "fraction": 0.25}, "data.centre=12 has 96 frequencies"),
        (pixels(), {"levels": 2, "sensing": "pixels"}, "data.mask=centre is of frequencies"),
        (pixels(), {"levels": 2, "mask": "random", "fraction": 0.001}, "leaves nothing"),
    ],
)
def test_images_that_cannot_be_are_refused(tmp_path: Path, content: Any, options: dict[str, Any], message: str) -> None:
    path = tmp_path / "a.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(UserError, match=message):
        read("image", path=str(path), **options)


def test_files_that_are_no_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(UserError, match="not an image that can be read"):
        read("image", path=str(tmp_path / "a.png"))
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "b.png")
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        read("image", path=str(tmp_path / "c.png"))


def test_no_other_program_reads_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostScript is given to Ghostscript by Pillow, whatever the file is called."""
    (tmp_path / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n%%EOF\n"
    )

    def started(*arguments: Any, **_: Any) -> None:
        raise AssertionError(f"{arguments} was started")

    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", started)
    monkeypatch.setattr("subprocess.Popen", started)
    with pytest.raises(UserError, match="not an image that can be read"):
        read("image", path=str(tmp_path / "a.png"))
    Image.fromarray(pixels().astype(np.uint8)).save(tmp_path / "b.png", "BMP")
    with pytest.raises(UserError, match="not an image that can be read"):
        read("image", path=str(tmp_path / "b.png"))


def test_the_size_of_a_picture_is_looked_at_before_it_is_read(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 3000), np.uint8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:-30])
    with pytest.raises(UserError, match="is 4 x 3000 pixels"):
        read("image", path=str(tmp_path / "a.png"))
