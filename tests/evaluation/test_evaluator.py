"""What is reported of parameters, against the dense computation; and of a subset of the data points."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from lgm_cli.data.base.data import Data
from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.factor_analysis import FactorAnalysis
from tests import cases, reference

SIZES = {"masked": (60, 10), "shared": (60, 10), "gathered": (120, 40)}
each_layout = pytest.mark.parametrize("layout", SIZES)


def case(
    layout: str, offset: bool = True, points: int | None = None
) -> tuple[np.ndarray, np.ndarray, Data, LatentVariableModel, Parameters]:
    """(y, hidden, data, model, parameters): a table with gaps, a fifth of its values hidden."""
    random = np.random.default_rng(0)
    rows, columns = SIZES[layout]
    rows = points or rows
    y = random.normal(size=(rows, 2)) @ random.normal(size=(2, columns)) + random.normal(size=(rows, columns))
    y = cases.with_gaps((3 + y) * np.geomspace(0.1, 10, columns), layout)
    if layout == "shared":  # what is hidden is the same in all rows of a group, or they would not share a mask
        hidden = np.zeros(y.shape, bool)
        hidden[::3, :2] = hidden[1::3, 5:7] = True
    else:
        hidden = random.random(y.shape) < 0.2
    hidden &= ~np.isnan(y)
    hidden[0] = ~np.isnan(y[0])  # a data point of which nothing is seen, and all is to be predicted
    data = cases.as_data(y, hidden)
    model = cases.bind(FactorAnalysis(2, offset, 1e-3), data)
    assert layout in cases.layouts(model.observations)
    return y, hidden, data, model, cases.perturbed(model.start(0), size=0.3)


def exported(model: LatentVariableModel, parameters: Parameters) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.export(parameters).items()}


@each_layout
@pytest.mark.parametrize("offset", [False, True], ids=["plain", "offset"])
def test_scores_are_those_of_the_dense_computation(layout: str, offset: bool) -> None:
    y, hidden, data, model, parameters = case(layout, offset)
    seen = np.where(hidden, np.nan, y)
    given = exported(model, parameters)
    mean, variance = reference.conditional(given, seen)
    error = (y - mean)[hidden]
    density = -0.5 * (error**2 / variance[hidden] + np.log(2 * np.pi * variance[hidden]))
    scores = Evaluator(model, data, 0).score(parameters)
    assert scores.train_log_likelihood == pytest.approx(
        reference.log_likelihoods(given, seen).sum() / (~np.isnan(seen)).sum(), rel=1e-11
    )
    assert scores.test_log_likelihood == pytest.approx(density.mean(), rel=1e-10)
    assert scores.test_rmse == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-10)
    assert scores.standard_error is None
    assert scores.points == len(y)


@each_layout
def test_predictions_and_gaps_are_those_of_the_dense_computation(layout: str) -> None:
    y, hidden, data, model, parameters = case(layout)
    evaluator = Evaluator(model, data, 0)
    mean, variance = reference.conditional(exported(model, parameters), np.where(hidden, np.nan, y))
    for rows, columns in ((data.test_rows, data.test_columns), np.nonzero(np.isnan(y))):
        found_mean, found_deviation = evaluator.predict(parameters, rows, columns)
        np.testing.assert_allclose(found_mean, mean[rows, columns], rtol=1e-9)
        np.testing.assert_allclose(found_deviation, np.sqrt(variance[rows, columns]), rtol=1e-9)
    none = np.zeros(0, int)
    assert [len(part) for part in evaluator.predict(parameters, none, none)] == [0, 0]


@each_layout
def test_latent_variables_come_in_the_order_of_the_data(layout: str) -> None:
    y, hidden, data, model, parameters = case(layout)
    mean, covariance = reference.posterior(exported(model, parameters), np.where(hidden, np.nan, y))
    found_mean, found_deviation = Evaluator(model, data, 0).inferred(parameters).values()
    np.testing.assert_allclose(found_mean, mean, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found_deviation, np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)), rtol=1e-8)


def test_nothing_hidden_is_nothing_to_score() -> None:
    y, _, _, _, parameters = case("masked")
    data = cases.as_data(y)
    scores = Evaluator(cases.bind(FactorAnalysis(2, True, 1e-3), data), data, 0).score(parameters)
    assert scores.test_log_likelihood is None
    assert scores.test_rmse is None


def test_nothing_is_changed_by_looking() -> None:
    """Evaluation draws no random number and leaves parameters as they are."""
    *_, data, model, parameters = case("masked")
    before = copy.deepcopy(parameters)
    state = torch.random.get_rng_state()
    evaluator = Evaluator(model, data, 0)
    first, second = evaluator.score(parameters), evaluator.score(parameters)
    assert first == second
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in parameters.items())


def subset(
    monkeypatch: pytest.MonkeyPatch, data: Data, model: LatentVariableModel, points: int, seed: int
) -> Evaluator:
    """An evaluator that can afford so many data points on the way."""
    monkeypatch.setattr("lgm_cli.evaluation.evaluator.SUBSET_POINTS", points)
    monkeypatch.setattr("lgm_cli.evaluation.evaluator.SUBSET_OPERATIONS", 1.0)
    return Evaluator(model, data, seed)


@each_layout
def test_a_subset_is_fixed_and_the_last_word_is_everything(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, data, model, parameters = case(layout)
    whole = Evaluator(model, data, 0).score(parameters)
    part = subset(monkeypatch, data, model, 20, seed=0)
    assert part.sampled
    scores = part.score(parameters)
    assert scores.points == 20
    assert scores.standard_error is not None and scores.standard_error > 0
    assert scores == part.score(parameters) == subset(monkeypatch, data, model, 20, seed=0).score(parameters)
    assert scores != subset(monkeypatch, data, model, 20, seed=1).score(parameters)
    assert part.describe(scores) == {
        "log_likelihood": "exact posteriors of a fixed random subset of the data points",
        "data_points": 20,
        "of": data.shape[0],
        "sampled_on_the_way": True,
    }
    final = part.score(parameters, final=True)
    assert final == whole
    assert part.describe(final)["log_likelihood"] == "exact"


def test_even_the_last_word_is_a_subset_when_all_cost_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, data, model, parameters = case("masked")
    monkeypatch.setattr("lgm_cli.evaluation.evaluator.EXACT_OPERATIONS", 1.0)
    part = subset(monkeypatch, data, model, 20, seed=0)
    assert not part.exact_at_end
    final = part.score(parameters, final=True)
    assert final.points == 20
    assert final.standard_error is not None


def test_predictions_of_many_entries_are_made_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, data, model, parameters = case("gathered")
    rows, columns = (index.flatten() for index in np.indices(data.shape))
    whole = Evaluator(model, data, 0).predict(parameters, rows, columns)
    monkeypatch.setattr("lgm_cli.evaluation.evaluator.EXACT_ELEMENTS", 1)
    for all_at_once, one_by_one in zip(
        whole, Evaluator(model, data, 0).predict(parameters, rows, columns), strict=True
    ):
        np.testing.assert_allclose(one_by_one, all_at_once, rtol=1e-12)


def test_the_standard_error_of_a_subset_is_its_distance_from_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 300 subsets of 100 of 200 data points, the errors in units of their standard errors are standard."""
    _, _, data, model, parameters = case("masked", points=200)
    whole = Evaluator(model, data, 0).score(parameters).train_log_likelihood
    scores = []
    for seed in range(300):
        found = subset(monkeypatch, data, model, 100, seed).score(parameters)
        assert found.standard_error is not None
        scores.append((found.train_log_likelihood - whole) / found.standard_error)
    assert abs(np.mean(scores)) < 0.3
    assert 0.85 < np.std(scores) < 1.15


