"""Maximum a posteriori learning: maxima against a numerical maximiser, objectives that do not fall, Heywood cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.methods.acceleration import AcceleratedMethod
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.methods.e_steps.tempered import Tempered
from lgm_cli.methods.m_steps.ascent import Ascent
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.m_steps.conditional import Conditional
from lgm_cli.methods.m_steps.gradient import Gradient
from lgm_cli.methods.method import Method
from lgm_cli.methods.statistics.replaced import Replaced
from lgm_cli.methods.statistics.running import Running
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.models.ppca import Ppca
from lgm_cli.run.curvature import Landscape
from lgm_cli.solvers.cholesky import Cholesky
from tests import cases

RIDGE, ENTRIES, VARIANCE = 3.0, 7.0, 0.4


def rows(layout: str = "masked") -> np.ndarray:
    """60 data points with gaps."""
    random = np.random.default_rng(3)
    y = random.normal(size=(60, 2)) @ random.normal(size=(2, 7)) + 0.7 * random.normal(size=(60, 7))
    return cases.with_gaps(y, layout)


def factors(layout: str = "masked", offset: bool = False, block_size: int | None = None) -> Any:
    return cases.bind(FactorAnalysis(2, offset, 1e-6, RIDGE, ENTRIES, VARIANCE), rows(layout), block_size=block_size)


def components(block_size: int | None = None) -> Any:
    random = np.random.default_rng(3)
    y = random.normal(size=(60, 2)) @ random.normal(size=(2, 7)) * np.geomspace(1, 5, 7)
    y += 0.7 * random.normal(size=(60, 7))
    model = Ppca(2, 1e-6, RIDGE, ENTRIES, VARIANCE)
    return cases.bind(model, cases.with_gaps(y, "masked"), block_size=block_size)


MODELS: dict[str, Callable[..., Any]] = {
    "factor_analysis": factors,
    "offset": lambda block_size=None: factors("gathered", True, block_size),
    "ppca": components,
}
each_model = pytest.mark.parametrize("name", MODELS)


def dense_log_prior(model: Any, parameters: Mapping[str, Tensor]) -> Tensor:
    """The densities, term by term, with all constants."""
    loadings, noise = parameters["loadings"], model.noise_of_columns(parameters)
    total = torch.distributions.Normal(0.0, (noise / RIDGE).sqrt()[:, None]).log_prob(loadings).sum()
    inverse_gamma = torch.distributions.InverseGamma(
        torch.tensor(ENTRIES / 2 - 1, dtype=torch.float64), torch.tensor(ENTRIES * VARIANCE / 2, dtype=torch.float64)
    )
    return total + inverse_gamma.log_prob(parameters["noise_variance"]).sum()


def objective(model: LatentVariableModel, parameters: Parameters) -> Tensor:
    """Log-likelihood and log prior, in nats."""
    total = cases.log_likelihood(model, parameters)
    prior = model.log_prior(parameters)
    return total if prior is None else total + prior


def statistics_of(model: LatentVariableModel, parameters: Parameters) -> dict[str, Tensor]:
    total: dict[str, Tensor] = {}
    for chunk in model.observations.chunks:
        total = model.add_statistics(total, chunk, model.posterior(parameters, chunk))
    return total


def em(model: LatentVariableModel) -> Method:
    return Method(model, Exact(model), ClosedForm(model, model.start(0)), len(model.observations.blocks), 0)


@each_model
def test_log_prior_is_the_density_up_to_a_constant(name: str) -> None:
    model = MODELS[name]()
    start = model.start(0)
    first, second = cases.perturbed(start), cases.perturbed(start, seed=1)
    found, dense = [], []
    for each in (first, second):
        leaves = {key: value.detach().requires_grad_() for key, value in each.items()}
        log_prior = model.log_prior(leaves)
        assert log_prior is not None
        wanted = dense_log_prior(model, leaves)
        names = ["loadings", "noise_variance"]
        gradients = torch.autograd.grad(log_prior, [leaves[key] for key in names], retain_graph=True)
        expected = torch.autograd.grad(wanted, [leaves[key] for key in names])
        for gradient, value in zip(gradients, expected, strict=True):
            torch.testing.assert_close(gradient, value, rtol=1e-10, atol=1e-10)
        found.append(float(log_prior.detach()))
        dense.append(float(wanted.detach()))
    assert found[0] - found[1] == pytest.approx(dense[0] - dense[1], abs=1e-9)


@each_model
def test_maximum_is_that_of_a_numerical_maximiser(name: str) -> None:
    """The row of the table: the loss of one posterior's statistics less the dense log prior, minimised by BFGS."""
    model = MODELS[name]()
    start = cases.perturbed(model.start(0))
    statistics = statistics_of(model, start)
    found = model.maximise(start, model.with_prior(statistics))
    like = model.free(found)

    def parameters_of(vector: Tensor) -> Parameters:
        parts = vector.split([value.numel() for value in like.values()])
        free = {key: part.view(value.shape) for (key, value), part in zip(like.items(), parts, strict=True)}
        return model.constrain(free)

    def loss(vector: np.ndarray) -> tuple[float, np.ndarray]:
        leaf = torch.tensor(vector, requires_grad=True)
        parameters = parameters_of(leaf)
        value = model.expected_loss(parameters, statistics) - dense_log_prior(model, parameters)
        (gradient,) = torch.autograd.grad(value, leaf)
        return float(value.detach()), gradient.numpy()

    begin = torch.cat([value.flatten() for value in model.free(start).values()]).numpy()
    end = minimize(loss, begin, jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 5000}).x
    best = parameters_of(torch.tensor(end))
    for key in ("loadings", "mean", "noise_variance"):
        torch.testing.assert_close(found[key], best[key], rtol=1e-6, atol=1e-7)
    assert float(np.abs(loss(torch.cat([v.flatten() for v in like.values()]).numpy())[1]).max()) < 1e-8


