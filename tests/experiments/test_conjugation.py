"""Conjugated pairs satisfy the theorem, others do not, and models of the program are the one formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from experiments.conjugation import run
from experiments.conjugation.pairs import Pair, all_pairs


@pytest.mark.parametrize("pair", all_pairs(), ids=lambda pair: pair.name)
def test_the_condition_holds_where_it_is_said_to(pair: Pair) -> None:
    """The R^2 of the regression is 1 to rounding, and the error of log p(x) is rounding, where and only where."""
    assert np.exp(pair.log_weight).sum() == pytest.approx(1, abs=1e-12)
    assert (pair.r_squared() > 1 - 1e-12) == pair.conjugated
    values = pair.draw(np.random.default_rng(1))
    values[0] = np.nan
    assert (pair.errors(values)[0] < 1e-12) == pair.conjugated


def test_log_densities_of_nodes_integrate_to_those_of_scipy() -> None:
    by_name = {pair.name: pair for pair in all_pairs()}
    pair, x = by_name["Poisson, gamma"], np.array([3.0, np.nan, 0, 1, np.nan])
    rates = np.array([0.5, 2, 3])

    def density(z: float) -> float:
        return float(stats.poisson.pmf([3, 0, 1], z * rates).prod() * stats.gamma.pdf(z, 2.5, scale=1 / 2.5))

    found = pair.log_weight + pair.log_density(x)[:, ~np.isnan(x)].sum(1)
    assert np.logaddexp.reduce(found) == pytest.approx(np.log(integrate.quad(density, 0, 40)[0]), abs=1e-9)
    for pair in by_name.values():  # log p(x | z) = x . natural - psi + base: differences of psi are those of densities
        x = pair.draw(np.random.default_rng(2))
        counts = pair.name.startswith(("Poisson", "Bernoulli"))
        if counts:
            np.testing.assert_allclose(-pair.log_density(0 * x), pair.partition, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", list(run.models()))
def test_a_model_of_the_program_is_the_formula(name: str) -> None:
    found = run.compared(name)
    assert isinstance(found["relative_difference"], float) and found["relative_difference"] < 1e-12
