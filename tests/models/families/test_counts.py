"""Poisson emissions with gaps, against scipy and numerical maximisers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import poisson
from torch import Tensor

from lgm_cli.models.families.counts import Counts, log_mass
from lgm_cli.observations.chunk import Chunk

DOUBLE: dict[str, Any] = {"dtype": torch.float64}
FLOOR = torch.tensor([1e-3, 2e-3, 1e-3], **DOUBLE)


@pytest.fixture(params=["masked", "gathered"])
def chunk(request: pytest.FixtureRequest) -> Chunk:
    """Rows of three columns with gaps, one of them without a value."""
    draw = torch.Generator().manual_seed(0)
    weight = (torch.rand(12, 3, generator=draw, **DOUBLE) < 0.7).double()
    weight[4] = 0
    values = weight * torch.poisson(torch.tensor([0.5, 4.0, 30.0], **DOUBLE).expand(12, 3), generator=draw)
    whole = Chunk(torch.arange(12), None, weight, values)
    return whole if request.param == "masked" else whole.gathered


def parameters() -> dict[str, Tensor]:
    return {"rates": torch.tensor([[0.4, 3.0, 25.0], [1.2, 6.0, 40.0]], **DOUBLE)}


def weights() -> Tensor:
    return torch.randn(12, 2, generator=torch.Generator().manual_seed(1), **DOUBLE).softmax(1)


def test_densities_are_those_of_the_observed_entries(chunk: Chunk) -> None:
    seen, values = chunk.scattered(3)
    mass = poisson.logpmf(values.numpy()[:, None], parameters()["rates"].numpy())
    found = Counts(FLOOR).emissions(parameters(), chunk).log_density
    assert np.allclose(found, (seen.numpy()[:, None] * mass).sum(2), atol=1e-12, rtol=0)
    assert found[4].tolist() == [0.0, 0.0]


def test_the_expected_loss_is_of_the_weighted_densities(chunk: Chunk) -> None:
    family = Counts(FLOOR)
    emissions = family.emissions(parameters(), chunk)
    found = family.expected_loss(parameters(), emissions.statistics(weights()))
    assert abs(float(found + (weights() * emissions.log_density).sum())) < 1e-12


def test_the_maximum_is_that_of_a_numerical_search(chunk: Chunk) -> None:
    """Under a floor that one rate of two falls below."""
    statistics = Counts(FLOOR).emissions(parameters(), chunk).statistics(weights())
    between = (statistics["first"] / statistics["count"])[:, 1].mean()
    family = Counts(torch.stack([FLOOR[0], between, FLOOR[2]]))
    best = family.maximise(parameters(), statistics)["rates"]

    def loss(logs: np.ndarray) -> float:
        rates = torch.as_tensor(np.exp(logs).reshape(2, 3))
        return float(family.expected_loss({"rates": rates}, statistics))

    limits = np.log(family.floor.numpy().repeat(2).reshape(3, 2).T.ravel())
    start = np.log(parameters()["rates"].numpy().ravel() + 2)
    searched = minimize(loss, start, bounds=[(low, 8) for low in limits], options={"ftol": 1e-15, "gtol": 1e-8})
    assert np.allclose(np.log(best.numpy().ravel()), searched.x, atol=1e-5)
    assert (best[:, 1] == between).sum() == 1


def test_a_component_without_weight_keeps_its_rates(chunk: Chunk) -> None:
    family, alone = Counts(FLOOR), torch.tensor([[1.0, 0.0]], **DOUBLE).expand(12, 2)
    found = family.maximise(parameters(), family.emissions(parameters(), chunk).statistics(alone))["rates"]
    assert torch.equal(found[1], parameters()["rates"][1])
    seen, values = chunk.scattered(3)
    assert torch.allclose(found[0], values.sum(0) / seen.sum(0), atol=1e-14)


def test_free_coordinates_lead_back_and_stay_above_the_floor() -> None:
    family, rates = Counts(FLOOR), parameters()["rates"]
    assert torch.allclose(family.constrain(family.free(rates)), rates, rtol=1e-13)
    assert bool((family.constrain(torch.full((2, 3), -50.0, **DOUBLE)) >= FLOOR).all())
    assert bool(family.free(FLOOR.expand(2, 3)).isfinite().all())


def test_hidden_entries_have_the_moments_and_the_mass_of_their_rates(chunk: Chunk) -> None:
    emissions = Counts(FLOOR).emissions(parameters(), chunk)
    index = torch.tensor([[2, 0]]).expand(12, -1)
    mean, variance = emissions.conditional(index)
    assert mean[3].tolist() == [[25.0, 0.4], [40.0, 1.2]]
    assert torch.equal(mean, variance)
    values = torch.arange(24, **DOUBLE).view(12, 2)
    expected = poisson.logpmf(values.numpy()[:, None], mean.numpy())
    assert np.allclose(emissions.log_mass(index, values), expected, atol=1e-12)


def test_what_is_no_count_has_no_mass() -> None:
    found = log_mass(torch.tensor(2.0), torch.tensor([1.0, 1.5, -1.0]))
    assert found.isfinite().tolist() == [True, False, False]