@pytest.mark.parametrize(("shift", "unit"), [(1e8, 1.0), (0.0, 1e25), (0.0, 1e-25)])
def test_single_precision_scores_data_of_any_unit_and_mean(shift: float, unit: float) -> None:
    """Rounding to single precision happens in standardised units: the same scores as in units of one, to 1e-4."""
    y, hidden, *_ = case("masked")
    found = []
    for values, dtype in ((y, torch.float64), (shift + unit * y, torch.float32)):
        data = cases.as_data(values, hidden)
        model = cases.bind(FactorAnalysis(2, True, 1e-3), data, dtype)
        evaluator, parameters = Evaluator(model, data, 0), cases.perturbed(model.start(0))
        scores = evaluator.score(parameters)
        predicted = evaluator.predict(parameters, data.test_rows, data.test_columns)
        assert scores.test_log_likelihood is not None and scores.test_rmse is not None
        found.append((scores, predicted))
    (plain, (mean, deviation)), (other, (other_mean, other_deviation)) = found
    assert other.train_log_likelihood + np.log(unit) == pytest.approx(plain.train_log_likelihood, abs=1e-4)
    assert other.test_log_likelihood + np.log(unit) == pytest.approx(plain.test_log_likelihood, abs=1e-4)
    assert other.test_rmse / unit == pytest.approx(plain.test_rmse, rel=1e-4)
    np.testing.assert_allclose((other_mean - shift) / unit, mean, atol=1e-3)
    np.testing.assert_allclose(other_deviation / unit, deviation, rtol=1e-4)
