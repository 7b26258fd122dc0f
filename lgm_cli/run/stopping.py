"""When a run has converged, when its step is too long, and when it has gone wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from lgm_cli.results.outcome import SETTLED

MINIMUM_STEPS = 20
MINIMUM_POINTS = 6
ANNEAL_RATIO = math.sqrt(2)
WORSE = 0.5  # nats per entry below the start
MEANS = 40  # a mean is kept for comparison each time the steps have grown by this part of them


@dataclass
class Convergence:
    """Judges the train log-likelihood (nats per entry) at the evaluations so far.

    converged: over the last doubling of the steps, t/2 to t, the least-squares slope of the log-likelihood against
    log2(step) is the gain per doubling; the run has converged when |gain| + 2 standard errors < tolerance, the
    standard error being that of the slope. The window grows with the run: a plateau of a given length never counts as
    convergence by itself, and for an error that falls like 1 / step or faster the gain per doubling bounds what is
    left. With noisy steps the standard error keeps the test from passing until the noise itself is below the tolerance.

    settled: asked too where a run is for something that settles before the likelihood does (`settled_gain` of a model,
    by which `tolerance` is then larger): from t/2 to t its posterior mean has moved by less than SETTLED posterior
    standard deviations, both root mean squares.

    restart: parameters were replaced by better ones at this step (curvature.py): what came before tells nothing
    of what is left, and at least MINIMUM_STEPS have to follow.

    should_anneal: over the last factor of sqrt(2) in steps, and since the last change, the gain is within its noise
    (or below the tolerance): the step size is what keeps the likelihood from rising. At most one halving per factor
    sqrt(2), so that the step never shrinks much faster than 1 / step^2.
    """

    tolerance: float
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    annealed: int = 0  # step of the last change of the step size
    restarted: int = 0  # step at which parameters were last replaced by better ones
    means: dict[int, Tensor] = field(default_factory=dict)  # by step, over the last doubling, of what is to settle
    moved: float = 0.0  # over the last doubling, in posterior standard deviations

    def add(self, step: int, log_likelihood: float, settling: tuple[Tensor, float] | None = None) -> None:
        """Take an evaluation; settling: posterior mean and average posterior variance of what is to settle."""
        self.steps.append(step)
        self.values.append(log_likelihood)
        if settling is None:
            return
        mean, variance = settling
        before = max((known for known in self.means if known <= step / 2), default=None)
        self.moved = math.inf
        if before is not None:
            self.moved = math.sqrt(float((mean - self.means[before]).double().square().mean()) / variance)
            self.means = {known: value for known, value in self.means.items() if known >= before}
        if not self.means or step - max(self.means) >= step / MEANS:
            self.means[step] = mean

    def settled(self) -> bool:
        return self.moved < SETTLED

    def diverged(self, log_likelihood: float, judged: bool = True) -> bool:
        """Whether a value is not finite or, where it is judged, clearly worse than the first, and than that at the last
        restart."""
        first = self.values[0]
        if self.restarted in self.steps:
            first = min(first, self.values[self.steps.index(self.restarted)])
        return not math.isfinite(log_likelihood) or (judged and log_likelihood < first - WORSE)

    def converged(self) -> bool:
        now = self.steps[-1]
        if now - self.restarted < MINIMUM_STEPS:
            return False
        gain, error = self._gain(max(now / 2, self.restarted))
        return abs(gain) + 2 * error < self.tolerance and self.settled()

    def fell_back(self) -> bool:
        """Whether steps that began from better parameters near by led down again, to no more than was reached before.
        Then the fixed points of the method are no maxima of the likelihood."""
        if self.restarted not in self.steps or (place := self.steps.index(self.restarted)) == 0:
            return False
        return self.values[-1] < min(self.values[place], self.values[place - 1] + self.tolerance)

    def should_anneal(self) -> bool:
        now = self.steps[-1]
        if now < MINIMUM_STEPS or now < self.annealed * ANNEAL_RATIO:
            return False
        gain, error = self._gain(max(now / ANNEAL_RATIO, self.annealed, self.restarted))
        return math.isfinite(error) and gain < max(2 * error, self.tolerance)

    def anneal(self) -> None:
        self.annealed = self.steps[-1]

    def restart(self, log_likelihood: float, settling: tuple[Tensor, float] | None = None) -> None:
        """Take the last evaluation for that of better parameters."""
        self.restarted, self.values[-1] = self.steps[-1], log_likelihood
        if settling is not None:
            self.means[self.steps[-1]] = settling[0]

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
