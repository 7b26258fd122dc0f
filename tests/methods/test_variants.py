"""Variants of EM: what they are where they are EM, that they climb, where they end, and that they go on."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.decomposition import FactorAnalysis as SklearnFactorAnalysis
from sklearn.mixture import GaussianMixture

from lgm_cli.methods.e_steps import tempered
from lgm_cli.methods.e_steps.drawn import Drawn
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.tempered import Tempered
from lgm_cli.methods.m_steps.ascent import Ascent
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.m_steps.conditional import Conditional
from lgm_cli.methods.method import Method
from lgm_cli.methods.statistics.fresh import Fresh
from lgm_cli.methods.statistics.replaced import Replaced
from lgm_cli.methods.statistics.running import Running, first_update
from tests.methods import toy


def two_groups(points: int = 240) -> np.ndarray:
    random = np.random.default_rng(0)
    group = random.random(points) < 0.35
    return np.where(group, random.normal(-1.5, 0.6, points), random.normal(1.0, 0.9, points))[:, None]


def one_factor(points: int = 200, columns: int = 5) -> np.ndarray:
    random = np.random.default_rng(1)
    loadings = np.linspace(0.5, 1.5, columns)
    return random.normal(size=(points, 1)) * loadings + random.normal(size=(points, columns)) * 0.8


def mixture(block_size: int | None = None) -> toy.Mixture:
    return toy.Mixture().bind(two_groups(), block_size)


def factor(block_size: int | None = None) -> toy.OneFactor:
    return toy.OneFactor().bind(one_factor(), block_size)


MODELS = {"mixture": mixture, "factor": factor}


def method_of(kind: str, model: Any, per_step: int | None = None, **options: Any) -> Method:
    """A method by its name, all blocks a step unless told otherwise."""
    start = model.start()
    per_step = len(model.observations.blocks) if per_step is None else per_step
    e_step: Any = Exact(model)
    if kind == "em":
        m_step: Any = ClosedForm(model, start)
    elif kind == "online_em":
        m_step = ClosedForm(model, start, Running(model, **options))
    elif kind == "incremental_em":
        m_step = ClosedForm(model, start, Replaced(model, per_step))
    elif kind == "generalised_em":
        m_step = Ascent(model, start, None, **options)
    elif kind in ("ecm", "ecme"):
        m_step = Conditional(model, start, None, **options)
    elif kind == "annealed_em":
        e_step = Tempered(model, **{"factor": 1.2, "stage_steps": 30, "hold": (), "seed": 0} | options)
        m_step = ClosedForm(model, start)
    elif kind == "monte_carlo_em":
        e_step, m_step = Drawn(model, refresh_every=1, seed=0, **options), ClosedForm(model, start)
    else:
        assert kind == "stochastic_em"
        e_step = Drawn(model, options.pop("num_samples"), 1, 0)
        m_step = ClosedForm(model, start, Running(model, **options))
    return Method(model, e_step, m_step, per_step, 0)


def path(method: Method, steps: int) -> list[toy.Tensors]:
    found = []
    for _ in range(steps):
        method.step()
        found.append(method.parameters)
    return found


def evidences(method: Method, steps: int) -> np.ndarray:
    return np.array([method.model.evidence(each) for each in path(method, steps)])  # pyright: ignore


def late_evidences(method: Method) -> np.ndarray:
    """Of steps 400 to 500."""
    model: Any = method.model
    return np.array([model.evidence(each) for each in path(method, 500)[400:]])


def worst(one: list[toy.Tensors], other: list[toy.Tensors]) -> float:
    pairs = zip(one, other, strict=True)
    return max(float((a[name] - b[name]).abs().max()) for a, b in pairs for name in a)


@cache
def maximum(build: Callable[[], Any]) -> float:
    """Of the likelihood, by EM."""
    return float(evidences(method_of("em", build()), 1000)[-1])


# The toys, against peers ---------------------------------------------------------------------------------------


def test_em_of_the_toy_mixture_ends_where_scikit_learn_does() -> None:
    model = mixture()
    y = torch.cat([chunk.values for chunk in model.observations.chunks]).numpy()
    peer = GaussianMixture(2, tol=1e-13, max_iter=5000, reg_covar=0, means_init=model.start()["means"][:, None].numpy())
    assert maximum(mixture) == pytest.approx(peer.fit(y).score(y) * len(y), abs=1e-8)


def test_em_of_the_toy_factor_analysis_ends_where_scikit_learn_does() -> None:
    model = factor()
    y = torch.cat([chunk.values for chunk in model.observations.chunks]).numpy()
    peer = SklearnFactorAnalysis(1, tol=1e-14, max_iter=20000, svd_method="lapack").fit(y)
    assert maximum(factor) == pytest.approx(peer.score(y) * len(y), abs=1e-7)


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_the_free_energy_of_a_fresh_exact_posterior_is_the_evidence(build: Callable[[], Any]) -> None:
    model, sums = build(), None
    start = model.start()
    for chunk in model.observations.chunks:
        each = model.statistics(chunk, model.posterior(start, chunk))
        sums = each if sums is None else model.add_statistics(sums, chunk, model.posterior(start, chunk))
    assert sums is not None
    found = float(sums["entropy"] - model.expected_loss(start, sums))
    assert found == pytest.approx(model.evidence(start), rel=1e-12)


# Where a variant is EM -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("online_em", {"kappa": 0.0}),
        ("online_em", {"kappa": 0.0, "average": "parameters"}),
        ("online_em", {"kappa": 0.6, "full_steps": 30}),
        ("incremental_em", {}),
        ("annealed_em", {"inverse_temperature": 1.0}),
    ],
)
def test_variants_are_em_bit_for_bit_where_they_reduce_to_it(
    build: Callable[[], Any], kind: str, options: dict[str, Any]
) -> None:
    one, other = path(method_of("em", build()), 25), path(method_of(kind, build(), **options), 25)
    assert worst(one, other) == 0.0


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_conditional_maximisation_of_one_block_is_em_bit_for_bit(build: Callable[[], Any]) -> None:
    model = build()
    model.blocks = ()
    assert worst(path(method_of("em", build()), 25), path(method_of("ecm", model), 25)) == 0.0


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_a_generalised_step_run_to_the_end_is_a_step_of_em(build: Callable[[], Any]) -> None:
    """The loss to 1e-10; parameters, at which it is flat, to its square root."""
    method = method_of("generalised_em", build(), inner_steps=200)
    model: Any = method.model
    for _ in range(5):
        before = method.parameters
        statistics: toy.Tensors = {}
        for chunk in model.observations.chunks:
            statistics = model.statistics(chunk, model.posterior(before, chunk))
        best = model.maximise(before, statistics)
        method.step()
        lowest = float(model.expected_loss(best, statistics))
        assert float(model.expected_loss(method.parameters, statistics)) == pytest.approx(lowest, rel=1e-12)
        assert worst([best], [method.parameters]) < 1e-6


# That they climb -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("generalised_em", {"inner_steps": 3}),
        ("generalised_em", {"inner_steps": 3, "direction": "gradient"}),
        ("ecm", {}),
        ("ecm", {"cycle": "each"}),
        ("ecme", {"either": "last"}),
        ("ecme", {"either": "last", "cycle": "each"}),
    ],
)
def test_the_likelihood_never_falls_and_ends_at_the_maximum(
    build: Callable[[], Any], kind: str, options: dict[str, Any]
) -> None:
    model = build()
    if options.get("either"):
        options = options | {"either": model.blocks[-1]}
    found = evidences(method_of(kind, model, **options), 150)
    assert np.all(np.diff(found) >= -1e-9)
    assert found[-1] == pytest.approx(maximum(build), abs=1e-4)


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("direction", ["lbfgs", "gradient"])
def test_a_first_step_that_is_far_too_long_is_halved(build: Callable[[], Any], direction: str) -> None:
    options = {"inner_steps": 1, "learning_rate": 1e6, "direction": direction}
    model = build()
    found = evidences(method_of("generalised_em", model, **options), 10)
    assert found[0] > model.evidence(model.start()) and np.all(np.diff(found) > 0)


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_an_e_step_before_each_block_is_a_step_of_its_own(build: Callable[[], Any]) -> None:
    """Multicycle ECM, written out."""
    model = build()
    parameters, written = model.start(), []
    for _ in range(10):
        for block in model.blocks:
            (chunk,) = model.observations.chunks
            statistics = model.statistics(chunk, model.posterior(parameters, chunk))
            parameters = model.maximise(parameters, statistics, block)
        written.append(parameters)
    assert worst(written, path(method_of("ecm", build(), cycle="each"), 10)) == 0.0


def test_blocks_that_raise_the_likelihood_itself_reach_its_maximum_over_them() -> None:
    """ECME with many inner steps: loadings by the posterior, then noise variances by the dense likelihood (scipy)."""
    model = factor()
    (chunk,) = model.observations.chunks
    y, start = chunk.values.numpy(), model.start()
    statistics = model.statistics(chunk, model.posterior(start, chunk))
    loadings = model.maximise(start, statistics, ("loadings",))["loadings"].numpy()

    def loss(log_noise: np.ndarray) -> float:
        covariance = np.outer(loadings, loadings) + np.diag(np.exp(log_noise))
        return -multivariate_normal(np.zeros(len(loadings)), covariance).logpdf(y).sum()

    best = minimize(loss, np.log(start["noise_variance"].numpy()), tol=1e-12)
    method = method_of("ecme", factor(), either=("noise_variance",), inner_steps=60)
    method.step()
    assert model.evidence(method.parameters) == pytest.approx(-best.fun, abs=1e-7)
    np.testing.assert_allclose(method.parameters["noise_variance"].numpy(), np.exp(best.x), rtol=1e-4)
    np.testing.assert_array_equal(method.parameters["loadings"].numpy(), loadings)


def test_raising_the_likelihood_respects_the_floor_and_does_not_stall_there() -> None:
    """A column that is the factor itself: its noise variance falls to the floor, which EM only creeps towards, and the
    likelihood goes on rising."""
    random = np.random.default_rng(3)
    z = random.normal(size=(200, 1))
    y = np.concatenate([z, z * [0.8, 1.0, 0.5] + random.normal(size=(200, 3))], axis=1)
    found = evidences(method := method_of("ecme", toy.OneFactor().bind(y), either=("noise_variance",)), 150)
    noise = method.parameters["noise_variance"]
    assert toy.OneFactor.floor <= float(noise.min()) < 1.3 * toy.OneFactor.floor
    assert np.all(np.diff(found) >= -1e-9)
    assert found[-1] > found[75] + 1e-3
    assert found[-1] > evidences(method_of("em", toy.OneFactor().bind(y)), 150)[-1] + 0.05


def test_ecme_takes_far_fewer_steps_than_em_where_a_noise_variance_is_slow() -> None:
    """A column is nearly the factor itself. Within 0.01 nats of the maximum EM takes 133 steps, and ECME 28."""
    random = np.random.default_rng(3)
    z = random.normal(size=(200, 1))
    almost = z + 0.03 * random.normal(size=(200, 1))
    y = np.concatenate([almost, z * [0.8, 1.0, 0.5] + random.normal(size=(200, 3))], axis=1)
    em = evidences(method_of("em", toy.OneFactor().bind(y)), 500)
    ecme = evidences(method_of("ecme", toy.OneFactor().bind(y), either=("noise_variance",)), 60)
    assert np.all(np.diff(ecme) >= -1e-9)
    assert ecme[-1] == pytest.approx(em[-1], abs=1e-3)
    steps = [int(np.argmax(found > em[-1] - 0.01)) for found in (em, ecme)]
    assert steps[0] > 3 * steps[1] > 0


def test_incremental_em_never_lowers_the_free_energy_and_ends_at_the_maximum() -> None:
    """F = sum of stored entropies less the loss of the stored statistics, here from posteriors kept by the test."""
    for build in MODELS.values():
        model = build(30)
        assert len(model.observations.blocks) > 5
        method = method_of("incremental_em", model, per_step=1)
        method.update.measured = True
        kept: dict[int, Any] = {}
        energies = []
        for step in range(200):
            before = method.parameters
            for number in range(len(model.observations.blocks)) if step == 0 else method._batch():
                (chunk,) = model.observations.blocks[number]
                kept[number] = model.statistics(chunk, model.posterior(before, chunk))
            method.step()
            total = {name: sum(each[name] for each in kept.values()) for name in kept[0]}
            energies.append(float(total["entropy"] - model.expected_loss(method.parameters, total)))
            assert method.update.free_energy is not None
            assert float(method.update.free_energy) == pytest.approx(energies[-1], rel=1e-11)
        assert np.all(np.diff(energies) >= -1e-10)
    assert model.evidence(method.parameters) == pytest.approx(maximum(build), abs=1e-6)


def test_incremental_em_takes_all_blocks_first_and_one_a_step_then() -> None:
    method, taken = method_of("incremental_em", mixture(30), per_step=1), []
    for _ in range(4):
        taken.append(len(method._batch()))
        method.step()
    assert taken == [8, 1, 1, 1]
    method.update.move(method.parameters)  # what was stored belongs to other parameters
    assert len(method._batch()) == 8


# Running statistics --------------------------------------------------------------------------------------------


def test_running_statistics_are_the_recursion() -> None:
    """S_t = (1 - gamma_t) S_(t-1) + gamma_t B s_t, written out over blocks of unequal size."""
    model = mixture(50)  # blocks of 50, 50, 50, 50, 40
    method = method_of("online_em", model, per_step=1, kappa=0.6)
    parameters, running = model.start(), None
    for step in range(12):
        (number,) = method._batch()
        (chunk,) = model.observations.blocks[number]
        fresh = model.statistics(chunk, model.posterior(parameters, chunk))
        fresh = {name: value * 5 for name, value in fresh.items()}
        weight = (step + 1) ** -0.6
        if running is None:
            running = fresh
        running = {name: (1 - weight) * running[name] + weight * fresh[name] for name in fresh}
        parameters = model.maximise(parameters, running)
        method.step()
        assert worst([parameters], [method.parameters]) < 1e-12


def test_every_data_point_counts_the_same_in_statistics_of_unequal_blocks() -> None:
    """Over the steps of a pass, the statistics at fixed parameters average to those of all data, N among them."""
    model = mixture(50)  # blocks of 50, 50, 50, 50, 40
    parameters, sums = model.start(), Fresh(model)
    for copies in (1, 3):  # as often as a data point's latents are drawn
        found = []
        for blocks in ([0], [1], [2], [3], [4], [0, 1, 2, 3, 4]):
            for number in blocks:
                (chunk,) = model.observations.blocks[number]
                for _ in range(copies):
                    sums.add(number, chunk, model.posterior(parameters, chunk))
            found.append(sums.close())
        whole = found.pop()
        average = {name: sum(each[name] for each in found) / 5 for name in whole}
        assert worst([average], [whole]) < 1e-12
        assert float(whole["count"].sum()) == pytest.approx(240, rel=1e-12)


def test_averaging_statistics_ends_at_the_maximum_and_averaging_parameters_does_not() -> None:
    """Batches of 12, 60 epochs, kappa = 0.6: the mean of minibatch maximisers has variances that are too small."""
    gaps = {}
    for average in ("statistics", "parameters"):
        model = mixture(12)
        method = method_of("online_em", model, per_step=1, kappa=0.6, average=average, first_update=2)
        gaps[average] = maximum(mixture) - model.evidence(path(method, 60 * 20)[-1])
    assert 0 <= gaps["statistics"] < 0.05
    assert gaps["parameters"] > 5 * gaps["statistics"]


def test_parameters_stay_until_enough_was_gathered() -> None:
    model = mixture(12)
    method = method_of("online_em", model, per_step=1, kappa=0.6, first_update=3)
    found = path(method, 4)
    assert worst(found[:3], [model.start()] * 3) == 0.0
    assert worst(found[3:], [model.start()]) > 1e-3
    assert first_update(parameters=20, entries=10, steps_per_epoch=50) == 9  # 100 entries are there after ten steps
    assert first_update(parameters=20, entries=10, steps_per_epoch=5) == 4
    assert first_update(parameters=20, entries=1000, steps_per_epoch=50) == 0


# Draws ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_many_draws_are_the_posterior(build: Callable[[], Any]) -> None:
    """One step with 4,000 draws of each data point, to five standard errors of about 0.5 / sqrt(4000 * 200)."""
    drawn = path(method_of("monte_carlo_em", build(), num_samples=4000), 1)
    assert 0 < worst(drawn, path(method_of("em", build()), 1)) < 5e-3


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_stochastic_approximation_converges_where_plain_monte_carlo_circles(build: Callable[[], Any]) -> None:
    best = maximum(build)
    circling = late_evidences(method_of("monte_carlo_em", build(), num_samples=1))
    averaged = late_evidences(method_of("stochastic_em", build(), num_samples=1, kappa=0.7, full_steps=100))
    assert best - averaged.mean() < 0.02
    assert best - circling.mean() > 10 * (best - averaged.mean())


def test_more_draws_bring_monte_carlo_nearer() -> None:
    best, method = maximum(mixture), method_of("monte_carlo_em", mixture(), num_samples=1, growth=4.0)
    first = best - evidences(method, 200)[-100:].mean()
    assert method.quieter() and method.quieter()
    assert method.expectation.num_samples == 16  # pyright: ignore[reportAttributeAccessIssue]
    assert best - evidences(method, 200)[-100:].mean() < 0.25 * first
    assert not method_of("monte_carlo_em", mixture(), num_samples=3).quieter()
    assert not method_of("em", mixture()).quieter()


def test_draws_belong_to_a_step_and_a_block_not_to_an_order() -> None:
    model = mixture(60)
    e_step, start = Drawn(model, 2, 3, 0), model.start()

    def drawn(block: int, step: int) -> torch.Tensor:
        chunks = model.observations.blocks[block]
        found = e_step.posteriors(start, block, chunks, step, None)  # pyright: ignore[reportArgumentType]
        return torch.cat([posterior.weight for _, posterior, _ in found])

    first = drawn(1, 3)
    assert torch.equal(first, drawn(1, 5))  # one refresh of three steps
    assert not torch.equal(first, drawn(1, 6)) and not torch.equal(first, drawn(0, 3))
    assert torch.equal(first, drawn(1, 3))


# Temperature ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_at_a_fixed_temperature_its_free_energy_never_falls(
    build: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """F_beta = (1 / beta) sum_n log of the integral of p(y_n, z)^beta, here over the classes or by quadrature."""
    monkeypatch.setattr(tempered, "ENOUGH", -1e9)
    model, beta = build(), 0.6
    method = method_of("annealed_em", model, inverse_temperature=beta, factor=1.0, stage_steps=10**6)
    method.update.measured = True
    energies, optimal = [], []
    (chunk,) = model.observations.chunks
    for _ in range(20):
        optimal.append(tempered_energy(model, method.parameters, chunk, beta))
        method.step()
        assert method.update.free_energy is not None
        energies.append(float(method.update.free_energy))
    assert np.all(np.diff(optimal) >= -1e-9)
    assert np.all(np.array(energies[:-1]) <= np.array(optimal[1:]) + 1e-9)  # under the posterior of the step before
    assert np.all(np.array(energies) >= np.array(optimal) - 1e-9)


def tempered_energy(model: Any, parameters: toy.Tensors, chunk: Any, beta: float) -> float:
    """By the definition, independent of posteriors."""
    y = chunk.values
    if isinstance(model, toy.Mixture):
        joint = torch.distributions.Normal(parameters["means"], parameters["variances"].sqrt()).log_prob(y)
        return float((beta * (joint + parameters["weights"].log())).logsumexp(1).sum()) / beta
    z = torch.linspace(-9, 9, 1001, dtype=torch.float64)
    normal = torch.distributions.Normal
    mean = z[:, None] * parameters["loadings"]
    of_y = normal(mean[None], parameters["noise_variance"].sqrt()).log_prob(y[:, None]).sum(2)
    joint = of_y + normal(torch.zeros(1, dtype=torch.float64), 1.0).log_prob(z)
    return float(((beta * joint).logsumexp(1) + torch.log(z[1] - z[0])).sum()) / beta


def test_the_temperature_falls_to_one_and_stays() -> None:
    options = {"inverse_temperature": 0.5, "factor": 1.3, "stage_steps": 4, "hold": ("variances",)}
    method = method_of("annealed_em", mixture(), **options)
    seen = []
    for _ in range(100):
        seen.append(method.expectation.inverse_temperature)  # pyright: ignore[reportAttributeAccessIssue]
        method.step()
    stages = sorted(set(seen))
    np.testing.assert_allclose(stages, [0.5, 0.65, 0.845, 1.0])
    assert seen == sorted(seen) and seen.count(0.5) <= 4 and not method.tempered
    assert method.model.evidence(method.parameters) == pytest.approx(maximum(mixture), abs=1e-2)  # pyright: ignore


def test_components_that_have_merged_split_only_where_the_variances_are_held() -> None:
    """A small difference of means grows by beta S / variance a step: learned variances are S, and it shrinks."""
    ends = {}
    for hold in ((), ("variances",)):
        model = toy.Mixture().bind(two_groups(), None)
        method = method_of("annealed_em", model, inverse_temperature=0.7, factor=1.0, stage_steps=10**6, hold=hold)
        start = model.start() | {"means": torch.tensor([-0.01, 0.01], dtype=torch.float64)}
        start["variances"] = torch.tensor([0.3, 0.3], dtype=torch.float64)
        method.update.move(start)
        found = path(method, 60)
        ends[hold] = float((found[-1]["means"][1] - found[-1]["means"][0]).abs())
        assert torch.equal(found[-1]["variances"], start["variances"]) == bool(hold)
    assert ends[()] < 0.01 < 1.0 < ends["variances",]


# Going on ------------------------------------------------------------------------------------------------------

RESUMED = {
    "online_em": {"per_step": 1, "kappa": 0.6, "first_update": 2},
    "incremental_em": {"per_step": 1},
    "generalised_em": {"inner_steps": 3},
    "ecm": {"cycle": "each"},
    "ecme": {"either": ("variances",)},
    "annealed_em": {"inverse_temperature": 0.5, "stage_steps": 3, "hold": ("variances",)},
    "monte_carlo_em": {"num_samples": 2, "growth": 2.0},
    "stochastic_em": {"num_samples": 1, "kappa": 0.7, "full_steps": 3},
}


@pytest.mark.parametrize("kind", RESUMED)
@pytest.mark.parametrize("stop", [1, 5, 12])
def test_a_variant_that_was_stopped_goes_on_bit_for_bit(kind: str, stop: int) -> None:
    def build() -> Method:
        return method_of(kind, mixture(60), **RESUMED[kind])

    whole, file = build(), io.BytesIO()
    for step in range(20):
        if step == stop:
            torch.save(whole.state(), file)
        if step == 3:
            whole.quieter()
        whole.step()
    file.seek(0)
    resumed = build()
    resumed.load_state(torch.load(file, weights_only=True))
    for step in range(stop, 20):
        if step == 3:
            resumed.quieter()
        resumed.step()
    assert worst([whole.parameters], [resumed.parameters]) == 0.0
    assert str(whole.state()) == str(resumed.state())


@pytest.mark.parametrize(
    ("kind", "part", "key", "value"),
    [
        ("online_em", "update", "statistics", {}),
        ("incremental_em", "update", "statistics", {"stored": {"0": {}}, "total": {}, "since": 0}),
        ("annealed_em", "expectation", "inverse_temperature", 1.5),
        ("annealed_em", "expectation", "stage", -1),
        ("monte_carlo_em", "expectation", "num_samples", 1),
        ("monte_carlo_em", "expectation", "num_samples", 2.5),
        ("generalised_em", "update", "statistics", {}),
    ],
)
def test_a_state_that_is_not_a_variants_own_is_refused(kind: str, part: str, key: str, value: Any) -> None:
    method = method_of(kind, mixture(60), **RESUMED[kind])
    method.step()
    state = method.state()
    state[part] = state[part] | {key: value}
    with pytest.raises(ValueError):
        method_of(kind, mixture(60), **RESUMED[kind]).load_state(state)


def test_a_step_leaves_what_was_kept_before_as_it_was() -> None:
    """A checkpoint holds running and stored statistics by reference."""
    for kind in ("online_em", "incremental_em"):
        method = method_of(kind, mixture(60), **RESUMED[kind])
        for _ in range(4):
            method.step()
        state = method.state()["update"]["statistics"]
        held = state["running"] if kind == "online_em" else state["total"]
        before = {name: value.clone() for name, value in held.items()}
        for _ in range(6):
            method.step()
        assert all(torch.equal(value, before[name]) for name, value in held.items())


def test_statistics_of_a_step_stand_for_all_data_points() -> None:
    model = mixture(60)
    sums, start = Fresh(model), model.start()
    for chunk in model.observations.blocks[2]:
        sums.add(2, chunk, model.posterior(start, chunk))
    assert float(sums.close()["count"].sum()) == pytest.approx(240, rel=1e-12)
