"""Signals: draws of them, and their pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lgm_cli import plots
from lgm_cli.data.base.table import Dictionary
from lgm_cli.models.base import Learned, Picture
from lgm_cli.operators.base import LinearOperator
from lgm_cli.randomness import generator

SIMULATED_QUIET = 10.0  # precision of what is not active in simulated data, within the usual bound


def simulated_signals(options: Mapping[str, Any]) -> dict[str, Any]:
    """num_points tasks, num_dimensions measurements of twice as many unknowns by a random matrix with columns of
    length about one; a fifth of the unknowns have precisions drawn around one, the others SIMULATED_QUIET;
    factor_share of the variance is theirs, the rest noise. Entries are hidden with probability hidden_share."""
    n, m = options["num_points"], options["num_dimensions"]
    kind: dict[str, Any] = {"dtype": torch.float64, "generator": generator(options["seed"], "simulate signals")}
    matrix = torch.randn(m, 2 * m, **kind) / math.sqrt(m)
    precisions = torch.full((2 * m,), SIMULATED_QUIET, dtype=torch.float64)
    active = torch.randperm(2 * m, generator=kind["generator"])[: max(1, 2 * m // 5)]
    precisions[active] = (0.5 * torch.randn(len(active), **kind)).exp()
    explained = (matrix.square() / precisions).sum() / m
    noise = (1 / options["factor_share"] - 1) * explained
    w = torch.randn(n, 2 * m, **kind) * precisions.rsqrt()
    y = w @ matrix.T + noise.sqrt() * torch.randn(n, m, **kind)
    y[torch.rand(n, m, **kind) < options["hidden_share"]] = math.nan
    dictionary = Dictionary((2 * m,), "matrix", "identity", matrix=matrix.numpy(), noise_variance=float(noise))
    truth = {"precisions": precisions.numpy(), "noise_variance": noise.numpy()}
    return {"values": y.numpy(), "dictionary": dictionary, "truth": truth}


def decibels(peak: float, mean_square: float) -> float:
    """Peak signal-to-noise ratio, 10 log10(peak^2 / mean squared error)."""
    return 10 * math.log10(peak**2 / max(mean_square, 1e-300))


def signal_pictures(
    learned: Learned, basis: LinearOperator | None, zero_filled: Callable[[Tensor], Tensor]
) -> dict[str, Picture]:
    """Of the first signal: an image beside its zero-filled reconstruction, or a window and the coefficients.

    zero_filled: from measurements (M,), zero where there are none, to the signal.
    """
    data = learned.data
    dictionary, known = data.table.dictionary, data.table.truth or {}
    assert dictionary is not None
    shape, truth = dictionary.shape, None
    if "signal" in known:
        truth = known["signal"][0].reshape(shape)
    inferred = {name: value.double().numpy() for name, value in learned.inferred().items()}
    mean, deviation = (inferred[f"signal_{name}"].reshape(-1, *shape)[0] for name in ("mean", "standard_deviation"))
    seen = data.train_rows == 0
    columns, values = data.train_columns[seen], data.train_values[seen]
    if len(shape) == 2:
        y = torch.zeros(data.shape[1], dtype=torch.float64)
        y[torch.as_tensor(columns)] = torch.as_tensor(values)
        filled = zero_filled(y).cpu().double().numpy().reshape(shape)
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
