"""Signals and images, beside what is known of them."""

from __future__ import annotations

import numpy as np
import torch

from lgm_cli import plots
from lgm_cli.data.base.table import Dictionary, as_complex
from lgm_cli.models.parts.sparse_bayes_simulation import decibels
from lgm_cli.models.sparse_bayes import SparseBayes
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
        ratios = None
        if truth is not None:
            peak = float(np.abs(truth).max())
            before, after = (float(np.square(found - truth).mean()) for found in (filled, mean))
            ratios = decibels(peak, before), decibels(peak, after)
        return {"reconstruction": lambda path: plots.image(mean, deviation, filled, path, truth, ratios)}
    measured = None
    if dictionary.sensing == "samples":
        measured = np.asarray(dictionary.kept)[columns], values
    true_coefficients = truth
    if truth is not None and basis is not None:
        true_coefficients = basis.forward(torch.as_tensor(truth)).numpy()
    found = inferred["latent_mean"][0]
    return {"signal": lambda path: plots.signal(mean, deviation, measured, found, path, truth, true_coefficients)}
