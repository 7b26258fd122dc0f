"""A series of its own past: coefficients, the roots behind them and what comes next."""

from __future__ import annotations

import numpy as np

from lgm_cli.models.autoregressive import Autoregressive
from lgm_cli.report.learned import Learned
from lgm_cli.report.results.dynamics import MOST, oscillations
from lgm_cli.report.results.forecasts import forecasts
from lgm_cli.report.text import Result, number, wrapped

MOST_LAGS = 12


def result(model: Autoregressive, learned: Learned) -> Result:
    """Coefficients by lag, and the inverse roots r exp(+- i w) of 1 - a_1 B - .. - a_p B^p: each pair is an oscillation
    of period 2 pi / w, which falls to a share r of its size in a step. Each coefficient with its standard error, if
    these were asked for."""
    a = learned.exported["coefficients"].double().numpy()
    words = [f"{lag + 1}: {value:.3f}" for lag, value in enumerate(a[:MOST_LAGS])]
    if learned.errors is not None:
        errors = learned.errors["coefficients"].double().tolist()
        words = [f"{word} ± {error:.3f}" for word, error in zip(words, errors, strict=False)]
    what = "coefficients by lag" if learned.errors is None else "coefficients by lag, ± standard error"
    lines = wrapped(f"{what}: {', '.join(words)}" + (", .." if len(a) > MOST_LAGS else ""))
    lines += [f"  {line}" for line in oscillations(np.roots([1.0, *(-a)]))[:MOST]]
    variances = (float(learned.exported[name]) ** 0.5 for name in ("innovation_variance", "noise_variance"))
    mean, innovation, noise = float(learned.exported["mean"]), *variances
    lines += wrapped(
        f"mean {number(mean)}; deviation of the innovations {number(innovation)}, of the noise {number(noise)}"
    )
    return Result(lines + forecasts(learned))
