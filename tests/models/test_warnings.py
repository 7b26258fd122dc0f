"""Warnings of models: who follows their advice sees them go, and a fit that is not worse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.load import load
from lgm_cli.errors import UserError
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.method import Method
from tests import cases
from tests.models.test_linear_regression import data_of


def learned(name: str, data: Data, options: dict[str, Any], steps: int = 100) -> tuple[list[str], float, Any]:
    """Warnings, the log-likelihood per entry, the model."""
    model = cases.build_model(name, cases.variants(name)[0] | options)
    model.check(data)
    model = cases.bind(model, data)
    method = Method(model, Exact(model), ClosedForm(model, model.start(0)), 10**9, 0)
    for _ in range(steps):
        method.step()
    names = list(map(str, data.table.column_labels))
    fit = float(cases.log_likelihood(model, method.parameters)) / model.observations.observed
    return model.warnings(method.parameters, names), fit, model


def factors(columns: int, noise: float, seed: int = 0) -> Data:
    """One factor, seen almost without noise in the first column, or in all."""
    random = np.random.default_rng(seed)
    y = random.normal(size=(100, 1)) * random.uniform(0.8, 1.2, columns)
    scale = np.full(columns, 0.5) if noise > 0 else np.full(columns, -noise)
    scale[0] = abs(noise)
    return cases.as_data(y + scale * random.normal(size=y.shape))


def regression(noise: float) -> Data:
    random = np.random.default_rng(0)
    features = random.normal(size=(40, 3))
    return data_of(features, features.sum(1) + noise * random.normal(size=40))


def walk(noise: float) -> Data:
    random = np.random.default_rng(0)
    y = random.normal(size=(60, 1)).cumsum(0)
    return cases.as_data(y + noise * random.normal(size=y.shape), kind="series")


FLOORS = {
    "factor_analysis": (factors(5, 0.1), {"latent_dim": 1, "offset": False, "noise_floor": 0.05}),
    "ppca": (factors(5, -0.1), {"latent_dim": 1, "noise_floor": 0.05}),
    "linear_regression": (regression(1e-4), {"noise_floor": 1e-6}),
    "state_space": (walk(0.6), {"latent_dim": 1, "noise_floor": 0.5}),
}


@pytest.mark.parametrize("name", FLOORS)
def test_a_lower_floor_frees_a_noise_variance_that_met_it(name: str) -> None:
    data, options = FLOORS[name]
    (warning,), before, model = learned(name, data, options)
    assert "ended at its floor" in warning and f"({model.lower_floor} lets it fall further" in warning
    key, _, value = model.lower_floor.partition("=")
    assert key == "model.noise_floor"
    warnings, after, _ = learned(name, data, options | {"noise_floor": float(value)})
    assert warnings == [] and after > before + 1e-3


def test_more_features_than_responses_are_named_and_more_responses_the_cure() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 20))
    response = features.sum(1) + random.normal(size=200)
    (warning,), _, _ = learned("linear_regression", data_of(features[:10], response[:10]), {}, 300)
    assert "20 features explain any 10 responses (more responses or fewer features" in warning
    assert "copy" not in warning
    assert learned("linear_regression", data_of(features, response), {})[0] == []
    assert learned("linear_regression", data_of(features[:10, :2], response[:10]), {})[0] == []


def test_a_copy_of_the_response_is_suspected_where_a_lower_floor_is_met_too() -> None:
    data = regression(0.0)
    for floor in (1e-6, 1e-9):
        (warning,), _, _ = learned("linear_regression", data, {"noise_floor": floor}, 300)
        assert "a copy of the response among the features?" in warning


@pytest.mark.parametrize(
    ("columns", "offset", "most"),
    [
        (2, False, 0),
        (3, False, 1),
        (3, True, 0),
        (4, True, 1),
        (5, False, 2),
        (5, True, 2),
        (6, False, 3),
        (6, True, 2),
    ],
)
def test_factors_are_counted_against_the_columns(columns: int, offset: bool, most: int) -> None:
    """Free numbers: loadings less their rotations, noise variances and that of the offset; against covariances."""
    data = cases.as_data(np.random.default_rng(0).normal(size=(30, columns)))
    for dim in range(1, columns + 1):
        warnings, _, model = learned("factor_analysis", data, {"latent_dim": dim, "offset": offset}, 0)
        free = columns * dim - dim * (dim - 1) // 2 + columns + offset
        identified = free <= columns * (columns + 1) // 2 and dim < columns
        assert (warnings == []) == identified == (dim <= model.most_identified(offset))
    assert model.most_identified(offset) == most


def test_fewer_factors_are_the_cure_of_too_many() -> None:
    random = np.random.default_rng(0)
    y = random.normal(size=(200, 3)) @ random.normal(size=(3, 5)) + random.normal(size=(200, 5))
    data = cases.as_data(y)
    warnings, before, _ = learned("factor_analysis", data, {"latent_dim": 3, "offset": False}, 500)
    assert (
        "model.latent_dim=3 is too much for 5 columns" in warnings[0] and "(model.latent_dim=2 or less)" in warnings[0]
    )
    warnings, after, _ = learned("factor_analysis", data, {"latent_dim": 2, "offset": False}, 500)
    assert not any("too much" in warning for warning in warnings) and after > before - 1e-3
    warnings, _, _ = learned("factor_analysis", data, {"latent_dim": 3, "offset": True}, 1)
    assert "(model.latent_dim=2 or less)" in warnings[0]
    few = cases.as_data(y[:, :3])
    (warning,), _, _ = learned("factor_analysis", few, {"latent_dim": 1, "offset": True}, 1)
    assert (
        "model.latent_dim=1 with an offset is too much for 3 columns" in warning and "(model.offset=false)" in warning
    )
    warnings, _, _ = learned("ppca", data, {"latent_dim": 5}, 1)
    assert "(model.latent_dim=4 or less)" in warnings[0]
    assert learned("ppca", data, {"latent_dim": 4}, 1)[0] == []


@pytest.mark.parametrize("name", ["factor_analysis", "ppca"])
def test_as_many_factors_as_the_message_says_are_accepted(name: str) -> None:
    data = cases.as_data(np.random.default_rng(0).normal(size=(9, 6)))
    with pytest.raises(UserError, match="use model.latent_dim=6 or less"):
        cases.build_model(name, cases.variants(name)[0] | {"latent_dim": 7}).check(data)
    cases.build_model(name, cases.variants(name)[0] | {"latent_dim": 6}).check(data)


def test_the_noise_of_a_signal_that_is_given_is_not_told_from_its_prior() -> None:
    options = {"unknowns": 64, "measurements": 30, "nonzeros": 6, "noise": 0.1, "tasks": 1, "seed": 0}
    data = load({"name": "cosine", "test_fraction": 0.0, **options}, 0, None)
    (warning,), _, _ = learned("sparse_bayes", data, {"learn_noise": True, "noise_floor": 1e-3}, 200)
    assert "give model.noise_variance with model.learn_noise=false" in warning
    warnings, _, _ = learned("sparse_bayes", data, {"noise_variance": 0.01, "learn_noise": False}, 50)
    assert warnings == []


def test_a_noise_variance_near_its_floor_is_a_heywood_case() -> None:
    data = factors(5, 0.1)
    _, _, model = learned("factor_analysis", data, {"latent_dim": 1, "offset": False}, 0)
    parameters = model.start(0)
    names = [f"y{i}" for i in range(5)]
    assert model.warnings(parameters, names) == []
    parameters["noise_variance"][2] = 1.6 * model.noise_floor
    assert "the noise variance of y2 ended at its floor" in model.warnings(parameters, names)[0]
    parameters["noise_variance"][2] = 10 * model.noise_floor
    assert model.warnings(parameters, names) == []


def test_a_series_without_noise_is_told_from_one_whose_floor_is_too_high() -> None:
    """A walk with a drift, far along: whatever its floor, the data show no noise, and no lower one is advised."""
    data = cases.as_data(np.random.default_rng(0).normal(3.0, 1.0, size=(80, 1)).cumsum(0), kind="series")
    found, _, model = learned("state_space", data, {"latent_dim": 1}, 100)
    assert not any("lets it fall" in text or "fewer" in text for text in found)
    parameters = model.start(0)
    parameters["noise_variance"] = torch.full_like(parameters["noise_variance"], 1e-12)
    (warning,) = [text for text in model.warnings(parameters, ["cpi"]) if "floor" in text]
    assert "of cpi ended at its floor" in warning and "no noise can be told beside their innovations" in warning
