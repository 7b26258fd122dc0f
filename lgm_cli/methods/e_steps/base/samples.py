"""How many samples of the posterior a Monte Carlo E-step takes, and when it takes more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lgm_cli.methods.saved_state import require

MOST_SAMPLES = 10_000  # to which their number grows


def grown(samples: int, growth: float) -> int:
    """The next number of samples, `growth` times as many; the same number where it may not grow.

    With K samples a step ends about c / K below the maximum, however many steps were taken: once that noise hides what
    the steps gain, more steps are in vain and more samples are not (Booth & Hobert, JRSS B 61 (1999) 265-285).
    """
    return samples if growth <= 1 else min(max(samples, MOST_SAMPLES), math.ceil(growth * samples))


def saved_samples(state: Mapping[str, Any], first: int) -> int:
    """The number of samples in a saved state, which began with `first`; ValueError when it cannot be one."""
    samples = state["num_samples"]
    require(samples, int, "expectation.num_samples")
    if not first <= samples <= max(first, MOST_SAMPLES):
        raise ValueError("expectation.num_samples")
    return samples
