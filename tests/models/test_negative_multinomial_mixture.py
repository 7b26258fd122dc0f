"""The negative multinomial mixture, against SciPy, quadrature over the level of a row, and a Poisson mixture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from scipy.special import logsumexp

from lgm_cli.models.families.gamma_shapes import shapes_of
from lgm_cli.models.negative_multinomial_mixture import NegativeMultinomialMixture
from lgm_cli.models.poisson_mixture import PoissonMixture
from tests import cases


def table(rows: int = 60, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    kind, level = random.integers(2, size=rows), random.gamma(1.5, 1 / 1.5, rows)
    rates = np.array([[1.0, 6, 2, 0.3], [4, 1, 2, 3]])[kind]
    values = random.poisson(level[:, None] * rates).astype(float)
    values[random.random(values.shape) < 0.25] = np.nan
    values[-1] = np.nan
    return values


def integral(counts: np.ndarray, rates: np.ndarray, shape: float) -> float:
    """log p(counts | k), the level of the row integrated out by quadrature."""
    at = stats.gamma(shape + counts.sum(), scale=1 / (shape + rates.sum()))  # where the integrand lies

    def density(z: float) -> float:
        joint = stats.poisson.logpmf(counts, z * rates).sum() + stats.gamma.logpdf(z, shape, scale=1 / shape)
        return float(np.exp(joint))

    low, high = at.ppf(1e-13), at.ppf(1 - 1e-13)
    return float(np.log(quad(density, low, high, epsabs=0, epsrel=1e-11, limit=200)[0]))


def densities(values: np.ndarray, weights: np.ndarray, rates: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    found = np.tile(np.log(weights), (len(values), 1))
    for n, row in enumerate(values):
        seen = ~np.isnan(row)
        if seen.any():
            found[n] += [integral(row[seen], rates[k, seen], shapes[k]) for k in range(len(weights))]
    return found


def test_densities_and_predictions_are_integrals_over_the_level() -> None:
    values = table(25)
    model = cases.bind(NegativeMultinomialMixture(2, 1e-6), values)
    parameters = cases.moved(model, model.start(0), size=0.4)
    exported = [model.export(parameters)[name].numpy() for name in ("weights", "rates", "shapes")]
    joint = densities(values, *exported)
    for chunk in model.observations.chunks:
        own, posterior = chunk.points.numpy(), model.posterior(parameters, chunk)
        likelihood = model.log_likelihood(parameters, chunk, posterior).numpy()
        np.testing.assert_allclose(likelihood, logsumexp(joint[own], 1), rtol=1e-8, atol=1e-9)
        index = torch.arange(4).expand(len(own), -1)
        predicted = model.predict(parameters, posterior, index)
        given = predicted.log_density(torch.full((len(own), 4), 3.0, dtype=torch.float64)).numpy()
        for row, n in list(enumerate(own))[:6]:
            for m in np.flatnonzero(np.isnan(values[n])):
                filled = values[n].copy()
                filled[m] = 3
                more = logsumexp(densities(filled[None], *exported)) - logsumexp(joint[n])
                assert given[row, m] == pytest.approx(more, abs=1e-7)
                grid = np.arange(400.0)
                mass = np.exp(
                    [predicted.log_density(torch.full((len(own), 4), g, dtype=torch.float64))[row, m] for g in grid]
                )
                assert mass.sum() == pytest.approx(1, abs=1e-6)
                mean = grid @ mass
                assert float(predicted.mean[row, m]) == pytest.approx(mean, rel=1e-5)
                assert float(predicted.variance[row, m]) == pytest.approx((grid - mean) ** 2 @ mass, rel=1e-3)


def test_one_column_is_a_negative_binomial_and_its_maximum_that_of_scipy() -> None:
    random = np.random.default_rng(1)
    counts = random.negative_binomial(1.7, 0.3, 400).astype(float)
    model = cases.bind(NegativeMultinomialMixture(1, 1e-9), counts[:, None])
    parameters = model.start(0)
    for _ in range(4000):
        total: dict[str, torch.Tensor] = {}
        for chunk in model.observations.chunks:
            total = model.add_statistics(total, chunk, model.posterior(parameters, chunk))
        parameters = model.maximise(parameters, total)
    rate, shape = float(parameters["rates"]), float(parameters["shapes"])
    found = float(cases.log_likelihood(model, parameters))
    assert found == pytest.approx(stats.nbinom.logpmf(counts, shape, shape / (shape + rate)).sum(), rel=1e-10)
    fit = stats.fit(stats.nbinom, counts, bounds={"n": (0.5, 5), "p": (0.05, 0.9)})
    assert found >= -fit.nllf() - 1e-6
    assert rate == pytest.approx(counts.mean(), rel=1e-6)


def test_large_shapes_are_a_poisson_mixture() -> None:
    values = table()
    poisson = cases.bind(PoissonMixture(2, 1e-6), values)
    parameters = poisson.start(0)
    model = cases.bind(NegativeMultinomialMixture(2, 1e-6), values)
    both = parameters | {"shapes": torch.full((2,), 1e6, dtype=torch.float64)}
    expected = float(cases.log_likelihood(poisson, parameters))
    assert float(cases.log_likelihood(model, both)) == pytest.approx(expected, rel=1e-4)
    assert any("model=poisson_mixture would do" in told for told in model.warnings(both, list("abcd")))


@pytest.mark.parametrize("shape", [2e-3, 0.1, 1.0, 7.0, 3e3])
def test_shapes_solve_their_equation(shape: float) -> None:
    gap = 1 + float(torch.tensor(shape, dtype=torch.float64).log() - torch.digamma(torch.tensor(shape).double()))
    assert float(shapes_of(torch.tensor([gap], dtype=torch.float64))) == pytest.approx(shape, rel=1e-6)


def test_the_covariance_is_that_of_draws() -> None:
    model = cases.bind(NegativeMultinomialMixture(2, 1e-6), table())
    exported = model.export(model.start(0))
    weights, rates, shapes = (exported[name].numpy() for name in ("weights", "rates", "shapes"))
    random, size = np.random.default_rng(0), 400_000
    kind = random.choice(2, size, p=weights)
    drawn = random.poisson(random.gamma(shapes[kind], 1 / shapes[kind])[:, None] * rates[kind])
    implied = model.implied_covariance(exported).numpy()
    np.testing.assert_allclose(np.cov(drawn.T), implied, atol=0.02 * implied.max())


def test_a_row_without_values_is_negative_binomial() -> None:
    model = cases.bind(NegativeMultinomialMixture(2, 1e-6), table())
    exported, grid = model.export(model.start(0)), torch.arange(30.0, dtype=torch.float64)
    found = model.densities(exported, torch.ones(1, 30, dtype=torch.long))(grid[None]).numpy()
    for k, (rate, shape) in enumerate(zip(exported["rates"][:, 1], exported["shapes"], strict=True)):
        expected = stats.nbinom.logpmf(grid.numpy(), float(shape), float(shape / (shape + rate)))
        np.testing.assert_allclose(found[0, k], expected, rtol=1e-9)
