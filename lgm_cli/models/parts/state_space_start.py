"""Where learning of states starts, and the first one's covariance as free numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lgm_cli.models.base.parameters import Parameters
from lgm_cli.randomness import generator

INITIAL_SHARE = 0.5  # of each channel's variance, explained by the states at the start
LARGEST_RADIUS = 0.98  # of the transition's eigenvalues at the start
FEW_STEPS = 5  # so many tell half of what many do of a correlation
SMALLEST_EXCESS = 1e-6  # of the first state's covariance over that of an innovation


def principal_start(weight: Tensor, values: Tensor, dim: int, seed: int) -> Parameters:
    """From standardised values (T, M), zero where weight is: the leading principal axes of the channels (each pair's
    correlation from the steps at which both were observed), and the regression of a step's scores on those of the step
    before; with more states than channels, the scores of as many earlier steps are states, too."""
    channels = weight.shape[1]
    together = weight.mT @ weight
    correlation = values.mT @ values / (together + FEW_STEPS)  # few steps tell little of a pair
    kept = min(dim, channels)
    size, axes = (part.flip(-1)[..., :kept] for part in torch.linalg.eigh(correlation))
    draw = torch.randn(channels, kept, dtype=torch.float64, generator=generator(seed, "initial"))
    axes = axes + 0.01 * draw  # no two channels alike
    leading = axes * size.clamp_min(1e-2 * float(size[0])).sqrt()
    share = (INITIAL_SHARE / leading.square().sum(1, keepdim=True).clamp_min(1e-6)).sqrt().clamp_max(1.0)
    leading = leading * share
    observed = weight.sum(1, keepdim=True).clamp_min(1.0) / channels
    scores = values @ torch.linalg.pinv(leading).mT / observed
    lags = range(math.ceil(dim / kept))
    z = torch.cat([scores[len(lags) - 1 - lag : len(scores) - lag] for lag in lags], dim=1)[:, :dim]
    identity = torch.eye(dim, dtype=torch.float64)
    unit = z.square().mean()
    before = z[:-1].mT @ z[:-1] / len(z) + 1e-2 * unit * identity
    across = z[1:].mT @ z[:-1] / len(z)
    g = torch.linalg.solve(before, across.mT).mT
    radius = float(torch.linalg.eigvals(g).abs().max())
    g = g * min(1.0, LARGEST_RADIUS / max(radius, 1e-6))
    error = z[1:] - z[:-1] @ g.mT
    root = torch.linalg.cholesky(error.mT @ error / len(z) + 5e-2 * unit * identity)
    inverse = torch.linalg.inv(root)
    observation = torch.cat([leading, leading.new_zeros(channels, dim - kept)], dim=1)
    return {
        "transition": inverse @ g @ root,
        "observation": observation @ root,
        "mean": torch.zeros(channels, dtype=torch.float64),
        "noise_variance": torch.full((channels,), 1 - INITIAL_SHARE, dtype=torch.float64),
        "initial_mean": torch.zeros(dim, dtype=torch.float64),
        **packed(raised_root(inverse @ before @ inverse.mT)),
    }


def packed(factor: Tensor) -> Parameters:
    """A lower triangular B (D, D) as its diagonal and, row by row, what is below it over the row's diagonal."""
    row, column = torch.tril_indices(*factor.shape, offset=-1, device=factor.device)
    scale = factor.diagonal()
    return {"initial_scale": scale.clone(), "initial_lower": factor[row, column] / scale[row]}


def unpacked(parameters: Parameters) -> Tensor:
    """B of the first state's covariance I + B B^T."""
    scale, lower = parameters["initial_scale"], parameters["initial_lower"]
    row, column = torch.tril_indices(len(scale), len(scale), offset=-1, device=scale.device)
    return torch.diag(scale).index_put((row, column), lower * scale[row])


def raised_root(excess: Tensor) -> Tensor:
    """Cholesky factor of a matrix whose eigenvalues are raised to SMALLEST_EXCESS."""
    size, axes = torch.linalg.eigh((excess + excess.mT) / 2)
    if float(size[0]) < SMALLEST_EXCESS:
        excess = (axes * size.clamp_min(SMALLEST_EXCESS)) @ axes.mT
    return torch.linalg.cholesky((excess + excess.mT) / 2)
