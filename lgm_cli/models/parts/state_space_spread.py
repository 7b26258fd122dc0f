"""E |Omega V (z - mean)|^2 + E |F (z - mean)|^2 of states z under a chain, differentiable in the chain."""

from __future__ import annotations

from torch import Tensor

from lgm_cli.posteriors.chain import Chain


def spread_of_samples(chain: Chain, samples: Tensor) -> Tensor:
    """Of samples (K, T, D) about the mean, ()."""
    spread = (samples @ chain.rows.mT * chain.mask).square().sum() + chain.whiten(samples).square().sum()
    return spread / len(samples)


def spread_of_covariances(chain: Chain, around: Tensor, across: Tensor) -> Tensor:
    """Of the covariances of each step (T, D, D) and the sum (D, D) of those of each step with the one before, ()."""
    g = chain.transition
    information = (chain.mask.mT @ around.flatten(1)).view(-1, *around.shape[1:])  # (M, D, D)
    spread = ((information @ chain.rows[:, :, None])[..., 0] * chain.rows).sum()
    spread = spread + ((chain.start_inverse @ around[0]) * chain.start_inverse).sum()
    spread = spread + around[1:].diagonal(dim1=1, dim2=2).sum() - 2 * (g * across).sum()
    return spread + ((g @ around[:-1].sum(0)) * g).sum()
