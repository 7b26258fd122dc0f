"""Slices of NIfTI volumes and of stacks of images, and files of them that are damaged."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lgm_cli.command import choices
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.load import load
from lgm_cli.errors import UserError

SMALL = {"sensing": "pixels", "mask": "random", "fraction": 1.0, "levels": 1, "noise": 1e-9}
VOLUME = np.random.default_rng(0).integers(0, 1000, (6, 8, 10)).astype(np.int16)


def read(file: Path, **options: Any) -> Data:
    given = {key: entry.default for key, entry in choices.keys("data/image").items()} | {"name": "image"}
    return load(given | SMALL | {"path": str(file)} | options, 0, lambda _: {})


def images_of(data: Data) -> np.ndarray:
    assert data.table.dictionary is not None and data.table.truth is not None
    return data.table.truth["signal"].reshape(-1, *data.table.dictionary.shape)


def nifti(file: Path, values: np.ndarray, version: int = 1, slope: float | None = None) -> Path:
    nibabel: Any = pytest.importorskip("nibabel")
    volume = (nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image)(values, np.eye(4))
    if slope is not None:
        volume.header.set_slope_inter(slope, 5)
    nibabel.save(volume, file)
    return file


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("version", [1, 2])
def test_a_slice_of_a_volume_is_read(name: str, version: int, tmp_path: Path) -> None:
    """The middle one across the last axis; another across another; several; of a file with a fourth axis of one."""
    file = nifti(tmp_path / name, VOLUME[..., None], version)
    data = read(file)
    np.testing.assert_array_equal(images_of(data), VOLUME[None, :, :, 5])
    assert "slice 5 of 10 across axis 2, the middle one" in data.describe()
    np.testing.assert_array_equal(images_of(read(file, axis=0, slice=["4"])), VOLUME[None, 4])
    several = read(file, axis=1, slice=["2", "7"])
    np.testing.assert_array_equal(images_of(several), VOLUME[:, [2, 7]].transpose(1, 0, 2))
    assert "2 slices of 8 across axis 1" in several.describe()
    np.testing.assert_array_equal(images_of(read(file, slice="all")), VOLUME.transpose(2, 0, 1))


def test_values_are_scaled_as_the_header_says_and_two_axes_are_one_image(tmp_path: Path) -> None:
    file = nifti(tmp_path / "v.nii", VOLUME[0].astype(float), slope=0.5)
    np.testing.assert_allclose(images_of(read(file)), 0.5 * VOLUME[:1] + 5)


def test_a_stack_of_images_is_read_where_it_is_said_to_be_one(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", VOLUME)
    with pytest.raises(UserError, match="6 x 8 x 10, not an image .*data.slice=all"):
        read(tmp_path / "s.npy")
    np.testing.assert_array_equal(images_of(read(tmp_path / "s.npy", slice=["all"])), VOLUME)
    np.testing.assert_array_equal(images_of(read(tmp_path / "s.npy", slice=["3"], axis=2)), VOLUME[None, :, :, 3])
    np.save(tmp_path / "one.npy", VOLUME[0][:, :, None])
    np.testing.assert_array_equal(images_of(read(tmp_path / "one.npy")), VOLUME[:1])


def test_several_images_are_measured_in_the_same_places_or_each_in_its_own(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", VOLUME)
    options = {"slice": ["all"], "sensing": "fourier", "fraction": 0.4, "noise": 1e-6}
    spectrum = np.fft.fft2(VOLUME.astype(float), norm="ortho").reshape(6, 80)
    for masks in ("auto", "shared", "own"):
        data = read(tmp_path / "s.npy", masks=masks, **options)
        kept = data.table.dictionary.kept
        assert data.shape == (6, 2 * len(kept))
        whole = np.full(data.shape, np.nan)
        whole[data.table.rows, data.table.columns] = data.table.values
        patterns = np.unique(~np.isnan(whole), axis=0)
        assert (np.isfinite(whole).sum(1) == 64).all()
        assert len(patterns) == (6 if masks == "own" else 1)
        expected = np.concatenate([spectrum[:, kept].real, spectrum[:, kept].imag], 1)
        np.testing.assert_allclose(whole, np.where(np.isnan(whole), np.nan, expected), atol=0.02)
        assert ("of its own for each image" in data.describe()) == (masks == "own")


def damaged(tmp_path: Path, how: str) -> Path:
    whole = nifti(tmp_path / "whole.nii", VOLUME).read_bytes()
    packed = gzip.compress(whole)
    content = {
        "text": b"not a volume",
        "empty": b"",
        "short": whole[: len(whole) // 2],
        "header": whole[:100],
        "short.gz": packed[: len(packed) // 2],
        "text.gz": b"not packed",
    }[how]
    file = tmp_path / ("v.nii.gz" if how.endswith("gz") else "v.nii")
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("how", ["text", "empty", "short", "header", "short.gz", "text.gz"])
def test_a_damaged_volume_is_refused(how: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"v.nii(.gz)? (is not a NIfTI file that can be read|cannot be read)"):
        read(damaged(tmp_path, how))


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((4, 4, 4, 3), np.int16), {}, "is 4 x 4 x 4 x 3, not an image .* or a volume .give one volume"),
        (VOLUME, {"slice": ["10"]}, r"data.slice=10: .* has 10 slices across axis 2 \(give numbers from 0 to 9"),
        (VOLUME, {"slice": ["-1"]}, "data.slice=-1 is no slice"),
        (VOLUME, {"slice": ["3", "3"]}, "names a slice twice"),
        (np.zeros((3000, 2, 2), np.int16), {}, "is 3000 x 2 pixels"),
        (np.zeros((2, 2, 2), np.complex64), {}, "does not hold real numbers"),
        (np.zeros((6, 8, 10), np.int16), {}, "every pixel of v.nii is 0"),
        (np.where(VOLUME[0, 0, 5] == VOLUME, np.nan, VOLUME), {}, "a pixel that is not finite"),
        (VOLUME[0], {"slice": ["1"]}, "leave data.slice out"),
    ],
)
def test_volumes_that_cannot_be_are_refused(values: Any, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read(nifti(tmp_path / "v.nii", values), **options)


def test_too_many_pixels_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lgm_cli.data.base.image_files.MOST_PIXELS", 100)
    file = nifti(tmp_path / "v.nii", VOLUME)
    with pytest.raises(UserError, match=r"10 images of 6 x 8 pixels are too many \(give at most 2 of them\)"):
        read(file, slice=["all"])


def test_without_nibabel_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = nifti(tmp_path / "v.nii", VOLUME)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(UserError, match=r"nibabel, which is not installed \(pip install 'lgm-run\[files\]'\)"):
        read(file)


def test_a_picture_has_no_slices(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data.slice=3 is of a volume"):
        read(tmp_path / "a.png", slice=["3"])
