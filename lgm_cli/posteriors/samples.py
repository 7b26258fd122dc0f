"""Posteriors known by their mean and by samples."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from lgm_cli.numerics.small_systems import pairs, sum_of_products
from lgm_cli.posteriors.base import Frame, LatentPosterior, PosteriorPrecision, in_double
from lgm_cli.posteriors.chain import Chain


class SamplePosterior(LatentPosterior):
    """z_n | y_n with the covariance of K samples about the mean: Sigma_n = (1/K) sum_k s_nk s_nk^T.

    mean: (n, D). samples: (n, K, D). Both may carry gradients (network gradient) or not (output gradient).
    precision: A_n by its products, of which `forward` is asked. targets: (n, m).
    """

    def __init__(
        self,
        mean: Tensor,
        samples: Tensor,
        frame: Frame | None = None,
        precision: PosteriorPrecision | None = None,
        targets: Tensor | None = None,
    ) -> None:
        self.mean, self.samples = mean, samples
        self.frame, self.precision, self.targets = frame or Frame(), precision, targets

    @property
    def live(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.mean.requires_grad

    def observed_variance(self, rows: Tensor) -> Tensor:
        """diag(V Sigma V^T), (n, m), for rows V (M, D), (m, D) or (n, m, D)."""
        return (self.samples @ rows.mT).square().mean(-2)

    variance = observed_variance

    def misfit(self) -> tuple[Tensor, Tensor]:
        """targets - V mean and diag(V Sigma V^T), (n, m) each."""
        assert self.precision is not None and self.targets is not None
        fitted = self.precision.forward(torch.cat([self.mean[:, None], self.samples], 1))
        return self.targets - fitted[:, 0], fitted[:, 1:].square().mean(1)

    @property
    def covariance(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """(n, D, D)."""
        return self.samples.mT @ self.samples / self.samples.shape[1]

    def packed_covariance(self) -> list[Tensor]:
        samples, number = self.samples.permute(2, 1, 0), self.samples.shape[1]
        return [
            sum_of_products([(samples[i, k], samples[j, k]) for k in range(number)]) / number
            for i, j in pairs(len(samples))
        ]

    @property
    def marginal_variance(self) -> Tensor:
        """(n, D)."""
        return self.samples.square().mean(1)

    def expected_squares(self) -> Tensor:
        return self.mean.square().sum(0) + self.marginal_variance.sum(0)

    def total_square(self) -> Tensor:
        return self.mean.square().sum() + self.samples.square().sum() / self.samples.shape[1]

    # Of the states of one chain, or the steps of one series ------------------------------------------------------

    def spread_under(self, chain: Chain) -> Tensor:
        """E|Omega V (z - mean)|^2 + E|F (z - mean)|^2 of the states under a chain, differentiable in the chain, ()."""
        return chain.spread_of_samples(self.samples.view(-1, *chain.shape))

    def step_covariances(self, steps: int) -> tuple[Tensor, Tensor]:
        """Covariances of the states of each step, (T, D, D), and the sum over time of those of each step with the one
        before, (D, D); in double precision."""
        samples = in_double(self.samples.view(self.samples.shape[1], steps, -1)) / self.samples.shape[1] ** 0.5
        across = torch.einsum("kti,ktj->ij", samples[:, 1:], samples[:, :-1])
        return torch.einsum("kti,ktj->tij", samples, samples), across

    def lagged_covariances(self, order: int) -> Tensor:
        """Cov(z_t, z_(t-k)) for k = 0 .. p, zero where t < k, (p + 1, T), on the CPU in double precision."""
        samples = self.samples[0].cpu().double()
        steps = samples.shape[1]
        products = ((samples[:, lag:] * samples[:, : steps - lag]).mean(0) for lag in range(order + 1))
        return torch.stack([pad(each, (steps - len(each), 0)) for each in products])
