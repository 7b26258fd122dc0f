"""A look around: what is left to gain at a saddle, on a slope and at a maximum."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.make_table import measurements
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.method import Method
from lgm_cli.models.autoregressive import Autoregressive
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.models.linear_regression import LinearRegression
from lgm_cli.models.ppca import Ppca
from lgm_cli.models.sparse_bayes import SparseBayes
from lgm_cli.models.state_space import StateSpace
from lgm_cli.results.outcome import SETTLED
from lgm_cli.run.curvature import Landscape, higher_nearby
from lgm_cli.run.stopping import Convergence
from tests import cases

TOLERANCE = 1e-4


def two_factors(layout: str = "masked", dtype: torch.dtype = torch.float64) -> LatentVariableModel:
    random = np.random.default_rng(0)
    y = random.normal(size=(400, 2)) @ random.normal(size=(2, 12)) / math.sqrt(2) + random.normal(size=(400, 12))
    return cases.bind(FactorAnalysis(2, True, 1e-3), cases.with_gaps(y, layout), dtype=dtype)


def after(model: LatentVariableModel, parameters: Parameters, steps: int) -> Parameters:
    method = Method(model, Exact(model), ClosedForm(model, parameters), 10**9, 0)
    for _ in range(steps):
        method.step()
    return method.parameters


def value(model: LatentVariableModel, parameters: Parameters) -> float:
    return float(cases.log_likelihood(model, parameters)) / model.observations.observed


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_a_landscape_has_the_slope_of_the_log_likelihood(layout: str) -> None:
    """Central differences of the exact log-likelihood, coordinate by coordinate, to 1e-7."""
    model = two_factors(layout)
    landscape = Landscape(model, model.start(0))
    assert landscape.value(landscape.start) == pytest.approx(value(model, model.start(0)), rel=1e-12)
    gradient = landscape.gradient(landscape.start)
    for place in range(0, len(gradient), 5):
        step = torch.zeros_like(gradient)
        step[place] = 1e-5
        slope = landscape.value(landscape.start + step) - landscape.value(landscape.start - step)
        assert float(gradient[place]) == pytest.approx(slope / 2e-5, abs=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_factor_that_is_zero_is_a_saddle(dtype: torch.dtype) -> None:
    """With one column of the loadings at zero EM never moves it: the maximum of a model with one factor less, from
    which the look finds the way up, and EM goes on to the maximum."""
    model = two_factors(dtype=dtype)
    start = model.start(0)
    best = value(model, after(model, start, 300))
    start["loadings"][:, 1] = 0.0
    saddle = after(model, start, 300)
    assert float(saddle["loadings"][:, 1].abs().max()) == 0.0
    assert value(model, saddle) < best - 0.003
    assert value(model, after(model, saddle, 100)) < value(model, saddle) + TOLERANCE / 10
    found = higher_nearby(model, saddle, TOLERANCE, 0, 300)
    assert found is not None
    assert value(model, found) > value(model, saddle) + TOLERANCE
    assert value(model, after(model, found, 300)) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_found_at_a_maximum(dtype: torch.dtype) -> None:
    model = two_factors(dtype=dtype)
    maximum = after(model, model.start(0), 1000)
    assert higher_nearby(model, maximum, 1e-6, 0, 1000) is None


def test_a_long_slope_is_found() -> None:
    """An autoregression whose EM gains 1e-4 nats per entry in a doubling of the steps, and 0.05 in ten times as many
    (simulated, 60 steps)."""
    model = Autoregressive(9, 1e-6)
    drawn = model.simulate({"num_points": 60, "factor_share": 0.5, "hidden_share": 0.3, "seed": 1})
    model = cases.bind(model, cases.as_data(drawn["values"], kind="series"))
    slow = after(model, model.start(0), 85)
    found = higher_nearby(model, slow, TOLERANCE, 0, 85)
    assert found is not None
    assert value(model, found) > value(model, slow) + TOLERANCE


def test_a_look_is_the_same_again() -> None:
    model = two_factors()
    slow = after(model, model.start(0), 3)
    first, second = (higher_nearby(model, slow, 0.0, 0, 3) for _ in range(2))
    assert first is not None and second is not None
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_parameters_that_have_no_likelihood_are_no_way_up(monkeypatch: pytest.MonkeyPatch) -> None:
    model = two_factors()
    slow = after(model, model.start(0), 3)
    monkeypatch.setattr(Landscape, "value", lambda self, vector: -math.inf)
    assert higher_nearby(model, slow, 0.0, 0, 3) is None


@pytest.mark.parametrize("seed", [1, 3, 7, 11, 17, 18])
def test_every_seed_reaches_the_one_maximum_of_the_questionnaire(seed: int, questionnaire: np.ndarray) -> None:
    """Seeds that once stopped at a saddle, 5e-3 below."""
    model = cases.bind(FactorAnalysis(2, True, 1e-3), questionnaire, dtype=torch.float32)
    assert value(model, after(model, model.start(seed), 20)) == pytest.approx(-1.6600, abs=2e-4)


@pytest.fixture(scope="module")
def questionnaire() -> np.ndarray:
    from lgm_cli.data import bfi

    table = bfi.load({"name": "bfi"})
    values = np.full(table.shape, np.nan)
    values[table.rows, table.columns] = table.values
    return values


def test_a_run_counts_anew_from_better_parameters() -> None:
    rule = Convergence(TOLERANCE)
    for step in range(41):
        rule.add(step, -1.0)
    assert rule.converged()
    rule.restart(-0.5)
    assert not rule.converged()
    for step in range(41, 60):
        rule.add(step, -0.5)
        assert not rule.converged()
    rule.add(60, -0.5)
    assert rule.converged()


def test_a_signal_that_moves_is_not_settled() -> None:
    """It is asked how far the mean moves in a doubling of the steps, beside its standard deviation."""
    for speed, settled in ((0.5, True), (2.0, False)):
        rule = Convergence(TOLERANCE)
        for step in range(1, 65):
            rule.add(step, -1.0, (torch.full((5,), speed * SETTLED * math.log2(step)), 1.0))
        assert rule.moved == pytest.approx(speed * SETTLED, rel=1e-5)
        assert rule.converged() == settled
        assert min(rule.means) >= 31


def test_a_signal_is_judged_by_means_and_variances() -> None:
    """Of a dense posterior, coefficient by coefficient."""
    model = SparseBayes("auto", False, 0.1, "auto", 1e-6)
    drawn = model.simulate(
        {"num_points": 2, "num_dimensions": 12, "latent_dim": 3, "factor_share": 0.8, "hidden_share": 0.0, "seed": 0}
    )
    table = measurements("signals", drawn["values"], drawn["dictionary"])
    model = cases.bind(model, Data(table, np.zeros(len(table.values), bool)))
    parameters = model.start(0)
    chunks = list(model.observations.chunks)
    found = [model.settling(parameters, model.posterior(parameters, chunk)) for chunk in chunks]
    wanted = [model.latents(parameters, model.posterior(parameters, chunk)) for chunk in chunks]
    unit = float(model.observations.scale[0])
    mean = torch.cat([mean.flatten() for mean, _ in wanted])
    variance = sum(float(deviation.expand_as(mean).square().sum()) for mean, deviation in wanted)
    assert torch.allclose(torch.cat([mean for mean, _ in found]) * unit, mean)
    assert sum(each for _, each in found) * unit**2 == pytest.approx(variance, rel=1e-5)


def test_starts_differ_little_by_their_seed() -> None:
    model = two_factors()
    one, other = (model.start(seed)["loadings"] for seed in (0, 1))
    assert 0.01 < float((one - other).norm() / one.norm()) < 0.5


def test_complete_data_start_at_the_maximum_of_principal_components() -> None:
    """Tipping and Bishop's closed form, but for the part that is random."""
    random = np.random.default_rng(0)
    y = random.normal(size=(500, 3)) @ random.normal(size=(3, 10)) * 2 + random.normal(size=(500, 10))
    model = cases.bind(Ppca(3, 1e-3), y)
    start = model.start(0)
    assert value(model, after(model, start, 500)) - value(model, start) < 0.02


def test_models_are_judged_by_their_likelihood_unless_they_say_otherwise() -> None:
    for kind in (FactorAnalysis, Ppca, LinearRegression, StateSpace, Autoregressive):
        assert kind.settled_gain is None
    with pytest.raises(TypeError, match="likelihood alone"):
        two_factors().settling({}, None)


def test_a_look_that_stumbles_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix that cannot be factorised near by is no reason to lose a run that has converged."""

    def fail(*_: object) -> torch.Tensor:
        return torch.linalg.cholesky(-torch.eye(2))

    model = two_factors()
    monkeypatch.setattr(Landscape, "gradient", fail)
    assert higher_nearby(model, model.start(0), 0.0, 0, 0) is None


def test_few_means_are_kept_however_often_a_run_is_evaluated() -> None:
    rule = Convergence(TOLERANCE)
    for step in range(2000):
        rule.add(step, -1.0, (torch.zeros(3), 1.0))
    assert len(rule.means) < 60 and rule.settled()
