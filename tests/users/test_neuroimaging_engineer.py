"""A neuroimaging engineer's way, through the real command: k-space and its mask to an image, again, and resumed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from lgm_cli.command import choices
from lgm_cli.command.cli import main
from lgm_cli.data.image import load
from lgm_cli.operators.wavelet import Wavelet

SIZE = 32
SIGNAL = ("model=sparse_bayes", "data=image", "data.levels=2", "device.dtype=float64")

# As an engineer would write it, knowing nothing of this package: centred k-space in single precision.
SCRIPT = """
import numpy as np
from numpy.fft import fft2, fftshift, ifftshift
noisy_image, mask = np.load("image.npy"), np.load("mask.npy")
k = fftshift(fft2(ifftshift(noisy_image), norm="ortho"))
np.save("k.npy", (k * mask).astype(np.complex64))
"""


def phantom() -> np.ndarray:
    """Ellipses on a slope."""
    rows, columns = np.meshgrid(np.linspace(-1, 1, SIZE), np.linspace(-1, 1, SIZE), indexing="ij")
    image = np.where(rows**2 + (columns / 0.75) ** 2 < 0.7, 0.4 + 0.1 * columns, 0.0)
    image[(rows - 0.2) ** 2 / 0.1 + (columns + 0.2) ** 2 / 0.03 < 1] += 0.4
    image[(rows + 0.3) ** 2 / 0.02 + (columns - 0.2) ** 2 / 0.05 < 1] -= 0.3
    return image


def decibels(found: np.ndarray, true: np.ndarray) -> float:
    return 10 * np.log10(np.abs(true).max() ** 2 / np.mean(np.abs(found - true) ** 2))


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def written_by_a_script(folder: Path, image: np.ndarray, mask: np.ndarray) -> Path:
    np.save(folder / "image.npy", image)
    np.save(folder / "mask.npy", np.fft.fftshift(mask))
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=folder, check=True)
    return folder / "k.npy"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated run and one on k-space that an independent script has made of the same image and the same mask."""
    base = tmp_path_factory.mktemp("images")
    np.save(base / "truth.npy", phantom())
    more = ("data.centre=10", "max_steps=25", "eval_every=25")
    assert main([*SIGNAL, *more, f"data.path={base / 'truth.npy'}", f"hydra.run.dir={base / 'simulated'}"]) == 0
    mask, noise = simulated_mask_and_noise(base)
    k = written_by_a_script(base, phantom() + noise, mask)
    own = (f"data.measurements={k}", f"data.mask_file={base / 'mask.npy'}", f"hydra.run.dir={base / 'own'}")
    assert main([*SIGNAL, *own, "max_steps=25", "eval_every=25"]) == 0
    return base


def simulated_mask_and_noise(base: Path) -> tuple[np.ndarray, np.ndarray]:
    """Where the simulation measures, and the (complex) image of the noise that it adds to its frequencies."""
    options = {key: entry.default for key, entry in choices.keys("data/image").items()} | {"name": "image"}
    table = load(options | {"path": str(base / "truth.npy"), "centre": 10, "levels": 2})
    assert table.dictionary is not None and table.dictionary.kept is not None
    kept, spectrum = table.dictionary.kept, np.fft.fft2(phantom(), norm="ortho").ravel()
    mask, noise = np.zeros(SIZE * SIZE, bool), np.zeros(SIZE * SIZE, complex)
    mask[kept] = True
    noise[kept] = table.values[: len(kept)] + 1j * table.values[len(kept) :] - spectrum[kept]
    return mask.reshape(SIZE, SIZE), np.fft.ifft2(noise.reshape(SIZE, SIZE), norm="ortho")


def test_k_space_of_an_independent_script_is_reconstructed_as_well_as_simulated_measurements(base: Path) -> None:
    """To 0.1 dB, with the noise estimated from the k-space itself."""
    simulated, own = (np.load(base / name / "reconstruction.npy") for name in ("simulated", "own"))
    assert simulated.shape == own.shape == (SIZE, SIZE)
    assert decibels(own, phantom()) == pytest.approx(decibels(simulated, phantom()), abs=0.1)
    assert decibels(simulated, phantom()) == pytest.approx(
        summary_of(base / "simulated")["last_row"]["psnr_db"], abs=1e-6
    )


def test_without_a_true_image_there_is_no_error_and_yet_a_picture(base: Path) -> None:
    summary = summary_of(base / "own")
    assert not {"relative_error", "psnr_db"} & summary["last_row"].keys()
    assert summary["last_row"]["test_rmse"] is None and summary["last_row"]["active"] > 0
    assert "relative_error" not in pd.read_csv(base / "own" / "metrics.csv")
    assert (base / "own" / "plots" / "reconstruction.png").stat().st_size > 10_000
    log = (base / "own" / "run.log").read_text()
    assert "zero frequency in the centre, where the largest value is; a real image" in log
    posterior = load_file(base / "own" / "posterior.safetensors")
    np.testing.assert_array_equal(posterior["signal_mean"], np.load(base / "own" / "reconstruction.npy"))


