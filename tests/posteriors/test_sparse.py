"""Sparse rows against the gathered layout and dense matrices: posteriors, statistics, losses, likelihoods, steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.m_steps.gradient import Gradient
from lgm_cli.methods.method import Method
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.models.ppca import Ppca
from lgm_cli.observations.sparse_rows import SparseRows
from lgm_cli.posteriors.dense import DensePrecision
from lgm_cli.posteriors.samples import SamplePosterior
from lgm_cli.posteriors.sparse import SparsePrecision
from lgm_cli.solvers.conjugate_gradient import ConjugateGradient
from tests import cases

MODELS = {
    "offset": lambda: FactorAnalysis(2, True, 1e-3),
    "no offset": lambda: FactorAnalysis(3, False, 1e-3),
    "one factor": lambda: FactorAnalysis(1, False, 1e-3),
    "many factors": lambda: FactorAnalysis(12, True, 1e-3),  # more than are written out, and than most rows observe
    "ppca": lambda: Ppca(2, 1e-3),
}


def ratings(points: int = 90, columns: int = 40) -> np.ndarray:
    """A tenth of a table, in columns of uneven scales; the last row and one column have no values."""
    random = np.random.default_rng(0)
    values = (
        7 + random.normal(size=(points, 2)) @ random.normal(size=(2, columns)) + random.normal(size=(points, columns))
    )
    return cases.with_gaps(values * np.geomspace(1, 3, columns), "gathered")


def bound(name: str = "offset", block_size: int | None = None) -> tuple[LatentVariableModel, Parameters]:
    model = cases.bind(MODELS[name](), ratings(), block_size=block_size)
    return model, cases.perturbed(model.start(0))


def rows_of(model: LatentVariableModel, block: int = 0) -> SparseRows:
    (rows,) = model.layout(block)
    assert isinstance(rows, SparseRows)
    return rows


def by_point(model: LatentVariableModel, rows: SparseRows, each: list[Tensor]) -> Tensor:
    """What was found for the gathered chunks of the first block, in the order of sparse rows."""
    points = torch.cat([chunk.points for chunk in model.observations.blocks[0]])
    assert torch.equal(points, rows.points)
    return torch.cat(each)


def test_every_entry_is_there_once_in_both_orders() -> None:
    model, _ = bound(block_size=32)
    seen, values = (torch.zeros(model.observations.shape, dtype=torch.float64) for _ in range(2))
    for block in range(len(model.observations.blocks)):
        rows = rows_of(model, block)
        identity = torch.eye(model.observations.shape[1], dtype=torch.float64)
        seen[rows.points] += rows.over_columns(identity)
        values[rows.points] += rows.values_over_columns(identity)
        each = torch.eye(len(rows.points), dtype=torch.float64)
        torch.testing.assert_close(rows.over_points(each).mT, rows.over_columns(identity))
        torch.testing.assert_close(rows.values_over_points(each).mT, rows.values_over_columns(identity))
        count, total, square = rows.of_columns
        torch.testing.assert_close(count, rows.over_columns(identity).sum(0))
        torch.testing.assert_close(total, rows.values_over_columns(identity).sum(0))
        torch.testing.assert_close(square, rows.values_over_columns(identity).square().sum(0))
        torch.testing.assert_close(rows.lengths, rows.over_columns(identity).sum(1))
    observed = ~np.isnan(ratings())
    assert len(model.observations.blocks) > 1 and np.array_equal(seen.numpy(), observed.astype(float))
    center, scale = model.observations.center, model.observations.scale
    restored = (center + scale * values).numpy()
    np.testing.assert_allclose(restored[observed], ratings()[observed], rtol=1e-12)


def test_a_block_is_cut_where_its_posteriors_would_not_fit() -> None:
    model, _ = bound()
    parts = model.observations.sparse(0, 20)
    assert len(parts) > 4 and all(0 < len(part.points) <= 20 for part in parts)
    torch.testing.assert_close(torch.cat([part.points for part in parts]), rows_of(model).points)
    assert parts is model.observations.sparse(0, 20)


@pytest.mark.parametrize("name", MODELS)
def test_posteriors_at_a_temperature_are_those_of_the_gathered_layout(name: str) -> None:
    model, parameters = bound(name)
    rows, chunks = rows_of(model), model.observations.blocks[0]
    found = model.posterior(parameters, rows, 0.3)
    expected = [model.posterior(parameters, chunk, 0.3) for chunk in chunks]
    for what in ("mean", "covariance", "marginal_variance"):
        joined = by_point(model, rows, [getattr(each, what) for each in expected])
        torch.testing.assert_close(getattr(found, what), joined, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.entropy(), by_point(model, rows, [each.entropy() for each in expected]))


@pytest.mark.parametrize("name", MODELS)
def test_posteriors_are_those_of_the_gathered_layout(name: str) -> None:
    model, parameters = bound(name)
    rows = rows_of(model)
    found = model.posterior(parameters, rows)
    chunks = model.observations.blocks[0]
    expected = [model.posterior(parameters, chunk) for chunk in chunks]
    for what in ("mean", "covariance", "marginal_variance"):
        joined = by_point(model, rows, [getattr(each, what) for each in expected])
        torch.testing.assert_close(getattr(found, what), joined, rtol=1e-10, atol=1e-12)
    likelihoods = [model.log_likelihood(parameters, *pair) for pair in zip(chunks, expected, strict=True)]
    likelihood = model.log_likelihood(parameters, rows, found)
    torch.testing.assert_close(likelihood, by_point(model, rows, likelihoods), rtol=1e-10, atol=1e-12)
    index = torch.arange(6).expand(len(rows.points), -1)
    predicted = model.predict(parameters, found, index)
    predictions = [model.predict(parameters, each, index[: len(each.mean)]) for each in expected]
    for what in ("mean", "variance"):
        joined = by_point(model, rows, [getattr(each, what) for each in predictions])
        torch.testing.assert_close(getattr(predicted, what), joined, rtol=1e-10, atol=1e-12)


def test_the_likelihood_is_that_of_dense_covariances() -> None:
    model, parameters = bound()
    exported = {name: value.numpy() for name, value in model.export(parameters).items()}
    covariance = exported["loadings"] @ exported["loadings"].T + exported["offset_variance"]
    covariance += np.diag(exported["noise_variance"])
    rows = rows_of(model)
    found = model.log_likelihood(parameters, rows, model.posterior(parameters, rows)).numpy()
    for point, likelihood in zip(rows.points.tolist(), found, strict=True):
        y = ratings()[point]
        seen = ~np.isnan(y)
        part = covariance[np.ix_(seen, seen)]
        expected = multivariate_normal(exported["mean"][seen], part).logpdf(y[seen]) if seen.any() else 0.0
        assert likelihood == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_the_likelihood_is_differentiable() -> None:
    """Fisher's identity: its gradient is that of the expected loss at the posterior."""
    model, parameters = bound()
    inputs, rows = cases.leaves(parameters), rows_of(model)
    likelihood = model.log_likelihood(inputs, rows, model.posterior(inputs, rows)).sum()
    gradient = torch.autograd.grad(likelihood, list(inputs.values()))
    for ours, theirs in zip(gradient, cases.exact_gradient(model, parameters).values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("of", ["exact", "samples"])
def test_statistics_and_losses_are_those_of_the_gathered_layout(name: str, of: str) -> None:
    model, parameters = bound(name)
    rows, chunks = rows_of(model), model.observations.blocks[0]
    ours = model.posterior(parameters, rows)
    theirs = [model.posterior(parameters, chunk) for chunk in chunks]
    if of == "samples":
        draw = torch.Generator().manual_seed(0)
        samples = torch.randn(len(rows.points), 3, model.dim, generator=draw, dtype=torch.float64)
        ours = SamplePosterior(ours.mean, samples, model.frame(parameters))
        sizes = [len(chunk.points) for chunk in chunks]
        pairs = zip(ours.mean.split(sizes), samples.split(sizes), strict=True)
        theirs = [SamplePosterior(mean, part, model.frame(parameters)) for mean, part in pairs]
    found, expected = model.statistics(rows, ours), {}
    for chunk, posterior in zip(chunks, theirs, strict=True):
        expected = model.add_statistics(expected, chunk, posterior)
    assert found.keys() == expected.keys()
    for what, value in expected.items():
        torch.testing.assert_close(found[what], value, rtol=1e-10, atol=1e-10)
    again = model.add_statistics({what: value.clone() for what, value in found.items()}, rows, ours)
    for what, value in expected.items():
        torch.testing.assert_close(again[what], 2 * value, rtol=1e-10, atol=1e-10)
    gradients = []
    for layout in ([(rows, ours)], list(zip(chunks, theirs, strict=True))):
        inputs = cases.leaves(parameters)
        loss = torch.stack([model.complete_loss(inputs, *pair) for pair in layout]).sum()
        gradients.append([loss, *torch.autograd.grad(loss, list(inputs.values()))])
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)


