"""A series whose differences are a linear Gaussian chain: its values where they are not known, given all that are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DIFFUSE = 1e4  # variance of an unknown first value, in units of the spread of the known ones: more costs digits


@dataclass(frozen=True)
class LinearChain:
    """d_t = level_t + C z_t + N(0, diag R),  z_t = G z_(t-1) + N(0, Q),  z_1 ~ N(m, P); float64."""

    transition: np.ndarray  # G (D, D)
    covariance: np.ndarray  # Q (D, D)
    observation: np.ndarray  # C (M, D)
    noise: np.ndarray  # R (M,), positive
    initial_mean: np.ndarray  # m (D,)
    initial_covariance: np.ndarray  # P (D, D)


def smoothed(
    chain: LinearChain, level: np.ndarray, values: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (T, M) of each x_t given all known ones, where x_t = d_t + f_1 x_(t-1) + .. + f_L x_(t-L).

    level (T, M), values x (T, M) with NaN where it is not known, weights f (L,), L >= 1. What is known has variance
    zero. The differences accumulate in the state s_t = (z_t, x_t, .., x_(t-L)), so that the variance of a forecast has
    the covariances between steps, and a gap is held by what stands on both sides of it. The first L values, where they
    are not known, have a prior variance of DIFFUSE times the spread of the known ones.

    Kalman's filter and a fixed-interval smoother, one value at a time, O(T M (D + M L)^2 + T (D + M L)^3) without the
    inverse of any matrix (Durbin & Koopman, Time Series Analysis by State Space Methods, 2012, section 6.4).
    """
    steps, m = values.shape
    reach, d = len(weights), len(chain.transition)
    size = d + m * (reach + 1)
    here = d + np.arange(m)  # of x_t in the state
    move, noise = _transition(chain, weights)
    known = ~np.isnan(values)
    mean, variance = np.where(known, values, 0.0), np.zeros_like(values)

    # The state at step L - 1, before any difference is known: x_(-1), which no difference is made of, is zero.
    a, p = np.zeros(size), np.zeros((size, size))
    a[:d], p[:d, :d] = chain.initial_mean, chain.initial_covariance
    for _ in range(reach - 1):
        a[:d] = chain.transition @ a[:d]
        p[:d, :d] = chain.transition @ p[:d, :d] @ chain.transition.T + chain.covariance
    center, spread = np.nanmean(values, 0), np.nanvar(values, 0) + np.diag(noise)[here]
    for back in range(reach):
        place, seen = here + back * m, known[reach - 1 - back]
        a[place] = np.where(seen, mean[reach - 1 - back], center)
        p[place, place] = np.where(seen, 0.0, DIFFUSE * spread)

    first_mean, first_covariance = a.copy(), p.copy()
    gaps: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # by step: rows of the predicted covariance of what is missing
    seen_at: dict[int, list[tuple[int, np.ndarray, float, float]]] = {}  # place, gain, error and its variance
    for step in range(reach, steps):
        a, p = move @ a, move @ p @ move.T + noise
        a[here] += level[step]
        missing = here[~known[step]]
        if len(missing):
            gaps[step] = a[missing], p[missing]
        passed = []
        for channel in np.flatnonzero(known[step]):
            place = d + int(channel)
            of_error = p[place, place]
            gain, error = p[:, place] / of_error, values[step, channel] - a[place]
            passed.append((place, gain, float(error), float(of_error)))
            a = a + gain * error
            p = p - np.outer(gain, gain) * of_error
            a[place], p[place], p[:, place] = values[step, channel], 0.0, 0.0  # but for rounding
        p = (p + p.T) / 2
        seen_at[step] = passed

    r, n = np.zeros(size), np.zeros((size, size))
    for step in range(steps - 1, reach - 1, -1):
        for place, gain, error, of_error in reversed(seen_at[step]):
            carried = n @ gain
            r[place] += error / of_error - gain @ r
            n[place] -= carried
            n[:, place] -= carried
            n[place, place] += gain @ carried + 1 / of_error
        if step in gaps:
            predicted, rows = gaps[step]
            missing = ~known[step]
            mean[step, missing] = predicted + rows @ r
            prior = rows[np.arange(len(rows)), here[missing]]
            variance[step, missing] = prior - np.einsum("ij,jk,ik->i", rows, n, rows)
        r, n = move.T @ r, move.T @ n @ move
    last_mean = first_mean + first_covariance @ r
    last_variance = np.diag(first_covariance) - np.einsum("ij,jk,ik->i", first_covariance, n, first_covariance)
    for back in range(reach):
        missing = ~known[reach - 1 - back]
        mean[reach - 1 - back, missing] = last_mean[here + back * m][missing]
        variance[reach - 1 - back, missing] = last_variance[here + back * m][missing]
    return mean, variance


def _transition(chain: LinearChain, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How the state s_t follows from s_(t-1), and the covariance of what is added: (size, size) each."""
    g, q, c = chain.transition, chain.covariance, chain.observation
    d, m, reach = len(g), len(c), len(weights)
    size = d + m * (reach + 1)
    move, noise = np.zeros((size, size)), np.zeros((size, size))
    move[:d, :d], move[d : d + m, :d] = g, c @ g
    for back, weight in enumerate(weights):
        move[d : d + m, d + back * m : d + (back + 1) * m] = weight * np.eye(m)
    move[d + m :, d : size - m] = np.eye(m * reach)
    noise[:d, :d], noise[:d, d : d + m], noise[d : d + m, :d] = q, q @ c.T, c @ q
    noise[d : d + m, d : d + m] = c @ q @ c.T + np.diag(chain.noise)
    return move, noise