def test_a_run_is_applied_to_other_k_space(base: Path, tmp_path: Path) -> None:
    """With the run's precisions; another mask, another image; the result is that of the dense dual form."""
    mask = np.random.default_rng(1).random((SIZE, SIZE)) < 0.2
    mask[0, 0] = True
    k = written_by_a_script(tmp_path, phantom()[::-1], mask)
    new = (f"data.measurements={k}", f"data.mask_file={tmp_path / 'mask.npy'}", f"hydra.run.dir={tmp_path / 'out'}")
    assert main([f"apply={base / 'own'}", *new]) == 0
    found = np.load(tmp_path / "out" / "reconstruction.npy")
    assert decibels(found, phantom()[::-1]) > 10
    parameters = load_file(base / "own" / "parameters.safetensors")
    summary = summary_of(tmp_path / "out")
    assert summary["status"] == "applied" and summary["data"]["signal"] == [SIZE, SIZE]
    analysis = Wavelet((SIZE, SIZE), "db4", 2).dense(torch.empty(0, dtype=torch.float64)).numpy()
    prior = (analysis.T / parameters["precisions"]) @ analysis
    kept = np.flatnonzero(mask)
    spectra = np.fft.fft2(np.eye(SIZE**2).reshape(-1, SIZE, SIZE), norm="ortho").reshape(SIZE**2, -1)[:, kept]
    sensing = np.concatenate([spectra.real, spectra.imag], 1).T
    y = np.fft.ifftshift(np.load(k)) * np.where(np.add.outer(np.arange(SIZE), np.arange(SIZE)) % 2, -1, 1)
    y = np.concatenate([y.ravel()[kept].real, y.ravel()[kept].imag])
    covariance = sensing @ prior @ sensing.T + parameters["noise_variance"] * np.eye(len(y))
    expected = prior @ sensing.T @ np.linalg.solve(covariance, y)
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.slow
def test_a_complex_image_is_resumed_as_if_it_had_not_been_stopped(tmp_path: Path) -> None:
    x = phantom()[::2, ::2] * np.exp(1j * np.linspace(0, 2, SIZE // 2))[:, None]
    mask = np.random.default_rng(0).random(x.shape) < 0.5
    mask[:3, :3] = True
    np.save(tmp_path / "k.npy", np.fft.fft2(x, norm="ortho") * mask)
    own = (
        *SIGNAL[:2],
        "data.levels=2",
        f"data.measurements={tmp_path / 'k.npy'}",
        "data.test_fraction=0.1",
        "model.noise_variance=1e-4",
    )
    assert main([*own, "max_steps=6", f"hydra.run.dir={tmp_path / 'whole'}"]) == 0
    assert main([*own, "max_steps=3", f"hydra.run.dir={tmp_path / 'part'}"]) == 0
    assert main([f"resume={tmp_path / 'part'}", "max_steps=6"]) == 0
    whole, part = (np.load(tmp_path / name / "reconstruction.npy") for name in ("whole", "part"))
    assert whole.dtype == np.complex64 and whole.shape == x.shape
    np.testing.assert_array_equal(whole, part)
    row = summary_of(tmp_path / "whole")["last_row"]
    assert row["test_rmse"] > 0 and row["test_log_likelihood"] is not None
    np.save(tmp_path / "real.npy", np.abs(x))
    code = main(
        [f"apply={tmp_path / 'whole'}", f"data.path={tmp_path / 'real.npy'}", f"hydra.run.dir={tmp_path / 'no'}"]
    )
    assert code == 2


@pytest.mark.slow
def test_several_images_are_reconstructed_by_em_and_by_unrolling(tmp_path: Path) -> None:
    """Each with a mask of its own: the same likelihood to a tenth, all images in reconstruction.npy."""
    stack = np.stack([phantom()[::2, ::2], phantom()[::-2, ::2], phantom()[::2, ::-2]])
    np.save(tmp_path / "stack.npy", stack)
    asked = (
        *("model=sparse_bayes", "data=image", f"data.path={tmp_path / 'stack.npy'}", "data.slice=all"),
        *("data.masks=own", "data.fraction=0.5", "data.centre=6", "data.levels=2", "max_steps=25", "eval_every=25"),
    )
    found = {}
    for method in ("em", "gradient_em", "unroll"):
        assert main([*asked, f"method={method}", f"hydra.run.dir={tmp_path / method}"]) == 0
        reconstruction = np.load(tmp_path / method / "reconstruction.npy")
        assert reconstruction.shape == stack.shape
        row = summary_of(tmp_path / method)["last_row"]
        error = np.linalg.norm(reconstruction - stack) / np.linalg.norm(stack)
        assert row["relative_error"] == pytest.approx(error, rel=1e-4)
        found[method] = row["train_log_likelihood"]
    assert max(found.values()) - min(found.values()) < 0.1


BAD = {
    "data.measurements=real.npy": "real.npy does not hold complex numbers",
    "data.measurements=k.npy data.mask_file=none.npy": "none.npy masks everything",
    "data.measurements=k.npy data.mask_file=k.npy": "k.npy is not a mask",
    "data.measurements=k.npy data.mask_file=gone.npy": "data.mask_file=gone.npy does not exist",
    "data.mask_file=none.npy": "data.path=IMAGE, or data.measurements=K_SPACE",
    "data.path=real.npy data.mask_file=none.npy": "data.mask_file is given without data.measurements",
    "data.path=real.npy data.measurements=k.npy": "are both given",
    "data.path=broken.nii": "broken.nii is not a NIfTI file that can be read",
    "data.measurements=k.npy data.origin=middle": "data.origin=middle is not one of corner, centre",
    "data.measurements=k.npy data.axis=3": "data.axis=3 is not an integer >= 0 and <= 2",
}


@pytest.mark.parametrize("arguments", BAD)
def test_bad_files_are_one_line_and_exit_code_2(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    k = np.fft.fft2(phantom())
    for name, content in (("k", k), ("real", phantom()), ("none", np.zeros(k.shape, bool))):
        np.save(f"{name}.npy", content)
    Path("broken.nii").write_bytes(b"no volume")
    assert main(["model=sparse_bayes", "data=image", *arguments.split(), "hydra.run.dir=out"]) == 2
    error = capfd.readouterr().err
    (line,) = [each for each in error.splitlines() if each.startswith("lgm-run: error: ")]
    assert BAD[arguments] in line
    assert "Traceback" not in error
