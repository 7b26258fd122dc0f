"""What holds for every model: this suite runs over each YAML in conf/model and keeps no list of them.

Each model is taken with every combination of its yes-or-no keys, on data drawn from itself, in the three layouts of
the observations. Double precision, unless a test says otherwise.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm, t
from torch import Tensor

from lgm_cli.command import choices
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import KINDS
from lgm_cli.data.simulated import load
from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.method import Method
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters, sound
from lgm_cli.posteriors.samples import SamplePosterior
from lgm_cli.solvers.base.solver import Precision, Solution
from lgm_cli.solvers.cholesky import Cholesky
from lgm_cli.solvers.conjugate_gradient import ConjugateGradient
from tests import cases

SIZES = {"masked": (40, 10), "shared": (40, 10), "gathered": (90, 40)}
CASES = [
    pytest.param((name, options, layout), id="-".join([name, *(k for k, v in options.items() if v is True), layout]))
    for name in choices.choices("model")
    for options in cases.variants(name)
    for layout in SIZES
    if layout != "shared"
    or not KINDS[cases.build_model(name, options).learns_from].joint  # one data point shares with none
]

# Tests of the linear system, which not every model has.
systems_alone = pytest.mark.parametrize(
    "data_and_model", [case for case in CASES if cases.build_model(*case.values[0][:2]).has_system], indirect=True
)


def simulated(name: str, options: dict[str, Any], points: int, dimensions: int) -> dict[str, Any]:
    """What the model draws under the defaults of data=simulated, with no entry hidden."""
    settings = {key: entry.default for key, entry in choices.keys("data/simulated").items()}
    settings |= {"num_points": points, "num_dimensions": dimensions, "hidden_share": 0.0, "latent_dim": 2}
    settings |= {"offset_share": 0.1} if options.get("offset") else {}
    return cases.build_model(name, options).simulate(settings)


def data_of(drawn: dict[str, Any], layout: str, part: slice = slice(None)) -> Data:
    """Some of what was drawn, rows and what belongs to them, with the gaps of a layout."""
    chosen = drawn | {"values": cases.with_gaps(drawn["values"][part], layout)}
    chosen |= {"features": drawn["features"][part]} if "features" in drawn else {}
    table = load({}, lambda options: chosen)
    return Data(table, np.zeros(len(table.values), bool))


@pytest.fixture(params=CASES)
def data_and_model(request: pytest.FixtureRequest) -> tuple[Data, LatentVariableModel, str]:
    name, options, layout = request.param
    data = data_of(simulated(name, options, *SIZES[layout]), layout)
    model = cases.bind(cases.build_model(name, options), data)
    assert layout in cases.layouts(model.observations)
    return data, model, layout


@pytest.fixture
def model(data_and_model: tuple[Data, LatentVariableModel, str]) -> LatentVariableModel:
    return data_and_model[1]


@pytest.fixture
def parameters(model: LatentVariableModel) -> Parameters:
    return cases.moved(model, model.start(0))


class Recording(Cholesky):
    """The exact solver, which keeps the right-hand sides it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.right_sides: list[Tensor] = []

    def solve(self, precision: Precision, b: Tensor, x0: Tensor | None = None) -> Solution:
        self.right_sides.append(b)
        return super().solve(precision, b, x0)


