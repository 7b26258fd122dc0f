"""F + KL(q || p(z | y, parameters)) = log p(y | parameters) for each YAML of conf/model, and F along each method.

q is the posterior at other parameters than those of F. The divergence is computed densely and apart from both: of
Gaussian latents from their systems, of components and paths of states from densities, of the hidden entries of a row
from the covariances of its component, and of the level of a row from its counts.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import digamma, gammaln, log_softmax, logsumexp

from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.observations.chunk import Chunk
from tests import cases, matrix
from tests.conformance.test_every_method import CLIMBING, Pair, never_falls

Array = np.ndarray

NORMAL = {"weights", "initial", "transition", "means", "covariances"}  # of mixtures and chains of normal components

MODELS = [
    pytest.param((name, options), id=matrix.label(name, options))
    for name in matrix.MODELS
    for options in matrix.varied("model", name)
]


def of_normals(mean: Array, spread: Array, other_mean: Array, other_spread: Array) -> float:
    """KL(N(mean, spread) || N(other_mean, other_spread)) of vectors of D numbers."""
    error, inverse = mean - other_mean, np.linalg.inv(other_spread)
    logs = np.linalg.slogdet(other_spread)[1] - np.linalg.slogdet(spread)[1]
    return 0.5 * float(np.trace(inverse @ spread) + error @ inverse @ error - len(mean) + logs)


def of_latents(model: Any, chunk: Chunk, one: Parameters, two: Parameters) -> float:
    """Of Gaussian latents in the model's own coordinates, from A_n and b_n of whitened ones as dense arrays."""

    def moments(parameters: Parameters) -> tuple[Array, Array]:
        precision, targets = model.system(parameters, chunk)
        n, scale = len(chunk.points), model.frame(parameters).scale
        dense = precision.dense().expand(n, model.dim, model.dim).numpy()
        side = precision.right_side(targets).reshape(n, model.dim, 1).numpy()
        unit = np.ones(model.dim) * (1.0 if scale is None else scale.numpy())
        return unit * np.linalg.solve(dense, side)[..., 0], unit[:, None] * np.linalg.inv(dense) * unit

    parts = zip(*moments(one), *moments(two), strict=True)
    return sum(of_normals(*each) for each in parts)


def of_components(one: Array, two: Array) -> tuple[float, Array]:
    """Of the component of each row, given log p(k, y_n), (n, K) at both parameters; and p(k | y_n) of the first."""
    one, two = log_softmax(one, axis=1), log_softmax(two, axis=1)
    return float((np.exp(one) * (one - two)).sum()), np.exp(one)


def backward(transition: Array, density: Array) -> list[Array]:
    """log p(k_t | k_(t-1), y_t .. y_T) of t = 2 .. T, from row to column, by the last step first."""
    ahead, found = np.zeros(len(transition)), []
    for row in density[:0:-1]:
        joint = transition + row + ahead
        ahead = logsumexp(joint, axis=1)
        found.append(joint - ahead[:, None])
    return [*found[::-1], ahead[None]]


def of_paths(one: tuple[Array, Array, Array], two: tuple[Array, Array, Array]) -> tuple[float, Array]:
    """Of the path of a chain, given the logarithms of initial (K,), transition (K, K) and density (T, K) at both
    parameters; and p(k_t | y) of the first. The posterior of a Markov chain is a Markov chain."""
    (*steps, ahead), (*other_steps, other_ahead) = (backward(*each[1:]) for each in (one, two))
    first, other = (log_softmax(each[0] + each[2][0] + a[0]) for each, a in ((one, ahead), (two, other_ahead)))
    total, states = float((np.exp(first) * (first - other)).sum()), [np.exp(first)]
    for step, other_step in zip(steps, other_steps, strict=True):
        total += float((states[-1][:, None] * np.exp(step) * (step - other_step)).sum())
        states.append(states[-1] @ np.exp(step))
    return total, np.array(states)


def rows_of(model: LatentVariableModel, chunk: Chunk) -> Array:
    """Rows (n, M) in the data's own units, NaN in their gaps; of a series, its steps."""
    chunk = model.table(chunk) if hasattr(model, "table") else chunk  # pyright: ignore[reportAttributeAccessIssue]
    columns = len(model.observations.column_center)
    seen, values = (part.numpy() for part in chunk.scattered(columns))
    center, scale = model.observations.column_center.numpy(), model.observations.scale.numpy()[:columns]
    return np.where(seen > 0, center + scale * values, math.nan)


