"""Methods: what a gradient costs in accuracy, random numbers and warm starts, minibatches, updates, going on."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.m_steps.gradient import OPTIMIZERS, Gradient
from lgm_cli.methods.method import Method
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.observations.blocks import observe
from lgm_cli.solvers.base.solver import Precision, Solution, Solver
from lgm_cli.solvers.cholesky import Cholesky
from lgm_cli.solvers.conjugate_gradient import ConjugateGradient
from lgm_cli.solvers.gradient_descent import GradientDescent
from tests import cases


def drawn(points: int, dimensions: int, seed: int = 0) -> np.ndarray:
    """Three factors and noise.  # -> (N, M)"""
    random = np.random.default_rng(seed)
    y = random.normal(size=(points, 3)) @ random.normal(size=(3, dimensions))
    return y + 0.7 * random.normal(size=(points, dimensions))


def with_spectrum(eigenvalues: np.ndarray, points: int = 20) -> tuple[LatentVariableModel, Parameters]:
    """A factor analysis of complete data whose posterior precision I + V^T V has these eigenvalues (above one)."""
    dim = len(eigenvalues)
    columns = 3 * dim
    random = np.random.default_rng(0)
    model = cases.bind(FactorAnalysis(dim, False, 1e-3), random.normal(size=(points, columns)))
    left = np.linalg.qr(random.normal(size=(columns, dim)))[0]
    right = np.linalg.qr(random.normal(size=(dim, dim)))[0]
    rows = left * np.sqrt(eigenvalues - 1) @ right
    noise = random.uniform(0.2, 2.0, size=columns)
    parameters = {
        "loadings": torch.as_tensor(rows * np.sqrt(noise)[:, None]),
        "mean": torch.as_tensor(0.3 * random.normal(size=columns)),
        "noise_variance": torch.as_tensor(noise),
    }
    precision, _ = model.system(parameters, model.observations.blocks[0][0])
    np.testing.assert_allclose(np.linalg.eigvalsh(precision.dense()[0]), eigenvalues, rtol=1e-10)
    return model, parameters


def gradient_errors(kind: type[Solver], eigenvalues: np.ndarray, limits: list[int], network: bool) -> np.ndarray:
    """|gradient after I steps - gradient of the same samples solved exactly| for I in limits."""
    model, parameters = with_spectrum(eigenvalues)

    def gradient(solver: Solver, network: bool) -> Tensor:
        return cases.flat(cases.expected_gradient(model, MonteCarlo(model, solver, 5, 1, 0, network), parameters))

    exact = gradient(Cholesky(), network=False)
    found = [gradient(kind(max_iterations=limit, tolerance=1e-15), network) for limit in limits]
    return np.array([float((each - exact).norm() / exact.norm()) for each in found])


@pytest.mark.parametrize("spectrum", [np.linspace, np.geomspace])
@pytest.mark.parametrize(("dim", "accuracy"), [(12, 0.01), (40, 0.05)])  # 16 Lanczos steps know the first exactly
def test_the_network_gradient_converges_twice_as_fast_as_the_output_gradient(
    spectrum: Callable[..., np.ndarray], dim: int, accuracy: float
) -> None:
    """Gradient descent: errors O(rho^I) and O(I rho^(2 I)), fitted from I = 5 / |log rho| on."""
    condition = 20.0
    eigenvalues = 1.5 * spectrum(1, condition, dim)
    log_rho = math.log((condition - 1) / (condition + 1))
    limits = list(range(math.ceil(5 / -log_rho), 130, 5))
    output = np.log(gradient_errors(GradientDescent, eigenvalues, limits, network=False))
    network = np.log(gradient_errors(GradientDescent, eigenvalues, limits, network=True) / limits)
    assert output.max() < math.log(0.1) and network.min() > math.log(1e-13)  # neither the start nor rounding
    assert np.polyfit(limits, output, 1)[0] == pytest.approx(log_rho, rel=accuracy)
    assert np.polyfit(limits, network, 1)[0] <= 1.75 * log_rho


