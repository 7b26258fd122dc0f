"""The M-step of a stationary autoregression: the maximum of its expected log-likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

ITERATIONS, ENOUGH, HALVINGS = 20, 1e-10, 30  # of a maximisation: at most, the gain in nats it ends at, of a step
LONGEST = 2.0  # step in u, at most


@dataclass(frozen=True)
class Windows:
    """Expected moments of the windows (z_t, .., z_(t-p)) that each whitening row sees, over the windows of that row.

    second: (p + 1, p + 1, p + 1), sums of E[window window^T]. first: (p + 1, p + 1), sums of E[window]. count: (p + 1,)
    windows: one for each of the first p rows, T - p for the last. What lies before the series is zero.
    """

    second: np.ndarray
    first: np.ndarray
    count: np.ndarray


def _backwards(order: int) -> tuple[Tensor, Tensor]:
    """For windows that end at step k < p: which step each of their p + 1 places is of, and whether it is there."""
    place = torch.arange(order)[:, None] - torch.arange(order + 1)
    return place.clamp_min(0), (place >= 0).double()


def window_sums(z: Tensor, order: int) -> Tensor:
    """Sums of the windows of each row of F, (T,) -> (p + 1, p + 1)."""
    place, there = _backwards(order)
    return torch.cat([z[place] * there, z.unfold(0, order + 1, 1).sum(0).flip(0)[None]])


def window_products(draws: Tensor, order: int) -> Tensor:
    """Sums over draws and windows of window window^T for each row of F, (R, T) -> (p + 1, p + 1, p + 1)."""
    place, there = _backwards(order)
    start = draws[:, place] * there
    later = draws.unfold(1, order + 1, 1).reshape(-1, order + 1).flip(1)
    return torch.cat([torch.einsum("rki,rkj->kij", start, start), (later.mT @ later)[None]])


def window_products_of_band(band: Tensor) -> Tensor:
    """The same of covariances band[k, t] = Cov(z_t, z_(t-k)), (p + 1, T) -> (p + 1, p + 1, p + 1)."""
    order, length = len(band) - 1, band.shape[1]
    (place, there), i = _backwards(order), torch.arange(order + 1)
    lag, least = (i[:, None] - i).abs(), torch.minimum(i[:, None], i)  # the later of two steps is t - least
    start = band[lag, place[:, least]] * there[:, :, None] * there[:, None, :]
    sums = pad(band.cumsum(1), (1, 0))
    return torch.cat([start, (sums[lag, length - least] - sums[lag, order - least])[None]])


def maximise(
    u: np.ndarray, windows: Windows, smallest: float
) -> tuple[np.ndarray, float, float]:  # (p,), innovation variance, mean of z
    """A higher expected log-likelihood of z ~ AR(u, q) about a mean m than that at u: Gauss and Newton's steps in u
    with a line search, q and m at their best for each u:

        f(u) = T/2 log q + G / (2 q) + sum_i i log cosh u_i,   G = sum_k (rows of k)(moments about m)(rows of k)^T.

    The last term is -1/2 log det of the precision, but for q; q = max(G / T, smallest).
    """
    weight = np.arange(1, len(u) + 1)
    total = windows.count.sum()

    def value(rows: np.ndarray, u: np.ndarray) -> tuple[float, float, float, np.ndarray]:
        sums = rows.sum(1)
        mean = float(sums @ np.einsum("ki,ki->k", rows, windows.first) / (windows.count @ sums**2))
        cross = mean * windows.first
        about = windows.second - cross[:, :, None] - cross[:, None, :]
        about = about + mean**2 * windows.count[:, None, None]
        square = float(np.einsum("ki,kij,kj->", rows, about, rows))
        q = max(square / total, smallest)
        cosh = u + np.logaddexp(0.0, -2 * u) - math.log(2)
        return 0.5 * total * math.log(q) + 0.5 * square / q + float(weight @ cosh), q, mean, about

    rows, slopes = _rows_and_slopes(u)
    f, q, mean, about = value(rows, u)
    for _ in range(ITERATIONS):
        r = np.tanh(u)
        image = np.einsum("kij,kjn->kin", about, slopes)
        gradient = np.einsum("kin,ki->n", image, rows) / q + weight * r
        curvature = np.einsum("kin,kim->nm", image, slopes) / q + np.diag(weight * (1 - r**2) + 1e-12 * total)
        step = -np.linalg.solve(curvature, gradient)
        step *= min(1.0, LONGEST / max(np.abs(step).max(), 1e-300))
        descent = float(gradient @ step)
        if -descent < ENOUGH:
            break
        for halving in range(HALVINGS):
            trial = u + 0.5**halving * step
            trial_rows, trial_slopes = _rows_and_slopes(trial)
            found = value(trial_rows, trial)
            if found[0] <= f + 1e-4 * 0.5**halving * descent:
                u, rows, slopes, (f, q, mean, about) = trial, trial_rows, trial_slopes, found
                break
        else:
            break
    return u, q, mean


def _rows_and_slopes(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The whitening rows (p + 1, p + 1) and their derivatives by u, (p + 1, p + 1, p)."""
    order, r = len(u), np.tanh(u)
    rows, slopes = np.zeros((order + 1, order + 1)), np.zeros((order + 1, order + 1, order))
    rows[0, 0] = 1.0
    for k in range(order):
        turned = rows[k, k + 1 :: -1]
        rows[k + 1, : k + 2] = rows[k, : k + 2] - r[k] * turned
        slopes[k + 1, : k + 2] = slopes[k, : k + 2] - r[k] * slopes[k, k + 1 :: -1]
        slopes[k + 1, : k + 2, k] -= (1 - r[k] ** 2) * turned
    half_log = -(u + np.logaddexp(0.0, -2 * u) - math.log(2))
    root = np.exp(np.append(half_log[::-1].cumsum()[::-1], 0.0))
    later = np.arange(order) >= np.arange(order + 1)[:, None]  # u_i enters w_k for i > k
    slopes = slopes - rows[:, :, None] * (later * r)[:, None, :]
    return rows * root[:, None], slopes * root[:, None, None]
