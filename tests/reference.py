"""Factor analysis computed independently: dense NumPy, one data point at a time, in the data's own units.

y = loadings z + mean + offset + noise. Parameters are a dictionary of arrays under the names of
parameters.safetensors; y is (N, M) with NaN where nothing was observed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Arrays = dict[str, np.ndarray]


def covariance(parameters: Mapping[str, np.ndarray]) -> np.ndarray:
    """Cov(y), (M, M)."""
    loadings = parameters["loadings"]
    return loadings @ loadings.T + np.diag(parameters["noise_variance"]) + parameters.get("offset_variance", 0.0)


def log_likelihoods(parameters: Mapping[str, np.ndarray], y: np.ndarray) -> np.ndarray:
    """log N(observed entries of y_n), (N,)."""
    full, found = covariance(parameters), np.zeros(len(y))
    for n, row in enumerate(y):
        seen = ~np.isnan(row)
        if seen.any():
            error = (row - parameters["mean"])[seen]
            part = full[np.ix_(seen, seen)]
            found[n] = -0.5 * (
                error @ np.linalg.solve(part, error) + np.linalg.slogdet(part)[1] + seen.sum() * np.log(2 * np.pi)
            )
    return found


def conditional(parameters: Mapping[str, np.ndarray], y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each entry that was not observed given those of its row that were, (N, M); else y and 0."""
    full = covariance(parameters)
    mean, variance = y.copy(), np.zeros(y.shape)
    for n, row in enumerate(y):
        seen, gap = ~np.isnan(row), np.isnan(row)
        gain = np.linalg.solve(full[np.ix_(seen, seen)], full[np.ix_(seen, gap)]).T
        mean[n, gap] = parameters["mean"][gap] + gain @ (row - parameters["mean"])[seen]
        variance[n, gap] = np.diag(full)[gap] - np.sum(gain * full[np.ix_(gap, seen)], axis=1)
    return mean, variance


def posterior(parameters: Mapping[str, np.ndarray], y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (N, Q) and covariance (N, Q, Q) of the factors and, last, the offset where there is one, by conditioning."""
    rows, prior = _with_offset(parameters)
    mean, spread = np.zeros((len(y), len(prior))), np.zeros((len(y), len(prior), len(prior)))
    for n, row in enumerate(y):
        seen = ~np.isnan(row)
        image = rows[seen] * prior  # Cov(y_o, z)
        total = image @ rows[seen].T + np.diag(parameters["noise_variance"][seen])
        gain = np.linalg.solve(total, image).T
        mean[n] = gain @ (row - parameters["mean"])[seen]
        spread[n] = np.diag(prior) - gain @ image
    return mean, spread


def em_step(parameters: Mapping[str, np.ndarray], y: np.ndarray, floor: float | np.ndarray = 0.0) -> Arrays:
    """One step of expectation-maximisation: each column's regression on (z, 1), given what the offset took."""
    mean, spread = posterior(parameters, y)
    d = parameters["loadings"].shape[1]
    new: Arrays = {name: np.array(value, float) for name, value in parameters.items()}
    for m in range(y.shape[1]):
        left, right, seen = np.zeros((d + 1, d + 1)), np.zeros(d + 1), np.flatnonzero(~np.isnan(y[:, m]))
        for n in seen:
            factors = np.append(mean[n, :d], 1.0)
            left += np.outer(factors, factors)
            left[:d, :d] += spread[n, :d, :d]
            right += factors * (y[n, m] - mean[n, d:].sum())
            right[:d] -= spread[n, :d, d:].sum(1)
        solution = np.linalg.solve(left, right)
        weights = np.append(solution[:d], np.ones(mean.shape[1] - d))
        residuals = y[seen, m] - solution[d] - mean[seen] @ weights
        second = np.mean(residuals**2 + np.einsum("i,nij,j->n", weights, spread[seen], weights))
        new["loadings"][m], new["mean"][m] = solution[:d], solution[d]
        new["noise_variance"][m] = max(second, np.broadcast_to(floor, y.shape[1])[m])
    if "offset_variance" in parameters:
        new["offset_variance"] = np.mean(mean[:, d] ** 2 + spread[:, d, d])
    return new


def _with_offset(parameters: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Loadings of (factors, offset) and their prior variances."""
    loadings = parameters["loadings"]
    prior = np.ones(loadings.shape[1])
    if "offset_variance" not in parameters:
        return loadings, prior
    return np.hstack([loadings, np.ones((len(loadings), 1))]), np.append(prior, float(parameters["offset_variance"]))