VARIANTS: dict[str, Callable[[Any], Method]] = {
    "em": em,
    "squarem": lambda model: AcceleratedMethod(em(model), "squarem"),
    "generalised_em": lambda model: Method(
        model, Exact(model), Ascent(model, model.start(0), None, 3), len(model.observations.blocks), 0
    ),
    "ecm": lambda model: Method(
        model, Exact(model), Conditional(model, model.start(0), None), len(model.observations.blocks), 0
    ),
    "multicycle_ecm": lambda model: Method(
        model, Exact(model), Conditional(model, model.start(0), None, "each"), len(model.observations.blocks), 0
    ),
    "ecme": lambda model: Method(
        model, Exact(model), Conditional(model, model.start(0), None, "one", model.blocks[-1]),
        len(model.observations.blocks), 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
@each_model
def test_objective_never_falls(name: str, variant: str) -> None:
    model = MODELS[name]()
    method = VARIANTS[variant](model)
    values = []
    for _ in range(25):
        values.append(float(objective(model, method.parameters).detach()))
        method.step()
    assert min(np.diff(values)) > -1e-8
    assert values[-1] > values[0] + 1


def test_free_energy_is_of_the_data_and_never_falls_with_the_log_prior() -> None:
    """Incremental EM: F <= l of the same parameters, whatever the prior, and F + log prior does not fall."""
    model = factors(block_size=15)
    update = ClosedForm(model, model.start(0), Replaced(model, 1))
    update.measured = True
    method = Method(model, Exact(model), update, 1, 0)
    start = method.parameters
    tight = model.free_energy(start, statistics_of(model, start))
    assert tight is not None
    units, raised = float(tight - cases.log_likelihood(model, start)), []  # of the data
    for _ in range(40):
        method.step()
        free_energy, log_prior = update.free_energy, model.log_prior(method.parameters)
        assert free_energy is not None and log_prior is not None
        assert float(free_energy) <= float(cases.log_likelihood(model, method.parameters)) + units + 1e-8
        raised.append(float(free_energy + log_prior))
    assert min(np.diff(raised)) > -1e-8
    assert raised[-1] > raised[0] + 1


@pytest.fixture(scope="module")
def maximum() -> Parameters:
    method = em(factors())
    for _ in range(700):
        method.step()
    return method.parameters


def alike(model: Any, one: Parameters, other: Parameters, tolerance: float) -> None:
    for key, value in model.canonical(one).items():
        torch.testing.assert_close(value, model.canonical(other)[key], rtol=0, atol=tolerance)


@pytest.mark.parametrize("scheme", ["squarem", "anderson"])
def test_acceleration_ends_where_em_does(scheme: str, maximum: Parameters) -> None:
    model = factors()
    method = AcceleratedMethod(em(model), scheme)
    for _ in range(150):
        method.step()
    alike(model, method.parameters, maximum, 1e-5)


def test_tempered_ends_where_em_does(maximum: Parameters) -> None:
    model = factors()
    e_step = Tempered(model, 0.5, 2.0, 5, (), 0)
    method = Method(model, e_step, ClosedForm(model, model.start(0)), len(model.observations.blocks), 0)
    for _ in range(700):
        method.step()
    assert float(objective(model, method.parameters)) == pytest.approx(float(objective(model, maximum)), abs=1e-6)


def test_prior_counts_once_for_all_data_in_running_averages(maximum: Parameters) -> None:
    """Four blocks, of which each step takes one: were the prior scaled with them, the noise would be elsewhere."""
    model = factors(block_size=15)
    update = ClosedForm(model, model.start(0), Running(model, 0.9))
    method = Method(model, Exact(model), update, 1, 0)
    for _ in range(1200):
        method.step()
    best = float(objective(model, maximum))
    assert best - 0.2 < float(objective(model, method.parameters)) <= best + 1e-8


def test_monte_carlo_steps_are_near_the_maximum(maximum: Parameters) -> None:
    model = factors()
    update = ClosedForm(model, maximum, Running(model, 0.7))
    method = Method(model, MonteCarlo(model, Cholesky(), 5, 1, 0, False), update, len(model.observations.blocks), 0)
    for _ in range(100):
        method.step()
    best = float(objective(model, maximum))
    assert best - 0.5 < float(objective(model, method.parameters)) <= best + 1e-8


@each_model
@pytest.mark.parametrize("per_step", [1, 4])
def test_gradients_are_those_of_the_dense_objective(name: str, per_step: int) -> None:
    """Of a part of the blocks: the likelihood of these, and their share of the prior."""
    model = MODELS[name](block_size=15)
    parameters = cases.perturbed(model.start(0))
    update = Gradient(model, parameters, "sgd", 0.0)
    free = update._free
    method = Method(model, Exact(model), update, per_step, 0)
    blocks = method._batch()
    method.step()
    like = {key: value.detach().clone().requires_grad_() for key, value in free.items()}
    inside = model.constrain(like)
    part = sum(
        model.log_likelihood(inside, chunk, model.posterior(inside, chunk)).sum()
        for number in blocks
        for chunk in model.observations.blocks[number]
    )
    share = per_step / len(model.observations.blocks)
    loss = -(part + share * dense_log_prior(model, inside)) / (share * model.observations.observed)
    loss = loss * model.observations.shape[1]
    wanted = dict(zip(like, torch.autograd.grad(loss, list(like.values()), allow_unused=True), strict=True))
    for key, scale in {**dict.fromkeys(like, 1.0), **model.gradient_scale()}.items():
        torch.testing.assert_close(free[key].grad, scale * wanted[key], rtol=1e-7, atol=1e-9)


@each_model
def test_look_around_sees_the_objective(name: str) -> None:
    model = MODELS[name]()
    parameters = cases.perturbed(model.start(0))
    landscape = Landscape(model, parameters)
    observed = model.observations.observed
    wanted = float(objective(model, landscape.parameters(landscape.start)).detach()) / observed
    assert landscape.value(landscape.start) == pytest.approx(wanted, abs=1e-12)
    direction = torch.randn(len(landscape.start), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slope = landscape.gradient(landscape.start) @ direction
    ahead, behind = (landscape.value(landscape.start + step * direction) for step in (1e-5, -1e-5))
    assert float(slope) == pytest.approx((ahead - behind) / 2e-5, rel=1e-5)


def test_scores_have_the_objective() -> None:
    model = factors()
    data = cases.as_data(rows())
    scores = Evaluator(model, data, 0).score(model.start(0))
    observed = model.observations.observed
    prior = model.log_prior(model.start(0))
    assert prior is not None
    assert scores.own["log_prior"] == pytest.approx(float(prior) / observed)
    assert scores.objective == pytest.approx(float(objective(model, model.start(0))) / observed, abs=1e-12)


def test_no_prior_changes_nothing() -> None:
    """Without keys, and with those of no prior."""
    model = cases.bind(FactorAnalysis(2, True, 1e-6, 0.0, 0.0, 0.3), rows())
    statistics = statistics_of(model, model.start(0))
    assert model.prior_statistics() == {}
    assert model.log_prior(model.start(0)) is None
    assert model.with_prior(statistics) is statistics
    scores = Evaluator(model, cases.as_data(rows()), 0).score(model.start(0))
    assert "log_prior" not in scores.own
    assert scores.objective == scores.train_log_likelihood


def heywood(**prior: float) -> Any:
    """20 data points with exact correlations r12 r13 / r23 = 1.44, a communality of the first column above one."""
    random = np.random.default_rng(5)
    white = np.linalg.qr(random.normal(size=(20, 4)))[0]
    white = np.linalg.qr(white - white.mean(0))[0][:, :3] * np.sqrt(20)
    correlations = np.array([[1.0, 0.9, 0.8], [0.9, 1.0, 0.5], [0.8, 0.5, 1.0]])
    return cases.bind(FactorAnalysis(1, False, 1e-4, **prior), white @ np.linalg.cholesky(correlations).T)


@pytest.mark.parametrize("prior", [{"prior_loadings": 1.0}, {"prior_noise": 4.0}])
def test_a_prior_cures_a_heywood_case(prior: dict[str, float]) -> None:
    smallest = {}
    for name, keys in {"none": {}, "prior": prior}.items():
        model = heywood(**keys)
        method = AcceleratedMethod(em(model), "squarem")
        for _ in range(300):
            method.step()
        smallest[name] = float(method.parameters["noise_variance"].min())
    assert smallest["none"] < NEAR_FLOOR * 1e-4
    assert smallest["prior"] > 0.02
