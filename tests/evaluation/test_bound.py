"""The bound of a step of EM: below the likelihood, touching it with equal slope, highest where the step ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lgm_cli.command import choices
from lgm_cli.evaluation import bound
from lgm_cli.evaluation.bound import admissible, bound_along_a_step
from tests import cases
from tests.conformance.test_every_model import data_of, simulated


def model_of(name: str) -> Any:
    options = cases.variants(name)[0]
    return cases.bind(cases.build_model(name, options), data_of(simulated(name, options, 60, 8), "masked"))


def line_of(name: str) -> tuple[Any, bound.Line]:
    model = model_of(name)
    line = bound_along_a_step(model, model.start(0), 0)
    assert line is not None
    return model, line


@pytest.mark.parametrize("name", choices.choices("model"))
def test_it_is_below_the_likelihood_and_touches_it(name: str) -> None:
    _, line = line_of(name)
    old, new = (line.places.tolist().index(place) for place in (0.0, 1.0))
    assert (line.bound <= line.log_likelihood + 1e-9).all()
    assert line.bound[old] == pytest.approx(line.log_likelihood[old], abs=1e-9)
    assert line.log_likelihood[new] - line.bound[new] > 1e-9
    assert line.log_likelihood[new] > line.log_likelihood[old]


@pytest.mark.parametrize("name", choices.choices("model"))
def test_it_is_highest_where_the_step_ends(name: str) -> None:
    model, line = line_of(name)
    if not model.expanded:  # such a step does not end at the maximum
        assert line.places[line.bound.argmax()] == 1


@pytest.mark.parametrize("name", choices.choices("model"))
def test_it_has_the_slope_of_the_likelihood_where_they_touch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    step = 1e-5
    monkeypatch.setattr(bound, "PLACES", np.array([-step, 0, step, 1, 2]))
    _, line = line_of(name)
    assert line.places[:3].tolist() == [-step, 0, step]
    slopes = [(values[2] - values[0]) / (2 * step) for values in (line.log_likelihood, line.bound)]
    assert slopes[1] == pytest.approx(slopes[0], rel=1e-5, abs=1e-7)
    assert slopes[0] > 1e-5


def test_the_likelihood_is_that_of_the_models_in_the_units_of_the_data() -> None:
    model, line = line_of("factor_analysis")
    expected = float(cases.log_likelihood(model, model.start(0))) / model.observations.observed
    assert line.log_likelihood[line.places == 0] == pytest.approx(expected, abs=1e-12)
    assert line.points == line.of == 60


def test_with_a_prior_both_have_it_and_the_bound_is_highest_where_the_step_ends() -> None:
    options = cases.variants("factor_analysis")[0] | {"prior_loadings": 3.0, "prior_noise": 2.0}
    plain = model_of("factor_analysis")
    model = cases.bind(
        cases.build_model("factor_analysis", options), data_of(simulated("factor_analysis", options, 60, 8), "masked")
    )
    start = model.start(0)
    prior = model.log_prior(start)
    line, without = (bound_along_a_step(each, start, 0) for each in (model, plain))
    assert line is not None and without is not None and prior is not None
    old = line.places == 0
    added = float(prior) / model.observations.observed
    assert abs(added) > 1e-6
    assert line.log_likelihood[old] - without.log_likelihood[without.places == 0] == pytest.approx(added, abs=1e-9)
    assert (line.bound <= line.log_likelihood + 1e-9).all()
    assert line.log_likelihood[old] == pytest.approx(line.bound[old], abs=1e-9)
    assert line.places[line.bound.argmax()] == 1
    assert (line.prior, without.prior) == (True, False)


@pytest.mark.parametrize("name", ["factor_analysis", "factor_analysis", "poisson_mixture"])
def test_of_more_data_than_can_be_afforded_a_subset_is_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(name)
    lengths = np.concatenate([chunk.weight.sum(1).numpy() for chunk in model.observations.chunks])
    cost = (model.exact_operations(lengths) + bound.ENTRY * lengths).sum() * len(bound.PLACES)
    monkeypatch.setattr(bound, "OPERATIONS", 0.9 * cost)
    line = bound_along_a_step(model, model.start(0), 0)
    assert line is not None
    assert (line.points, line.of) == (54, 60)
    assert (line.bound <= line.log_likelihood + 1e-9).all()
    assert line.places[line.bound.argmax()] == 1


def test_where_few_data_points_can_be_afforded_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "OPERATIONS", 1e3)
    for name in ("factor_analysis", "state_space"):
        model = model_of(name)
        assert bound_along_a_step(model, model.start(0), 0) is None


def test_a_step_from_single_precision_is_taken_in_double() -> None:
    options = cases.variants("ppca")[0]
    data = data_of(simulated("ppca", options, 60, 8), "masked")
    model = cases.bind(cases.build_model("ppca", options), data, dtype=torch.float32)
    line = bound_along_a_step(model, model.start(0), 0)
    assert line is not None
    assert abs(line.log_likelihood - line.bound)[line.places == 0] < 1e-12
    assert model.observations.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("factor_analysis", {"noise_variance": -0.1}),
        ("gaussian_mixture", {"weights": -0.1}),
        ("bernoulli_mixture", {"probabilities": 1.2}),
        ("hidden_markov", {"transition": -0.01}),
    ],
)
def test_parameters_outside_the_domain_are_told(name: str, change: dict[str, float]) -> None:
    model = model_of(name)
    start = model.start(0)
    assert admissible(model, start)
    for key, wrong in change.items():
        value = start[key].clone()
        value.view(-1)[0] = wrong
        assert not admissible(model, start | {key: value})
