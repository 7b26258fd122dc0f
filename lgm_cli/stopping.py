"""When a run has converged, when its step is too long, and when it has gone wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

MINIMUM_STEPS = 20
MINIMUM_POINTS = 6
ANNEAL_RATIO = math.sqrt(2)
WORSE = 0.5  # nats per entry below the start


@dataclass
class Convergence:
    """Judges the train log-likelihood (nats per entry) at the evaluations so far.

    converged: over the last doubling of the steps, t/2 to t, the least-squares slope of the log-likelihood against
    log2(step) is the gain per doubling; the run has converged when |gain| + 2 standard errors < tolerance, the
    standard error being that of the slope. The window grows with the run: a plateau of a given length never counts as
    convergence by itself, and for an error that falls like 1 / step or faster the gain per doubling bounds what is
    left. With noisy steps the standard error keeps the test from passing until the noise itself is below the tolerance.

    should_anneal: over the last factor of sqrt(2) in steps, and since the last change, the gain is within its noise
    (or below the tolerance): the step size is what keeps the likelihood from rising. At most one halving per factor
    sqrt(2), so that the step never shrinks much faster than 1 / step^2.
    """

    tolerance: float
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    annealed: int = 0  # step of the last change of the step size

    def add(self, step: int, log_likelihood: float) -> None:
        self.steps.append(step)
        self.values.append(log_likelihood)

    def diverged(self, log_likelihood: float) -> bool:
        """Whether a value is not finite, or clearly worse than the first."""
        return not math.isfinite(log_likelihood) or log_likelihood < self.values[0] - WORSE

    def converged(self) -> bool:
        now = self.steps[-1]
        if now < MINIMUM_STEPS:
            return False
        gain, error = self._gain(now / 2)
        return abs(gain) + 2 * error < self.tolerance

    def should_anneal(self) -> bool:
        now = self.steps[-1]
        if now < MINIMUM_STEPS or now < self.annealed * ANNEAL_RATIO:
            return False
        gain, error = self._gain(max(now / ANNEAL_RATIO, self.annealed))
        return math.isfinite(error) and gain < max(2 * error, self.tolerance)

    def anneal(self) -> None:
        self.annealed = self.steps[-1]

    def _gain(self, since: float) -> tuple[float, float]:
        """Gain per doubling of the steps and its standard error, from the evaluations at or after `since`."""
        steps, values = np.array(self.steps, float), np.array(self.values)
        window = (steps >= since) & (steps > 0)
        if window.sum() < MINIMUM_POINTS:
            return math.inf, math.inf
        x, y = np.log2(steps[window]), values[window]
        x = x - x.mean()
        slope = float(x @ y / (x @ x))
        residual = y - y.mean() - slope * x
        return slope, math.sqrt(float(residual @ residual) / (len(x) - 2) / float(x @ x))
