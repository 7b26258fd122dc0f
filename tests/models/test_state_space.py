"""The state-space model beside statsmodels' Kalman smoother and the dense joint Gaussian of all states and values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.make_table import rectangle
from lgm_cli.data.series import arrange
from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.method import Method
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.state_space import StateSpace
from lgm_cli.posteriors.chain import ChainPosterior
from lgm_cli.run import auto
from lgm_cli.solvers.conjugate_gradient import ConjugateGradient
from lgm_cli.solvers.nesterov import Nesterov
from tests import cases, matrix


def drawn(steps: int = 40, channels: int = 4, dim: int = 3, gaps: float = 0.3, seed: int = 0) -> np.ndarray:
    """A series in units and at levels of its own, with gaps and a step without any value."""
    options = {"num_points": steps, "num_dimensions": channels, "latent_dim": dim, "seed": seed}
    options |= {"factor_share": 0.6, "hidden_share": gaps}
    values = StateSpace(dim, 1e-3).simulate(options)["values"] * np.geomspace(0.1, 50, channels) + 7 * np.arange(
        channels
    )
    values[steps // 2] = np.nan
    return values


def exported(channels: int, dim: int, seed: int = 1) -> Parameters:
    """Parameters of no particular form, the first state's covariance above that of an innovation."""
    random = np.random.default_rng(seed)
    root = np.eye(dim) + 0.3 * random.normal(size=(dim, dim))
    values = {
        "transition": 0.4 * random.normal(size=(dim, dim)) + 0.5 * np.eye(dim),
        "transition_covariance": root @ root.T,
        "observation": random.normal(size=(channels, dim)) * np.geomspace(0.1, 50, channels)[:, None],
        "mean": random.normal(size=channels) + 7 * np.arange(channels),
        "noise_variance": random.uniform(0.3, 1, channels) * np.geomspace(0.1, 50, channels) ** 2,
        "initial_mean": random.normal(size=dim),
        "initial_covariance": root @ (1.5 * np.eye(dim) + 0.2) @ root.T,
    }
    return {name: torch.as_tensor(value) for name, value in values.items()}


def joint(p: dict[str, np.ndarray], y: np.ndarray) -> dict[str, Any]:
    """Prior of all states, then conditioning on the observed values, as one dense Gaussian."""
    steps, dim = len(y), len(p["initial_mean"])
    mean, spread = np.zeros((steps, dim)), np.zeros((steps, dim, steps, dim))
    mean[0], spread[0, :, 0] = p["initial_mean"], p["initial_covariance"]
    for t in range(1, steps):
        mean[t] = p["transition"] @ mean[t - 1]
        for s in range(t):
            spread[t, :, s] = p["transition"] @ spread[t - 1, :, s]
            spread[s, :, t] = spread[t, :, s].T
        spread[t, :, t] = p["transition"] @ spread[t - 1, :, t - 1] @ p["transition"].T + p["transition_covariance"]
    prior, c = spread.reshape(steps * dim, -1), np.kron(np.eye(steps), p["observation"])
    seen = ~np.isnan(y).ravel()
    c, noise = c[seen], np.tile(p["noise_variance"], steps)[seen]
    error = y.ravel()[seen] - np.tile(p["mean"], steps)[seen] - c @ mean.ravel()
    total = c @ prior @ c.T + np.diag(noise)
    gain = np.linalg.solve(total, c @ prior).T
    likelihood = -0.5 * (error @ np.linalg.solve(total, error) + np.linalg.slogdet(2 * np.pi * total)[1])
    covariance = (prior - gain @ c @ prior).reshape(steps, dim, steps, dim)
    return {
        "likelihood": likelihood,
        "mean": (mean.ravel() + gain @ error).reshape(steps, dim),
        "blocks": np.stack([covariance[t, :, t] for t in range(steps)]),
        "next": np.stack([covariance[t + 1, :, t] for t in range(steps - 1)]),
    }