def test_a_precision_is_that_of_the_gathered_layout() -> None:
    model, parameters = bound("no offset")
    rows, chunks = rows_of(model), model.observations.blocks[0]
    precision, targets = model.system(parameters, rows)
    assert isinstance(precision, SparsePrecision)
    others = [model.system(parameters, chunk) for chunk in chunks]
    dense = by_point(model, rows, [other.dense() for other, _ in others])
    torch.testing.assert_close(precision.dense(), dense, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(precision.diagonal(), dense.diagonal(dim1=1, dim2=2))
    right = by_point(model, rows, [other.right_side(target) for other, target in others])
    torch.testing.assert_close(precision.right_side(targets), right, rtol=1e-12, atol=1e-12)
    x = torch.randn(len(rows.points), 4, model.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(precision.matvec(x), x @ dense, rtol=1e-12, atol=1e-12)
    y = torch.randn(4, len(rows.values), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    one_by_one = (precision.forward(x) * y).sum(), (x * precision.transpose(y)).sum()  # V and V^T are adjoint
    torch.testing.assert_close(*one_by_one)
    assert all(isinstance(other, DensePrecision) for other, _ in others)


@pytest.mark.parametrize("name", MODELS)
def test_steps_of_em_are_those_of_the_gathered_layout(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, start = bound(name, block_size=32)

    def learned() -> Parameters:
        method = Method(model, Exact(model), ClosedForm(model, start), len(model.observations.blocks), 0)
        for _ in range(5):
            method.step()
        return method.parameters

    sparse = learned()
    monkeypatch.setattr(type(model), "layout", LatentVariableModel.layout)
    for what, value in learned().items():
        torch.testing.assert_close(sparse[what], value, rtol=1e-8, atol=1e-10)


def test_steps_of_unroll_differ_by_their_random_numbers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the matrices' own solutions and the true covariance for samples, gradient steps are the same."""
    model, start = bound()

    def stepped(layout: str) -> Parameters:
        solver = ConjugateGradient(tolerance=1e-12)
        update = Gradient(model, start, "sgd", 0.1)
        for chunk in model.layout(0) if layout == "sparse" else model.observations.blocks[0]:
            expectation = MonteCarlo(model, solver, 2 * model.dim, 1, 0, False)
            root = torch.linalg.cholesky(model.posterior(start, chunk).covariance)
            spread = torch.cat([root, -root], dim=2).mT * np.sqrt(model.dim)
            for _, posterior, _ in expectation.posteriors(start, 0, [chunk], 0, SolverRecord()):
                update.add(0, chunk, SamplePosterior(posterior.mean, spread, posterior.frame), None)
        update.apply(model.observations.observed)
        return update.parameters

    for what, value in stepped("gathered").items():
        torch.testing.assert_close(stepped("sparse")[what], value, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("few", [1, 3])
def test_signed_sums_are_those_of_their_signs(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lgm_cli.observations.sparse_rows._few", lambda *_: few)
    model, parameters = bound("no offset")
    rows, number = rows_of(model), 5
    precision, _ = model.system(parameters, rows)
    assert isinstance(precision, SparsePrecision)
    patterns = rows.sign_patterns(number, torch.Generator().manual_seed(0))
    assert patterns.shape == (-(-number // few), len(rows.values)) and int(patterns.max()) == (1 << few) - 1
    signs = torch.cat([torch.where(patterns >> bit & 1 == 1, -1.0, 1.0)[:, None] for bit in range(few)], dim=1)
    found = rows.signed_over_columns(precision.columns.rows, patterns, number)
    torch.testing.assert_close(found, precision.transpose(signs.flatten(0, 1)[:number].double()))


def test_perturbations_of_sparse_rows_have_the_precision_for_covariance() -> None:
    model, parameters = bound("no offset")
    rows, number = rows_of(model), 5_000
    precision, _ = model.system(parameters, rows)
    latent, observed = rows.noise(number, model.dim, torch.Generator().manual_seed(0), signs=False)
    delta = precision.perturbation(latent, observed)
    assert latent.shape == delta.shape and set(latent.unique().tolist()) == {-1.0, 1.0}
    found, expected = delta.mT @ delta / number, precision.dense()
    spread = torch.sqrt(expected.diagonal(dim1=1, dim2=2))
    # Standard errors of covariances are at most sqrt(2 / K) of the scale; 6 of them for some 540 comparisons.
    assert float(((found - expected) / (spread[:, :, None] * spread[:, None])).abs().max()) < 6 * np.sqrt(2 / number)
    assert float((delta.mean(1) / spread).abs().max()) < 6 / np.sqrt(number)


def test_a_step_is_the_same_each_time() -> None:
    found = []
    for _ in range(2):
        model, start = bound()
        expectation = MonteCarlo(model, ConjugateGradient(), 2, 1, 0, False)
        method = Method(model, expectation, Gradient(model, start, "adam", 0.1), 1, 0)
        method.step()
        found.append(method.parameters)
    for what, value in found[0].items():
        assert torch.equal(value, found[1][what])


def test_a_network_gradient_and_dense_blocks_keep_their_layout() -> None:
    model, _ = bound()
    network = MonteCarlo(model, ConjugateGradient(), 2, 1, 0, True)
    assert network.layout(0) is model.observations.blocks[0]
    table = cases.bind(MODELS["offset"](), cases.with_gaps(np.random.default_rng(0).normal(size=(50, 9)), "masked"))
    assert all(chunks is table.layout(number) for number, chunks in enumerate(table.observations.blocks))
