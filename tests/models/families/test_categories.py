"""Categorical emissions with gaps, against a table of probabilities and numerical maximisers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from lgm_cli.models.families.categories import Categories, above_floor, centred_logs, log_mass, shares
from lgm_cli.observations.chunk import Chunk

DOUBLE: dict[str, Any] = {"dtype": torch.float64}
SIZES = torch.tensor([3, 2])


@pytest.fixture(params=["masked", "gathered"])
def chunk(request: pytest.FixtureRequest) -> Chunk:
    """Rows of a column of three categories and one of two, with gaps, one of them without a value."""
    draw = torch.Generator().manual_seed(0)
    weight = (torch.rand(30, 2, generator=draw, **DOUBLE) < 0.7).double()
    weight[4] = 0
    values = weight * torch.stack([torch.randint(3, (30,), generator=draw), torch.randint(2, (30,), generator=draw)], 1)
    whole = Chunk(torch.arange(30), None, weight, values)
    return whole if request.param == "masked" else whole.gathered


def parameters() -> dict[str, Tensor]:
    first = [[[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]], [[0.6, 0.1, 0.3], [0.4, 0.6, 0.0]]]
    return {"probabilities": torch.tensor(first, **DOUBLE)}


def weights() -> Tensor:
    return torch.randn(30, 2, generator=torch.Generator().manual_seed(1), **DOUBLE).softmax(1)


def test_densities_are_those_of_the_observed_entries(chunk: Chunk) -> None:
    seen, values = chunk.scattered(2)
    expected = torch.zeros(30, 2, **DOUBLE)
    for n in range(30):
        for m in range(2):
            if seen[n, m]:
                expected[n] += parameters()["probabilities"][:, m, int(values[n, m])].log()
    emissions = Categories(SIZES, 1e-3).emissions(parameters(), chunk)
    assert torch.allclose(emissions.log_density, expected, atol=1e-13, rtol=0)


def test_the_expected_loss_is_of_the_weighted_densities(chunk: Chunk) -> None:
    family = Categories(SIZES, 1e-3)
    emissions = family.emissions(parameters(), chunk)
    inside = {"probabilities": parameters()["probabilities"].requires_grad_()}
    found = family.expected_loss(inside, emissions.statistics(weights()))
    assert abs(float(found.detach() + (weights() * emissions.log_density).sum())) < 1e-12
    found.backward()
    gradient = inside["probabilities"].grad
    assert gradient is not None
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("floor", [1e-6, 0.25])
def test_the_maximum_is_that_of_a_numerical_search(chunk: Chunk, floor: float) -> None:
    """With 0.25, some categories end at the floor and take from the others."""
    family = Categories(SIZES, floor)
    statistics = family.emissions(parameters(), chunk).statistics(weights())
    best = family.maximise(parameters(), statistics)["probabilities"]
    assert torch.allclose(best.sum(2), torch.ones(2, 2, **DOUBLE), atol=1e-14)
    assert best[:, 1, 2].tolist() == [0.0, 0.0]
    for k in range(2):
        counts = statistics["counts"][k, 0].numpy()
        searched = minimize(
            lambda p, counts=counts: -float((counts * np.log(p)).sum()),
            np.full(3, 1 / 3),
            jac=lambda p, counts=counts: -counts / p,
            bounds=[(floor, 1)] * 3,
            constraints={"type": "eq", "fun": lambda p: p.sum() - 1, "jac": np.ones_like},
            method="SLSQP",
            options={"ftol": 1e-14},
        )
        assert np.allclose(best[k, 0], searched.x, atol=1e-6)
    assert bool((best[:, 0] == floor).any()) == (floor == 0.25)


def test_shares_stay_above_a_floor_that_meets_one_after_another() -> None:
    """At first only the smallest is below; raising it pushes the second below, too."""
    found = shares(torch.tensor([1.0, 21.0, 78.0], **DOUBLE), 0.2)
    assert torch.allclose(found, torch.tensor([0.2, 0.2, 0.6], **DOUBLE), atol=1e-15)
    assert torch.allclose(shares(torch.tensor([1.0, 3.0], **DOUBLE), 1e-9), torch.tensor([0.25, 0.75], **DOUBLE))


def test_a_component_without_weight_keeps_its_probabilities(chunk: Chunk) -> None:
    family, alone = Categories(SIZES, 1e-6), torch.tensor([[0.0, 1.0]], **DOUBLE).expand(30, 2)
    found = family.maximise(parameters(), family.emissions(parameters(), chunk).statistics(alone))["probabilities"]
    assert torch.equal(found[0], parameters()["probabilities"][0])
    assert bool(found.isfinite().all())


def test_free_coordinates_lead_back() -> None:
    family, given = Categories(SIZES, 1e-6), parameters()["probabilities"]
    free = family.free(given)
    assert torch.allclose(family.constrain(free), given, atol=1e-12)
    assert torch.allclose(free.sum(2), torch.zeros(2, 2, **DOUBLE), atol=1e-12)
    rows = torch.tensor([[0.2, 0.8, 0.0], [0.1, 0.2, 0.7]], **DOUBLE)
    assert torch.allclose(above_floor(centred_logs(rows, 1e-9), 1e-9), rows, atol=1e-8)


def test_hidden_entries_have_the_moments_and_the_mass_of_their_categories(chunk: Chunk) -> None:
    emissions = Categories(SIZES, 1e-6).emissions(parameters(), chunk)
    index = torch.tensor([[1, 0]]).expand(30, -1)
    mean, variance = emissions.conditional(index)
    assert torch.allclose(mean[7], torch.tensor([[0.1, 1.1], [0.6, 0.7]], **DOUBLE))
    assert torch.allclose(variance[7], torch.tensor([[0.09, 0.49], [0.24, 0.81]], **DOUBLE))
    values = torch.tensor([[1.0, 2.0]], **DOUBLE).expand(30, -1)
    expected = torch.tensor([[0.1, 0.3], [0.6, 0.3]], **DOUBLE).log()
    assert torch.allclose(emissions.log_mass(index, values)[7], expected)


def test_what_is_no_category_has_no_mass() -> None:
    found = log_mass(torch.tensor([0.3, 0.7]), torch.tensor([1.0, 2.0, -1.0, 0.5]))
    assert found.isfinite().tolist() == [True, False, False, False]
