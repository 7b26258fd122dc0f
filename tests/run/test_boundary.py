"""Variances at their floors: taken where the data show none, left where there is some, in every model."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize
from statsmodels.datasets import macrodata

from lgm_cli.data.base.data import Data
from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.m_steps.gradient import Gradient
from lgm_cli.methods.method import Method
from lgm_cli.models.autoregressive import Autoregressive
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.models.linear_regression import LinearRegression
from lgm_cli.models.parts.one_step_variances import SMALLEST_CHANGE, one_step_variances
from lgm_cli.models.ppca import Ppca
from lgm_cli.models.state_space import StateSpace
from lgm_cli.results.metrics import Recorder
from lgm_cli.results.outcome import Outcome
from lgm_cli.run.boundary import Boundary
from lgm_cli.run.loop import Learner, Limits
from lgm_cli.run.progress import Progress
from lgm_cli.run.stopping import Convergence
from tests import cases


def learned(
    model: LatentVariableModel, data: Data, folder: Path, gradient: bool = False, most: int = 500, stop_at: int = 0
) -> tuple[Outcome, Learner]:
    """A run by exact posteriors; stop_at: steps after which it is told to stop, saved, and gone on with by another."""
    model = cases.bind(model, data)

    def learner(stop: Any) -> Learner:
        start = model.start(0)
        update = Gradient(model, start, "adam", 0.2) if gradient else ClosedForm(model, start)
        method = Method(model, Exact(model), update, 1, 0)
        evaluator = Evaluator(model, data, 0)
        limits = Limits(most, None, None, 1e9)
        recorder = Recorder(folder, evaluator.own_columns)
        return Learner(method, evaluator, recorder, Convergence(1e-4), limits, folder / "checkpoint", stop)

    folder.mkdir(exist_ok=True)
    run = learner(lambda: bool(stop_at) and run.method.steps >= stop_at)
    with Progress(most, None, step=0, fit_seconds=0.0, bar=False) as progress:
        outcome = run.learn(progress)
    if stop_at:
        run = learner(lambda: False)
        run.load()
        with Progress(most, None, step=stop_at, fit_seconds=0.0, bar=False) as progress:
            outcome = run.learn(progress)
    return outcome, run


def series(values: np.ndarray) -> Data:
    return cases.as_data(values.reshape(len(values), -1), kind="series")


def walk(steps: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=steps).cumsum()


def maximum(y: np.ndarray) -> float:
    """Of the likelihood of a stationary AR(1) without noise, nats per entry."""

    def loss(theta: np.ndarray) -> float:
        a, q, z = np.tanh(theta[0]), np.exp(theta[1]), y - y.mean() - y.std() * theta[2]
        error = np.r_[z[0] * np.sqrt(1 - a**2), z[1:] - a * z[:-1]]
        return 0.5 * (error @ error / q + len(y) * np.log(2 * np.pi * q) - np.log(1 - a**2))

    found = [minimize(loss, [u, np.log(np.diff(y).var()), 0.0], tol=1e-10) for u in (0.0, 2.0)]
    return -min(each.fun for each in found) / len(y)


@pytest.mark.parametrize(
    ("y", "gradient"), [(walk(60), False), (np.array([134, 140, 222, 213.0]), False), (walk(60), True)]
)
def test_a_series_without_noise_ends_at_the_floor_of_the_noise(y: np.ndarray, gradient: bool, tmp_path: Path) -> None:
    """Within a few hundred steps at the maximum of the exact likelihood, to 1e-5 nats an entry, and it is said."""
    model = Autoregressive(1, 1e-6)
    outcome, run = learned(model, series(y), tmp_path, gradient)
    model = run.method.model
    assert outcome.status == "converged" and run.method.steps < 300
    assert outcome.scores.train_log_likelihood == pytest.approx(maximum(y), abs=1e-4 if gradient else 1e-5)
    (warning,) = model.warnings(outcome.parameters, ["y0"])
    assert warning.startswith("the noise variance ended at its floor")


@pytest.mark.parametrize("model", [StateSpace(1, 1e-3), Autoregressive(1, 1e-6)])
def test_noise_that_is_small_but_there_is_kept(model: LatentVariableModel, tmp_path: Path) -> None:
    """A third of the innovations' variance: a hundredth of that of the series."""
    y = walk(400, 5) + np.sqrt(0.3) * np.random.default_rng(3).normal(size=400)
    outcome, run = learned(model, series(y), tmp_path)
    model = run.method.model
    assert 0.15 < float(model.export(outcome.parameters)["noise_variance"]) < 0.6


def test_a_run_that_goes_on_tries_what_it_would_have_tried(tmp_path: Path) -> None:
    whole, run = learned(Autoregressive(1, 1e-6), series(walk()), tmp_path / "whole")
    parts, other = learned(Autoregressive(1, 1e-6), series(walk()), tmp_path / "parts", stop_at=25)
    assert run.method.steps == other.method.steps
    assert all(torch.equal(value, parts.parameters[name]) for name, value in whole.parameters.items())


