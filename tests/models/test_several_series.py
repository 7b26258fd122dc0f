"""A hidden Markov model of several series: one likelihood, one EM, the statistics of each series added up."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

from lgm_cli.data.base.data import Data
from lgm_cli.errors import UserError
from lgm_cli.models.autoregressive import Autoregressive
from lgm_cli.models.hidden_markov import LEAST, HiddenMarkov
from lgm_cli.models.parts.chains import Chains
from lgm_cli.observations.blocks import observe
from tests import cases
from tests.models.test_hidden_markov import (
    OPTIONS,
    chunk_of,
    density,
    kinds,
    likelihood,
    model_of,
    moved,
    observed,
)

SIZES = (4, 3, 2)


def values_of(emission: str, covariance: str, steps: int) -> np.ndarray:
    values = model_of(emission, covariance).simulate(OPTIONS | {"num_points": steps})["values"]
    values[1] = np.nan
    return values


def joined(values: np.ndarray, sizes: tuple[int, ...], forecast: int = 0) -> Data:
    data = cases.as_data(np.vstack([values, np.full((forecast * len(sizes), values.shape[1]), np.nan)]), kind="series")
    numbers = np.arange(len(sizes))
    table = dataclasses.replace(
        data.table,
        series=np.concatenate([np.repeat(numbers, sizes), np.repeat(numbers, forecast)]),
        series_names=pd.Index([f"s{number}" for number in numbers]),
        series_column="id",
        forecast=forecast * len(sizes),
    )
    return Data(table, data.hidden)


def bound_to(emission: str, covariance: str, sizes: tuple[int, ...], states: int = 2, forecast: int = 0):
    """A model of all series, and one of each by itself in the same units."""
    values = values_of(emission, covariance, sum(sizes))
    together = cases.bind(model_of(emission, covariance, states), joined(values, sizes, forecast))
    assert isinstance(together, HiddenMarkov)
    units = together.observations.column_center.numpy(), together.observations.scale[: values.shape[1]].numpy()
    each = []
    for part in np.split(values, np.cumsum(sizes)[:-1]):
        part = np.vstack([part, np.full((forecast, part.shape[1]), np.nan)])
        data = cases.as_data(part, kind="series")
        model = model_of(emission, covariance, states)
        each.append(model.bind(observe(data, 0, torch.float64, cases.CPU, units=units)))
    for one in each:
        one.emissions.family = together.emissions.family
    return together, each


@kinds
def test_the_likelihood_of_series_is_the_sum_over_all_of_their_paths(emission: str, covariance: str) -> None:
    model, _ = bound_to(emission, covariance, SIZES)
    parameters, total = moved(model), 0.0
    exported, rows = model.export(parameters), observed(model)
    for part in np.split(rows, np.cumsum(SIZES)[:-1]):
        weights = []
        for path in itertools.product(range(2), repeat=len(part)):
            weight = float(exported["initial"][path[0]].log())
            weight += sum(float(exported["transition"][j, k].log()) for j, k in itertools.pairwise(path))
            weights.append(weight + sum(density(exported, emission, row, k) for row, k in zip(part, path, strict=True)))
        total += np.logaddexp.reduce(weights)
    assert abs(likelihood(model, parameters) - total) < 1e-9


@kinds
def test_likelihood_gradients_and_statistics_are_sums_over_series(emission: str, covariance: str) -> None:
    """And so the step of EM is that of the summed statistics."""
    sizes = (25, 1, 40, 14)
    model, each = bound_to(emission, covariance, sizes, forecast=2)
    parameters = moved(model)
    free = {name: value.requires_grad_() for name, value in model.free(parameters).items()}
    found = model.posterior(model.constrain(free), chunk_of(model))
    assert found.log_evidence is not None
    gradients = torch.autograd.grad(found.log_evidence.sum(), list(free.values()))
    total = sum(one.posterior(model.constrain(free), chunk_of(one)).log_evidence.sum() for one in each)
    assert float(found.log_evidence.detach()) == pytest.approx(float(total.detach()), rel=1e-12)
    for one, two in zip(gradients, torch.autograd.grad(total, list(free.values())), strict=True):
        assert torch.allclose(one, two, atol=1e-9, rtol=1e-9)
    with torch.no_grad():
        sums: dict[str, torch.Tensor] = {}
        for one in each:
            statistics = one.statistics(chunk_of(one), one.posterior(parameters, chunk_of(one)))
            sums = {name: sums.get(name, 0.0) + value for name, value in statistics.items()}
        own = model.statistics(chunk_of(model), model.posterior(parameters, chunk_of(model)))
        for name, value in own.items():
            assert torch.allclose(value, sums[name], atol=1e-9, rtol=1e-9), name
        assert float(own["initial"].sum()) == pytest.approx(4)
        wanted = model.maximise(parameters, sums)
        for name, value in model.maximise(parameters, own).items():
            assert torch.allclose(value, wanted[name], atol=1e-9), name
    energy = float((own["entropy"] - model.expected_loss(parameters, own)).detach())
    assert energy == pytest.approx(float(found.log_evidence.detach()), rel=1e-9)


@kinds
def test_predictions_states_and_forecasts_are_those_of_each_series(emission: str, covariance: str) -> None:
    sizes, ahead = (25, 3, 14), 3
    model, each = bound_to(emission, covariance, sizes, forecast=ahead)
    parameters, total = moved(model), sum(sizes)
    posterior = model.posterior(parameters, chunk_of(model))
    inferred = model.inferred(parameters, posterior)
    entries = torch.arange(2 * (total + ahead * len(sizes)))
    found = model.predict(parameters, posterior, entries[None])
    mean, variance = found.mean.view(-1, 2), found.variance.view(-1, 2)
    begin = 0
    for number, (one, size) in enumerate(zip(each, sizes, strict=True)):
        rows = torch.cat([torch.arange(begin, begin + size), total + ahead * number + torch.arange(ahead)])
        alone = one.posterior(parameters, chunk_of(one))
        wanted = one.inferred(parameters, alone)
        chances = inferred["state_probabilities"][rows]
        assert torch.allclose(chances, wanted["state_probabilities"], atol=1e-11)
        assert torch.equal(inferred["most_probable_path"][rows], wanted["most_probable_path"])
        known = one.predict(parameters, alone, torch.arange(2 * (size + ahead))[None])
        assert torch.allclose(mean[rows], known.mean.view(-1, 2), atol=1e-9)
        assert torch.allclose(variance[rows], known.variance.view(-1, 2), atol=1e-9)
        begin += size


def test_one_series_by_name_has_the_numbers_of_one_without_to_the_last_bit() -> None:
    values = values_of("normal", "full", 60)
    named = cases.bind(model_of("normal"), joined(values, (60,)))
    plain = cases.bind(model_of("normal"), cases.as_data(values, kind="series"))
    assert isinstance(named, HiddenMarkov) and isinstance(plain, HiddenMarkov)
    one, two = named.start(0), plain.start(0)
    for _ in range(5):
        one, two = (
            model.maximise(each, model.statistics(chunk_of(model), model.posterior(each, chunk_of(model))))
            for model, each in ((named, one), (plain, two))
        )
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


def test_a_chain_that_only_goes_forward_is_learned_from_short_series() -> None:
    """Three states in turn, of 40 series: the initial one is the first of each, no way leads back, and shares of the
    time are those of series as long as these."""
    draw = np.random.default_rng(0)
    parts = [np.repeat([0.0, 4.0, 8.0], draw.integers(4, 9, 3)) for _ in range(40)]
    values = np.concatenate(parts)[:, None] + 0.5 * draw.normal(size=(sum(map(len, parts)), 1))
    model = cases.bind(model_of("normal", states=3), joined(values, tuple(map(len, parts))))
    assert isinstance(model, HiddenMarkov)
    parameters = model.start(0)
    for _ in range(20):
        parameters = model.maximise(
            parameters, model.statistics(chunk_of(model), model.posterior(parameters, chunk_of(model)))
        )
    order = parameters["means"][:, 0].argsort()
    found = model.export(parameters)
    assert found["initial"][order].tolist() == pytest.approx([1, 0, 0], abs=1e-6)
    transition = found["transition"][order][:, order]
    assert float(transition.tril(-1).max()) == pytest.approx(LEAST, rel=1e-3)
    lengths = np.array([[(part == level).sum() for level in (0.0, 4.0, 8.0)] for part in parts])
    leaves = [40 / lengths[:, 0].sum(), 40 / lengths[:, 1].sum()]
    assert transition.diagonal(1).tolist() == pytest.approx(leaves, abs=0.02)
    assert float(model.shares(found)[order][2]) < 0.6  # in the long run it would be all of the time
    assert model.warnings(parameters, ["y"]) == []


def test_steps_after_the_last_value_of_each_series_are_forecast() -> None:
    seen = np.array([True, False, True, False, False, True, False, False, False])
    chains = Chains(np.array([0, 0, 0, 0, 1, 1, 1, 0, 1]), seen)
    assert chains.learned.tolist() == [0, 1, 2, 4, 5]
    assert (chains.starts, chains.ahead, chains.steps) == ((0, 3), (2, 2), 5)
    assert chains.place.tolist() == [0, 1, 2, 5, 3, 4, 7, 6, 8]
    assert chains.follows.tolist() == [True, True, False, True]
    empty = Chains(np.array([0, 0, 1]), np.zeros(3, bool))
    assert (empty.learned.tolist(), empty.ahead) == ([0, 2], (1, 0))


def test_a_series_without_a_value_changes_nothing_but_the_first_states() -> None:
    values = values_of("normal", "full", 30)
    blank = np.vstack([values, np.full((5, 2), np.nan)])
    one, two = (cases.bind(model_of("normal"), data) for data in (joined(values, (30,)), joined(blank, (30, 5))))
    assert isinstance(one, HiddenMarkov) and isinstance(two, HiddenMarkov)
    parameters = moved(one)
    assert likelihood(one, parameters) == pytest.approx(likelihood(two, parameters), rel=1e-12)
    assert two.steps == 31 and math.isfinite(likelihood(two, parameters))


def test_models_of_one_series_refuse_several() -> None:
    data = joined(values_of("normal", "full", 20)[:, :1], (12, 8))
    model = Autoregressive(order=2, noise_floor=1e-6)
    with pytest.raises(UserError, match="data.series=id names 2 series in test, and this model learns from one"):
        model.check(data)
    model_of("normal").check(data)


def test_a_long_series_does_not_fill_up_short_ones() -> None:
    """Learned from as data points, series are in chunks of about their length; a step of EM is the same."""
    sizes = (40, 2, 3, 2, 11, 3)
    model, _ = bound_to("normal", "full", sizes)
    parameters = moved(model)
    parted = model.apart(0, None)
    (block,) = parted.observations.blocks
    lengths = [np.diff(model.chains.edges)[chunk.points.numpy()] for chunk in block]
    assert sorted(np.concatenate([chunk.points.numpy() for chunk in block])) == list(range(len(sizes)))
    for chunk, length in zip(block, lengths, strict=True):
        assert chunk.weight.shape == (len(length), 2 * max(length)) and max(length) <= 4 * min(length)
    found = []
    for each in (model, parted):
        total: dict = {}
        for chunk in each.observations.chunks:
            total = each.add_statistics(total, chunk, each.posterior(parameters, chunk))
        found.append(each.maximise(parameters, total))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-12, atol=1e-12)