def of_hidden_entries(rows: Array, weights: Array, one: Parameters, two: Parameters) -> float:
    """Of what was not observed of each row given its component, weighted with q(k | y_n), (n, K)."""

    def conditional(exported: Parameters, k: int, row: Array) -> tuple[Array, Array]:
        mean, full, gap = exported["means"][k].numpy(), exported["covariances"][k].numpy(), np.isnan(row)
        gain = np.linalg.solve(full[np.ix_(~gap, ~gap)], full[np.ix_(~gap, gap)]).T
        return mean[gap] + gain @ (row - mean)[~gap], full[np.ix_(gap, gap)] - gain @ full[np.ix_(~gap, gap)]

    total = 0.0
    for row, weight in zip(rows, weights, strict=True):
        for k, share in enumerate(weight):
            total += share * of_normals(*conditional(one, k, row), *conditional(two, k, row))
    return total


def of_levels(rows: Array, weights: Array, one: Parameters, two: Parameters) -> float:
    """Of the gamma level of each row given its component, weighted with q(k | y_n), (n, K)."""
    seen, total = ~np.isnan(rows), np.nansum(rows, 1)[:, None]
    (a, b), (c, d) = (
        (each["shapes"].numpy() + total, each["shapes"].numpy() + seen @ each["rates"].numpy().T) for each in (one, two)
    )
    found = (a - c) * digamma(a) - gammaln(a) + gammaln(c) + c * np.log(b / d) + a * (d - b) / b
    return float((weights * found).sum())


def divergence(model: Any, chunk: Chunk, one: Parameters, two: Parameters) -> float:
    """KL(p(z | y, one) || p(z | y, two)), summed over the data points of a chunk."""
    if model.has_system:
        return of_latents(model, chunk, one, two)
    posteriors = [model.posterior(each, chunk) for each in (one, two)]
    densities = [each.emissions.log_density.numpy() for each in posteriors]
    logs = [{name: value.log().numpy() for name, value in each.items()} for each in (one, two)]
    if "transition" in one:
        chains = [(log["initial"], log["transition"], each) for log, each in zip(logs, densities, strict=True)]
        total, weights = of_paths(*chains)
    else:
        total, weights = of_components(*(log["weights"] + each for log, each in zip(logs, densities, strict=True)))
    if not bool(posteriors[0].emissions.entropy(torch.as_tensor(weights)).any()):
        return total
    exported = [model.export(each) for each in (one, two)]
    if "rates" in exported[0]:
        return total + of_levels(rows_of(model, chunk), weights, *exported)
    if "loadings" in exported[0]:  # the factors are integrated out
        exported = [{"means": each["means"], "covariances": model.covariances_of(each)} for each in exported]
    assert exported[0].keys() <= NORMAL
    return total + of_hidden_entries(rows_of(model, chunk), weights, *exported)


@pytest.mark.parametrize("case", MODELS)
def test_free_energy_and_divergence_add_up_to_the_log_likelihood(case: tuple[str, matrix.Options]) -> None:
    """For the posterior at parameters far from those of F, in standard units."""
    model = matrix.bound(*case)
    start = model.start(0)
    for seed, size in ((1, 0.1), (2, 0.3)):
        one, two = cases.moved(model, start, seed, size), cases.moved(model, start, seed + 10, size)
        found, apart, shift = {}, 0.0, 0.0
        for chunk in model.observations.chunks:
            found = model.add_statistics(found, chunk, model.posterior(one, chunk))
            apart += divergence(model, chunk, one, two)
            shift += float(model.log_scales(chunk).sum())
        energy = model.free_energy(two, found)
        assert energy is not None
        likelihood = float(cases.log_likelihood(model, two)) + shift
        assert apart > 1e-3
        assert float(energy) + apart == pytest.approx(likelihood, rel=1e-9, abs=1e-9)


def climbs_by_the_free_energy(pair: Pair) -> bool:
    """Extrapolated steps have accepted points of their own; expansion of the parameters, and steps up the likelihood
    itself, raise the latter alone."""
    method, given, model, options = pair
    words = matrix.defaults(f"method/{method}") | given
    straight = words.get("acceleration", "none") == "none" and words.get("either") is None
    return straight and not matrix.bound(model, options).expanded


@pytest.mark.parametrize("pair", [each for each in CLIMBING if climbs_by_the_free_energy(each.values[0])])
def test_the_free_energy_that_is_shown_never_falls(pair: Pair) -> None:
    """Nor is it ever above the log-likelihood."""
    name, given, model, options = pair
    method, _ = matrix.build(name, model, given, options)
    chunks = method.model.observations.chunks
    shift = sum(float(method.model.log_scales(chunk).sum()) for chunk in chunks)
    method.update.measured, energies = True, []
    for _ in range(5):
        method.step()
        assert method.update.free_energy is not None
        energies.append(float(method.update.free_energy))
        assert energies[-1] <= matrix.likelihood(method) + shift + 1e-9
    assert never_falls(energies)
    assert energies[-1] > energies[0]