@systems_alone
def test_the_precision_is_positive_definite_and_equal_to_its_dense_form(
    model: LatentVariableModel, parameters: Parameters
) -> None:
    """By products with the identity, by `dense`, by its diagonal and by the inverse of the exact covariance."""
    for chunk in model.observations.chunks:
        precision, targets = model.system(parameters, chunk)
        n, dim = len(chunk.points), model.dim
        identity = torch.eye(dim, dtype=torch.float64).expand(n, dim, dim)
        by_products = precision.matvec(identity)
        torch.testing.assert_close(precision.dense().expand(n, dim, dim), by_products, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(by_products.mT, by_products, rtol=1e-12, atol=1e-12)
        assert float(torch.linalg.eigvalsh(by_products).min()) > 0
        diagonal = precision.diagonal().expand(n, dim)
        torch.testing.assert_close(diagonal, by_products.diagonal(dim1=1, dim2=2), rtol=1e-12, atol=1e-12)

        exact = model.posterior(parameters, chunk)
        torch.testing.assert_close(
            exact.covariance.expand(n, dim, dim), torch.linalg.inv(by_products), rtol=1e-10, atol=1e-12
        )
        right = precision.right_side(targets)
        mean = torch.linalg.solve(by_products, right.mT).mT.squeeze(1)
        torch.testing.assert_close(exact.mean, mean, rtol=1e-10, atol=1e-11)


@systems_alone
def test_forward_and_transpose_are_adjoint(model: LatentVariableModel, parameters: Parameters) -> None:
    draw = torch.Generator().manual_seed(1)
    for chunk in model.observations.chunks:
        precision, targets = model.system(parameters, chunk)
        x = torch.randn(len(targets), 3, model.dim, generator=draw, dtype=torch.float64)
        image = precision.forward(x)
        y = torch.randn(image.shape, generator=draw, dtype=torch.float64) * chunk.weight[:, None, :]
        left, right = (image * y).sum(), (x * precision.transpose(y)).sum()
        assert float(left) == pytest.approx(float(right), rel=1e-12)


@systems_alone
def test_perturbations_have_the_precision_as_their_covariance(
    model: LatentVariableModel, parameters: Parameters
) -> None:
    """20,000 of them for each data point, or 6,000; a threshold for all entries together at a false alarm of 1e-4."""
    samples = 20_000 if model.dim < 30 else 6_000
    solver = Recording()
    expectation = MonteCarlo(model, solver, samples, 1, seed=0, differentiable=False)
    scores = []
    for number, block in enumerate(model.observations.blocks):
        chunks = [chunk for chunk, *_ in expectation.posteriors(parameters, number, block, 0, SolverRecord())]
        right_sides = torch.cat(solver.right_sides).split([len(chunk.points) for chunk in chunks])
        solver.right_sides.clear()
        for chunk, right in zip(chunks, right_sides, strict=True):
            delta = right[:, 1:]
            a = model.system(parameters, chunk)[0].dense().expand(len(delta), model.dim, model.dim)
            found = delta.mT @ delta / samples
            variance = a.diagonal(dim1=1, dim2=2)
            deviation = ((variance[:, :, None] * variance[:, None, :] + a**2) / samples).sqrt()
            lower = torch.tril_indices(model.dim, model.dim)
            scores.append(((found - a) / deviation)[:, lower[0], lower[1]].flatten())
            scores.append((delta.mean(1) / (variance / samples).sqrt()).flatten())
    score = torch.cat(scores).abs()
    assert float(score.max()) < norm.isf(1e-4 / 2 / len(score))
    assert float(score.mean()) == pytest.approx(math.sqrt(2 / math.pi), rel=0.15)  # neither too small


def test_the_canonical_form_is_the_same_model(model: LatentVariableModel, parameters: Parameters) -> None:
    """The likelihood of every data point and every prediction are unchanged, and so is what is canonical already."""
    canonical = model.canonical(parameters)
    for chunk in model.observations.chunks:
        index = torch.arange(3).expand(len(chunk.points), 3)
        posteriors = [(each, model.posterior(each, chunk)) for each in (parameters, canonical)]
        before, after = (model.log_likelihood(each, chunk, posterior) for each, posterior in posteriors)
        torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10)
        before, after = (model.predict(each, posterior, index) for each, posterior in posteriors)
        torch.testing.assert_close((after.mean, after.variance), (before.mean, before.variance), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.canonical(canonical), canonical, rtol=1e-7, atol=1e-8)


