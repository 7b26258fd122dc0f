"""Signals and images: how far from the truth, where it is known."""

from __future__ import annotations

import math

import numpy as np

from lgm_cli.models.parts.sparse_bayes_simulation import decibels
from lgm_cli.models.sparse_bayes import SparseBayes
from lgm_cli.report.learned import Learned
from lgm_cli.report.text import Result, number


def result(model: SparseBayes, learned: Learned) -> Result:
    """Relative error |x - x0| / |x0| and peak signal-to-noise ratio of the posterior mean; the average deviation."""
    data = learned.data
    found = learned.inferred()
    mean, deviation = (found[f"signal_{name}"].double().numpy() for name in ("mean", "standard_deviation"))
    shape = " x ".join(map(str, mean.shape))
    noise = float(learned.exported["noise_variance"]) ** 0.5
    typical = float(np.sqrt(np.square(deviation).mean()))
    lines = [
        f"{shape} unknowns from {len(data.train_values):,} measurements",
        f"posterior deviation {number(typical)} (root mean square); deviation of the noise {number(noise)}",
    ]
    truth = (data.table.truth or {}).get("signal")
    if truth is not None:
        error = mean.ravel() - truth.ravel()
        relative = math.sqrt(float(np.square(error).sum() / np.square(truth).sum()))
        ratio = decibels(float(np.abs(truth).max()), float(np.square(error).mean()))
        lines.insert(0, f"relative error {relative:.4g}, peak signal-to-noise ratio {ratio:.2f} dB")
    return Result(lines)
