"""Acceleration: where it ends, in how many steps, what the guard keeps, floors, and going on after a stop."""

from __future__ import annotations

import copy
import functools
import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.linalg import LinAlgError

from lgm_cli.data.base.load import load as load_data
from lgm_cli.methods import acceleration
from lgm_cli.methods.acceleration import AcceleratedMethod, Coordinates
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.extrapolation import SCHEMES, Anderson, Squarem
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.method import Method
from lgm_cli.models.autoregressive import Autoregressive
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.models.linear_regression import LinearRegression
from lgm_cli.observations.blocks import observe
from tests import cases

each_scheme = pytest.mark.parametrize("scheme", list(SCHEMES))


def plain(model: LatentVariableModel, start: Parameters | None = None) -> Method:
    """EM over all data points."""
    return Method(model, Exact(model), ClosedForm(model, start or model.start(0)), len(model.observations.blocks), 0)


def value(model: LatentVariableModel, parameters: Parameters) -> float:
    """Log-likelihood, nats per entry."""
    with torch.no_grad():
        return float(cases.log_likelihood(model, parameters)) / model.observations.observed


def slow() -> LatentVariableModel:
    """A factor analysis of 60 data points with gaps, in two blocks, that EM takes about a hundred steps for."""
    random = np.random.default_rng(0)
    y = random.normal(size=(60, 2)) @ (np.array([1.0, 0.6])[:, None] * random.normal(size=(2, 6)))
    y = y + 0.7 * random.normal(size=y.shape)
    return cases.bind(FactorAnalysis(2, False, 1e-3), cases.with_gaps(y, "masked"), block_size=30)


def series() -> LatentVariableModel:
    """An autoregression of 80 steps with gaps, of which that is so too."""
    random = np.random.default_rng(0)
    z = np.zeros(80)
    for t in range(2, 80):
        z[t] = 1.2 * z[t - 1] - 0.6 * z[t - 2] + random.normal()
    y = z + 0.5 * random.normal(size=80)
    y[random.random(80) < 0.1] = np.nan
    return cases.bind(Autoregressive(2, 1e-6), cases.as_data(y[:, None], kind="series"))


@functools.cache
def maximum(problem: Callable[[], LatentVariableModel], steps: int) -> Parameters:
    """Where so many steps of EM end."""
    em = plain(problem())
    for _ in range(steps):
        em.step()
    return em.parameters


@functools.cache
def steps_of_em(problem: Callable[[], LatentVariableModel], goal: float) -> int:
    return steps_to(plain(problem()), goal, 200)


def meats() -> LatentVariableModel:
    data = load_data({"name": "meats", "test_fraction": 0.0}, 0, lambda options: {})
    return LinearRegression(1e-6).bind(observe(data, 0, torch.float64, cases.CPU))


def steps_to(method: Method, goal: float, limit: int) -> int:
    """Steps after which the log-likelihood per entry is at the goal."""
    for step in range(1, limit + 1):
        method.step()
        if value(method.model, method.parameters) >= goal:
            return step
    raise AssertionError(f"not there after {limit} steps")


# The schemes alone, on maps whose fixed points are known -----------------------------------------------------------


