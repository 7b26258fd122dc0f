"""Posteriors of ratings by sparse products: A_n = I + sum of omega_nm v_m v_m^T over the columns m."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from lgm_cli.numerics.small_systems import (
    inverse_and_log_det,
    packed_products,
    pairs,
    product,
    unpacked,
)
from lgm_cli.observations.sparse_rows import SparseRows
from lgm_cli.posteriors.base import GaussianPosterior, LatentPosterior, MatrixPrecision, PosteriorPrecision


class Columns:
    """What posteriors need of the columns, before any entry is looked at: rows V (M, D) = Psi^(1/2) Phi, root (M,) =
    Psi^(1/2), shift (M,) = Psi^(1/2) eta. The target of an entry is root_m y_nm - shift_m."""

    def __init__(self, rows: Tensor, root: Tensor, shift: Tensor) -> None:
        self.rows, self.root, self.shift = rows, root, shift
        self.dim = rows.shape[1]


def normal_equations(columns: Columns, entries: SparseRows) -> tuple[Tensor, Tensor]:
    """A_n = I + V^T Omega_n V, packed (D (D + 1) / 2, n), and b_n = V^T targets_n, (D, n)."""
    dim, size = columns.dim, columns.dim * (columns.dim + 1) // 2
    rows = columns.rows
    sums = entries.over_columns(torch.cat([packed_products(rows), columns.shift[:, None] * rows], dim=1))
    b = entries.values_over_columns(columns.root[:, None] * rows) - sums[:, size:]
    identity = sums.new_tensor([float(i == j) for i, j in pairs(dim)])
    return (sums[:, :size] + identity).mT.contiguous(), b.mT.contiguous()


class SparsePosterior(GaussianPosterior):
    """z_n | y_n ~ N(mean_n, A_n^-1 / beta) at an inverse temperature beta, with the data points innermost in memory."""

    def __init__(self, columns: Columns, entries: SparseRows, inverse_temperature: float = 1.0) -> None:
        self.columns, self.entries, self.dim = columns, entries, columns.dim
        self.inverse_temperature = inverse_temperature
        precision, b = normal_equations(columns, entries)
        inverse, self._log_determinant = inverse_and_log_det(precision, self.dim)
        self._mean = product(inverse, b)
        self.packed = inverse / inverse_temperature if inverse_temperature != 1 else inverse  # (D (D + 1) / 2, n)

    @property
    def log_determinant(self) -> Tensor:
        """log det A_n, (n,)."""
        return self._log_determinant

    @property
    def mean(self) -> Tensor:
        """(n, D)."""
        return self._mean.mT

    @cached_property
    def covariance(self) -> Tensor:
        """A^-1 / beta, (n, D, D)."""
        return unpacked(self.packed, self.dim)

    def packed_covariance(self) -> list[Tensor]:
        return list(self.packed)

    @property
    def marginal_variance(self) -> Tensor:
        """diag(A^-1) / beta, (n, D)."""
        return self.packed[[i == j for i, j in pairs(self.dim)]].mT

    def variance(self, rows: Tensor) -> Tensor:
        """diag(R A^-1 R^T) / beta, (n, t), for any rows R (n, t, D)."""
        return torch.linalg.vecdot(rows @ self.covariance, rows)

    def log_density(self) -> Tensor:
        """log N(targets; 0, I + V V^T) + m/2 log(2 pi), (n,), with |targets - V mean|^2 + |mean|^2, of which nothing
        cancels, for the quadratic form."""
        columns, entries = self.columns, self.entries
        residual = entries.at_columns(columns.root) * entries.by_point.values - entries.at_columns(columns.shift)
        for rows, mean in zip(columns.rows.mT, self._mean, strict=True):
            residual = torch.addcmul(residual, entries.at_columns(rows), entries.at_points(mean), value=-1)
        square = torch.segment_reduce(residual.square(), "sum", offsets=entries.by_point.starts.long(), initial=0.0)
        return -0.5 * (square + self._mean.square().sum(0) + self.log_determinant)


class SparsePrecision(PosteriorPrecision):
    """A_n = I + V^T Omega_n V by sparse products.

    Its targets are b_n = V^T targets_n already. Vectors of entries are (R, E), in the order of data points.
    """

    def __init__(self, columns: Columns, entries: SparseRows) -> None:
        self.columns, self.entries, self.dim = columns, entries, columns.dim

    @cached_property
    def _normal(self) -> tuple[Tensor, Tensor]:
        return normal_equations(self.columns, self.entries)

    @property
    def targets(self) -> Tensor:
        """b_n itself, (n, D): the targets of entries are never formed."""
        return self._normal[1].mT

    def right_side(self, targets: Tensor) -> Tensor:
        return targets[:, None, :]

    def forward(self, x: Tensor) -> Tensor:
        rows, at_columns, at_points = self.columns.rows, self.entries.at_columns, self.entries.at_points
        return torch.stack(
            [
                torch.stack([at_columns(rows[:, d]) * at_points(each[:, d]) for d in range(self.dim)]).sum(0)
                for each in x.unbind(1)
            ]
        )

    def transpose(self, y: Tensor) -> Tensor:
        return torch.stack([self.entries.by_point.sums(self.columns.rows, each) for each in y], dim=1)

    def matvec(self, x: Tensor) -> Tensor:
        return x + self.transpose(self.forward(x))

    @torch.no_grad()
    def perturbation(self, latent: Tensor, observed: Tensor) -> Tensor:
        """observed: patterns of signs, as `SparseRows.sign_patterns` gives them."""
        return latent + self.entries.signed_over_columns(self.columns.rows, observed, latent.shape[1])

    def diagonal(self) -> Tensor:
        return self._normal[0][[i == j for i, j in pairs(self.dim)]].mT

    def to_solve(self, systems: int) -> MatrixPrecision:
        """The matrices: they are there already, and products with them are cheaper than two passes over the entries."""
        return MatrixPrecision(self.dense())

    def dense(self) -> Tensor:
        return unpacked(self._normal[0], self.dim)


def moments(posterior: LatentPosterior) -> Tensor:
    """E[z z^T], packed, beside E[z]: (n, D (D + 1) / 2 + D)."""
    mean = posterior.mean.mT
    dim = len(mean)
    spread = zip(posterior.packed_covariance(), pairs(dim), strict=True)
    second = [torch.addcmul(each, mean[i], mean[j]) for each, (i, j) in spread]
    return torch.stack([*second, *mean]).mT.contiguous()


class ColumnSums(NamedTuple):
    """Sums over the entries of each column, with w = (z, 1): all that an update needs of posteriors."""

    second: Tensor  # (M, D + 1, D + 1), sum omega E[w w^T]
    cross: Tensor  # (M, D + 1), sum omega y E[w]
    square: Tensor  # (M,), sum omega y^2


def column_sums(entries: SparseRows, posterior: LatentPosterior) -> ColumnSums:
    """The sums of the data points of some sparse rows."""
    dim = posterior.mean.shape[1]
    count, total, square = entries.of_columns
    table = moments(posterior)
    sums = entries.over_points(table)
    cross = entries.values_over_points(table[:, -dim:].contiguous())
    return ColumnSums(
        unpacked(torch.cat([sums, count[:, None]], dim=1).mT, dim + 1),  # in the order of a packed matrix of w
        torch.cat([cross, total[:, None]], dim=1),
        square,
    )


def sparse_loss(columns: Columns, noise: Tensor, sums: ColumnSums) -> Tensor:
    """1/2 sum omega [psi E (y - eta - phi^T z)^2 - log psi], differentiable in what the columns are made of. ()"""
    row = torch.cat([columns.rows, columns.shift[:, None]], dim=1)
    fitted = ((sums.second @ row[:, :, None])[:, :, 0] - 2 * columns.root[:, None] * sums.cross) * row
    count = sums.second[:, -1, -1]
    return 0.5 * (fitted.sum() + (sums.square / noise).sum() + (count * noise.log()).sum())