@systems_alone
def test_joint_less_posterior_is_the_marginal_at_any_latent_value(model: LatentVariableModel) -> None:
    """log p(y, z) - log p(z | y) = log p(y): the same at every z, and but for a constant at every theta."""
    constants = []
    for seed in (0, 1):
        parameters = cases.moved(model, model.start(0), seed, size=0.3)
        draw = torch.Generator().manual_seed(seed)
        difference = []
        for _ in range(3):
            total = 0.0
            for chunk in model.observations.chunks:
                exact = model.posterior(parameters, chunk)
                z = torch.randn(len(chunk.points), model.dim, generator=draw, dtype=torch.float64)
                nothing = torch.zeros(len(z), 1, model.dim, dtype=torch.float64)
                at = SamplePosterior(
                    z.requires_grad_(), nothing, model.frame(parameters), *model.system(parameters, chunk)
                )
                joint = -model.complete_loss(parameters, chunk, at).detach()
                covariance = exact.covariance.expand(len(z), model.dim, model.dim)
                density = torch.distributions.MultivariateNormal(exact.mean, covariance).log_prob(z.detach()).sum()
                density += len(z) * model.log_volume(parameters)
                total += float(joint - density)
            difference.append(total - float(cases.log_likelihood(model, parameters)))
        np.testing.assert_allclose(difference, difference[0], rtol=1e-10)
        constants.append(difference[0])
    assert constants[0] == pytest.approx(constants[1], rel=1e-10)


def test_em_never_lowers_the_likelihood(model: LatentVariableModel) -> None:
    for start in (model.start(0), cases.moved(model, model.start(1), 1, size=1.0)):
        method = Method(model, Exact(model), ClosedForm(model, start), len(model.observations.blocks), 0)
        values = [float(cases.log_likelihood(model, start))]
        for _ in range(25):
            method.step()
            values.append(float(cases.log_likelihood(model, method.parameters)))
        assert np.diff(values).min() > -1e-9
        assert values[-1] > values[0]


def test_fishers_identity(model: LatentVariableModel, parameters: Parameters) -> None:
    """The gradient of the expected complete log-likelihood is that of the log-likelihood, to 1e-10 of its size."""
    expected = cases.flat(cases.exact_gradient(model, parameters))
    found = cases.flat(cases.expected_gradient(model, Exact(model), parameters))
    assert float((found - expected).abs().max()) < 1e-10 * float(expected.abs().max())


@systems_alone
@pytest.mark.parametrize("differentiable", [False, True], ids=["output", "network"])
def test_the_monte_carlo_gradient_is_unbiased(
    model: LatentVariableModel, parameters: Parameters, differentiable: bool
) -> None:
    """Mean of 100 estimates against automatic differentiation; a threshold for all entries at a false alarm of 1e-4."""
    repeats = 100
    expectation = MonteCarlo(model, Cholesky(), 3, 1, seed=0, differentiable=differentiable)
    drawn = torch.stack(
        [cases.flat(cases.expected_gradient(model, expectation, parameters, step)) for step in range(repeats)]
    )
    expected = cases.flat(cases.exact_gradient(model, parameters))
    error = drawn.std(0) / math.sqrt(repeats)
    varies = error > 1e-9 * float(expected.abs().max())  # the gradient of the mean needs no samples
    score = ((drawn.mean(0) - expected)[varies] / error[varies]).abs()
    assert float(score.max()) < t.isf(1e-4 / 2 / len(score), repeats - 1)
    torch.testing.assert_close(drawn.mean(0)[~varies], expected[~varies], rtol=1e-8, atol=1e-8)


@systems_alone
def test_network_and_output_gradients_agree_at_an_exact_solution(
    model: LatentVariableModel, parameters: Parameters
) -> None:
    output, network = (
        cases.flat(cases.expected_gradient(model, MonteCarlo(model, Cholesky(), 4, 1, 0, network), parameters))
        for network in (False, True)
    )
    assert float((output - network).abs().max()) < 1e-11 * float(output.abs().max())


