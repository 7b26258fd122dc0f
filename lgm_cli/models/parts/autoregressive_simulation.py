"""Draws of a series by a stationary autoregression."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from lgm_cli.numerics.durbin_levinson import autocovariances, reflections, whitening_rows
from lgm_cli.randomness import generator


def simulated_series(options: Mapping[str, Any], order: int) -> dict[str, Any]:
    """num_points steps of total variance one, of which factor_share is the autoregression's, with a peak of its
    spectrum at a period of 6 to 14 steps. Steps are hidden with probability hidden_share."""
    length, share, p = options["num_points"], options["factor_share"], order
    draw = generator(options["seed"], "simulate series")
    period = 6 + 8 * float(torch.rand((), generator=draw, dtype=torch.float64))
    noise, unseen = (
        torch.randn(2, length, generator=draw, dtype=torch.float64).numpy(),
        torch.rand(length, generator=draw, dtype=torch.float64).numpy(),
    )
    pair = 0.9 * np.exp(2j * math.pi / period * np.array([1, -1]))
    roots = [0.8] if p == 1 else [*pair, *(0.3 * (-1) ** k for k in range(p - 2))]
    a = -np.poly(roots).real[1:]
    q = share / autocovariances(a, 1.0, 1)[0]
    rows = whitening_rows(torch.as_tensor(np.arctanh(reflections(a)))).numpy() / math.sqrt(q)
    z = np.zeros(length)
    for t in range(length):
        row = rows[min(t, p)]
        before = z[max(t - p, 0) : t][::-1]
        z[t] = (noise[0, t] - row[1 : 1 + len(before)] @ before) / row[0]
    mean = float(torch.randn((), generator=draw, dtype=torch.float64))
    y = mean + z + math.sqrt(1 - share) * noise[1]
    y[unseen < options["hidden_share"]] = math.nan
    truth = {"coefficients": a, "innovation_variance": q, "mean": mean, "noise_variance": 1 - share}
    arrays = {name: np.asarray(value, np.float64) for name, value in truth.items()}
    return {"values": y[:, None], "truth": arrays, "kind": "series"}
