"""Posterior of a series whose prior precision is banded: products in O(T p), a factorisation in O(T p^2)."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from lgm_cli.posteriors.base import GaussianPosterior, PosteriorPrecision

ROUNDING = 10  # errors of an entry of A, in units of eps (p + 1)

BLOCK = 32  # rows of a block of the factorisation, at least: smaller ones cost more calls than they save operations


class BandedPrecision(PosteriorPrecision):
    """A = F^T F + V^T V of one series z (T,): F lower triangular with p sub-diagonals, V = noise^(-1/2) on the observed
    steps.

    band: (p + 1, T), band[i, t] = F[t, t - i]. root: (1, T) or (1, k), noise^(-1/2) where there is an observation, zero
    elsewhere. index: None, or (k,) the steps that the entries of `root` are of. A product is one with the band of A,
    (2 p + 1) T multiplications for each right-hand side.
    """

    def __init__(self, band: Tensor, root: Tensor, index: Tensor | None) -> None:
        self.band, self.root, self.index = band, root, index
        self.order, self.dim = len(band) - 1, band.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        return self.root * (x if self.index is None else x[..., self.index])

    def transpose(self, y: Tensor) -> Tensor:
        return self._scatter(self.root * y)

    def _scatter(self, y: Tensor) -> Tensor:
        if self.index is None:
            return y
        return y.new_zeros(*y.shape[:-1], self.dim).index_add(-1, self.index, y)

    @cached_property
    def gram(self) -> Tensor:
        """The band of A, (p + 1, T): gram[k, t] = A[t, t - k]."""
        prior, seen = squared(self.band), self._scatter(self.root.square())
        return torch.cat([prior[:1] + seen, prior[1:]])

    @cached_property
    def _both_sides(self) -> Tensor:
        """The band of A from its lowest to its highest diagonal, (2 p + 1, T)."""
        return torch.cat([self.gram.flip(0), slanted(self.gram)[1:]])

    def matvec(self, x: Tensor) -> Tensor:
        return multiply(self._both_sides, x, -self.order)

    def whiten(self, x: Tensor) -> Tensor:
        """F x."""
        return multiply(self.band.flip(0), x, -self.order)

    @torch.no_grad()
    def perturbation(self, latent: Tensor, observed: Tensor) -> Tensor:
        return multiply(slanted(self.band), latent, 0) + self.transpose(observed)

    def diagonal(self) -> Tensor:
        return self.gram[:1]

    def dense(self) -> Tensor:
        lower = sum(
            (torch.diag_embed(row[k:], offset=-k) for k, row in enumerate(self.gram[1 : self.dim], start=1)),
            torch.zeros(self.dim, self.dim, dtype=self.band.dtype, device=self.band.device),
        )
        return (torch.diag(self.gram[0]) + lower + lower.mT)[None]


class BandedPosterior(GaussianPosterior):
    """z | y ~ N(mean, Sigma), Sigma = A^-1, by block Cholesky factorisation of the band, O(T B^2) for blocks of
    B = max(p, 32):

        A = [D_j on the diagonal, E_j below it],  S_j = D_j - W_j W_j^T = L_j L_j^T,  W_j = E_j L_(j-1)^-T.

    The entries of Sigma within the band come from the same factors backwards (Takahashi, Fagan & Chen 1973):

        Sigma_jj = L_j^-T (I + W_(j+1)^T Sigma_(j+1,j+1) W_(j+1)) L_j^-1,
        Sigma_(j+1,j) = -Sigma_(j+1,j+1) W_(j+1) L_j^-1.

    Differentiable. precision: in double precision, on the CPU, where so many small steps run best; targets (1, m).
    """

    def __init__(self, precision: BandedPrecision, targets: Tensor) -> None:
        self.precision, self.targets = precision, targets
        self.size = max(precision.order, BLOCK)
        diagonal, below = self._blocks()
        factor = torch.linalg.cholesky(diagonal[0])
        self._factors, self._links = [factor], []  # L_j, W_j
        for d, e in zip(diagonal[1:], below[1:], strict=True):
            link = torch.linalg.solve_triangular(factor, e.mT, upper=False).mT
            factor = torch.linalg.cholesky(d - link @ link.mT)
            self._links.append(link)
            self._factors.append(factor)

    def _blocks(self) -> tuple[Tensor, Tensor]:
        """D and E, (J, B, B) each; the last rows are of an identity.

        The diagonal is raised by as much as rounding may take from it, so that the factorisation of what is positive
        definite never fails (Higham, Accuracy and Stability of Numerical Algorithms, theorem 10.7).
        """
        gram, order, b = self.precision.gram, self.precision.order, self.size
        extra = -gram.shape[1] % b
        raised = (1 + ROUNDING * (order + 1) * torch.finfo(gram.dtype).eps) * gram[:1]
        rows = torch.cat([pad(raised, (0, extra), value=1.0), pad(gram[1:], (0, extra))])
        rows = pad(rows, (0, 0, 0, 1)).view(order + 2, -1, b)  # one diagonal more, of zeros
        row, column = torch.arange(b)[:, None], torch.arange(b)
        lag = (row - column).abs().clamp_max(order + 1)
        diagonal = rows[lag, :, torch.maximum(row, column)].permute(2, 0, 1)
        lag = (row - column + b).clamp_max(order + 1)
        return diagonal, rows[lag, :, row.expand(b, b)].permute(2, 0, 1)

    @cached_property
    def mean(self) -> Tensor:
        """(1, T)."""
        right = self.precision.transpose(self.targets)[0]
        parts = pad(right, (0, -len(right) % self.size)).view(-1, self.size, 1).unbind(0)
        forward = [torch.linalg.solve_triangular(self._factors[0], parts[0], upper=False)]
        for factor, link, part in zip(self._factors[1:], self._links, parts[1:], strict=True):
            forward.append(torch.linalg.solve_triangular(factor, part - link @ forward[-1], upper=False))
        backward = [torch.linalg.solve_triangular(self._factors[-1].mT, forward[-1], upper=True)]
        for factor, link, part in zip(self._factors[-2::-1], self._links[::-1], forward[-2::-1], strict=True):
            backward.append(torch.linalg.solve_triangular(factor.mT, part - link.mT @ backward[-1], upper=True))
        return torch.cat(backward[::-1]).view(1, -1)[:, : len(right)]

    @cached_property
    def covariances(self) -> Tensor:
        """Cov(z_t, z_(t-k) | y) for k = 0 .. p, zero where t < k, (p + 1, T)."""
        order, b = self.precision.order, self.size
        inverse = torch.linalg.solve_triangular(
            torch.stack(self._factors), torch.eye(b, dtype=self.targets.dtype), upper=False
        )
        local = inverse.mT @ inverse
        chain = torch.stack(self._links) @ inverse[:-1] if self._links else inverse[:0]  # W_(j+1) L_j^-1
        diagonal = [local[-1]]
        for link, part in zip(chain.flip(0), local[:-1].flip(0), strict=True):
            diagonal.append(part + link.mT @ diagonal[-1] @ link)
        blocks = torch.stack(diagonal[::-1])
        del inverse, local, diagonal  # memory counts where steps are many
        before = torch.cat([torch.zeros_like(blocks[:1]), -blocks[1:] @ chain])  # Sigma_(j,j-1)
        row, lag = torch.arange(b), torch.arange(order + 1)[:, None]
        found = torch.cat([before, blocks], 2)[:, row, b + row - lag]  # (J, p + 1, B)
        return found.transpose(0, 1).reshape(order + 1, -1)[:, : self.precision.dim]

    def lagged_covariances(self, order: int) -> Tensor:
        """Those of lags k = 0 .. order, (order + 1, T)."""
        return self.covariances[: order + 1]

    @property
    def marginal_variance(self) -> Tensor:
        """(1, T)."""
        return self.covariances[:1]

    @property
    def covariance(self) -> Tensor:
        """All of Sigma, (1, T, T)."""
        return torch.cholesky_inverse(torch.linalg.cholesky(self.precision.dense()))

    def log_density(self) -> Tensor:
        """log N(targets; 0, I + V (F^T F)^-1 V^T) + m/2 log(2 pi), (1,):

            -1/2 (|F mean|^2 + |targets - V mean|^2 + log det A) + log det F

        which an error of the mean enters by its square only.
        """
        misfit = (
            self.precision.whiten(self.mean).square().sum()
            + (self.targets - self.precision.forward(self.mean)).square().sum()
        )
        return (self.precision.band[0].log().sum() - 0.5 * (misfit + self.log_determinant)).reshape(1)

    @property
    def log_determinant(self) -> Tensor:
        return 2 * torch.stack([f.diagonal() for f in self._factors]).log().sum()[None]


def multiply(columns: Tensor, x: Tensor, first: int) -> Tensor:
    """sum_i columns_i * (x moved by first + i): out[t] = sum_i columns[i, t] x[t + first + i], zero outside.
    # (b, T), (..., T) -> (..., T)"""
    width, length = columns.shape
    around = pad(x, (max(-first, 0), max(first + width - 1, 0)))
    start = max(first, 0)
    out = columns[0] * around[..., start : start + length]
    for i in range(1, width):
        out = torch.addcmul(out, columns[i], around[..., start + i : start + i + length])
    return out


def slanted(band: Tensor) -> Tensor:
    """The columns of a lower band from its rows: out[i, s] = band[i, s + i], zero past the end. (p + 1, T)"""
    return torch.stack([pad(row[i:], (0, i)) for i, row in enumerate(band)])


def squared(band: Tensor) -> Tensor:
    """The band of F^T F for band[i, t] = F[t, t - i]: out[k, t] = (F^T F)[t, t - k]. (p + 1, T)"""
    columns, order, length = slanted(band), len(band) - 1, band.shape[1]
    parts = [pad((columns[: order + 1 - k, k:] * columns[k:, : length - k]).sum(0), (k, 0)) for k in range(order + 1)]
    return torch.stack(parts)