@systems_alone
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradients_stay_finite_and_true_long_past_convergence(
    data_and_model: tuple[Data, LatentVariableModel, str], dtype: torch.dtype
) -> None:
    data, model, _ = data_and_model
    model = cases.bind(copy.copy(model), data, dtype)
    parameters = cases.moved(model, model.start(0))
    exact = cases.flat(cases.expected_gradient(model, MonteCarlo(model, Cholesky(), 3, 1, 0, False), parameters))
    for network in (False, True):
        solver = ConjugateGradient(max_iterations=300, tolerance=1e-30, preconditioner="jacobi")
        expectation = MonteCarlo(model, solver, 3, 1, 0, network)
        found = cases.flat(cases.expected_gradient(model, expectation, parameters))
        assert float((found - exact).abs().max()) < 1e4 * torch.finfo(dtype).eps * float(exact.abs().max())


def test_single_precision_is_close_to_double(data_and_model: tuple[Data, LatentVariableModel, str]) -> None:
    """Log-likelihood to 1e-5, gradients to 1e-4 and an EM step to 1e-4 of their size."""
    data, model, _ = data_and_model
    single = cases.bind(copy.copy(model), data, torch.float32)
    start = cases.moved(model, model.start(0))
    found = []
    for each in (model, single):
        parameters = each.restore(model.export(start))
        method = Method(each, Exact(each), ClosedForm(each, parameters), 10**9, 0)
        method.step()
        found.append(
            (
                cases.log_likelihood(each, parameters).reshape(1).double(),
                cases.flat(cases.expected_gradient(each, Exact(each), parameters)),
                cases.flat(method.parameters),
            )
        )
    for double, rounded, part in zip(*found, (1e-5, 1e-4, 1e-4), strict=True):
        assert float((double - rounded).abs().max()) < part * float(double.abs().max())


def test_parameters_survive_being_written_and_read(
    data_and_model: tuple[Data, LatentVariableModel, str], parameters: Parameters
) -> None:
    data, model, _ = data_and_model
    exported = model.export(parameters)
    assert all(value.dtype == torch.float64 for value in exported.values())
    assert sound(exported)
    assert {name: tuple(value.shape) for name, value in exported.items()} == model.exported_shapes(data.table)
    restored = model.restore(exported)
    assert restored.keys() == parameters.keys()
    for name, value in parameters.items():
        torch.testing.assert_close(restored[name], value, rtol=1e-12, atol=1e-12)


def test_parameters_survive_the_optimisers_coordinates(model: LatentVariableModel, parameters: Parameters) -> None:
    restored = model.constrain(model.free(parameters))
    assert restored.keys() == parameters.keys()
    for name, value in parameters.items():
        torch.testing.assert_close(restored[name], value, rtol=1e-10, atol=1e-10)
    moved = model.constrain({name: value + 3 for name, value in model.free(parameters).items()})
    assert math.isfinite(float(cases.log_likelihood(model, moved)))


def test_the_start_is_the_same_for_a_seed(model: LatentVariableModel) -> None:
    assert torch.equal(*(cases.flat(model.start(seed)) for seed in (0, 0)))


def test_a_chunk_may_be_split(model: LatentVariableModel, parameters: Parameters) -> None:
    """Log-likelihoods, statistics and gradients are sums over data points, however they are computed together."""

    def everything(split: Callable[[Any], list[Any]]) -> list[Tensor]:
        found: dict[str, Tensor] = {}
        inputs = cases.leaves(parameters)
        for whole in model.observations.chunks:
            for chunk in split(whole):
                exact = model.posterior(parameters, chunk)
                found["likelihood"] = found.get("likelihood", 0) + model.log_likelihood(parameters, chunk, exact).sum()
                for name, value in model.statistics(chunk, exact).items():
                    found[name] = found.get(name, 0) + value
                model.complete_loss(inputs, chunk, exact).backward()
        return [*found.values(), *(value.grad for value in inputs.values() if value.grad is not None)]

    for together, apart in zip(everything(lambda c: [c]), everything(lambda c: c.split(7)), strict=True):
        torch.testing.assert_close(together, apart, rtol=1e-11, atol=1e-11)


