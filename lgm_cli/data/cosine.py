"""A sparse signal in a cosine dictionary, simulated: a few samples of a sum of cosines."""

from __future__ import annotations

from typing import Any

import numpy as np

from lgm_cli.data.base.make_table import measurements
from lgm_cli.data.base.table import Dictionary, Table
from lgm_cli.errors import UserError


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """`nonzeros` of `unknowns` cosine coefficients are N(0, 1), the rest zero; `measurements` of the samples of their
    signal are seen, with noise of standard deviation `noise`. Several tasks share which coefficients are not zero.

    The truth's `signal` is in the time domain.
    """
    n, m, k = (options[key] for key in ("unknowns", "measurements", "nonzeros"))
    for value, key in ((m, "measurements"), (k, "nonzeros")):
        if value > n:
            raise UserError(f"data.{key}={value} of data.unknowns={n}", f"give at most data.{key}={n}")
    random = np.random.default_rng([options["seed"], 0xC05])
    support = random.permutation(n)[:k]
    coefficients = random.standard_normal((options["tasks"], k))
    kept = np.sort(random.permutation(n)[:m])
    signal = _synthesis(coefficients, support, n)
    values = signal[:, kept] + options["noise"] * random.standard_normal((options["tasks"], m))
    dictionary = Dictionary((n,), "samples", "cosine", kept=kept, noise_variance=options["noise"] ** 2)
    return measurements("cosine", values, dictionary, truth={"signal": signal})


def _synthesis(coefficients: np.ndarray, support: np.ndarray, n: int) -> np.ndarray:
    """sum_k c_k s_k cos(pi k (2t + 1) / 2n), t = 0..n-1, s_0 = sqrt(1/n), s_k = sqrt(2/n).  # (J, k) -> (J, n)"""
    signal = np.zeros((len(coefficients), n))
    for start in range(0, len(support), 64):
        k = support[start : start + 64, None]
        waves = np.cos(np.pi * k * (2 * np.arange(n) + 1) / (2 * n)) * np.where(k == 0, np.sqrt(1 / n), np.sqrt(2 / n))
        signal += coefficients[:, start : start + 64] @ waves
    return signal
