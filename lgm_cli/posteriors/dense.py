"""Posterior precisions by their products and by factorisation: A_n = I + V_n^T V_n for a standard normal latent vector
seen through weighted rows V_n."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # pyright: ignore[reportAttributeAccessIssue]

from lgm_cli.observations.chunk import Chunk
from lgm_cli.operators.base import LinearOperator
from lgm_cli.posteriors.base import GaussianPosterior, PosteriorPrecision

TILE = 192  # below this, one full product is faster than the tiles of a symmetric one


class DensePrecision(PosteriorPrecision):
    """A_n = I + V_n^T diag(mask_n) V_n by two matrix products for all right-hand sides.

    rows V: (M, D) shared by all data points, with a mask (n, M); or (n, m, D), or (m, D) with mask None. As a matrix it
    takes 2 m D^2 operations, and each product with that D / (2 m) of those by its rows.
    """

    sketchable = True

    def __init__(self, rows: Tensor, mask: Tensor | None) -> None:
        self.rows, self.mask, self.dim = rows, mask, rows.shape[-1]

    def forward(self, x: Tensor) -> Tensor:
        product = x @ self.rows.mT
        return product if self.mask is None else product * self.mask[:, None, :]

    def transpose(self, y: Tensor) -> Tensor:
        return y @ self.rows

    def matvec(self, x: Tensor) -> Tensor:
        return x + self.transpose(self.forward(x))

    @torch.no_grad()
    def perturbation(self, latent: Tensor, observed: Tensor) -> Tensor:
        if self.mask is not None:
            observed = observed * self.mask[:, None, :]
        return latent + self.transpose(observed)

    def diagonal(self) -> Tensor:
        squares = self.rows**2
        if self.mask is not None:
            return 1 + self.mask @ squares
        return 1 + (squares.sum(-2) if squares.dim() == 3 else squares.sum(0, keepdim=True))

    def dense(self) -> Tensor:
        rows, dim = self.rows, self.dim
        if self.mask is not None and dim <= len(self.mask):  # one product, and less memory than masked rows take
            gram = (self.mask @ (rows[:, :, None] * rows[:, None, :]).flatten(1)).view(-1, dim, dim)
        else:
            rows = rows if self.mask is None else rows * self.mask[:, :, None]
            gram = rows.mT @ rows
        identity = torch.eye(dim, dtype=rows.dtype, device=rows.device)
        return identity + (gram if gram.dim() == 3 else gram[None])


class DensePosterior(GaussianPosterior):
    """z_n | y_n ~ N(mean_n, Sigma_n) for y_n = V_n z_n + noise, z_n ~ N(0, I), noise ~ N(0, I), by Cholesky
    factorisation.

    With m rows and D latent dimensions, whichever is cheaper of
        primal (m > D)   A = I + V^T V,  Sigma = A^-1,             mean = A^-1 V^T y
        dual  (m <= D)   C = I + V V^T,  Sigma = I - V^T C^-1 V,   mean = V^T C^-1 y     (Woodbury)
    rows V: (n, m, D), or (1, m, D) when all data points share their rows, and so one factorisation; padded rows are
    zero. targets y: (n, m), zero where padded. orthogonal: the factor is that of a QR factorisation of [V; I] or
    [V^T; I], which takes about twice the time and is as exact as V is, however little noise there is: forming A or C
    leaves nothing of an eigenvalue of one beside those beyond 1 / eps. inverse_temperature: beta of the density
    p(y, z)^beta, which leaves the mean as it is and divides the covariance.
    """

    def __init__(
        self, rows: Tensor, targets: Tensor, orthogonal: bool = False, inverse_temperature: float = 1.0
    ) -> None:
        self.rows, self.targets, self.inverse_temperature = rows, targets, inverse_temperature
        _, m, dim = rows.shape
        self.dual = m <= dim
        columns = rows.mT if self.dual else rows
        if orthogonal:
            identity = torch.eye(min(m, dim), dtype=rows.dtype, device=rows.device).expand(len(rows), -1, -1)
            mode = "reduced" if rows.requires_grad else "r"  # only the former has a derivative
            upper = torch.linalg.qr(torch.cat([columns, identity], 1), mode=mode).R
            if not bool(upper.isfinite().all()):  # as a Cholesky factorisation says it
                raise LinAlgError("linalg.qr: the rows are not finite")
            self.factor = upper.mT * upper.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]
        else:
            gram = symmetric_product(columns)
            gram.diagonal(dim1=-2, dim2=-1).add_(1.0)
            self.factor = torch.linalg.cholesky(gram)

    @cached_property
    def mean(self) -> Tensor:
        """(n, D)."""
        if len(self.rows) == 1 < len(self.targets):
            return self.targets @ self.image[0]
        if self.dual:
            return (self.residual[:, None, :] @ self.rows).squeeze(1)
        return torch.cholesky_solve(self.rows.mT @ self.targets[:, :, None], self.factor).squeeze(-1)

    @property
    def _columns(self) -> Tensor:
        """y as right-hand sides of each factorisation, (n, m, 1), or of the one that all share, (1, m, n)."""
        return self.targets.mT[None] if len(self.rows) == 1 else self.targets[:, :, None]

    @cached_property
    def residual(self) -> Tensor:
        """y - V mean, (n, m): C^-1 y, of which nothing cancels, in the dual form."""
        if self.dual:
            return torch.cholesky_solve(self._columns, self.factor).mT.reshape(self.targets.shape)
        return self.targets - (self.mean[:, None, :] @ self.rows.mT).squeeze(1)

    @cached_property
    def inverse(self) -> Tensor:
        """A^-1 or C^-1, (n or 1, D, D) or (n or 1, m, m). Products with it run at several times the rate of solves."""
        return torch.cholesky_inverse(self.factor)

    @cached_property
    def image(self) -> Tensor:
        """V Sigma, (n or 1, m, D): equal to C^-1 V."""
        return (self.inverse @ self.rows if self.dual else self.rows @ self.inverse) / self.inverse_temperature

    def entries_of(self, chunk: Chunk) -> Chunk:
        """Only observed entries have rows."""
        return chunk.gathered

    def misfit(self) -> tuple[Tensor, Tensor]:
        """y - V mean and diag(V Sigma V^T), (n, m) each."""
        return self.residual, self.observed_variance(self.rows)

    def at_entries(self, rows_of: Callable[[Tensor], LinearOperator], index: Tensor) -> tuple[Tensor, Tensor]:
        """Means and variances, (n, t) each, of entries index (n, t) of Phi z for the model's own latents z.
        rows_of(wanted) are the rows of Phi of entries (k,)."""
        wanted, place = index.unique(return_inverse=True)
        rows = rows_of(wanted).dense(self.mean)
        rows = (rows if self.frame.scale is None else rows * self.frame.scale)[place]
        return (rows @ self.mean[:, :, None]).squeeze(-1), self.variance(rows)

    def variance_in(self, basis: LinearOperator) -> Tensor:
        """Variances of B^T z for an orthonormal basis B and the model's own latents z, (n or 1, k)."""
        covariance = self.covariance
        if (scale := self.frame.scale) is not None:
            covariance = scale[:, None] * covariance * scale
        return basis.transpose(basis.transpose(covariance).mT).diagonal(dim1=-2, dim2=-1).clamp_min(0.0)

    def observed_variance(self, rows: Tensor) -> Tensor:
        """diag(V Sigma V^T), (n or 1, m), differentiable in V, which has the values given at construction; Sigma is
        held fixed."""
        return _QuadraticForm.apply(rows, self.image)  # pyright: ignore[reportReturnType]

    def variance(self, rows: Tensor) -> Tensor:
        """diag(R Sigma R^T), (n, t), for any rows R (n, t, D)."""
        if self.factor.shape[0] == 1 < rows.shape[0]:
            return self.variance(rows.reshape(1, -1, rows.shape[-1])).view(rows.shape[:2])
        if self.dual:
            inner = self.rows @ rows.mT
            reduction = torch.linalg.solve_triangular(self.factor, inner, upper=False).square().sum(-2)
            return (rows.square().sum(-1) - reduction).clamp_min(0.0) / self.inverse_temperature
        square = torch.linalg.solve_triangular(self.factor, rows.mT, upper=False).square().sum(-2)
        return square / self.inverse_temperature

    @cached_property
    def covariance(self) -> Tensor:
        """Sigma, (n or 1, D, D)."""
        if not self.dual:
            return self.inverse / self.inverse_temperature
        product = -self.rows.mT @ self.image
        product.diagonal(dim1=-2, dim2=-1).add_(1 / self.inverse_temperature)
        return product

    @property
    def marginal_variance(self) -> Tensor:
        """diag(Sigma), (n or 1, D), without forming Sigma in the dual form."""
        if self.dual:
            known = torch.linalg.vecdot(self.rows, self.image, dim=-2)
            return (1 / self.inverse_temperature - known).clamp_min(0.0)
        return self.inverse.diagonal(dim1=-2, dim2=-1) / self.inverse_temperature

    @property
    def log_determinant(self) -> Tensor:
        """log det A = log det C, (n or 1,)."""
        return 2 * self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def log_density(self) -> Tensor:
        """log N(y; 0, C) + m/2 log(2 pi) = -1/2 (y^T C^-1 y + log det A), (n,), with y^T C^-1 y as a sum of squares,
        |C^(-1/2) y|^2 or |y - V mean|^2 + |mean|^2: y^T y - y^T V mean has no digits where there is little noise."""
        if self.dual:
            square = torch.linalg.solve_triangular(self.factor, self._columns, upper=False).square().sum(1).flatten()
        else:
            square = self.residual.square().sum(-1) + self.mean.square().sum(-1)
        return -0.5 * (square + self.log_determinant)


class _QuadraticForm(torch.autograd.Function):
    """diag(V Sigma V^T) with gradient 2 V Sigma, given the image V Sigma."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, image: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(image)
        return torch.linalg.vecdot(rows, image)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (image,) = ctx.saved_tensors
        return 2 * grad[..., None] * image, None


def symmetric_product(x: Tensor) -> Tensor:
    """x^T x of (..., m, D), lower triangle only (above it, zeros or the true values): what a Cholesky factorisation
    reads.

    Halved recursively, so that a large product costs little more than half the operations of the full one.
    """
    dim = x.shape[-1]
    if dim < 2 * TILE:
        return x.mT @ x
    product = x.new_zeros(*x.shape[:-2], dim, dim)
    _fill_symmetric(product, x)
    return product


def _fill_symmetric(out: Tensor, x: Tensor) -> None:
    dim = x.shape[-1]
    if dim < 2 * TILE:
        out.copy_(x.mT @ x)
        return
    half = dim // 2
    left, right = x[..., :half], x[..., half:]
    out[..., half:, :half] = right.mT @ left
    _fill_symmetric(out[..., :half, :half], left)
    _fill_symmetric(out[..., half:, half:], right)
