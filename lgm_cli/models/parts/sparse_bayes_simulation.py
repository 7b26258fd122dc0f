"""Draws of signals, and the unit that distances to them are told in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from lgm_cli.data.base.table import Dictionary
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