def test_a_jump_is_logged_with_its_gain(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        learned(Autoregressive(1, 1e-6), series(walk()), tmp_path)
    assert any("going on from noise_variance[0] at the floor, " in message for message in caplog.messages)


def _table(name: str) -> tuple[LatentVariableModel, Data, str]:
    """A model whose best value of a variance is none, and which."""
    random = np.random.default_rng(2)
    n = 150
    noise, features = random.normal(size=(n, 5)), random.normal(size=(n, 3))
    if name == "heywood":
        correlation = np.eye(5)  # of the first column with the others, more than one factor allows
        correlation[0, 1:3] = correlation[1:3, 0] = 0.85
        correlation[1, 2] = correlation[2, 1] = 0.6
        noise = np.linalg.solve(np.linalg.cholesky(np.cov(noise.T)), noise.T)
        y = (np.linalg.cholesky(correlation) @ noise).T
        return FactorAnalysis(1, False, 1e-3), cases.as_data(y), "noise_variance"
    if name == "offset":
        return (
            FactorAnalysis(1, True, 1e-3),
            cases.as_data(noise - noise.mean(1)[:, None]),
            "offset_variance",
        )
    if name == "ppca":
        return Ppca(2, 1e-3), cases.as_data(random.normal(size=(n, 2)) @ random.normal(size=(2, 5))), "noise_variance"
    features -= features.mean(0)
    unrelated = noise[:, 0] - features @ np.linalg.lstsq(features, noise[:, 0], rcond=None)[0]
    y = unrelated if name == "weights" else features @ [1.0, -1, 2]
    data = cases.as_data(y[:, None])
    table = dataclasses.replace(data.table, features=features, feature_labels=None, kind="regression")
    model = LinearRegression(1e-6)
    return (
        model,
        dataclasses.replace(data, table=table),
        "noise_variance" if name == "regression" else "weight_precision",
    )


@pytest.mark.parametrize("name", ["heywood", "offset", "ppca", "regression", "weights"])
def test_variances_of_every_model_are_tried(name: str, tmp_path: Path) -> None:
    model, data, variance = _table(name)
    outcome, run = learned(model, data, tmp_path)
    model = run.method.model
    value = outcome.parameters[variance].reshape(-1).double()
    value = value.reciprocal() if variance.endswith("precision") else value
    assert float(value.min()) <= 1.05 * float(model.floors()[variance].max())
    assert any("at its floor" in line for line in model.warnings(outcome.parameters, list("abcde")))


def test_a_floor_is_not_taken_where_a_value_between_is_better(tmp_path: Path) -> None:
    """From a variance far above its best value: lower at the present one than at the floor, best between."""
    y = walk(400, 5) + np.sqrt(0.5) * np.random.default_rng(3).normal(size=400)
    model = Autoregressive(1, 1e-6)
    model = cases.bind(model, series(y))
    evaluator = Evaluator(model, series(y), 0)
    method = Method(model, Exact(model), ClosedForm(model, model.start(0)), 1, 0)
    for _ in range(10):
        method.step()
    parameters: Parameters = method.parameters | {"noise_variance": torch.tensor(0.05, dtype=torch.float64)}
    boundary = Boundary(model, evaluator, 1e-4)
    assert boundary.attempt(parameters, 10, settled=True) is None


# The floors of series ------------------------------------------------------------------------------------------


def test_what_one_step_leaves_unexplained() -> None:
    """The variance of white noise, half that of a random walk's innovations; gaps and a trend change nothing."""
    random = np.random.default_rng(0)
    y = np.c_[random.normal(size=4000), random.normal(size=4000).cumsum(), np.arange(4000) * 0.5]
    weight = random.random(y.shape) < 0.7
    weight[:, 0] = True

    def of(y: np.ndarray) -> np.ndarray:
        return one_step_variances(torch.as_tensor(weight, dtype=torch.float64), torch.as_tensor(y * weight)).numpy()

    found = of(y)
    np.testing.assert_allclose(found[:2], [1.0, 0.5], rtol=0.1)
    assert found[2] == SMALLEST_CHANGE
    np.testing.assert_allclose(of(y + 1e3 * np.arange(4000)[:, None])[:2], found[:2], rtol=1e-5)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_a_trend_does_not_change_the_noise(noise: float, tmp_path: Path) -> None:
    """To 5%, whether it ends at the floor or above, though the trend makes the channel's variance a million times as
    large; of an autoregression, whose states cannot drift, at the floor."""
    y, time = walk(80) + noise * np.random.default_rng(4).normal(size=80), np.arange(80)
    models = [lambda: StateSpace(1, 1e-3)] + ([] if noise else [lambda: Autoregressive(1, 1e-6)])
    for make in models:
        found = []
        for number, values in enumerate((y, y + 30 * time)):
            outcome, run = learned(make(), series(values), tmp_path / str(number))
            found.append(float(run.method.model.export(outcome.parameters)["noise_variance"]))
        assert found[1] == pytest.approx(found[0], rel=0.05)


def test_the_level_of_a_series_with_a_trend_is_found_where_there_is_no_noise(tmp_path: Path) -> None:
    """One state is a random walk with a drift in the limit, of which a run is at most 0.01 nats an entry short."""
    y = walk() + 0.5 * np.arange(60)
    outcome, _ = learned(StateSpace(1, 1e-3), series(y), tmp_path)
    drifting = -0.5 * np.log(2 * np.pi * np.e * np.diff(y).var())
    assert outcome.status == "converged"
    assert outcome.scores.train_log_likelihood > drifting - 0.01


def test_consumer_prices_are_forecast_as_closely_as_a_quarter_changes_them(tmp_path: Path) -> None:
    frame = pd.DataFrame(macrodata.load_pandas().data)[["cpi", "realint"]]
    model = StateSpace(1, 1e-3)
    outcome, run = learned(model, series(frame.to_numpy()), tmp_path)
    model = run.method.model
    found = model.export(outcome.parameters)
    deviation = float((found["observation"].square().sum(1) + found["noise_variance"]).sqrt()[0])
    assert outcome.status == "converged" and outcome.scores.train_log_likelihood > -1.84
    assert deviation == pytest.approx(np.diff(frame["cpi"]).std(), rel=0.1)
    assert not any("use fewer" in line for line in model.warnings(outcome.parameters, ["cpi", "realint"]))
