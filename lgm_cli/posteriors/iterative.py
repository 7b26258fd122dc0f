"""Posteriors that no factorisation can be afforded for, to a stated numerical error: what parameters are judged by."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from lgm_cli.numerics.lanczos import lanczos_log
from lgm_cli.operators.base import LinearOperator
from lgm_cli.posteriors.base import Frame, LatentPosterior, PosteriorPrecision
from lgm_cli.randomness import generator
from lgm_cli.solvers.conjugate_gradient import ConjugateGradient

SAMPLES = 100  # of the posterior, for its standard deviations: each is known to 7%
FEW_SAMPLES = 4  # for their average over many coordinates
PROBES = 8
PIECE = 1 << 24  # numbers that the vectors of one solution may take
TOLERANCES = {"mean": 1e-3, "samples": 3e-2}  # relative residuals


class IterativePosterior(LatentPosterior):
    """N(mean_n, A_n^-1) by conjugate gradient, its variances from SAMPLES samples, and its log density by stochastic
    Lanczos quadrature (Ubaru, Chen & Saad, SIAM J. Matrix Analysis and Applications 38 (2017) 1075-1099).

    The random numbers are keyed to the seed alone: differences between two evaluations are much more exact than either.
    targets: (n, m), b_n = V_n^T targets_n.
    """

    def __init__(self, precision: PosteriorPrecision, targets: Tensor, seed: int, frame: Frame | None = None) -> None:
        self.precision, self.targets, self.seed = precision, targets, seed
        self.frame = frame or Frame()

    def _draw(self, purpose: str) -> torch.Generator:
        return generator(self.seed, purpose, device=self.targets.device)

    def _solve(self, right: Tensor, accuracy: str) -> Tensor:
        solver = ConjugateGradient(max_iterations=2000, tolerance=TOLERANCES[accuracy], preconditioner="jacobi")
        return solver.solve(self.precision, right).x

    @cached_property
    def mean(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """(n, D)."""
        return self._solve(self.precision.right_side(self.targets), "mean")[:, 0]

    @cached_property
    def samples(self) -> Tensor:
        """(n, SAMPLES, D)."""
        return self._samples(SAMPLES)

    def _samples(self, number: int) -> Tensor:
        """A_n^-1 delta_k, k = 1 .. number, (n, number, D)."""
        draw, (n, m), dim = self._draw("evaluation samples"), self.targets.shape, self.precision.dim
        like = {"dtype": self.targets.dtype, "device": self.targets.device}
        each = max(1, PIECE // (8 * n * dim))
        found = []
        for start in range(0, number, each):
            count = min(each, number - start)
            latent = torch.randn(n, count, dim, generator=draw, **like)
            observed = torch.randn(n, count, m, generator=draw, **like)
            found.append(self._solve(self.precision.perturbation(latent, observed), "samples"))
        return torch.cat(found, 1)

    @property
    def marginal_variance(self) -> Tensor:
        """diag(A_n^-1), (n, D)."""
        return self.samples.square().mean(1)

    @cached_property
    def rough_variance(self) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The same of FEW_SAMPLES samples."""
        return self._samples(FEW_SAMPLES).square().mean(1)

    def at_entries(self, rows_of: Callable[[Tensor], LinearOperator], index: Tensor) -> tuple[Tensor, Tensor]:
        """Means and variances, (n, t) each, of entries index (n, t) of Phi z for the model's own latents z.
        rows_of(wanted) are the rows of Phi of entries (k,)."""
        wanted, place = index.unique(return_inverse=True)
        rows = rows_of(wanted)
        variance = self._average_square(lambda z: rows.forward(z).gather(1, place))
        return rows.forward(self._own(self.mean)).gather(1, place), variance

    def variance_in(self, basis: LinearOperator) -> Tensor:
        """Variances of B^T z for an orthonormal basis B and the model's own latents z, (n, k)."""
        return self._average_square(basis.transpose)

    def _own(self, v: Tensor) -> Tensor:
        return v if self.frame.scale is None else self.frame.scale * v

    def _average_square(self, image: Callable[[Tensor], Tensor]) -> Tensor:
        """Of an image of the samples in the model's own coordinates, one sample after the other."""
        squares = (image(self._own(sample)).square() for sample in self.samples.unbind(1))
        return functools.reduce(Tensor.add_, squares) / self.samples.shape[1]

    def log_density(self) -> Tensor:
        """-1/2 (|t - V mean|^2 + |mean|^2 + log det A), (n,), in which nothing cancels; `standard_error` is that of the
        last."""
        residual = self.targets - self.precision.forward(self.mean[:, None])[:, 0]
        misfit = (residual.cpu().double().square().sum(-1), self.mean.cpu().double().square().sum(-1))
        return (-0.5 * (misfit[0] + misfit[1] + self._log_determinants.mean(-1))).to(self.targets)

    @property
    def standard_error(self) -> Tensor:
        """Of log_density, over the probes, (n,)."""
        return 0.5 * self._log_determinants.std(-1) / math.sqrt(PROBES)

    @cached_property
    def _log_determinants(self) -> Tensor:
        """log det A_n = log det diag(A_n) + log det S A_n S with S = diag(A_n)^(-1/2), the latter by each probe, (n,
        PROBES): its variance is of the off-diagonal entries alone."""
        diagonal = self.precision.diagonal().expand(len(self.targets), -1)
        scale = diagonal.rsqrt()[:, None, :]
        draw = self._draw("evaluation probes")
        signs = torch.randint(2, (len(scale), PROBES, self.precision.dim), generator=draw, device=scale.device)
        probes = (2 * signs - 1).to(scale.dtype)
        found = lanczos_log(lambda x: scale * self.precision.matvec(scale * x), probes)
        return diagonal.cpu().double().log().sum(-1, keepdim=True) + found