def test_the_free_energy_touches_the_likelihood_and_is_never_above_it(
    model: LatentVariableModel, parameters: Parameters
) -> None:
    """F of statistics: equal to the log-likelihood, value and gradient, at the parameters of the posterior; below it at
    any others; and highest where `maximise` says."""

    def summed(at: Parameters) -> dict[str, Tensor]:
        total: dict[str, Tensor] = {}
        for chunk in model.observations.chunks:
            total = model.add_statistics(total, chunk, model.posterior(at, chunk))
        return total

    def likelihood(at: Parameters) -> Tensor:
        scales = sum(model.log_scales(chunk).sum() for chunk in model.observations.chunks)
        return cases.log_likelihood(model, at).double() + scales

    def energy(at: Parameters, found: dict[str, Tensor]) -> Tensor:
        value = model.free_energy(at, found)
        assert value is not None
        return value.double()

    found, inputs, direct = summed(parameters), cases.leaves(parameters), cases.leaves(parameters)
    energies, likelihoods = energy(inputs, found), likelihood(direct)
    torch.testing.assert_close(energies, likelihoods, rtol=1e-9, atol=1e-8)
    energies.backward()
    likelihoods.backward()
    for name in inputs:
        torch.testing.assert_close(inputs[name].grad, direct[name].grad, rtol=1e-6, atol=1e-6)
    for seed in (1, 2, 3):
        other = cases.moved(model, parameters, seed, size=0.05)
        assert energy(other, found) < likelihood(other)
    best = model.maximise(parameters, found)
    assert likelihood(best) >= energy(best, found) - 1e-8
    if model.expanded:
        return
    assert energy(best, found) >= energy(parameters, found) - 1e-8
    for seed in (1, 2, 3):
        assert energy(cases.moved(model, best, seed, size=0.01), found) <= energy(best, found) + 1e-8
    reached = energy(parameters, found)
    for block in model.blocks:
        turned = model.maximise(parameters, found, block)
        assert all(torch.equal(turned[each], parameters[each]) for each in parameters if each not in block)
        assert energy(turned, found) >= reached - 1e-8
        for seed in (1, 2, 3):
            moved = {each: value for each, value in cases.moved(model, turned, seed, 0.01).items() if each in block}
            assert energy(turned | moved, found) <= energy(turned, found) + 1e-8


@pytest.mark.parametrize("name", choices.choices("model"))
def test_learning_brings_simulated_data_to_the_likelihood_of_the_truth(name: str) -> None:
    """Above it on what was learned from; within 0.02 nats of it on new data from the same truth, or half a nat for each
    parameter, which is what learning it costs."""
    for options in cases.variants(name):
        if "latent_dim" in options:
            options["latent_dim"] = 2  # as many as the truth has
        drawn = simulated(name, options, 2000, 15)
        truth = {key: torch.as_tensor(value) for key, value in drawn["truth"].items()}
        model = cases.bind(cases.build_model(name, options), data_of(drawn, "masked", slice(1000)))
        method = Method(model, Exact(model), ClosedForm(model, model.start(0)), 10**9, 0)
        of_truth = cases.log_likelihood(model, model.restore(truth))
        gain = torch.tensor(-1.0)
        while gain < 0 and method.steps < 600:
            for _ in range(150):
                method.step()
            gain = cases.log_likelihood(model, method.parameters) - of_truth
        learned = model.export(method.parameters)
        entries = model.observations.observed
        assert 0 < float(gain) / entries < 0.05
        # A series of 1,000 steps is a single data point: the best parameters are further from the truth.
        assert model.parameter_error(method.parameters, drawn["truth"]) < (
            0.25 if model.learns_from == "series" else 0.2
        )
        fresh = cases.bind(cases.build_model(name, options), data_of(drawn, "masked", slice(1000, None)))
        found, best = (float(cases.log_likelihood(fresh, fresh.restore(p))) for p in (learned, truth))
        allowed = max(0.02 * fresh.observations.observed, 0.5 * sum(value.numel() for value in learned.values()))
        assert found > best - allowed