def test_the_network_gradient_is_ahead_with_conjugate_gradient_too() -> None:
    output, network = (
        gradient_errors(ConjugateGradient, 1.5 * np.geomspace(1, 40, 40), [15, 20], network)
        for network in (False, True)
    )
    assert np.all(network < output / 10)


class Recording(Cholesky):
    """The exact solver, which keeps the right-hand sides it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.right_sides: list[Tensor] = []

    def solve(self, precision: Precision, b: Tensor, x0: Tensor | None = None) -> Solution:
        self.right_sides.append(b.detach())
        return super().solve(precision, b, x0)


def test_the_network_gradient_is_the_derivative_of_its_definition() -> None:
    """d/dtheta [c(theta, mu_I) + 1/K sum_k (h(theta, sigma_k,I) - delta_k^T sigma_k,I)] by central differences.

    delta is held fixed, b(theta) is not; three steps of conjugate gradient, written out here once more.
    """
    model = cases.bind(FactorAnalysis(3, True, 1e-3), cases.with_gaps(drawn(20, 8), "masked"))
    parameters = cases.perturbed(model.start(0))
    spy = Recording()
    cases.expected_gradient(model, MonteCarlo(model, spy, 4, 1, 0, False), parameters)
    delta = spy.right_sides[0][:, 1:]
    (chunk,) = model.observations.chunks

    def solve(a: Tensor, b: Tensor) -> Tensor:
        x, r = torch.zeros_like(b), b
        p = r
        for _ in range(3):
            image = p @ a
            square = (r * r).sum(-1, keepdim=True)
            pushed = (p * image).sum(-1, keepdim=True)
            step = square / torch.where(pushed > 0, pushed, 1.0)
            x, r = x + step * p, r - step * image
            p = r + (r * r).sum(-1, keepdim=True) / torch.where(square > 0, square, 1.0) * p
        return x

    def objective(parameters: Parameters) -> float:
        precision, targets = model.system(parameters, chunk)
        a = precision.dense()
        solution = solve(a, torch.cat([precision.transpose(targets[:, None]), delta], dim=1))
        mean, samples = solution[:, 0], solution[:, 1:]
        fitted = precision.forward(mean[:, None]).squeeze(1)
        joint = 0.5 * ((targets - fitted).square().sum() + mean.square().sum())
        joint = joint + 0.5 * (chunk.weight * parameters["noise_variance"].log()).sum()
        homogeneous = 0.5 * (samples * (samples @ a)).sum() - (delta * samples).sum()
        return float(joint + homogeneous / 4)

    solver = ConjugateGradient(max_iterations=3, tolerance=1e-15)
    found = cases.expected_gradient(model, MonteCarlo(model, solver, 4, 1, 0, True), parameters)
    for name, value in parameters.items():
        for seed in range(3):
            draw = torch.Generator().manual_seed(seed)
            direction = torch.randn(value.shape, generator=draw, dtype=torch.float64)
            up, down = (objective(parameters | {name: value + sign * 1e-5 * direction}) for sign in (1, -1))
            assert -float((found[name] * direction).sum()) == pytest.approx((up - down) / 2e-5, rel=1e-6, abs=1e-6)


# Random numbers and warm starts --------------------------------------------------------------------------------


def blocks_of(points: int = 64, block_size: int = 16, seed: int = 0) -> LatentVariableModel:
    model = FactorAnalysis(2, True, 1e-3)
    data = cases.as_data(cases.with_gaps(drawn(points, 8), "masked"))
    return model.bind(observe(data, seed, torch.float64, cases.CPU, block_size))


def perturbations(
    model: LatentVariableModel, step: int, blocks: list[int], refresh_every: int = 1, seed: int = 0
) -> list[Tensor]:
    """The perturbed right-hand sides of these blocks, in turn, where the data say nothing: the random numbers."""
    spy = Recording()
    expectation = MonteCarlo(model, spy, 3, refresh_every, seed, False)
    blank = model.start(0)
    blank["loadings"].zero_()
    blank["offset_variance"].zero_()
    cases.expected_gradient(model, expectation, blank, step, blocks)
    return [right[:, 1:] for right in spy.right_sides]


def test_random_numbers_belong_to_a_block_and_a_refresh_not_to_an_order() -> None:
    model = blocks_of()
    forwards, backwards = perturbations(model, 4, [0, 1, 2, 3]), perturbations(model, 4, [3, 2, 1, 0])
    for one, other in zip(forwards, reversed(backwards), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(perturbations(model, 4, [2])[0], forwards[2])
    # Steps 3, 4 and 5 are one refresh of three steps.
    kept = [perturbations(model, step, [1], refresh_every=3)[0] for step in range(2, 7)]
    assert torch.equal(kept[1], kept[2]) and torch.equal(kept[2], kept[3])
    different = [kept[0], kept[1], kept[4], forwards[0], forwards[1], perturbations(model, 4, [0], seed=1)[0]]
    for first, one in enumerate(different):
        for other in different[:first]:
            assert not torch.any(one == other)


class Counting(ConjugateGradient):
    """Conjugate gradient with warm starts, which keeps where each system started and how many steps it took."""

    def __init__(self) -> None:
        super().__init__(max_iterations=500, tolerance=1e-6, warm_start=True)
        self.steps: list[Tensor] = []
        self.starts: list[Tensor | None] = []

    def solve(self, precision: Precision, b: Tensor, x0: Tensor | None = None) -> Solution:
        self.starts.append(x0)
        solution = super().solve(precision, b, x0)
        self.steps.append(solution.iterations)
        return solution


def test_a_warm_start_keeps_the_samples_until_they_are_drawn_anew_and_the_means_for_good() -> None:
    model = blocks_of()
    parameters = cases.perturbed(model.start(0))
    solver = Counting()
    expectation = MonteCarlo(model, solver, 3, 2, 0, False)
    record = SolverRecord()
    for step in range(4):
        for number, block in enumerate(model.observations.blocks):
            for _ in expectation.posteriors(parameters, number, block, step, record):
                pass
    first, again, drawn_anew, again_then = (torch.cat(solver.steps[4 * step :][:4]) for step in range(4))
    assert torch.all(first[:-1, 1:] > 0)
    assert torch.all(again == 0) and torch.all(again_then == 0)  # nothing changed
    assert torch.all(drawn_anew[:, 0] == 0) and torch.any(drawn_anew[:, 1:] > 0)
    for start in solver.starts[8:12]:
        assert start is not None and torch.all(start[:, 1:] == 0)
    assert record.systems == 4 * first.numel()
    assert record.iterations == float(first.sum() + drawn_anew.sum())


def test_without_a_warm_start_every_step_starts_from_zero() -> None:
    model = blocks_of()
    expectation = MonteCarlo(model, ConjugateGradient(500, 1e-6, warm_start=False), 3, 2, 0, False)
    parameters = cases.perturbed(model.start(0))
    first, second = (cases.flat(cases.expected_gradient(model, expectation, parameters)) for _ in range(2))
    assert torch.equal(first, second)
    assert expectation.state() == {}


def test_a_warm_start_changes_a_gradient_by_no_more_than_the_tolerance() -> None:
    model = blocks_of()
    start = cases.perturbed(model.start(0))
    moved = cases.perturbed(start, seed=5, size=0.01)
    found = []
    for warm in (False, True):
        expectation = MonteCarlo(model, ConjugateGradient(500, 1e-7, "jacobi", warm), 3, 10, 0, False)
        cases.expected_gradient(model, expectation, start)
        found.append(cases.flat(cases.expected_gradient(model, expectation, moved, step=1)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


# Steps ---------------------------------------------------------------------------------------------------------


def test_an_epoch_takes_every_block_once_in_an_order_of_its_own() -> None:
    model = blocks_of(points=96)  # six blocks

    def epochs(seed: int) -> list[list[int]]:
        method = Method(model, Exact(model), ClosedForm(model, model.start(0)), 2, seed)
        taken: list[list[int]] = []
        for step in range(12):
            method.steps = step
            if step % 3 == 0:
                taken.append([])
            taken[-1] += method._batch()
        return taken

    first, other = epochs(0), epochs(1)
    assert all(sorted(epoch) == list(range(6)) for epoch in [*first, *other])
    assert first == epochs(0)
    assert first != other
    assert len({tuple(epoch) for epoch in first}) > 1


def test_blocks_that_do_not_divide_are_all_used_in_the_end() -> None:
    model = blocks_of(points=80)  # five blocks, two a step
    method = Method(model, Exact(model), ClosedForm(model, model.start(0)), 2, 0)
    used = set()
    for method.steps in range(20):
        used |= set(method._batch())
    assert used == set(range(5))


@pytest.mark.parametrize("blocks", [1, 4])
def test_a_gradient_step_is_the_optimisers_on_the_average_over_entries(blocks: int) -> None:
    """free <- free + rate * M / entries * gradient; the norm reported is that of the gradient per entry. The entries
    are as many as an average block has."""
    model = blocks_of()
    start = cases.perturbed(model.start(0))
    update = Gradient(model, start, "sgd", 0.3)
    method = Method(model, Exact(model), update, blocks, 0)
    chosen = method._batch()
    entries = model.observations.observed * blocks / len(model.observations.blocks)
    by_parameter = cases.expected_gradient(model, Exact(model), start, blocks=chosen)
    free = cases.leaves(model.free(start))
    constrained = model.constrain(free)
    torch.autograd.backward(list(constrained.values()), [by_parameter[name] for name in constrained])
    gradient = {name: value.grad for name, value in free.items() if value.grad is not None}
    expected = model.constrain({name: value + 0.3 * 8 / entries * gradient[name] for name, value in free.items()})
    info = method.step()
    for name, value in method.parameters.items():
        torch.testing.assert_close(value, expected[name].detach(), rtol=1e-9, atol=1e-10)
    assert info.gradient_norm == pytest.approx(float(cases.flat(gradient).norm()) / entries, rel=1e-9)
    assert info.solver.systems == 0 and info.solver.mean_iterations is None


@pytest.mark.parametrize("batch_size", [1, 64])
def test_every_data_point_counts_the_same_however_blocks_divide_them(
    batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over blocks of 64, 64 and 1, or of one each, some without entries, the mean step is that of all data points."""
    y = cases.with_gaps(drawn(129 if batch_size > 1 else 20, 6), "masked")
    y[0] = np.nan

    def step(size: int, batch: list[int]) -> torch.Tensor:
        model = cases.bind(FactorAnalysis(2, False, 1e-3), y, block_size=size)
        update = Gradient(model, cases.perturbed(model.start(0)), "sgd", 0.3)
        before = {name: value.detach().clone() for name, value in update._free.items()}
        method = Method(model, Exact(model), update, len(batch), 0)
        monkeypatch.setattr(method, "_batch", lambda: batch)
        method.step()
        return cases.flat({name: value.detach() - before[name] for name, value in update._free.items()})

    blocks = range(-(-len(y) // batch_size))
    mean = torch.stack([step(batch_size, [number]) for number in blocks]).mean(0)
    torch.testing.assert_close(mean, step(batch_size, list(blocks)), rtol=1e-9, atol=1e-12)


def test_a_step_leaves_the_parameters_it_started_from_as_they_were() -> None:
    """The last good parameters of a run are kept by reference."""
    model = blocks_of()
    for update in (ClosedForm(model, model.start(0)), Gradient(model, model.start(0), "adam", 0.1)):
        method = Method(model, Exact(model), update, 4, 0)
        method.step()
        held = method.parameters
        before = {name: value.clone() for name, value in held.items()}
        method.step()
        for name, value in held.items():
            assert torch.equal(value, before[name])
            assert not torch.equal(value, method.parameters[name])


def test_annealing_halves_the_step_where_there_is_one() -> None:
    model = blocks_of()
    start = cases.perturbed(model.start(0))
    moves = []
    for halvings in (0, 1):
        update = Gradient(model, start, "sgd", 0.1)
        assert all(update.anneal() for _ in range(halvings))
        before = model.free(update.parameters)
        Method(model, Exact(model), update, 4, 0).step()
        after = model.free(update.parameters)
        moves.append(cases.flat({name: after[name] - before[name] for name in before}))
    torch.testing.assert_close(moves[0], 2 * moves[1], rtol=1e-7, atol=1e-9)
    assert not ClosedForm(model, start).anneal()


def make_method(model: LatentVariableModel, kind: str, optimizer: str) -> Method:
    start = model.start(0)
    if kind == "em":
        return Method(model, Exact(model), ClosedForm(model, start), 10, 0)
    update = Gradient(model, start, optimizer, 0.05)
    if kind == "gradient_em":
        return Method(model, Exact(model), update, 2, 0)
    solver = ConjugateGradient(20, 1e-3, "jacobi", warm_start=True)
    refresh_every = 1 if kind == "unroll, drawn anew at each step" else 3
    expectation = MonteCarlo(model, solver, 3, refresh_every, 0, kind == "unroll, network")
    return Method(model, expectation, update, 2, 0)


KINDS = ["em", "gradient_em", "unroll, output", "unroll, network", "unroll, drawn anew at each step"]


@pytest.mark.parametrize(
    ("kind", "optimizer"), [*((kind, "adam") for kind in KINDS), *(("unroll, output", name) for name in OPTIMIZERS)]
)
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_a_method_that_was_stopped_goes_on_bit_for_bit(kind: str, optimizer: str, stop: int) -> None:
    """Its state written to a file and read into a fresh method: the same path as without the stop."""
    model = blocks_of(points=80)
    whole = make_method(model, kind, optimizer)
    for step in range(9):
        if step == stop:
            file = io.BytesIO()
            torch.save(whole.state(), file)
        info = whole.step()
    resumed = make_method(blocks_of(points=80), kind, optimizer)
    file.seek(0)
    resumed.load_state(torch.load(file, weights_only=True))
    for _ in range(stop, 9):
        again = resumed.step()
    assert resumed.steps == whole.steps
    for name, value in whole.parameters.items():
        assert torch.equal(value, resumed.parameters[name])
    assert again == info


def test_a_saved_state_is_not_changed_by_going_on() -> None:
    model = blocks_of()
    method = make_method(model, "unroll, output", "adam")
    method.step()
    state = copy.deepcopy(method.state())
    kept = method.state()
    before = {name: value.clone() for name, value in kept["update"]["free"].items()}
    resumed = make_method(model, "unroll, output", "adam")
    resumed.load_state(state)
    resumed.step()
    for name, value in state["update"]["free"].items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("kind", KINDS[1:])
def test_gradient_methods_come_near_the_maximum_of_em(kind: str) -> None:
    """Within 0.01 nats per entry, with steps that shrink."""
    y = cases.with_gaps(drawn(300, 8), "masked")
    model = cases.bind(FactorAnalysis(3, False, 1e-3), y, block_size=75)
    em = make_method(model, "em", "")
    for _ in range(300):
        em.step()
    method = make_method(model, kind, "adam")
    for step in range(300):
        if step in (150, 200, 250):
            method.update.anneal()
        method.step()
    best, found = (
        float(cases.log_likelihood(model, each.parameters)) / model.observations.observed for each in (em, method)
    )
    assert best - 0.01 < found < best + 1e-3
