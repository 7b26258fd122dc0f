"""Normal components with gaps, against dense marginal normals row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from torch import Tensor

from lgm_cli.models.families.normal import COVARIANCES, Normal, normal, raised
from lgm_cli.observations.chunk import Chunk
from lgm_cli.randomness import generator

K, M, N = 3, 4, 60


def drawn_parameters(covariance: str, seed: int = 0) -> dict[str, Tensor]:
    draw = generator(seed, "test parameters")
    kind = {"dtype": torch.float64, "generator": draw}
    root = torch.randn(K, M, M, **kind)
    full = root @ root.mT / M + 0.3 * torch.eye(M)
    return {"means": torch.randn(K, M, **kind), "covariances": family_of(covariance).compact(full)}


def family_of(covariance: str, floor: float = 1e-3) -> Normal:
    """Spherical covariances in columns of different units."""
    return normal(covariance, floor, torch.linspace(0.5, 2.0, M).double())


def rows_with_gaps(seed: int = 1, complete: int = 0) -> Chunk:
    """N masked rows: `complete` of them whole, one of them empty, the others with gaps of their own or shared ones."""
    draw = generator(seed, "test rows")
    kind = {"dtype": torch.float64, "generator": draw}
    values, seen = 1.3 * torch.randn(N, M, **kind), torch.rand(N, M, **kind) > 0.4
    seen[0] = False
    seen[1 : 1 + complete] = True
    seen[20:32] = torch.tensor([True, False, True, True])
    weight = seen.double()
    return Chunk(torch.arange(N), None, weight, values * weight)


def layouts() -> dict[str, Chunk]:
    masked = rows_with_gaps(complete=15)
    whole = Chunk(torch.arange(N), torch.arange(M), torch.ones(N, M).double(), rows_with_gaps(3).values + 0.1)
    index = torch.tensor([0, 3])
    part = Chunk(torch.arange(N), index, torch.ones(N, 2).double(), whole.values[:, index])
    return {"masked": masked, "gathered": masked.gathered, "whole": whole, "shared": part}


def by_row(chunk: Chunk, parameters: dict[str, Tensor], family: Normal) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log densities (n, K), E[y | k] (n, K, M), Cov[y | k] (n, K, M, M), entropies of hidden entries (n, K)."""
    seen, values = chunk.scattered(M)
    full = family.written(parameters["covariances"], K, M)
    density, entropy = torch.zeros(2, len(seen), K, dtype=torch.float64)
    expected, spread = torch.zeros(len(seen), K, M).double(), torch.zeros(len(seen), K, M, M).double()
    for n, k in np.ndindex(len(seen), K):
        o, h = (np.flatnonzero(seen[n].numpy() == state) for state in (1, 0))
        mean, cov = parameters["means"][k].numpy(), full[k].numpy()
        y, filled, hidden = values[n].numpy(), values[n].numpy().copy(), np.zeros((M, M))
        gain = np.zeros((len(h), len(o)))
        if len(o):
            density[n, k] = multivariate_normal(mean[o], cov[np.ix_(o, o)]).logpdf(y[o])
            gain = cov[np.ix_(h, o)] @ np.linalg.inv(cov[np.ix_(o, o)])
        filled[h] = mean[h] + gain @ (y[o] - mean[o])
        hidden[np.ix_(h, h)] = cov[np.ix_(h, h)] - gain @ cov[np.ix_(o, h)]
        expected[n, k], spread[n, k] = torch.as_tensor(filled), torch.as_tensor(hidden)
        if len(h):
            entropy[n, k] = multivariate_normal(np.zeros(len(h)), hidden[np.ix_(h, h)]).entropy()
    return density, expected, spread, entropy


def random_weights(n: int) -> Tensor:
    return torch.softmax(torch.randn(n, K, dtype=torch.float64, generator=generator(5, "test weights")), 1)


