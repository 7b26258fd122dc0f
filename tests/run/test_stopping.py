"""When a run counts as converged: not on a plateau, not in noise, and close to the end of a slow tail."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.method import Method
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.run.loop import EVALUATIONS
from lgm_cli.run.stopping import Convergence
from tests import cases

TOLERANCE = 1e-4


def evaluated(last: int) -> list[int]:
    """Steps at which a run with eval_every=auto evaluates."""
    steps = [0]
    while steps[-1] < last:
        steps.append(steps[-1] + max(1, steps[-1] // EVALUATIONS))
    return steps


def stopped(path: Callable[[int], float], last: int = 20_000, tolerance: float = TOLERANCE) -> int | None:
    """The step at which a run with these log-likelihoods counts as converged, if it does."""
    rule = Convergence(tolerance)
    for step in evaluated(last):
        rule.add(step, path(step))
        if rule.converged():
            return step
    return None


@pytest.mark.parametrize("scale", [1, 10, 100, 1000])
def test_an_exponential_tail_is_followed_to_less_than_the_tolerance(scale: float) -> None:
    def path(step: int) -> float:
        return -1.5 - math.exp(-step / scale)

    end = stopped(path)
    assert end is not None
    assert -1.5 - path(end) < TOLERANCE
    assert end < 60 * scale + 40  # and not for ever


@pytest.mark.parametrize("size", [0.01, 0.1, 1.0])
def test_a_tail_like_one_over_the_steps_is_followed_to_about_the_tolerance(size: float) -> None:
    """EM near a maximum that is flat: half of what is left is gained in each doubling."""

    def path(step: int) -> float:
        return -1.5 - size / (1 + step)

    end = stopped(path)
    assert end is not None
    assert -1.5 - path(end) < 1.5 * TOLERANCE


def test_a_smaller_tolerance_takes_longer() -> None:
    ends = [stopped(lambda step: -1 / (1 + step), tolerance=tolerance) for tolerance in (1e-2, 1e-3, 1e-4)]
    assert ends[0] is not None and ends[1] is not None and ends[2] is not None
    assert 5 * ends[0] < ends[1] < ends[2] / 5


def test_a_run_that_gains_the_same_in_each_doubling_never_converges() -> None:
    assert stopped(lambda step: 2 * TOLERANCE * math.log2(1 + step), last=100_000) is None


def test_a_fall_is_no_convergence() -> None:
    assert stopped(lambda step: -2 * TOLERANCE * math.log2(1 + step)) is None


def test_the_first_steps_are_no_convergence() -> None:
    rule = Convergence(TOLERANCE)
    for step in range(20):
        rule.add(step, -1.0)
        assert not rule.converged()


@pytest.mark.parametrize("begins", [20, 200, 2000])
def test_a_plateau_shorter_than_the_run_so_far_is_no_convergence(begins: int) -> None:
    """Nothing at all is gained from `begins` on: that alone says nothing until the steps have nearly doubled."""
    end = stopped(lambda step: 0.01 * math.log2(1 + min(step, begins)))
    assert end is not None
    assert 1.7 * begins < end < 2.5 * begins


@pytest.mark.parametrize("share", [0.05, 0.5])
@pytest.mark.parametrize("size", [1e-1, 1e-2, 1e-3])
def test_em_that_lingers_at_a_saddle_is_not_converged(size: float, share: float) -> None:
    """From loadings near zero, where nothing is gained for a while, EM's own path is followed to the maximum."""
    random = np.random.default_rng(0)
    y = random.normal(size=(1000, 2)) @ random.normal(size=(2, 20)) / math.sqrt(2)
    y += math.sqrt(1 / share - 1) * random.normal(size=y.shape)
    y[random.random(y.shape) < 0.3] = np.nan
    model = cases.bind(FactorAnalysis(2, False, 1e-3), y)
    start = model.start(0)
    start["loadings"] *= size
    method = Method(model, Exact(model), ClosedForm(model, start), 10**9, 0)
    rule, due, end = Convergence(TOLERANCE), 0, None
    while end is None or method.steps < 3 * end[0]:
        if end is None and method.steps >= due:
            value = float(cases.log_likelihood(model, method.parameters)) / model.observations.observed
            rule.add(method.steps, value)
            due = method.steps + max(1, method.steps // EVALUATIONS)
            end = (method.steps, value) if rule.converged() else None
        assert method.steps < 2000
        method.step()
    left = float(cases.log_likelihood(model, method.parameters)) / model.observations.observed - end[1]
    assert 0 <= left < TOLERANCE


def noisy(gain: float, noise: float, seed: int, correlation: float = 0.0) -> Callable[[int], float]:
    """So much gained in each doubling, with noise whose neighbours in the evaluations are correlated."""
    random = np.random.default_rng(seed)
    state = random.normal()

    def path(step: int) -> float:
        nonlocal state
        state = correlation * state + math.sqrt(1 - correlation**2) * random.normal()
        return gain * math.log2(1 + step) + noise * state

    return path


@pytest.mark.parametrize("correlation", [0.0, 0.5])
@pytest.mark.parametrize("noise", [0.3, 1, 3, 30])
def test_noise_does_not_pass_for_convergence(noise: float, correlation: float) -> None:
    """While each doubling still gains five tolerances: at most one run of a hundred in all of 20,000 steps."""
    ends = [stopped(noisy(5 * TOLERANCE, noise * TOLERANCE, seed, correlation)) for seed in range(30)]
    assert sum(end is not None for end in ends) == 0


def test_noise_well_below_the_tolerance_does_not_prevent_convergence() -> None:
    ends = [stopped(noisy(0.0, 0.1 * TOLERANCE, seed)) for seed in range(20)]
    assert all(end is not None and end < 100 for end in ends)


def test_noise_above_the_tolerance_prevents_convergence_until_it_is_smaller() -> None:
    """The error of the gain counts: what is not known to be less than the tolerance is not."""
    assert all(stopped(noisy(0.0, 5 * TOLERANCE, seed)) is None for seed in range(10))


def test_few_evaluations_are_no_convergence() -> None:
    rule = Convergence(TOLERANCE)
    for step in (0, 1000, 2000, 3000, 4000, 5000):
        rule.add(step, -1.0)
        assert not rule.converged()
    for step in (6000, 7000, 8000, 9000, 10_000):
        rule.add(step, -1.0)
    assert rule.converged()


# Shorter steps -------------------------------------------------------------------------------------------------


def annealed(path: Callable[[int], float], last: int = 5000) -> list[int]:
    """The steps at which the step size is shortened."""
    rule, found = Convergence(TOLERANCE), []
    for step in evaluated(last):
        rule.add(step, path(step))
        if rule.should_anneal():
            rule.anneal()
            found.append(step)
    return found


def test_steps_are_not_shortened_while_they_pay() -> None:
    assert annealed(lambda step: 5 * TOLERANCE * math.log2(1 + step)) == []
    assert annealed(lambda step: -math.exp(-step / 1000), last=5000) == []


def test_steps_are_shortened_in_noise_at_most_once_in_half_a_doubling() -> None:
    for seed in range(5):
        found = annealed(noisy(0.0, 100 * TOLERANCE, seed))
        assert len(found) >= 5
        assert all(later >= math.sqrt(2) * earlier for earlier, later in itertools.pairwise(found))


def test_noise_that_shrinks_with_the_steps_ends_in_convergence() -> None:
    """An optimiser whose noise is proportional to its step size, which is halved as the rule asks."""
    for seed in range(5):
        random, rule, size, end = np.random.default_rng(seed), Convergence(TOLERANCE), 1.0, None
        for step in evaluated(20_000):
            rule.add(step, -math.exp(-step / 50) - 0.01 * size * (1 + 0.3 * random.normal()))
            if rule.converged():
                end = step, rule.values[-1]
                break
            if rule.should_anneal():
                rule.anneal()
                size /= 2
        assert end is not None
        assert end[1] > -10 * TOLERANCE


# Divergence ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [(-1.0, False), (-1.9, False), (-2.1, True), (math.nan, True), (-math.inf, True), (math.inf, True)],
)
def test_what_is_not_finite_or_clearly_worse_than_the_start_has_diverged(value: float, expected: bool) -> None:
    rule = Convergence(TOLERANCE)
    rule.add(0, -1.5)
    rule.add(1, 3.0)
    assert rule.diverged(value) is expected


@pytest.mark.parametrize(
    ("after", "expected"), [(-1.0, True), (-1.00005, True), (-0.9995, False), (-0.4, False)], ids=str
)
def test_steps_that_lead_back_from_better_parameters_are_seen(after: float, expected: bool) -> None:
    """Down from -0.5, to which they were moved from -1: to -1 again, or to more."""
    rule = Convergence(TOLERANCE)
    rule.add(30, -1.0)
    rule.add(40, -1.0)
    assert not rule.fell_back()
    rule.restart(-0.5)
    for step in range(41, 90):
        rule.add(step, after)
    assert rule.fell_back() is expected
