"""Each method of conf/method on each model of conf/model: learned from or refused, climbing, and EM where it is EM.

What theory promises of a method follows from the words of its YAML, so that a new one is held to it as well.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.linalg import LinAlgError  # pyright: ignore[reportAttributeAccessIssue]

from lgm_cli.errors import UserError
from lgm_cli.methods.acceleration import AcceleratedMethod
from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.methods.m_steps.conditional import Conditional
from lgm_cli.methods.method import Method
from lgm_cli.models.base.parameters import Parameters, sound
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.samples import SamplePosterior
from tests import cases, matrix

Pair = tuple[str, matrix.Options, str, matrix.Options]  # a method and a model, each with what differs from its YAML

PAIRS = [
    pytest.param((method, given, model, options), id=f"{matrix.label(model, options)}-{matrix.label(method, given)}")
    for method in matrix.METHODS
    for given in matrix.varied("method", method)
    for model in matrix.MODELS
    for options in matrix.varied("model", model)
    if not given or not options
]

SMALLEST_FALL = 1e-9  # nats per data point, of rounding


def stepped(method: Method, steps: int) -> list[Parameters]:
    found = []
    for _ in range(steps):
        method.step()
        found.append(method.parameters)
    return found


def step_or_retreat(method: Method) -> None:
    """A step whose result has a likelihood; where it has none, shorter ones, as often as the method may."""
    while True:
        good = method.parameters
        try:
            method.step()
            if sound(method.parameters) and np.isfinite(matrix.likelihood(method)):
                return
        except LinAlgError:
            pass
        assert method.update.retreat(good)


def pairs_of(*words: tuple[str, str]) -> Any:
    """Pairs at their defaults of the methods whose keys are these words, where they have a meaning."""
    chosen = [name for name in matrix.METHODS if all(_word(name, key) == word for key, word in words)]
    found = [(method, model) for method in chosen for model in matrix.MODELS if matrix.is_allowed(method, model)]
    return pytest.mark.parametrize(("name", "model"), found)


def _word(method: str, key: str) -> Any:
    return matrix.defaults(f"method/{method}").get(key, "fresh" if key == "statistics" else None)


@pytest.mark.parametrize("pair", PAIRS)
def test_a_method_learns_or_is_refused_with_a_mend_that_works(pair: Pair) -> None:
    """Three steps from the first that moves anything, or back from one that was too long, as a run goes: parameters
    that are finite and new, with a likelihood."""
    method, given, model, options = pair
    try:
        made, chosen = matrix.build(method, model, given, options)
    except UserError as error:
        mends = re.findall(r"method(?:\.(\w+))?=(\w+)", error.mend)
        assert mends, error.mend
        for key, value in mends:
            name, changed = (method, given | {key: value}) if key else (value, {})
            stepped(matrix.build(name, model, changed, options)[0], 1)
        return
    before = made.parameters
    copies = {name: value.clone() for name, value in before.items()}
    for _ in range(3 + chosen.get("first_update", 0)):
        step_or_retreat(made)
    assert made.parameters.keys() == before.keys()
    assert all(torch.equal(value, copies[name]) for name, value in before.items())  # a run may go back to them
    assert sound(made.parameters)
    assert any(not torch.equal(value, before[name]) for name, value in made.parameters.items())
    assert np.isfinite(matrix.likelihood(made))


def never_falls(values: list[float]) -> bool:
    return bool(np.diff(values).min() >= -SMALLEST_FALL * matrix.POINTS)


def climbs(method: str) -> bool:
    """By its words: exact posteriors of all data points, then a step up the free energy."""
    return (
        _word(method, "posterior") == "exact"
        and _word(method, "statistics") == "fresh"
        and _word(method, "update") in ("closed_form", "ascent", "conditional")
    )


CLIMBING = [
    pytest.param((method, given, model, options), id=f"{matrix.label(model, options)}-{matrix.label(method, given)}")
    for method in matrix.METHODS
    if climbs(method)
    for given in matrix.varied("method", method)
    for model in matrix.MODELS
    if matrix.is_allowed(method, model)
    for options in matrix.varied("model", model)
    if not given or not options
]


@pytest.mark.parametrize("pair", CLIMBING)
def test_exact_posteriors_and_fresh_statistics_never_lower_the_likelihood(pair: Pair) -> None:
    """In any way of climbing the free energy; where steps are extrapolated, at the points that were accepted, below
    which nothing that is shown ever is."""
    name, given, model, options = pair
    method, _ = matrix.build(name, model, given, options)
    values = [matrix.likelihood(method)]
    if isinstance(method, AcceleratedMethod):
        accepted = []
        for _ in range(12):
            method.step()
            assert method.update.highest is not None
            accepted.append(method.update.highest)
            assert never_falls([accepted[-1], matrix.likelihood(method)])
        values += accepted
    else:
        values += [float(cases.log_likelihood(method.model, each)) for each in stepped(method, 12)]
    assert never_falls(values)
    assert values[-1] > values[0]


@pairs_of(("posterior", "exact"), ("statistics", "replaced"))
def test_replaced_statistics_never_lower_the_free_energy(name: str, model: str) -> None:
    """Which never exceeds the log-likelihood, in standard units."""
    method, _ = matrix.build(name, model)
    assert not method.model.expanded
    method.update.measured, energies = True, []
    shift = sum(float(method.model.log_scales(chunk).sum()) for chunk in method.model.observations.chunks)
    for _ in range(40):
        method.step()
        assert method.update.free_energy is not None
        energies.append(float(method.update.free_energy))
        assert energies[-1] <= matrix.likelihood(method) + shift + SMALLEST_FALL * matrix.POINTS
    assert never_falls(energies)
    assert energies[-1] > energies[0]


@pairs_of(("posterior", "tempered"))
def test_the_likelihood_never_falls_once_the_temperature_is_one(name: str, model: str) -> None:
    method, _ = matrix.build(name, model, {"factor": 1.5, "stage_steps": 3})
    first = method.expectation.inverse_temperature  # pyright: ignore[reportAttributeAccessIssue]
    stages = math.ceil(math.log(1 / first, 1.5))
    while method.tempered:
        method.step()
    assert stages <= method.steps <= 3 * stages
    before = matrix.likelihood(method)
    values = [before, *(float(cases.log_likelihood(method.model, each)) for each in stepped(method, 20))]
    assert never_falls(values) and values[-1] > before


# Where a method is EM ------------------------------------------------------------------------------------------


def em_steps(model: str, steps: int) -> list[Parameters]:
    return stepped(matrix.build("em", model, {"acceleration": "none"})[0], steps)


def require_equal(found: list[Parameters], expected: list[Parameters]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            torch.testing.assert_close(value, other[name], rtol=1e-10, atol=1e-10)


@pairs_of(("statistics", "running"), ("posterior", "exact"))
def test_running_averages_of_one_block_begin_with_a_step_of_em(name: str, model: str) -> None:
    method, _ = matrix.build(name, model, {"batch_size": matrix.POINTS, "first_update": 0})
    require_equal(stepped(method, 1), em_steps(model, 1))


@pairs_of(("statistics", "running"), ("posterior", "exact"))
def test_running_averages_of_one_block_with_steps_of_size_one_are_em(name: str, model: str) -> None:
    method, _ = matrix.build(name, model, {"batch_size": matrix.POINTS, "first_update": 0, "full_steps": 8})
    require_equal(stepped(method, 8), em_steps(model, 8))


@pairs_of(("statistics", "replaced"), ("posterior", "exact"))
def test_replacing_the_statistics_of_one_block_is_em(name: str, model: str) -> None:
    require_equal(stepped(matrix.build(name, model, {"batch_size": matrix.POINTS})[0], 8), em_steps(model, 8))


@pairs_of(("posterior", "tempered"))
def test_a_temperature_of_one_is_em(name: str, model: str) -> None:
    require_equal(stepped(matrix.build(name, model, {"inverse_temperature": 1})[0], 8), em_steps(model, 8))


@pytest.mark.parametrize("model", matrix.MODELS)
def test_conditional_maximisation_of_one_block_is_em(model: str) -> None:
    em, _ = matrix.build("em", model, {"acceleration": "none"})
    whole = copy.copy(em.model)
    whole.blocks = ()
    update = Conditional(whole, em.parameters, None)
    method = Method(whole, Exact(whole), update, em.blocks_per_step, 0)
    require_equal(stepped(method, 8), em_steps(model, 8))


class ExactMoments(MonteCarlo):
    """As many samples as latents, D, whose moments are those of the exact posterior: roots of its covariance."""

    def posteriors(
        self, parameters: Parameters, block: int, chunks: list[Chunk], step: int, record: SolverRecord
    ) -> Iterator[tuple[Chunk, SamplePosterior, None]]:
        model: Any = self.model
        for chunk in chunks:
            exact, (precision, targets) = model.posterior(parameters, chunk), model.system(parameters, chunk)
            covariance = exact.covariance.expand(len(chunk.points), model.dim, model.dim)
            samples = model.dim**0.5 * torch.linalg.cholesky(covariance).mT
            yield chunk, SamplePosterior(exact.mean, samples, model.frame(parameters), precision, targets), None


@pytest.mark.parametrize("model", [each for each in matrix.MODELS if matrix.bound(each).has_system])
def test_samples_with_exact_moments_are_em(model: str) -> None:
    method, _ = matrix.build("monte_carlo_em", model, {"posterior": "monte_carlo"})
    assert isinstance(method.expectation, MonteCarlo)
    method.expectation = ExactMoments(method.model, method.expectation.solver, 1, 1, 0, False)
    require_equal(stepped(method, 5), em_steps(model, 5))


@pairs_of(("update", "ascent"))
def test_an_ascent_to_the_end_is_a_step_of_em(name: str, model: str) -> None:
    """The expected complete loss is as low to 1e-8 of it; parameter expansion goes elsewhere by intention."""
    method, _ = matrix.build(name, model, {"inner_steps": 400})
    bound, before, total = method.model, method.parameters, {}
    for chunk in bound.observations.chunks:
        total = bound.add_statistics(total, chunk, bound.posterior(before, chunk))
    method.step()
    lowest = float(bound.expected_loss(bound.maximise(before, total), total))
    reached = float(bound.expected_loss(method.parameters, total))
    allowed = 1e-8 * abs(float(bound.expected_loss(before, total)))
    assert reached <= lowest + allowed
    if not bound.expanded:
        assert reached >= lowest - allowed


# What was simulated ----------------------------------------------------------------------------------------------

MANY = 400  # data points


def noisy(method: str) -> bool:
    return _word(method, "posterior") != "exact" or _word(method, "statistics") == "running"


# Beside em, of which test_every_model.py asks more. The likelihood of a model with a `settled_gain` rises with the
# logarithm of the steps: too slowly, where they are noisy, for a test.
QUICK = [
    (model, method)
    for method in ("gradient_em", "online_em", "unroll")
    for model in matrix.MODELS
    if matrix.is_allowed(method, model) and not (noisy(method) and matrix.bound(model).settled_gain)
]


@pytest.mark.parametrize(("model", "method"), QUICK)
def test_simulated_data_are_learned_as_well_as_their_truth_explains_them(model: str, method: str) -> None:
    """The likelihood of the true parameters is reached or passed; by noisy steps, nine tenths of the way from the start
    to it."""
    made, _ = matrix.build(method, model, points=MANY)
    table = matrix.data(model, points=MANY).table
    truth = {name: torch.as_tensor(value) for name, value in table.truth.items()}
    best = float(cases.log_likelihood(made.model, made.model.restore(truth)))
    gain = matrix.likelihood(made) - best
    assert gain < 0
    enough = 0.1 * gain if noisy(method) else 0.0
    while gain < enough and made.steps < 200:
        for _ in range(10):
            step_or_retreat(made)
        gain = matrix.likelihood(made) - best
    assert gain >= enough
