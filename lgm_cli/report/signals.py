"""Signals and images, beside what is known of them."""

from __future__ import annotations

import numpy as np
import torch

from lgm_cli import plots
from lgm_cli.data.base.table import Dictionary, as_complex
from lgm_cli.models.parts.sparse_bayes_simulation import decibels
from lgm_cli.models.sparse_bayes import SparseBayes
from lgm_cli.numerics.similarity import structural_similarity
from lgm_cli.report.learned import Learned, Picture


def _magnitude(parts: np.ndarray, dictionary: Dictionary) -> np.ndarray:
    """Of a complex image, (2, h, w) -> (h, w); of deviations, the root of their squares' sum. A real one as it is."""
    return np.abs(as_complex(parts, dictionary.shape)) if dictionary.is_complex else parts


def pictures(model: SparseBayes, learned: Learned) -> dict[str, Picture]:
    """Of the first signal: an image beside its zero-filled reconstruction, or a window and the coefficients."""
    data, basis = learned.data, model.basis
    dictionary, known = data.table.dictionary, data.table.truth or {}
    assert dictionary is not None
    shape, truth = dictionary.shape, None
    if "signal" in known:
        truth = known["signal"][0].reshape(shape)
    inferred = {name: value.double().numpy() for name, value in learned.inferred().items()}
    mean, deviation = (
        _magnitude(inferred[f"signal_{name}"].reshape(-1, *dictionary.real_shape)[0], dictionary)
        for name in ("mean", "standard_deviation")
    )
    seen = data.train_rows == 0
    columns, values = data.train_columns[seen], data.train_values[seen]
    if len(shape) == 2:
        y = torch.zeros(data.shape[1], dtype=torch.float64)
        y[torch.as_tensor(columns)] = torch.as_tensor(values)
        filled = _magnitude(model.zero_filled(y).cpu().double().numpy().reshape(dictionary.real_shape), dictionary)
        quality = ("", "") if truth is None else (_quality(truth, filled), _quality(truth, mean))
        mask, measured = _mask(dictionary, columns)
        return {
            "reconstruction": lambda path: plots.image(mean, deviation, filled, path, mask, truth, quality, measured)
        }
    measured = None
    if dictionary.sensing == "samples":
        measured = np.asarray(dictionary.kept)[columns], values
    true_coefficients = truth
    if truth is not None and basis is not None:
        true_coefficients = basis.forward(torch.as_tensor(truth)).numpy()
    found = inferred["latent_mean"][0]
    return {"signal": lambda path: plots.signal(mean, deviation, measured, found, path, truth, true_coefficients)}


def _quality(truth: np.ndarray, found: np.ndarray) -> str:
    """Peak signal-to-noise ratio and structural similarity of an image that was found."""
    said = f", {decibels(float(np.abs(truth).max()), float(np.square(found - truth).mean())):.1f} dB"
    similar = structural_similarity(truth, found, float(np.ptp(truth)))
    return said if similar is None else f"{said}, SSIM {similar:.3f}"


def _mask(dictionary: Dictionary, columns: np.ndarray) -> tuple[np.ndarray | None, str]:
    """Where an image was measured, (h, w), and what was: its pixels, or its frequencies, zero in the middle. columns:
    of the measurements that were learned from."""
    if dictionary.kept is None or dictionary.sensing not in ("samples", "fourier"):
        return None, "measurements"
    kept, mask = np.asarray(dictionary.kept), np.zeros(dictionary.shape, bool)
    mask.flat[kept[columns % len(kept)]] = True  # real parts come before imaginary ones
    if dictionary.sensing == "samples":
        return mask, "pixels"
    return np.fft.fftshift(mask), "frequencies"
