"""What the models share whose columns are linear in whitened latents: written once, for every posterior."""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from lgm_cli.models.base.latent_gaussian_model import LatentGaussianModel
from lgm_cli.models.base.latent_variable_model import Posterior, Reference
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.base.predictive import Predictive
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk
from lgm_cli.observations.sparse_rows import SparseRows
from lgm_cli.posteriors.base import PosteriorPrecision
from lgm_cli.posteriors.costs import exact_part_size, sparse_numbers, sparse_rows_numbers
from lgm_cli.posteriors.dense import DensePosterior, DensePrecision
from lgm_cli.posteriors.sparse import Columns, SparsePosterior, SparsePrecision, column_sums, sparse_loss


class LinearGaussianModel(LatentGaussianModel):
    """y_n = eta + Phi z_n + noise,  z_n ~ N(0, I_D),  noise ~ N(0, diag(Psi)^-1), in standardised units.

    A model says what Phi (M, D), eta (M,) and the noise variances 1 / Psi (M,) are, differentiable in its parameters.
    Posterior computations work on the rows V = Psi^(1/2) Phi and the targets Psi^(1/2) Omega (y - eta): A = I + V^T V.
    """

    standard_prior = True

    @abstractmethod
    def whitened_loadings(self, parameters: Parameters) -> Tensor:
        """Phi, (M, D)."""

    @abstractmethod
    def mean_of_columns(self, parameters: Parameters) -> Tensor:
        """eta, (M,)."""

    @abstractmethod
    def noise_of_columns(self, parameters: Parameters) -> Tensor:
        """1 / Psi, (M,)."""

    def prepare(self, observations: Observations) -> None:
        super().prepare(observations)
        self._log_scale = observations.scale.log().to(observations.device, observations.dtype)

    def _columns(self, parameters: Parameters, chunk: Chunk) -> tuple[Tensor, Tensor, Tensor]:
        """What the chunk's entries need of their columns, gathered at once: the rows V, (M, D), (m, D) or (n, m, D);
        the targets, (n, m); the log noise variances."""
        noise = self.noise_of_columns(parameters)
        root = noise.rsqrt()
        rows = self.whitened_loadings(parameters) * root[:, None]
        shift, log_noise = self.mean_of_columns(parameters) * root, noise.log()
        if chunk.index is not None:
            packed = chunk.take(torch.cat([rows, root[:, None], shift[:, None], log_noise[:, None]], dim=1))
            rows, (root, shift, log_noise) = packed[..., : self.dim], packed[..., self.dim :].unbind(-1)
        return rows, torch.addcmul(root * chunk.values, shift, chunk.weight, value=-1), log_noise

    def _weighted(self, parameters: Parameters) -> Columns:
        """What posteriors of sparse rows need of the columns."""
        root = self.noise_of_columns(parameters).rsqrt()
        rows = self.whitened_loadings(parameters) * root[:, None]
        return Columns(rows, root, self.mean_of_columns(parameters) * root)

    def system(self, parameters: Parameters, chunk: Chunk) -> tuple[PosteriorPrecision, Tensor]:
        if isinstance(chunk, SparseRows):
            precision = SparsePrecision(self._weighted(parameters), chunk)
            return precision, precision.targets
        rows, targets, _ = self._columns(parameters, chunk)
        return DensePrecision(rows, chunk.mask), targets

    def posterior(self, parameters: Parameters, chunk: Chunk, inverse_temperature: float = 1.0) -> Reference:
        if isinstance(chunk, SparseRows):
            sparse = SparsePosterior(self._weighted(parameters), chunk, inverse_temperature)
            sparse.frame = self.frame(parameters)
            return sparse
        rows, targets, _ = self._columns(parameters, chunk.gathered)
        found = DensePosterior(
            rows if rows.dim() == 3 else rows[None], targets, self.double_precision, inverse_temperature
        )
        found.frame = self.frame(parameters)
        return found

    def in_sparse_rows(self, block: int, solved: bool = False) -> bool:
        """Whether steps work on the data points of a block as sparse rows."""
        return False

    def exact_operations(self, observed: np.ndarray) -> np.ndarray:
        """Of the primal or the dual form, whichever is the cheaper."""
        small, large = np.minimum(observed, self.dim), np.maximum(observed, self.dim)
        return small**2 * large + small**3 / 3

    def product_operations(self, observed: np.ndarray) -> np.ndarray:
        """V and V^T."""
        return 2 * observed * self.dim

    def exact_bytes(self, gradient: bool = False) -> float:
        """Copies of the rows of all columns and of those that each data point of a part observes, factors and their
        inverses; while a part is factorised, the posterior of the part before is still there. Blocks that a step works
        on as sparse rows are gathered for an evaluation alone."""
        chunks, size = list(self.observations.chunks), self.observations.dtype.itemsize
        columns = 3 * self.observations.shape[1] * (self.dim + 3)
        peaks, posterior, points = [0.0], 0, 1
        sparse, kept = set(), 0.0
        for number, block in enumerate(self.observations.blocks):
            if self.in_sparse_rows(number):
                sparse |= {id(chunk) for chunk in block}
                together, seen = sum(len(chunk.points) for chunk in block), sum(chunk.observed for chunk in block)
                kept += sparse_rows_numbers(seen, size)
                peaks.append(sparse_numbers(self.dim, together, self.observations.shape[1]))
        for chunk in chunks:
            points = min(exact_part_size(chunk, self.dim), len(chunk.points))
            shared = chunk.index is not None and chunk.index.dim() == 1
            rows = (1 if shared else points) * chunk.width * (self.dim + 3)
            factor = (1 if shared else points) * min(chunk.width, self.dim) ** 2
            posterior = rows + 2 * factor + rows * (chunk.width <= self.dim)
            before = posterior * (len(chunks) > 1 or points < len(chunk.points))
            peaks.append(4 * (rows + factor) if self.double_precision else before + columns + rows + 3 * factor)
            if id(chunk) in sparse:
                continue
            if gradient:
                peaks.append(max(columns + 3 * rows, 5.25 * rows) + 2 * factor)
            else:
                peaks.append(posterior + self._numbers_of_statistics(chunk, points))
        if not gradient:
            last = (len(chunks[-1].points) - 1) % points + 1
            peaks.append(posterior * last / points + self._numbers_of_maximum())
        return float(size * (kept + max(peaks)))

    @abstractmethod
    def _numbers_of_statistics(self, chunk: Chunk, points: int) -> float:
        """What taking the statistics of so many data points of a chunk needs beside their posterior, in numbers."""

    def _numbers_of_maximum(self) -> float:
        """What the M-step needs, in numbers: nothing where it is of a few."""
        return 0.0

    def complete_loss(self, parameters: Parameters, chunk: Chunk, posterior: Posterior) -> Tensor:
        """1/2 sum omega [(Psi^(1/2) (y - eta) - V mu)^2 + diag(V Sigma V^T) - log psi] + 1/2 (|mu|^2 + tr Sigma).

        The last two depend on the parameters only through the solver, and are left out for a posterior held fixed.
        """
        if isinstance(chunk, SparseRows):
            noise = self.noise_of_columns(parameters)
            return sparse_loss(self._weighted(parameters), noise, column_sums(chunk, posterior))
        chunk = posterior.entries_of(chunk)
        rows, targets, log_noise = self._columns(parameters, chunk)
        fitted = (posterior.mean[:, None, :] @ rows.mT).squeeze(1)
        residual = targets - fitted if chunk.mask is None else targets - chunk.mask * fitted
        variance = chunk.weight * posterior.observed_variance(rows)
        loss = 0.5 * (residual.square().sum() + variance.sum() + (chunk.weight * log_noise).sum())
        return loss + 0.5 * posterior.total_square() if posterior.live else loss

    def log_likelihood(self, parameters: Parameters, chunk: Chunk, posterior: Reference) -> Tensor:
        log_scale = 0.5 * (self.noise_of_columns(parameters).log() + math.log(2 * math.pi)) + self._log_scale
        return posterior.log_density() - chunk.gathered.over_observed(log_scale)

    def predict(self, parameters: Parameters, posterior: DensePosterior, index: Tensor) -> Predictive:
        rows = self.whitened_loadings(parameters)[index]
        mean = self.mean_of_columns(parameters)[index] + (rows @ posterior.mean[:, :, None]).squeeze(-1)
        variance = self.noise_of_columns(parameters)[index] + posterior.variance(rows)
        # In the data's units only now: a large mean would leave single precision no digits, a small unit underflow.
        center, scale = (x.cpu()[index.cpu()] for x in (self.observations.center, self.observations.scale))
        return Predictive(center + scale * mean.cpu().double(), scale**2 * variance.cpu().double())
