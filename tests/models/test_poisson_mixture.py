"""The Poisson mixture, against a published maximum and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import poisson

from lgm_cli.errors import UserError
from lgm_cli.models.poisson_mixture import PoissonMixture
from tests import cases

DAYS = [162, 267, 271, 185, 111, 61, 27, 8, 3, 1]  # with 0..9 notices of deaths in The Times (Hasselblad 1969)


def test_deaths_in_the_times_have_their_known_maximum() -> None:
    """The value there, and that it is a fixed point of EM to the digits that are known."""
    values = np.repeat(np.arange(10.0), DAYS)[:, None]
    model = cases.bind(PoissonMixture(2, 1e-6), values)
    known = {"weights": [0.64012, 0.35988], "rates": [[2.66340], [1.25609]]}
    parameters = model.restore({name: torch.tensor(value, dtype=torch.float64) for name, value in known.items()})
    assert float(cases.log_likelihood(model, parameters)) == pytest.approx(-1989.945860, abs=2e-6)
    total = {}
    for chunk in model.observations.chunks:
        total = model.add_statistics(total, chunk, model.posterior(parameters, chunk))
    for name, value in model.maximise(parameters, total).items():
        torch.testing.assert_close(value, parameters[name], atol=2e-5, rtol=0)


def test_predictions_are_a_mixture_of_poissons() -> None:
    random = np.random.default_rng(0)
    values = random.poisson(3.0, (30, 3)).astype(float)
    values[0, 1] = np.nan
    model = cases.bind(PoissonMixture(2, 1e-6), values)
    parameters = cases.moved(model, model.start(0), size=0.5)
    weights, rates = (parameters[name].numpy() for name in ("weights", "rates"))
    joint = weights * poisson.pmf(values[0, [0, 2]], rates[:, [0, 2]]).prod(1)
    r = joint / joint.sum()
    (chunk,) = [part for chunk in model.observations.chunks for part in chunk.split(1) if int(part.points[0]) == 0]
    found = model.predict(parameters, model.posterior(parameters, chunk), torch.tensor([[1]]))
    grid = np.arange(200)
    mass = r @ poisson.pmf(grid, rates[:, 1:2])
    mean = grid @ mass
    assert float(found.mean) == pytest.approx(mean, rel=1e-10)
    assert float(found.variance) == pytest.approx((grid - mean) ** 2 @ mass, rel=1e-9)
    assert float(found.log_density(torch.tensor([[4.0]]).double())) == pytest.approx(np.log(mass[4]), rel=1e-10)


def test_a_negative_count_is_named() -> None:
    with pytest.raises(UserError, match="has -2 in 'y0'"):
        PoissonMixture(2, 1e-6).check(cases.as_data(np.array([[-2, 5], [1, 1], [0, 1.0]])))