@pytest.mark.parametrize("layout", ["masked", "gathered", "whole", "shared"])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_densities_and_moments_are_those_of_dense_marginal_normals(covariance: str, layout: str) -> None:
    chunk, family, parameters = layouts()[layout], family_of(covariance), drawn_parameters(covariance)
    density, expected, spread, entropy = by_row(chunk, parameters, family)
    found = family.emissions(parameters, chunk)
    torch.testing.assert_close(found.log_density, density, atol=1e-11, rtol=1e-11)
    weights = random_weights(N)
    statistics = family.emissions(parameters, chunk).statistics(weights)
    if covariance in ("full", "tied"):
        second = torch.einsum("nk,nki,nkj->kij", weights, expected, expected) + torch.einsum(
            "nk,nkij->kij", weights, spread
        )
        want = {"count": weights.sum(0), "first": torch.einsum("nk,nki->ki", weights, expected), "second": second}
        torch.testing.assert_close(found.entropy(weights), (weights * entropy).sum(1), atol=1e-11, rtol=1e-11)
    else:
        seen, values = chunk.scattered(M)
        want = {"count": weights.T @ seen, "first": weights.T @ values, "second": weights.T @ values**2}
        assert not found.entropy(weights).any()
    for name, value in want.items():
        torch.testing.assert_close(statistics[name], value, atol=1e-11, rtol=1e-11)
    index = torch.arange(M).repeat(N, 1)
    mean, variance = found.conditional(index)
    hidden = (chunk.scattered(M)[0] == 0)[:, None].expand(-1, K, -1)
    torch.testing.assert_close(mean[hidden], expected[hidden], atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(variance[hidden], spread.diagonal(dim1=-2, dim2=-1)[hidden], atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_gradient_of_densities_is_that_of_finite_differences(covariance: str) -> None:
    family, chunk, weights = family_of(covariance), rows_with_gaps(complete=15), random_weights(N)
    free = {"means": drawn_parameters(covariance)["means"]}
    free["covariances"] = family.free(drawn_parameters(covariance)["covariances"])

    def loss(means: Tensor, covariances: Tensor) -> Tensor:
        parameters = {"means": means, "covariances": family.constrain(covariances)}
        return (weights * family.emissions(parameters, chunk).log_density).sum()

    inputs = tuple(value.clone().requires_grad_() for value in (free["means"], free["covariances"]))
    assert torch.autograd.gradcheck(loss, inputs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_loss_less_entropy_is_the_weighted_density(covariance: str) -> None:
    """E log p(y, hidden | k) + H(hidden | k) = log p(y observed | k) under the hidden entries' own posterior."""
    family, chunk, weights = family_of(covariance), rows_with_gaps(complete=15), random_weights(N)
    parameters = drawn_parameters(covariance)
    found = family.emissions(parameters, chunk)
    loss = family.expected_loss(parameters, found.statistics(weights))
    bound = found.entropy(weights).sum() - loss
    torch.testing.assert_close(bound, (weights * found.log_density).sum(), atol=1e-9, rtol=1e-11)


@pytest.mark.parametrize("floor", [1e-3, 0.9])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_maximum_is_that_of_a_numerical_optimiser(covariance: str, floor: float) -> None:
    """Also under a floor that binds, and each block alone."""
    family, chunk, parameters = family_of(covariance, floor), rows_with_gaps(complete=15), drawn_parameters(covariance)
    parameters["covariances"] = family.compact(family.written(parameters["covariances"], K, M))
    statistics = family.emissions(parameters, chunk).statistics(random_weights(N))
    for block in (None, "means", "covariances"):
        new = family.maximise(parameters, statistics, block)
        moved = [name for name in new if block in (None, name)]
        assert all(new[name] is parameters[name] for name in set(new) - set(moved))
        start = {"means": new["means"] + 0.1, "covariances": family.free(new["covariances"]) + 0.1}
        start = {name: start[name] for name in moved}
        sizes = [start[name].numel() for name in moved]

        def loss(x: np.ndarray, start=start, sizes=sizes, moved=moved) -> tuple[float, np.ndarray]:
            point = torch.as_tensor(x, dtype=torch.float64).requires_grad_()
            parts = dict(zip(moved, point.split(sizes), strict=True))
            parts = {name: part.view(start[name].shape) for name, part in parts.items()}
            if "covariances" in parts:
                parts["covariances"] = family.constrain(parts["covariances"])
            value = family.expected_loss(parameters | parts, statistics)
            return float(value.detach()), torch.autograd.grad(value, point)[0].numpy()

        best = minimize(loss, torch.cat([start[name].flatten() for name in moved]).numpy(), jac=True, method="BFGS",
                        options={"maxiter": 2000, "gtol": 1e-7})  # fmt: skip
        assert float(family.expected_loss(new, statistics)) == pytest.approx(
            best.fun, abs=2e-3 if floor > 0.5 else 1e-7
        )
        assert float(family.expected_loss(new, statistics)) < best.fun + 1e-7


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_component_without_weight_keeps_its_parameters(covariance: str) -> None:
    family, chunk, parameters = family_of(covariance), rows_with_gaps(complete=15), drawn_parameters(covariance)
    weights = random_weights(N)
    weights[:, 1] = 0
    new = family.maximise(parameters, family.emissions(parameters, chunk).statistics(weights))
    assert torch.equal(new["means"][1], parameters["means"][1])
    assert not torch.equal(new["means"][0], parameters["means"][0])
    if covariance != "tied":
        assert torch.equal(new["covariances"][1], parameters["covariances"][1])
    assert all(bool(value.isfinite().all()) for value in new.values())


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_forms_of_covariances(covariance: str) -> None:
    family, inside = family_of(covariance), drawn_parameters(covariance)["covariances"]
    written = family.written(inside, K, M)
    assert written.shape == (K, M, M)
    torch.testing.assert_close(family.compact(written), inside, atol=1e-14, rtol=1e-14)
    torch.testing.assert_close(family.constrain(family.free(inside)), inside, atol=1e-12, rtol=1e-12)
    smallest = inside if covariance == "spherical" else torch.linalg.eigvalsh(written)[:, 0]
    torch.testing.assert_close(family.smallest(inside).expand(K), smallest, atol=1e-12, rtol=1e-12)
    flat = family.compact(torch.zeros(K, M, M).double())  # at its floor, where free coordinates still exist
    assert float((family.constrain(family.free(flat)) - flat).abs().max()) < 2e-6


def test_drawn_entries_have_the_conditional_mean_and_covariance() -> None:
    family, parameters = normal("full", 1e-3), drawn_parameters("full")
    for chunk in layouts().values():
        row = Chunk(*(None if part is None else part[:1] if part.dim() == 2 else part for part in (
            chunk.points[40:41], chunk.index[40:41] if chunk.index is not None and chunk.index.dim() == 2
            else chunk.index, chunk.weight[40:41], chunk.values[40:41])))  # fmt: skip
        _, expected, spread, _ = by_row(row, parameters, family)
        index = row.index.expand(8000, -1) if row.index is not None and row.index.dim() == 2 else row.index
        many = Chunk(torch.arange(8000), index, row.weight.expand(8000, -1), row.values.expand(8000, -1))
        component = torch.full((8000,), 2)
        drawn = family.emissions(parameters, many).drawn(component, generator(9, "test draws"))
        hot = torch.nn.functional.one_hot(component, K).double()
        moments = drawn.statistics(hot)
        mean = moments["first"][2] / 8000
        error = 5 * spread[0, 2].diagonal().div(8000).sqrt() + 1e-12
        assert bool(((mean - expected[0, 2]).abs() < error).all())
        cov = moments["second"][2] / 8000 - mean[:, None] * mean
        assert float((cov - spread[0, 2]).abs().max()) < 0.1 * float(spread[0, 2].abs().max()) + 1e-10
        assert not drawn.entropy(hot).any()


def test_eigenvalues_are_raised_and_nothing_else_changes() -> None:
    matrix = torch.diag(torch.tensor([1e-5, 2.0])).double()
    torch.testing.assert_close(raised(matrix, 0.1), torch.diag(torch.tensor([0.1, 2.0])).double())
    assert torch.equal(raised(matrix, 1e-6), matrix)