def linear_map(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x -> fixed + rate (x - fixed), rate symmetric with eigenvalues from 0.3 to 0.99."""
    draw = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(size, size, generator=draw, dtype=torch.float64)).Q
    rate = (axes * torch.linspace(0.3, 0.99, size, dtype=torch.float64)) @ axes.T
    return rate, torch.randn(size, generator=draw, dtype=torch.float64)


def test_squarem_is_its_formula() -> None:
    """x_0 + 2 a r + a^2 v with a = |r| / |v|, once the bound is above it, and one plain step after it."""
    rate, fixed = linear_map(4)
    scheme, point = Squarem(), torch.ones(4, dtype=torch.float64)
    scheme.longest = 1e6

    def image(x: torch.Tensor) -> torch.Tensor:
        return fixed + rate @ (x - fixed)

    first, second, third = point, image(point), image(image(point))
    assert scheme.ahead(first, second) is None
    found = scheme.ahead(second, third)
    r, v = (second - first).numpy(), (third - 2 * second + first).numpy()
    a = np.linalg.norm(r) / np.linalg.norm(v)
    np.testing.assert_allclose(found, first.numpy() + 2 * a * r + a**2 * v, rtol=1e-12)
    assert scheme.ahead(found, image(found)) is None and scheme.points == []
    assert scheme.ahead(image(found), image(image(found))) is None and len(scheme.points) == 1


def test_squarem_bounds_its_steps_and_lengthens_them_by_and_by() -> None:
    scheme = Squarem()
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for length in (1.0, 4.0, 16.0, 64.0, 100.0, 100.0):  # x -> x + 1 - 0.01 x: r = 1, v = -0.01
        scheme.ahead(zero, one)
        found = scheme.ahead(one, one + 0.99)
        assert found is None if length == 1.0 else float(found) == pytest.approx(2 * length - 0.01 * length**2)
        scheme.settling = False
    assert scheme.longest == 256
    scheme.refused()
    assert scheme.longest == 64


def test_anderson_without_damping_solves_a_linear_map_in_as_many_steps_as_dimensions() -> None:
    """As GMRES does (Walker & Ni 2011, theorem 2.2)."""
    size = 6
    rate, fixed = linear_map(size)
    rate, fixed = torch.block_diag(rate, rate), fixed.repeat(2)  # six eigenvalues; differences are not dropped yet
    scheme, point = Anderson(), torch.zeros(2 * size, dtype=torch.float64)
    scheme.accepted = 1e3  # no damping
    errors = []
    for _ in range(size + 1):
        image = fixed + rate @ (point - fixed)
        ahead = scheme.ahead(point, image)
        point = image if ahead is None else ahead
        errors.append(float((point - fixed).norm()))
    assert errors[-2] > 1e-3 and errors[-1] < 1e-9


def test_the_damping_of_anderson_is_the_share_it_says() -> None:
    """|g|^2 = |g_0|^2 / (1 + 1.2^(25 - k)), g the ridge solution for some l."""
    draw = torch.Generator().manual_seed(0)
    differences, residual = torch.randn(9, 4, generator=draw, dtype=torch.float64), torch.arange(9.0).double()
    scheme = Anderson()
    whole = np.linalg.lstsq(differences.numpy(), residual.numpy())[0]
    for accepted in (0.0, 10.0, 25.0):
        scheme.accepted = accepted
        found = scheme._combination(differences, residual)
        share = float(found.square().sum()) / float(whole @ whole)
        assert share == pytest.approx(1 / (1 + 1.2 ** (25 - accepted)), rel=1e-6)
        gradient = differences.T @ (residual - differences @ found)  # = l g
        ratio = gradient / found
        torch.testing.assert_close(ratio, ratio.mean().expand(4), rtol=1e-6, atol=0.0)
    scheme.accepted = 1e4
    np.testing.assert_allclose(scheme._combination(differences, residual), whole, rtol=1e-8)


# With EM -----------------------------------------------------------------------------------------------------------


@each_scheme
def test_the_fixed_point_is_that_of_em(scheme: str) -> None:
    """All parameters to 1e-8, loadings up to a rotation of the factors, which the likelihood does not see."""
    method = AcceleratedMethod(plain(slow()), scheme)
    for _ in range(200):
        method.step()
    found, expected = (
        {"mean": each["mean"], "noise": each["noise_variance"], "factors": each["loadings"] @ each["loadings"].T}
        for each in (method.parameters, maximum(slow, 900))
    )
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=0.0, atol=1e-8)


@each_scheme
@pytest.mark.parametrize("problem", [slow, series])
def test_it_is_there_in_fewer_steps(scheme: str, problem: Callable[[], LatentVariableModel]) -> None:
    """Half as many as EM takes, to 1e-6 nats per entry of where EM ends."""
    model = problem()
    goal = value(model, maximum(problem, 900 if problem is slow else 200)) - 1e-6
    taken = steps_of_em(problem, goal)
    assert taken > 60
    assert steps_to(AcceleratedMethod(plain(model), scheme), goal, 200) < 0.5 * taken


@each_scheme
@pytest.mark.parametrize("problem", [slow, series])
def test_the_likelihood_never_falls_below_that_of_the_last_accepted_point(
    scheme: str, problem: Callable[[], LatentVariableModel]
) -> None:
    """What the method shows is at least as good as every point accepted before; some points are not."""
    model = problem()
    rounding = 1e-12 if problem is slow else 1e-9  # the M-step of the series is iterative
    method = AcceleratedMethod(plain(model), scheme)
    accepted, proposed = [], []
    for _ in range(40):
        if method.update.extrapolated:
            proposed.append(value(model, method.update.parameters))
        method.step()
        assert method.update.highest is not None
        accepted.append(method.update.highest / model.observations.observed)
        assert value(model, method.parameters) >= accepted[-1] - rounding
    assert np.all(np.diff(accepted) >= 0)
    assert len(proposed) > 8


@each_scheme
def test_a_point_that_is_worse_is_left_for_the_plain_one(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With points that are always far too far ahead the path is EM's, at two steps for each such point."""
    model = slow()
    method = AcceleratedMethod(plain(model), scheme)
    kind = type(method.update.scheme)
    monkeypatch.setattr(kind, "ahead", lambda self, point, image: image + 5.0)
    em = plain(model)
    for number in range(12):
        method.step()
        if number % 2 == 0:
            em.step()
        for name, expected in em.parameters.items():
            assert torch.equal(method.parameters[name], expected)
    assert method.update.refusals == 6 and method.steps == 12


@pytest.mark.parametrize("failure", ["cannot be factorised", "not a number", "not finite"])
def test_a_point_without_a_likelihood_is_left_too(failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = slow()
    method = AcceleratedMethod(plain(model), "squarem")
    posterior = model.posterior
    calls = []

    def ahead(self: Squarem, point: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return image + math.inf if failure == "not finite" else image

    def failing(parameters: Parameters, chunk: object) -> object:
        found = posterior(parameters, chunk)
        if method.update.extrapolated:
            calls.append(1)
            if failure == "cannot be factorised" and len(calls) % 2 == 0:  # after statistics of a part were added
                raise LinAlgError
            if failure == "not a number":
                found.targets.fill_(math.nan)
        return found

    monkeypatch.setattr(Squarem, "ahead", ahead)
    monkeypatch.setattr(model, "posterior", failing)
    em = plain(slow())
    for _ in range(3):
        method.step()
        if failure != "not finite":
            method.step()
        em.step()
    for name, expected in em.parameters.items():
        assert torch.equal(method.parameters[name], expected)
    assert bool(calls) == (failure != "not finite")


def test_a_failure_at_a_plain_point_is_none_of_its_business(monkeypatch: pytest.MonkeyPatch) -> None:
    model = slow()
    method = AcceleratedMethod(plain(model), "anderson")

    def failing(parameters: Parameters, chunk: object) -> object:
        raise LinAlgError

    monkeypatch.setattr(model, "posterior", failing)
    with pytest.raises(LinAlgError):
        method.step()


@each_scheme
def test_collinear_features_end_at_the_likelihood_of_em(scheme: str) -> None:
    """Of `meats`, with 100 wavelengths that say much the same: Anderson's method without a guard ends far below."""
    model = meats()
    method = AcceleratedMethod(plain(model), scheme)
    for _ in range(150):
        method.step()
    assert value(model, method.parameters) > value(model, maximum(meats, 300)) - 1e-8


# Floors ------------------------------------------------------------------------------------------------------------


def heywood() -> LatentVariableModel:
    """Columns of which the first is the factor itself: its noise variance ends at the floor."""
    random = np.random.default_rng(1)
    z = random.normal(size=(60, 1))
    y = z @ np.array([[1.0, 0.9, 0.8, 0.7]]) + random.normal(size=(60, 4)) * np.array([0.01, 0.6, 0.6, 0.6])
    return cases.bind(FactorAnalysis(1, False, 0.05), y)


@each_scheme
def test_no_variance_is_below_its_floor_and_what_is_there_stays(scheme: str) -> None:
    model = heywood()
    method = AcceleratedMethod(plain(model), scheme)
    floor = model.floors()["noise_variance"]
    extrapolated, before = 0, torch.tensor(1.0)
    for _ in range(60):
        method.step()
        learned, ahead = (each["noise_variance"] for each in (method.parameters, method.update.parameters))
        assert bool((learned >= floor).all()) and bool((ahead >= floor).all())
        if learned[0] == floor and before == floor:
            assert ahead[0] == floor
            extrapolated += method.update.extrapolated
        before = learned[0]
    assert extrapolated > 3
    end = maximum(heywood, 200)
    assert end["noise_variance"][0] == floor
    assert value(model, method.parameters) > value(model, end) - 1e-9


def test_coordinates_go_there_and_back_and_end_at_floors() -> None:
    for model in (heywood(), series()):
        parameters = cases.perturbed(model.start(0))
        coordinates = Coordinates(model, parameters)
        vector = coordinates.vector(parameters)
        other = torch.zeros_like(vector, dtype=torch.bool)
        back = coordinates.parameters(vector, model.start(0), other)
        for name, expected in parameters.items():
            torch.testing.assert_close(back[name], expected, rtol=1e-9, atol=1e-12)
        far = coordinates.parameters(vector - 1e3, parameters, other)
        for name, floor in model.floors().items():
            assert bool((far[name] >= floor).all()) and bool((far[name] <= 1.002 * floor).all())


def test_the_logarithm_of_a_variance_is_extrapolated_not_that_of_its_excess() -> None:
    """A step of the vector multiplies variances, whatever their floors."""
    model = series()
    start = model.start(0)
    coordinates = Coordinates(model, start)
    vector, step = coordinates.vector(start), coordinates.vector(start | {"mean": start["mean"] + 1})
    moved = start | {"noise_variance": 2 * start["noise_variance"], "innovation_variance": start["innovation_variance"]}
    expected = math.log(2) / math.sqrt(model.gradient_scale()["noise_variance"])
    change = coordinates.vector(moved) - vector
    assert float(change.abs().max()) == pytest.approx(expected, rel=1e-9)
    assert float((step - vector).abs().max()) > 0


# Going on ----------------------------------------------------------------------------------------------------------


@each_scheme
@pytest.mark.parametrize("stop", [1, 2, 3, 6, 25, 26, 27])
def test_a_method_that_was_stopped_goes_on_bit_for_bit(scheme: str, stop: int) -> None:
    model = slow()
    whole = AcceleratedMethod(plain(model), scheme)
    file = io.BytesIO()
    for step in range(40):
        if step == stop:
            torch.save(whole.state(), file)
        whole.step()
    resumed = AcceleratedMethod(plain(slow()), scheme)
    file.seek(0)
    resumed.load_state(torch.load(file, weights_only=True))
    for _ in range(stop, 40):
        resumed.step()
    assert resumed.steps == whole.steps
    for one, other in (
        (resumed.parameters, whole.parameters),
        (resumed.update.parameters, whole.update.parameters),
    ):
        for name, expected in other.items():
            assert torch.equal(one[name], expected)
    assert resumed.update.highest == whole.update.highest and resumed.update.refusals == whole.update.refusals


@each_scheme
def test_a_state_that_is_not_one_is_refused(scheme: str) -> None:
    method = AcceleratedMethod(plain(slow()), scheme)
    for _ in range(5):
        method.step()
    state = method.state()
    bad = [
        {"highest": "high"},
        {"extrapolated": 1},
        {"scheme": {}},
        {"scheme": state["update"]["scheme"] | {"points": [torch.zeros(3)], "images": [torch.zeros(3)]}},
        {"scheme": state["update"]["scheme"] | {"points": state["update"]["scheme"]["points"] * 2 + [None]}},
        {"inner": {}},
    ]
    for change in bad:
        damaged = copy.deepcopy(state)
        damaged["update"] |= change
        with pytest.raises(ValueError):
            AcceleratedMethod(plain(slow()), scheme).load_state(damaged)
    with pytest.raises(ValueError):
        AcceleratedMethod(plain(slow()), "anderson" if scheme == "squarem" else "squarem").load_state(state)


@each_scheme
def test_better_parameters_end_the_history(scheme: str) -> None:
    """After `move` it goes on as one that begins there, but for what it knows of step lengths."""
    model = slow()
    method = AcceleratedMethod(plain(model), scheme)
    for _ in range(10):
        method.step()
    better = cases.perturbed(model.start(0))  # worse, in truth: it is not asked
    method.update.move(better)
    for name, expected in better.items():
        assert torch.equal(method.parameters[name], expected)
    assert method.update.highest is None and not method.update.extrapolated and method.update.scheme.points == []
    em = plain(model, better)
    em.step()
    method.step()
    for name, expected in em.parameters.items():
        assert torch.equal(method.parameters[name], expected)


def test_rounding_is_no_fall() -> None:
    """In single precision a likelihood that is the same but for its last digits does not refuse a point."""
    model = cases.bind(FactorAnalysis(1, False, 1e-3), np.random.default_rng(0).normal(size=(50, 5)), torch.float32)
    method = AcceleratedMethod(plain(model), "squarem")
    for _ in range(60):
        method.step()
    assert acceleration.ROUNDING * torch.finfo(torch.float32).eps < 1e-6
    assert method.update.refusals < 10
