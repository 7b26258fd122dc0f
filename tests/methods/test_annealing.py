"""Annealed EM of mixtures: where components come apart, what is done with spare ones, and what it is good for."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.em_variants.starts import RING, arguments
from experiments.in_process import counted_run
from lgm_cli.methods.e_steps.base.first_split import first_split
from lgm_cli.methods.e_steps.tempered import Tempered
from lgm_cli.models.bernoulli_mixture import BernoulliMixture
from lgm_cli.models.gaussian_mixture import GaussianMixture
from lgm_cli.models.multinoulli_mixture import MultinoulliMixture
from lgm_cli.models.poisson_mixture import PoissonMixture
from lgm_cli.randomness import generator
from tests import cases


def skewed(points: int = 300) -> np.ndarray:
    """Two correlated columns, one of which is far wider than the other, and a third."""
    random = np.random.default_rng(0)
    first = random.normal(size=points)
    return np.stack([3 * first, first + 0.5 * random.normal(size=points), random.normal(size=points)], 1)


def begun(model: Any, data: Any) -> tuple[Any, Any]:
    bound = cases.bind(model, data)
    return bound, bound.alike(bound.start(0))


@pytest.mark.parametrize("covariance", ["full", "tied", "diagonal", "spherical"])
def test_normal_components_come_apart_by_the_largest_eigenvalue(covariance: str) -> None:
    """1 / beta is the largest eigenvalue of S Sigma_c^-1, S of the standardised data, Sigma_c held."""
    model, alike = begun(GaussianMixture(4, covariance, 1e-6), cases.as_data(values := skewed()))
    within = model.family.written(alike["covariances"], 4, 3)
    torch.testing.assert_close(within, within[:1].expand_as(within))
    standard = (values - values.mean(0)) / values.std(0)
    eigenvalues = np.linalg.eigvals(standard.T @ standard / len(values) @ np.linalg.inv(within[0].numpy()))
    assert first_split(model, alike, ("covariances",), 0) == pytest.approx(1 / eigenvalues.real.max(), rel=1e-3)


def test_components_of_zeros_and_ones_come_apart_by_the_correlations() -> None:
    values = (skewed() > 0).astype(float)
    model, alike = begun(BernoulliMixture(3, 1e-6), cases.as_data(values))
    expected = np.linalg.eigvalsh(np.corrcoef(values.T)).max()
    assert first_split(model, alike, (), 0) == pytest.approx(1 / expected, rel=1e-3)


def test_components_of_counts_come_apart_by_the_covariance_in_units_of_the_rates() -> None:
    values = np.random.default_rng(1).poisson(np.exp(1 + 0.5 * skewed()[:, :1] * [0.3, 0.6]))
    model, alike = begun(PoissonMixture(3, 1e-6), cases.as_data(values.astype(float)))
    root = np.sqrt(values.mean(0))
    expected = np.linalg.eigvalsh(np.cov(values.T, bias=True) / root / root[:, None]).max()
    assert first_split(model, alike, (), 0) == pytest.approx(1 / expected, rel=5e-3)


MODELS = {
    "full": (lambda: GaussianMixture(6, "full", 1e-6), skewed()),
    "tied": (lambda: GaussianMixture(3, "tied", 1e-6), skewed()),
    "zeros and ones": (lambda: BernoulliMixture(6, 1e-6), (skewed() > 0).astype(float)),
    "categories": (lambda: MultinoulliMixture(6, 1e-6), np.clip(np.round(skewed() + 2), 0, 3)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_spare_components_are_dealt_among_the_different_ones_and_the_data_stay_as_likely(kind: str) -> None:
    build, values = MODELS[kind]
    model = cases.bind(build(), cases.as_data(values))
    start = model.start(0)
    k = len(start["weights"])
    two = torch.tensor([0] * (k - 1) + [1])  # one alone, the others alike
    parameters = model.reordered(start, two)
    parameters["weights"] = torch.linspace(1, 2, k, dtype=torch.float64).softmax(0)
    dealt = model.dealt_anew(parameters, (), generator(0, "test"))
    before, after = (float(cases.log_likelihood(model, each)) for each in (parameters, dealt))
    assert after == pytest.approx(before, rel=1e-12)
    theta = next(name for name in start if name not in ("weights", *model.in_common))
    alone = (dealt[theta] == start[theta][1]).flatten(1).all(1)
    assert int(alone.sum()) in (k // 2, (k + 1) // 2)
    assert float(dealt["weights"][alone].sum()) == pytest.approx(float(parameters["weights"][-1]))
    for name in start:
        assert dealt[name].shape == start[name].shape


def test_components_that_are_told_apart_by_classes_stay_where_they_are() -> None:
    model = cases.bind(GaussianMixture(2, "full", 1e-6), cases.as_data(skewed()))
    model.observations = dataclasses.replace(model.observations, class_names=("a", "b"))
    start = model.start(0)
    assert model.alike(start) is None
    assert model.dealt_anew(start, (), generator(0, "test")) is start


def test_annealing_finds_equal_clusters_that_em_misses() -> None:
    """From seed 1 em ends 0.12 nats per entry below."""
    found = {}
    with arguments(RING) as common:
        for method in ("em", "annealed_em"):
            summary, rows = counted_run([*common, f"method={method}", "seed=1"])
            assert summary["status"] == "converged"
            assert (rows[0]["fit_seconds"] > 0) == (method == "annealed_em")  # the search for the split is on the clock
            found[method] = rows[-1]["train_log_likelihood"]
    assert 0.01 < summary["chosen"]["inverse_temperature"] < 0.1
    assert found["annealed_em"] == pytest.approx(-0.32496, abs=1e-4)
    assert found["em"] < found["annealed_em"] - 0.1


@pytest.mark.parametrize("kind", ["full", "tied", "diagonal"])
def test_the_first_split_is_right_with_gaps(kind: str) -> None:
    """Entries that are missing add a part to the growth that no temperature changes."""
    draw = np.random.default_rng(0)
    values = draw.normal(size=(300, 3)) + 2.5 * draw.normal(size=(3, 3))[draw.integers(0, 3, 300)]
    values[draw.random(values.shape) < 0.4] = np.nan
    model = cases.bind(GaussianMixture(4, kind, 1e-6), cases.as_data(values))
    alike = model.alike(model.start(0))
    assert alike is not None
    beta = first_split(model, alike, ("covariances",), 0)
    start = model.start(0)["means"]

    def step(means: Tensor, beta: float) -> Tensor:
        total: dict[str, Tensor] = {}
        for chunk in model.observations.chunks:
            found = model.statistics(chunk, model.posterior(alike | {"means": means}, chunk, beta))
            total = {name: value + total.get(name, 0.0) for name, value in found.items()}
        return model.maximise(alike | {"means": means}, total, ("means",))["means"]

    growth = []
    for factor in (0.95, 1.05):
        means = alike["means"]
        for _ in range(50):  # to where components that are alike stay
            means = step(means, factor * beta)
        difference = start - start.mean(0)
        for _ in range(30):
            after = step(means + 1e-4 * difference / difference.norm(), factor * beta)
            difference = after - after.mean(0)
        growth.append(float(difference.norm()) / 1e-4)
    assert growth[0] < 1 < growth[1]


def test_a_run_resumes_where_the_first_temperature_is_found_a_little_higher() -> None:
    """On another machine the search for it may end elsewhere; the temperature of the saved run goes on."""
    model, _ = begun(GaussianMixture(3, "full", 1e-6), cases.as_data(skewed()))
    saved, found = (Tempered(model, beta, 1.2, 5, ("covariances",), 0) for beta in (0.4, 0.4001))
    found.load_state(saved.state())
    assert found.state() == saved.state()
    with pytest.raises(ValueError, match="inverse_temperature"):
        found.load_state(saved.state() | {"inverse_temperature": 0.0})
