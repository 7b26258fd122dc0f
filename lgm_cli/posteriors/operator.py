"""Posteriors of latents that are seen through a linear operator, by its actions alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from lgm_cli.observations.chunk import Chunk
from lgm_cli.operators.base import LinearOperator
from lgm_cli.operators.entries import Diagonal
from lgm_cli.posteriors.base import GaussianPosterior, PosteriorPrecision


class OperatorPrecision(PosteriorPrecision):
    """A_n = I + V_n^T V_n for V_n = psi^(1/2) Omega_n Phi diag(alpha)^(-1/2), Phi (M, D) a linear operator: the
    posterior precision of w ~ N(0, diag(alpha)^-1) in the whitened coordinates z = diag(alpha)^(1/2) w.

    norms: diag(Phi^T Omega_n Phi), (n or 1, D). index, weight: the layout of a chunk (lgm_cli.observations.Chunk).

    Since A_n >= I, a residual r leaves an error of at most |r| standard deviations of the posterior, over all D
    coordinates: residuals are measured by sqrt(D), whatever the size of the right-hand side.

    The gradients of sparse Bayesian learning hold w fixed, not z; so what is held of a perturbation is that of w,
    diag(alpha)^(1/2) delta, and delta itself moves with alpha.
    """

    uneven = True

    def __init__(
        self, operator: LinearOperator, precisions: Tensor, root: Tensor, norms: Tensor,
        index: Tensor | None, weight: Tensor,
    ) -> None:  # fmt: skip
        self.operator, self.dim, self.root, self.norms = operator, operator.in_dim, root, norms
        self.index, self.weight = None if index is None else index.expand(len(weight), -1)[:, None, :], weight
        self.scale = precisions.rsqrt()
        self._whole = index is None and bool(weight.all())
        self._ratio = (precisions.detach() / precisions).sqrt() if precisions.requires_grad else None

    def forward(self, x: Tensor) -> Tensor:
        image = self.root * self.operator.forward(self.scale * x)
        if self.index is not None:
            padded = torch.cat([image, torch.zeros_like(image[..., :1])], -1)
            image = padded.gather(-1, self.index.expand(-1, image.shape[1], -1))
        return image * self.weight[:, None, :]

    def transpose(self, y: Tensor) -> Tensor:
        if self.index is not None:
            whole = y.new_zeros(*y.shape[:-1], self.operator.out_dim + 1)
            y = whole.scatter_add(-1, self.index.expand(y.shape), y)[..., :-1]
        return self.scale * self.operator.transpose(self.root * y)

    def matvec(self, x: Tensor) -> Tensor:
        if self._whole:
            return x + self.scale * (self.root.square() * self.operator.normal(self.scale * x))
        return x + self.transpose(self.forward(x))

    def to_solve(self, systems: int) -> OperatorPrecision:
        """Itself, however small: as a matrix it would lose its scale of residuals."""
        return self

    def residual_scale(self, b: Tensor) -> Tensor:
        """What a relative residual is relative to, (n, R, 1)."""
        return torch.full_like(b[..., :1], math.sqrt(self.dim))

    def perturbation(self, latent: Tensor, observed: Tensor) -> Tensor:
        with torch.no_grad():
            delta = latent + self.transpose(observed * self.weight[:, None, :])
        return delta if self._ratio is None else self._ratio * delta

    def diagonal(self) -> Tensor:
        return 1 + (self.scale * self.root).square() * self.norms

    def dense(self) -> Tensor:
        identity = torch.eye(self.dim, dtype=self.scale.dtype, device=self.scale.device)
        return self.matvec(identity.expand(len(self.weight), -1, -1))


class OperatorPosterior(GaussianPosterior):
    """w_n | y_n in whitened coordinates, as OperatorPrecision, by Cholesky factorisation in the dual form for data
    points that observe the same m rows of Phi:

        C = I + psi^(1/2) Phi diag(alpha)^-1 Phi^T psi^(1/2),  mean = V^T C^-1 t,  diag(Sigma) = 1 - diag(V^T C^-1 V)

    It takes O(m^2) memory; what forming C and the last diagonal cost is the operator's to say (`gram` and
    `quadratic_diagonal`): a subsampled cosine transform takes one transform for each.

    In double precision inside, where the device has it: 1 - diag(..) cancels where the data tell almost everything.

    operator: those m rows. precisions: (D,). root: psi^(1/2), (). targets: (n, m).
    """

    dual = True

    def __init__(
        self, operator: LinearOperator, precisions: Tensor, root: Tensor, targets: Tensor,
        inside: torch.dtype = torch.float64,
    ) -> None:  # fmt: skip
        exact = torch.float32 if targets.device.type == "mps" else inside
        self.operator, self.root, self.targets, self._dtype = operator, root.to(exact), targets.to(exact), targets.dtype
        self.scale = precisions.to(exact).rsqrt()
        gram = self.root.square() * operator.gram(self.scale.square())
        gram.diagonal().add_(1.0)
        self.factor = torch.linalg.cholesky(gram)

    def _transpose(self, y: Tensor) -> Tensor:
        return self.scale * self.operator.transpose(self.root * y)

    def forward(self, x: Tensor) -> Tensor:
        """V x, (..., D) -> (..., m)."""
        return self.root * self.operator.forward(self.scale * x)

    @cached_property
    def mean(self) -> Tensor:
        """(n, D)."""
        return self._transpose(torch.cholesky_solve(self.targets.mT, self.factor).mT).to(self._dtype)

    @cached_property
    def residual(self) -> Tensor:
        """t - V mean = C^-1 t, of which nothing cancels, (n, m)."""
        return torch.cholesky_solve(self.targets.mT, self.factor).mT.to(self._dtype)

    @cached_property
    def inverse(self) -> Tensor:
        """C^-1, (m, m)."""
        return torch.cholesky_inverse(self.factor)

    @cached_property
    def marginal_variance(self) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """diag(Sigma), (1, D)."""
        known = (self.scale * self.root).square() * self.operator.quadratic_diagonal(self.inverse)
        return (1 - known).clamp_min(0.0)[None].to(self._dtype)

    def entries_of(self, chunk: Chunk) -> Chunk:
        """Only observed entries have rows."""
        return chunk.gathered

    def misfit(self) -> tuple[Tensor, Tensor]:
        """t - V mean and diag(V Sigma V^T), (n, m) each."""
        return self.residual, self.fitted_variance.expand_as(self.residual)

    def at_entries(self, rows_of: Callable[[Tensor], LinearOperator], index: Tensor) -> tuple[Tensor, Tensor]:
        """Means and variances, (n, t) each, of entries index (n, t) of Phi w. rows_of(wanted) are the rows of Phi of
        entries (k,)."""
        wanted, place = index.unique(return_inverse=True)
        rows = rows_of(wanted)
        mean = rows.forward(self.scale.to(self._dtype) * self.mean)
        return mean.gather(1, place), self.variance(rows)[place]

    def variance(self, rows: LinearOperator) -> Tensor:
        """Variances of R w for rows R, (t, D), of an operator, (t,)."""
        prior = rows.squares().forward(self.scale.square())
        cross = self.forward(self.scale * rows.dense(self.scale))
        known = torch.linalg.solve_triangular(self.factor, cross.mT, upper=False).square().sum(0)
        return (prior - known).clamp_min(0.0).to(self._dtype)

    def variance_in(self, basis: LinearOperator) -> Tensor:
        """Variances of B^T w for an orthonormal basis B, (1, k)."""
        prior = self.scale.square()
        seen = self.operator @ Diagonal(prior) @ basis
        known = self.root.square() * seen.quadratic_diagonal(self.inverse)
        return (basis.column_norms_squared(prior) - known).clamp_min(0.0)[None].to(self._dtype)

    @property
    def fitted_variance(self) -> Tensor:
        """diag(V Sigma V^T) = diag(I - C^-1), (1, m)."""
        return (1 - self.inverse.diagonal()).clamp_min(0.0)[None].to(self._dtype)

    @property
    def covariance(self) -> Tensor:
        """Sigma, (1, D, D)."""
        identity = torch.eye(len(self.scale), dtype=self.scale.dtype, device=self.scale.device)
        return (identity - self._transpose(self.forward(identity) @ self.inverse))[None].to(self._dtype)

    @property
    def log_determinant(self) -> Tensor:
        return 2 * self.factor.diagonal().log().sum()[None]

    def log_density(self) -> Tensor:
        """log N(t; 0, C) + m/2 log(2 pi), (n,)."""
        half = torch.linalg.solve_triangular(self.factor, self.targets.mT, upper=False)
        return (-0.5 * half.square().sum(0) - self.factor.diagonal().log().sum()).to(self._dtype)
