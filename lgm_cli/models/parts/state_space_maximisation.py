"""The M-step of a state-space model, and the loss that it minimises."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lgm_cli.models.base.parameters import Parameters, Statistics
from lgm_cli.models.parts.state_space_start import SMALLEST_EXCESS, packed, unpacked

FARTHEST = 1e5  # from zero to the states, in standard deviations of an innovation, that the numbers can bear


def moments(mean: Tensor, level: Tensor, around: Tensor, across: Tensor, weight: Tensor, values: Tensor) -> Statistics:
    """Expected sufficient statistics of states with means `mean` (T, D) about `level` (D,), covariances `around`
    (T, D, D), the sum `across` (D, D) of those of z_{t+1} with z_t, and of observations weight, values (T, M)."""
    second = around + mean[:, :, None] * mean[:, None, :]
    count, dim, (steps, channels) = weight.sum(0), mean.shape[1], weight.shape
    left = mean.new_zeros(channels, dim + 1, dim + 1)
    left[:, :dim, :dim] = (weight.mT @ second.flatten(1)).view(-1, dim, dim)
    left[:, dim, :dim] = left[:, :dim, dim] = weight.mT @ mean
    left[:, dim, dim] = count
    before = left.new_full((dim + 1, dim + 1), steps - 1)
    before[:dim, :dim] = second[:-1].sum(0)
    before[:dim, dim] = before[dim, :dim] = mean[:-1].sum(0)
    return {
        "left": left,
        "right": torch.cat([values.mT @ mean, values.sum(0)[:, None]], dim=1),
        "square": values.square().sum(0),
        "now": second[1:].sum(0),
        "across": torch.cat([across + mean[1:].mT @ mean[:-1], mean[1:].sum(0)[:, None]], dim=1),
        "before": before,
        "level": level,
        "first_mean": mean[0],
        "first_covariance": around[0],
    }


def expected_loss(parameters: Parameters, statistics: Statistics, steps: int) -> Tensor:
    """1/2 sum omega [E(y - C z - eta)^2 / R + log R] + 1/2 sum_t E|z_t - G z_{t-1}|^2 + 1/2 (tr P^-1 (Cov z_1 +
    (E z_1 - m)(..)^T) + log det P), and the constants; by moments of z about `level`."""
    p = {name: value.to(statistics["left"]) for name, value in parameters.items()}
    level, count = statistics["level"], statistics["left"][:, -1, -1]
    rows = torch.cat([p["observation"], (p["mean"] + p["observation"] @ level)[:, None]], dim=1)
    fitted = ((statistics["left"] @ rows[..., None])[..., 0] * rows).sum(1)
    residual = statistics["square"] - 2 * (statistics["right"] * rows).sum(1) + fitted
    emitted = (residual / p["noise_variance"] + count * (2 * math.pi * p["noise_variance"]).log()).sum()
    g, dim = p["transition"], len(p["transition"])
    step = torch.cat([g, (g @ level - level)[:, None]], dim=1)  # E (x_t - step u_{t-1}), x about the level
    moved = statistics["now"].trace() - 2 * (step * statistics["across"]).sum()
    moved = moved + ((step @ statistics["before"]) * step).sum()
    excess = unpacked(p)
    identity = torch.eye(dim, dtype=g.dtype, device=g.device)
    root = torch.linalg.cholesky(identity + excess @ excess.mT)
    far = statistics["first_mean"] + level - p["initial_mean"]
    around = statistics["first_covariance"] + torch.outer(far, far)
    start = torch.cholesky_solve(around, root).trace() + 2 * root.diagonal().log().sum()
    return 0.5 * (emitted + moved + start + steps * dim * math.log(2 * math.pi))


def maximise(statistics: Statistics, steps: int, floor: Tensor) -> Parameters:
    """[C, eta] row by row, R = mean of E (y - C z - eta)^2;  G = E z_t z_{t-1}^T (E z_{t-1} z_{t-1}^T)^-1;
    m = E z_1;  Q and P together under P >= Q, with S = E (z_t - G z_{t-1})(..)^T / (T - 1) and S_1 = Cov z_1: in
    axes in which S = I and S_1 = diag(s), an axis with s >= 1 has Q = 1 and P = s, another Q = P = (T - 1 + s) / T.
    (In precisions, the constrained problem is convex and unchanged by a change of an axis' sign, so its solution is
    diagonal.) Then the states are taken in axes in which Q = I.

    Parameters are expanded, z_t = G z_{t-1} + a + N(0, Q) with a = 0 in the model: maximising over a too, and
    taking the states about their mean (I - G)^-1 a, which eta takes over, is EM for the same likelihood (Liu, Rubin
    & Wu, Biometrika 85 (1998) 755-770). Without, eta hardly moves once R is small. Where that mean is farther than
    FARTHEST, a stays zero."""
    left, right = statistics["left"], statistics["right"]
    dim = left.shape[-1] - 1
    ridge = 1e-13 * left.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1.0)
    identity = torch.eye(dim + 1, dtype=left.dtype, device=left.device)
    rows = torch.linalg.solve(left + ridge[:, None, None] * identity, right)
    fitted = ((left @ rows[..., None])[..., 0] * rows).sum(1)
    count = left[:, -1, -1].clamp_min(1.0)
    noise = (statistics["square"] - 2 * (right * rows).sum(1) + fitted) / count
    now, across, before, level = (statistics[name] for name in ("now", "across", "before", "level"))
    g, root = _regression(steps, now, across, before)
    center = torch.linalg.solve(identity[:-1, :-1] - g[:, :-1], g[:, -1])
    if not bool((torch.linalg.solve(root, center + level).abs() < FARTHEST).all()):
        center, total = -level, across[:, -1]
        shift = identity.clone()
        shift[:-1, -1] = level
        now = now + torch.outer(level, total) + torch.outer(total, level) + before[-1, -1] * torch.outer(level, level)
        across, before = (across + torch.outer(level, before[-1])) @ shift.mT, shift @ before @ shift.mT
        g, root = _regression(steps, now, across[:, :-1], before[:-1, :-1])
    turned = torch.linalg.solve_triangular(root, statistics["first_covariance"], upper=False)
    turned = torch.linalg.solve_triangular(root, turned.mT, upper=False)
    size, axes = torch.linalg.eigh((turned + turned.mT) / 2)
    least = 1 + SMALLEST_EXCESS
    q = torch.where(size >= least, 1.0, (steps - 1 + size / least) / steps)
    inverse = (axes * q.rsqrt()) @ axes.mT @ torch.linalg.inv(root)  # new axes from old
    outward = root @ (axes * q.sqrt()) @ axes.mT
    excess = (axes * (size.clamp_min(least) - 1)) @ axes.mT
    return {
        "transition": inverse @ g[:, :dim] @ outward,
        "observation": rows[:, :-1] @ outward,
        "mean": rows[:, -1] + rows[:, :-1] @ center,
        "noise_variance": torch.maximum(noise, floor.to(noise)),
        "initial_mean": inverse @ (statistics["first_mean"] - center),
        **packed(torch.linalg.cholesky(excess)),
    }


def _regression(steps: int, now: Tensor, across: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Of states on those of the step before (and 1), and the Cholesky factor of the residuals' covariance."""
    g = torch.linalg.solve(before, across.mT).mT
    innovation = now - g @ across.mT - across @ g.mT + g @ before @ g.mT
    return g, torch.linalg.cholesky((innovation + innovation.mT) / (2 * (steps - 1)))
