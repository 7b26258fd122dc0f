"""The axes of states that are written, among all in which the likelihood is the same."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.parts.state_space_start import packed, raised_root, unpacked


def information(inside: Parameters) -> Tensor:
    """sum_k (G^k)^T C^T R^-1 C G^k, k = 0 .. ceil(D / M) - 1: what as many observations in turn hold about the state,
    (D, D)."""
    ahead = [inside["observation"] * inside["noise_variance"].rsqrt()[:, None]]
    channels, dim = ahead[0].shape
    for _ in range(math.ceil(dim / channels) - 1):
        ahead.append(ahead[-1] @ inside["transition"])
    seen = torch.cat(ahead)
    return seen.mT @ seen


def turned(inside: Parameters) -> Parameters:
    """The parameters in axes in which the information of ceil(D / M) observations in turn about the state is diagonal
    and falls; float64, on the CPU. The channel that depends on a state most, beside its noise, does so positively."""
    rows = inside["observation"] * inside["noise_variance"].rsqrt()[:, None]
    axes = torch.linalg.eigh(information(inside)).eigenvectors.flip(1)
    across = rows @ axes
    signs = across.gather(0, across.abs().argmax(0, keepdim=True)).sign()
    axes = axes * torch.where(signs == 0, 1.0, signs)
    excess = unpacked(inside)
    return inside | {
        "transition": axes.mT @ inside["transition"] @ axes,
        "observation": inside["observation"] @ axes,
        "initial_mean": axes.mT @ inside["initial_mean"],
        **packed(raised_root(axes.mT @ excess @ excess.mT @ axes)),
    }
