"""Nystrom preconditioners kept from step to step: when they are made, what they save, and what they leave alone."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from lgm_cli.errors import UserError
from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.models.state_space import StateSpace
from lgm_cli.run import build
from lgm_cli.solvers.cholesky import Cholesky
from lgm_cli.solvers.conjugate_gradient import ConjugateGradient
from tests import cases

DIM, SAMPLES = 40, 2


def model_of(spectrum: np.ndarray, points: int = 6) -> tuple[LatentVariableModel, Parameters]:
    """A factor analysis of complete data, whose A = I + V^T V has these eigenvalues."""
    dim, random = len(spectrum), np.random.default_rng(0)
    model = cases.bind(FactorAnalysis(dim, False, 1e-6), random.normal(size=(points, 2 * dim)))
    left = np.linalg.qr(random.normal(size=(2 * dim, dim)))[0]
    right = np.linalg.qr(random.normal(size=(dim, dim)))[0]
    loadings = torch.as_tensor(left * np.sqrt(spectrum - 1) @ right)
    rest = {"mean": torch.zeros(2 * dim), "noise_variance": torch.ones(2 * dim)}
    return model, {"loadings": loadings, **{name: value.double() for name, value in rest.items()}}


ILL = 1 + 1e6 * np.arange(1, DIM + 1) ** -4.0
WELL = np.linspace(1, 5, DIM)


def steps(
    expectation: MonteCarlo, model: LatentVariableModel, path: list[Parameters], first: int = 0
) -> list[tuple[float, int, Tensor]]:
    """Iterations a system, products, and means of each step."""
    found = []
    for number, parameters in enumerate(path, start=first):
        record, means = SolverRecord(), []
        for _, posterior, _ in expectation.posteriors(parameters, 0, model.observations.blocks[0], number, record):
            means.append(posterior.mean)
        found.append((record.mean_iterations or 0.0, record.products, torch.cat(means)))
    return found


def solver(preconditioner: str, rank: int | str = "auto", tolerance: float = 1e-8) -> ConjugateGradient:
    return ConjugateGradient(1000, tolerance, preconditioner, rank=rank)


def unrolled(model: LatentVariableModel, preconditioner: str, rank: int | str = "auto", seed: int = 0) -> MonteCarlo:
    return MonteCarlo(model, solver(preconditioner, rank), SAMPLES, 1, seed, False)


def scaled(parameters: Parameters, factors: list[float]) -> list[Parameters]:
    return [parameters | {"loadings": parameters["loadings"] * factor} for factor in factors]


def test_auto_sketches_what_is_ill_conditioned_after_one_slow_solve() -> None:
    """One step as without, then a few iterations, and the same means to the tolerance."""
    model, parameters = model_of(ILL)
    path = scaled(parameters, [1.0, 1.01, 1.02, 1.03])
    plain, found = (steps(unrolled(model, name), model, path) for name in ("none", "auto"))
    assert found[0][:2] == plain[0][:2]
    for (slow, _, mean), (fast, _, found_mean) in zip(plain[1:], found[1:], strict=True):
        assert fast < 0.2 * slow
        torch.testing.assert_close(found_mean, mean, rtol=0, atol=1e-5)
    vectors = 6 * (1 + SAMPLES)
    assert found[2][1] <= vectors * (found[2][0] + 1)  # the sketch is kept: no products of its own
    assert found[1][1] > vectors * found[1][0]  # and was made here


@pytest.mark.parametrize(("spectrum", "dim"), [(WELL, DIM), (ILL, DIM), (ILL[:6], 6)], ids=["well", "many", "small"])
def test_auto_leaves_alone_what_a_sketch_would_slow_down(
    spectrum: np.ndarray, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Well-conditioned systems, too many of them to keep a sketch of each, and matrices that are small."""
    from lgm_cli.methods.e_steps.base import kept_sketches

    if len(spectrum) == DIM and spectrum is ILL:
        monkeypatch.setattr(kept_sketches, "MOST_ELEMENTS", 15 * dim)
    model, parameters = model_of(spectrum)
    path = [parameters] * 3
    plain, found = (steps(unrolled(model, name), model, path) for name in ("none", "auto"))
    assert [each[:2] for each in found] == [each[:2] for each in plain]