def learned_from(y: np.ndarray, dim: int = 3) -> tuple[StateSpace, ChainPosterior, Parameters]:
    """The model of a series at `exported` parameters, its posterior, and these as they are written."""
    model = StateSpace(dim, 1e-6)
    model = cases.bind(model, cases.as_data(y, kind="series"))
    parameters = model.restore(exported(y.shape[1], dim))
    (chunk,) = model.observations.chunks
    return model, model.posterior(parameters, chunk), parameters


def arrays(parameters: Parameters) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in parameters.items()}


@pytest.mark.parametrize(("steps", "channels", "dim"), [(40, 4, 3), (25, 1, 3), (6, 2, 1), (17, 6, 2)])
def test_likelihood_and_smoothed_states_are_those_of_the_dense_joint_gaussian(
    steps: int, channels: int, dim: int
) -> None:
    """To 1e-9: means, covariances of each step and of two in turn, log-likelihood in the data's own units."""
    y = drawn(steps, channels, dim, gaps=0.3 if steps > 10 else 0.0)
    model, posterior, parameters = learned_from(y, dim)
    (chunk,) = model.observations.chunks
    expected = joint(arrays(model.export(parameters)), y)
    np.testing.assert_allclose(posterior.forecast[0], expected["mean"], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(posterior.forecast[1], expected["blocks"], rtol=1e-9, atol=1e-9)
    last = len(posterior.next_blocks)
    np.testing.assert_allclose(posterior.next_blocks, expected["next"][:last], rtol=1e-9, atol=1e-9)
    assert float(model.log_likelihood(parameters, chunk, posterior)) == pytest.approx(expected["likelihood"], rel=1e-11)
    general = joint(arrays(exported(channels, dim)), y)  # in other axes of the states
    assert general["likelihood"] == pytest.approx(expected["likelihood"], rel=1e-9)


def test_likelihood_and_smoothed_states_are_those_of_statsmodels() -> None:
    """With gaps: to 1e-8 of the log-likelihood, to 1e-8 of the states."""
    smoother = pytest.importorskip("statsmodels.tsa.statespace.kalman_smoother")
    y = drawn(300, 5, 3)
    model, posterior, parameters = learned_from(y)
    p = arrays(model.export(parameters))
    other = smoother.KalmanSmoother(k_endog=5, k_states=3)
    other.bind(np.ascontiguousarray(y))
    other["design"], other["transition"], other["selection"] = p["observation"], p["transition"], np.eye(3)
    other["state_cov"], other["obs_cov"] = p["transition_covariance"], np.diag(p["noise_variance"])
    other["obs_intercept"] = p["mean"][:, None]
    other.initialize_known(p["initial_mean"], p["initial_covariance"])
    result = other.smooth()
    (chunk,) = model.observations.chunks
    found = float(model.log_likelihood(parameters, chunk, posterior))
    assert found == pytest.approx(result.llf_obs.sum(), rel=1e-8)
    np.testing.assert_allclose(posterior.forecast[0], result.smoothed_state.T, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(
        posterior.forecast[1], result.smoothed_state_cov.transpose(2, 0, 1), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("preconditioner", ["none", "jacobi", "auto"])
@pytest.mark.parametrize("solver", [ConjugateGradient, Nesterov])
def test_an_iterative_solver_finds_the_smoothed_states(solver: Any, preconditioner: str) -> None:
    """To 1e-6, with gaps."""
    model, posterior, parameters = learned_from(drawn(60, 4, 3))
    iterative = solver(5000, 1e-10, preconditioner)
    expectation = MonteCarlo(model, iterative, 2, 1, 0, False)
    blocks = model.observations.blocks
    ((_, found, _),) = expectation.posteriors(parameters, 0, blocks[0], 0, SolverRecord())
    torch.testing.assert_close(found.mean, posterior.mean, rtol=1e-6, atol=1e-6)


def test_preconditioners_save_steps() -> None:
    """Of a slow chain with gaps: the diagonal blocks see no memory, the steady state does."""
    model, _, parameters = learned_from(drawn(400, 4, 2), 2)
    turn = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    parameters |= {
        "transition": turn @ torch.diag(torch.tensor([0.995, 0.97], dtype=torch.float64)) @ turn.mT,
        "observation": 0.2 * parameters["observation"],
    }
    taken = []
    for name in ("none", "jacobi", "auto"):
        record = SolverRecord()
        expectation = MonteCarlo(model, ConjugateGradient(5000, 1e-6, name), 3, 1, 0, False)
        list(expectation.posteriors(parameters, 0, model.observations.blocks[0], 0, record))
        taken.append(record.mean_iterations or 0.0)
    assert taken[1] < 1.05 * taken[0]
    assert taken[2] < 0.2 * taken[1]


def test_an_em_step_is_that_of_the_dense_moments() -> None:
    """Means and noise variances, C Q C^T and C G Q C^T, which the axes of the states leave alone; the states are taken
    about the mean that a regression with an intercept gives them."""
    y = drawn(40, 4, 3)
    model, _, parameters = learned_from(y)
    p = arrays(model.export(parameters))
    method = Method(model, Exact(model), ClosedForm(model, parameters), 1, 0)
    method.step()
    new = arrays(model.export(method.parameters))
    found = joint(p, y)
    second = found["blocks"] + found["mean"][:, :, None] * found["mean"][:, None, :]
    across = np.c_[found["next"].sum(0) + found["mean"][1:].T @ found["mean"][:-1], found["mean"][1:].sum(0)]
    before = np.block([[second[:-1].sum(0), found["mean"][:-1].sum(0)[:, None]], [found["mean"][:-1].sum(0), 39.0]])
    regression = across @ np.linalg.inv(before)
    g, center = regression[:, :3], np.linalg.solve(np.eye(3) - regression[:, :3], regression[:, 3])
    c = np.zeros((4, 3))
    for m in range(4):
        seen = ~np.isnan(y[:, m])
        total = seen.sum()
        first = found["mean"][seen].sum(0)
        left = np.block([[second[seen].sum(0), first[:, None]], [first[None], np.array([[total]])]])
        right = np.r_[found["mean"][seen].T @ y[seen, m], y[seen, m].sum()]
        row = np.linalg.solve(left, right)
        c[m], eta = row[:3], row[3]
        noise = ((y[seen, m] ** 2).sum() - 2 * row @ right + row @ left @ row) / total
        assert new["mean"][m] == pytest.approx(eta + c[m] @ center, rel=1e-8)
        assert new["noise_variance"][m] == pytest.approx(noise, rel=1e-8)
    innovation = second[1:].sum(0) - regression @ across.T
    assert np.linalg.eigvals(found["blocks"][0] @ np.linalg.inv(innovation / 39)).real.max() < 1  # P = Q is reached
    q = (innovation + found["blocks"][0]) / 40
    np.testing.assert_allclose(new["observation"] @ new["observation"].T, c @ q @ c.T, rtol=1e-5)
    np.testing.assert_allclose(
        new["observation"] @ new["transition"] @ new["observation"].T, c @ g @ q @ c.T, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(new["initial_covariance"], np.eye(3), atol=1e-5)


def test_the_canonical_form() -> None:
    """Q = I; the information of an observation is diagonal and falls; with more states than channels that of several
    observations in turn."""
    for channels, dim in ((5, 3), (2, 5)):
        model, _, parameters = learned_from(drawn(30, channels, dim), dim)
        p = arrays(model.export(model.canonical(parameters)))
        np.testing.assert_array_equal(p["transition_covariance"], np.eye(dim))
        rows, total = p["observation"] / np.sqrt(p["noise_variance"])[:, None], np.zeros((dim, dim))
        for _ in range(-(-dim // channels)):
            total, rows = total + rows.T @ rows, rows @ p["transition"]
        assert np.abs(total - np.diag(np.diag(total))).max() < 1e-9 * total.max()
        assert (np.diff(np.diag(total)) < 0).all() and total[-1, -1] > 0


def test_steps_past_the_last_value_change_nothing_and_are_forecast() -> None:
    """By the dense joint Gaussian of all steps, those past the end too."""
    y = drawn(30, 3, 2, gaps=0.2)
    labels = pd.RangeIndex(30), pd.Index(["a", "b", "c"])
    table = arrange(rectangle("test", y, *labels), {"horizon": 4, "forecast": 5})
    data = Data(table, table.rows >= 26)
    model = StateSpace(2, 1e-6)
    model = cases.bind(model, data)
    assert model.dim <= 26 * 2
    parameters = model.restore(exported(3, 2))
    before = np.where(np.arange(30)[:, None] < 26, y, np.nan)
    alone = cases.bind(StateSpace(2, 1e-6), cases.as_data(before, kind="series"))
    assert float(cases.log_likelihood(model, parameters)) == pytest.approx(
        float(cases.log_likelihood(alone, alone.restore(exported(3, 2)))), rel=1e-12
    )
    p = arrays(model.export(parameters))
    expected = joint(p, np.r_[before, np.full((5, 3), np.nan)])
    rows, columns = (place.ravel() for place in np.indices((35, 3)))
    mean, deviation = Evaluator(model, data, 0).predict(parameters, rows, columns)
    c = p["observation"]
    np.testing.assert_allclose(mean.reshape(35, 3), p["mean"] + expected["mean"] @ c.T, rtol=1e-9)
    variance = p["noise_variance"] + np.einsum("mi,tij,mj->tm", c, expected["blocks"], c)
    np.testing.assert_allclose(deviation.reshape(35, 3), np.sqrt(variance), rtol=1e-9)


def test_growing_states_are_warned_of() -> None:
    model, _, parameters = learned_from(drawn())
    assert not model.warnings(parameters | {"transition": 0.5 * torch.eye(3, dtype=torch.float64)}, ["a"] * 4)
    (warning,) = model.warnings(parameters | {"transition": 1.01 * torch.eye(3, dtype=torch.float64)}, ["a"] * 4)
    assert "spectral radius is 1.0100" in warning


def test_one_channel_with_more_states_than_that_is_learned() -> None:
    y = drawn(200, 1, 2, gaps=0.1)
    model = StateSpace(4, 1e-3)
    model = cases.bind(model, cases.as_data(y, kind="series"))
    method = Method(model, Exact(model), ClosedForm(model, model.start(0)), 1, 0)
    before = float(cases.log_likelihood(model, method.parameters))
    for _ in range(20):
        method.step()
    assert float(cases.log_likelihood(model, method.parameters)) > before + 5


def test_steps_by_a_solver_stay_at_the_maximum_where_noise_is_at_its_floor() -> None:
    """Means that are off by a thousandth are off by much of so little noise: by a tolerance of 1e-3 the same steps end
    half a nat below."""
    draw = np.random.default_rng(0)
    y = draw.normal(size=(150, 3)).cumsum(0) @ draw.normal(size=(3, 6))
    y[:, 3:] += 3 * draw.normal(size=(150, 3))
    y[draw.random(y.shape) < 0.15] = np.nan
    model = cases.bind(StateSpace(3, 1e-3), cases.as_data(y, kind="series"))
    start = model.start(0)
    start["noise_variance"][:3] = model.floors()["noise_variance"].expand(6)[:3]
    exact = Method(model, Exact(model), ClosedForm(model, start), 10**9, 0)
    for _ in range(30):
        exact.step()
    unrolled, _ = auto.method(matrix.configuration("unroll", "state_space", {}, {}), model, exact.parameters)
    for _ in range(10):
        unrolled.step()
    per_entry = (matrix.likelihood(unrolled) - matrix.likelihood(exact)) / model.observations.observed
    assert abs(per_entry) < 1e-3
