"""Posteriors of a chain of states z_1 .. z_T, z_t = G z_{t-1} + noise of covariance I: by products, and exactly by
odd-even elimination of the block tridiagonal precision."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lgm_cli.numerics.block_tridiagonal import eliminate
from lgm_cli.posteriors.base import GaussianPosterior, PosteriorPrecision
from lgm_cli.posteriors.steady_state import SteadyStatePreconditioner
from lgm_cli.solvers.base.preconditioner import BlockPreconditioner, Preconditioner

BLOCK_ELEMENTS = 1 << 27  # numbers of the diagonal blocks of a preconditioner, at most (512 MiB in float32)


@dataclass(frozen=True)
class Chain:
    """What the posterior of the states is made of, with D states, T steps, M channels.

    transition G (D, D). start L (D, D): the lower Cholesky factor of the covariance P of z_1. first m (D,): its mean.
    rows V (M, D): the observation matrix, each row over its noise's standard deviation. mask (T, M): 1 = observed.
    """

    transition: Tensor
    start: Tensor
    first: Tensor
    rows: Tensor
    mask: Tensor

    @cached_property
    def start_inverse(self) -> Tensor:
        """L^-1, (D, D)."""
        identity = torch.eye(len(self.start), dtype=self.start.dtype, device=self.start.device)
        return torch.linalg.solve_triangular(self.start, identity, upper=False)

    def whiten(self, z: Tensor) -> Tensor:
        """F z: L^-1 z_1, then z_t - G z_{t-1}; (R, T, D)."""
        return torch.cat([z[:, :1] @ self.start_inverse.mT, z[:, 1:] - z[:, :-1] @ self.transition.mT], dim=1)

    def whiten_transpose(self, u: Tensor) -> Tensor:
        """F^T u, (R, T, D)."""
        direct = torch.cat([u[:, :1] @ self.start_inverse, u[:, 1:]], dim=1)
        back = u[:, 1:] @ self.transition
        return direct - torch.cat([back, torch.zeros_like(back[:, :1])], dim=1)

    def prior_blocks(self) -> Tensor:
        """Diagonal blocks of F^T F of the first, an inner and the last step, (3, D, D)."""
        identity = torch.eye(len(self.start), dtype=self.start.dtype, device=self.start.device)
        square, first = self.transition.mT @ self.transition, self.start_inverse.mT @ self.start_inverse
        return torch.stack([first + square, identity + square, identity])

    def blocks(self) -> tuple[Tensor, Tensor]:
        """Diagonal blocks A_tt (T, D, D) and the block A_{t+1,t} = -G, (D, D), that all steps share."""
        dim = len(self.start)
        information = (self.mask @ (self.rows[:, :, None] * self.rows[:, None, :]).flatten(1)).view(-1, dim, dim)
        first, inner, last = self.prior_blocks()
        ends = information[:1] + first, information[-1:] + last
        return torch.cat([ends[0], information[1:-1] + inner, ends[1]]), -self.transition

    @property
    def shape(self) -> tuple[int, int]:
        """Steps and states, (T, D)."""
        return len(self.mask), len(self.start)

    # E |Omega V (z - mean)|^2 + E |F (z - mean)|^2 of states z, differentiable in the chain:

    def spread_of_samples(self, samples: Tensor) -> Tensor:
        """Of samples (K, T, D) about the mean, ()."""
        spread = (samples @ self.rows.mT * self.mask).square().sum() + self.whiten(samples).square().sum()
        return spread / len(samples)

    def spread_of_covariances(self, around: Tensor, across: Tensor) -> Tensor:
        """Of covariances: of each step, (T, D, D), and the sum over time of those with the step before, (D, D); ()."""
        g = self.transition
        information = (self.mask.mT @ around.flatten(1)).view(-1, *around.shape[1:])  # (M, D, D)
        spread = ((information @ self.rows[:, :, None])[..., 0] * self.rows).sum()
        spread = spread + ((self.start_inverse @ around[0]) * self.start_inverse).sum()
        spread = spread + around[1:].diagonal(dim1=1, dim2=2).sum() - 2 * (g * across).sum()
        return spread + ((g @ around[:-1].sum(0)) * g).sum()


class ChainPrecision(PosteriorPrecision):
    """A = F^T F + V^T Omega V, (T D, T D) and block tridiagonal, of all states as one vector, by its products: 2 T D^2
    operations for F and F^T each, 2 T M D for V and V^T each, and no loop over time.

    entries (k,): the places among the T M of the steps that a gathered chunk observes, T M where it is padded; or None
    for all places of a table with `width`, of which those past T M, like those that the mask hides, are zero.
    """

    def __init__(self, chain: Chain, entries: Tensor | None, width: int) -> None:
        self.chain, self.entries, self.width = chain, entries, width
        self.steps, self.channels = chain.mask.shape
        self.states = len(chain.start)
        self.dim = self.steps * self.states

    def _unrolled(self, x: Tensor) -> Tensor:
        """(1, R, T D) -> (R, T, D)."""
        return x.view(-1, self.steps, self.states)

    def forward(self, x: Tensor) -> Tensor:
        seen = (self._unrolled(x) @ self.chain.rows.mT * self.chain.mask).flatten(1)
        if self.entries is None:
            return torch.nn.functional.pad(seen, (0, self.width - seen.shape[1]))[None]
        return torch.nn.functional.pad(seen, (0, 1))[:, self.entries][None]

    def transpose(self, y: Tensor) -> Tensor:
        places = self.steps * self.channels
        if self.entries is not None:
            y = y.new_zeros(1, y.shape[1], places + 1).index_add(2, self.entries, y)
        return (y[..., :places].reshape(-1, self.steps, self.channels) @ self.chain.rows).flatten(1)[None]

    def right_side(self, targets: Tensor) -> Tensor:
        """V^T t + F^T (L^-1 m, 0, .., 0): the states are not taken about their prior means G^(t-1) m, which grow
        without bound where the chain is not stable."""
        begin = (self.chain.first @ self.chain.start_inverse.mT) @ self.chain.start_inverse
        return self.transpose(targets[:, None, :]) + torch.cat([begin, begin.new_zeros(self.dim - len(begin))])

    def matvec(self, x: Tensor) -> Tensor:
        z = self._unrolled(x)
        seen = (z @ self.chain.rows.mT) * self.chain.mask
        return (self.chain.whiten_transpose(self.chain.whiten(z)) + seen @ self.chain.rows).flatten(1)[None]

    @torch.no_grad()
    def perturbation(self, latent: Tensor, observed: Tensor) -> Tensor:
        if self.entries is None:
            seen = self.chain.mask.flatten()
            observed = observed[..., : len(seen)] * seen
        return self.chain.whiten_transpose(self._unrolled(latent)).flatten(1)[None] + self.transpose(observed)

    def diagonal(self) -> Tensor:
        ends = self.chain.prior_blocks().diagonal(dim1=1, dim2=2)
        prior = torch.cat([ends[:1], ends[1:2].expand(self.steps - 2, -1), ends[2:]])
        return (prior + self.chain.mask @ self.chain.rows.square()).flatten()[None]

    @torch.no_grad()
    def preconditioner(self, name: str) -> Preconditioner | None:
        """jacobi: the blocks A_tt, or None where they would take too much memory. auto: the steady state of a chain
        whose every step observes the average over time, which sees the long memory of slow states that the diagonal
        does not."""
        chain = self.chain
        if name == "jacobi":
            fits = self.dim * self.states <= BLOCK_ELEMENTS
            return BlockPreconditioner(chain.blocks()[0][None]) if fits else None
        start = chain.start_inverse.mT @ chain.start_inverse
        return SteadyStatePreconditioner(chain.transition, start, chain.rows, chain.mask)

    def dense(self) -> Tensor:
        blocks, below = self.chain.blocks()
        whole = torch.block_diag(*blocks)
        lower = torch.block_diag(*[below] * (self.steps - 1))
        part, d = torch.zeros_like(whole), self.states
        part[d:, :-d] = lower
        return (whole + part + part.mT)[None]


class ChainPosterior(GaussianPosterior):
    """z | y ~ N(mean, Sigma) of the states of a chain, by elimination, in double precision whatever the chain was in.

    targets: (T, M), (y - eta) over the noise's standard deviation, zero where hidden. ahead: steps past T that are
    forecast.
    """

    def __init__(self, chain: Chain, targets: Tensor, ahead: int = 0) -> None:
        self.chain, self.targets, self.ahead = chain, targets, ahead
        diagonal, below = chain.blocks()
        begin = (chain.first @ chain.start_inverse.mT) @ chain.start_inverse
        right = targets @ chain.rows + torch.cat([begin[None], begin.new_zeros(len(targets) - 1, len(begin))])
        self._found = eliminate(diagonal, below.expand(len(targets) - 1, -1, -1), right)
        self.states = self._found.mean  # (T, D)
        self.blocks = self._found.covariance  # (T, D, D), of each step
        self.next_blocks = self._found.next_covariance  # (T - 1, D, D), of z_{t+1} with z_t

    @cached_property
    def mean(self) -> Tensor:
        """(1, T D)."""
        return self.states.flatten()[None]

    @cached_property
    def covariance(self) -> Tensor:
        """Sigma, (1, T D, T D)."""
        return torch.linalg.inv(ChainPrecision(self.chain, None, 0).dense())

    def spread_under(self, chain: Chain) -> Tensor:
        """E|Omega V (z - mean)|^2 + E|F (z - mean)|^2 of the states under a chain, differentiable in the chain, ()."""
        return chain.spread_of_covariances(*self.step_covariances(len(self.states)))

    def step_covariances(self, steps: int) -> tuple[Tensor, Tensor]:
        """Covariances of the states of each step, (T, D, D), and the sum over time of those of each step with the one
        before, (D, D)."""
        return self.blocks, self.next_blocks.sum(0)

    @property
    def marginal_variance(self) -> Tensor:
        """diag(Sigma), (1, T D)."""
        return self.blocks.diagonal(dim1=1, dim2=2).flatten()[None]

    @cached_property
    def forecast(self) -> tuple[Tensor, Tensor]:
        """Means (T + ahead, D) and covariances (T + ahead, D, D) of the states: mu' = G mu, S' = G S G^T + I."""
        g, mean, spread = self.chain.transition, self.states[-1], self.blocks[-1]
        identity = torch.eye(len(g), dtype=g.dtype, device=g.device)
        means, spreads = [self.states], [self.blocks]
        for _ in range(self.ahead):
            mean, spread = g @ mean, g @ spread @ g.mT + identity
            means.append(mean[None])
            spreads.append(spread[None])
        return torch.cat(means), torch.cat(spreads)

    def step_variance(self, rows: Tensor, steps: Tensor) -> Tensor:
        """r^T Sigma_t r, (k,), for rows r (k, D) at the steps t (k,)."""
        return ((self.forecast[1][steps] @ rows[:, :, None])[..., 0] * rows).sum(1).clamp_min(0.0)

    @property
    def log_determinant(self) -> Tensor:
        return self._found.log_determinant[None]

    def log_density(self) -> Tensor:
        """log N(targets; V m.., V Gamma^-1 V^T + I) of the observed entries, m/2 log(2 pi) left out, (1,): the joint
        density at the mean of the states over the posterior's there, which cancels nothing large:
        -1/2 (|t - Omega V mu|^2 + |F mu - (L^-1 m, 0, ..)|^2 + log det A) - log det L."""
        chain = self.chain
        error = self.targets - (self.states @ chain.rows.mT) * chain.mask
        prior = chain.whiten(self.states[None])[0]
        begin = chain.first @ chain.start_inverse.mT
        square = error.square().sum() + prior[1:].square().sum() + (prior[0] - begin).square().sum()
        log_start = chain.start.diagonal().log().sum()
        return (-0.5 * (square + self._found.log_determinant) - log_start)[None]