def test_a_sketch_that_does_not_help_is_dropped() -> None:
    """Of rank one for a flat spectrum: tried once, then as before."""
    model, parameters = model_of(np.linspace(1, 1e4, DIM))
    path = [parameters] * 5
    plain, found = steps(unrolled(model, "none"), model, path), steps(unrolled(model, "auto", 1), model, path)
    assert [each[0] for each in found][2:] == [each[0] for each in plain][2:]
    assert found[1][1] != plain[1][1]
    assert [each[1] for each in found][2:] == [each[1] for each in plain][2:]


def test_a_sketch_is_made_anew_when_iterations_have_grown() -> None:
    """After loadings are turned to other axes, the old one is worthless: one slow step, and then as before."""
    model, parameters = model_of(ILL)
    turn = np.linalg.qr(np.random.default_rng(7).normal(size=(DIM, DIM)))[0]
    other = parameters | {"loadings": parameters["loadings"] @ torch.as_tensor(turn)}
    found = [each[0] for each in steps(unrolled(model, "nystrom"), model, [parameters] * 2 + [other] * 3)]
    assert found[2] > 5 * found[1]
    assert max(found[3:]) <= 2 * found[1]


def test_the_sketch_is_keyed_to_the_seed() -> None:
    model, parameters = model_of(ILL)
    first, again, other = (unrolled(model, "nystrom", 4, seed) for seed in (0, 0, 1))
    for expectation in (first, again, other):
        steps(expectation, model, [parameters])
    name = "sketch.0.0.values"
    assert torch.equal(first.state()[name], again.state()[name])
    assert not torch.equal(first.state()[name], other.state()[name])


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_a_run_that_goes_on_has_the_sketch_it_had(stop: int) -> None:
    """Bit for bit, whether a sketch is due, made, or has to be made anew."""
    model, parameters = model_of(ILL)
    path = scaled(parameters, [1.0, 1.0, 1.2, 3.0, 10.0, 30.0])
    whole = unrolled(model, "auto")
    before = steps(whole, model, path[:stop])
    state = copy.deepcopy(whole.state())
    after = steps(whole, model, path[stop:], stop)
    resumed = unrolled(model, "auto")
    resumed.load_state(state)
    assert len(before) == stop
    for (iterations, products, mean), again in zip(after, steps(resumed, model, path[stop:], stop), strict=True):
        assert (iterations, products) == again[:2]
        assert torch.equal(mean, again[2])


@pytest.mark.parametrize("what", ["shape", "type", "number", "block", "missing", "infinite", "name"])
def test_a_damaged_state_is_refused(what: str) -> None:
    model, parameters = model_of(ILL)
    expectation = unrolled(model, "nystrom", 4)
    steps(expectation, model, [parameters])
    state = dict(expectation.state())
    basis, name = state["sketch.0.0.basis"], "sketch.0.0.basis"
    if what == "shape":
        state[name] = basis[:, :-1]
    elif what == "type":
        state[name] = basis.float()
    elif what == "number":
        state["sketch.0.0.numbers"] = torch.zeros(2, dtype=torch.float64)
    elif what == "block":
        state = {key.replace("0.0", "0.9"): value for key, value in state.items()}
    elif what == "missing":
        del state["sketch.0.0.values"]
    elif what == "infinite":
        state[name] = basis / 0
    else:
        state["sketch.first"] = basis
    with pytest.raises(ValueError):
        unrolled(model, "nystrom", 4).load_state(state)


@pytest.mark.parametrize("spectrum", [ILL, WELL], ids=["ill", "well"])
def test_the_network_gradient_is_the_output_gradient_at_an_exact_solution(spectrum: np.ndarray) -> None:
    """With a sketch of few vectors, to 1e-7 of the largest entry; the exact solver's to the same."""
    model, parameters = model_of(1 + (spectrum - 1) * 1e-2)

    def gradient(preconditioner: str, network: bool) -> Tensor:
        found = Cholesky() if preconditioner == "exact" else solver(preconditioner, 4, 1e-13)
        return cases.flat(cases.expected_gradient(model, MonteCarlo(model, found, SAMPLES, 1, 0, network), parameters))

    exact = gradient("exact", False)
    for network in (False, True):
        difference = gradient("nystrom", network) - exact
        assert float(difference.abs().max()) < 1e-7 * float(exact.abs().max())


def test_a_model_whose_prior_is_not_standard_normal_is_refused() -> None:
    options = {"name": "conjugate_gradient", "preconditioner": "nystrom"}
    config = {"solver": options, "model": {"name": "state_space"}}
    with pytest.raises(UserError, match=r"^solver.preconditioner=nystrom sketches A - I, and the prior of model=state"):
        build.solver(config, StateSpace(2, 1e-3))
