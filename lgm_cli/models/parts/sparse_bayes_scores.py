"""What is reported of signals: their posterior, distances to known ones, what is active, warnings."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Dictionary
from lgm_cli.models.base.latent_variable_model import Reference
from lgm_cli.models.base.linear_gaussian_model import LinearGaussianModel
from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters
from lgm_cli.models.parts.sparse_bayes_simulation import decibels
from lgm_cli.observations.chunk import Chunk
from lgm_cli.operators.base import LinearOperator
from lgm_cli.operators.fourier import subsampled_fourier


class SignalScores(LinearGaussianModel):
    """The part of sparse Bayesian learning that reports. Its attributes are those of `SparseBayes`."""

    dictionary: Dictionary
    basis: LinearOperator | None
    operator: LinearOperator
    learn_noise: bool
    smallest_variance: float
    _unit: Tensor  # of measurements, ()
    _noise: Tensor  # noise variance at the start, ()
    _norms: Tensor  # squared lengths of the columns of Phi, (D,)
    _size: Tensor  # coefficients that share a precision, (G,)
    _floor: Tensor  # bound of their variances, (G,)

    @abstractmethod
    def _each(self, parameters: Parameters) -> Tensor:
        """alpha of each coefficient, (D,)."""

    @abstractmethod
    def _noise_of(self, parameters: Parameters) -> Tensor:
        """1 / psi, ()."""

    def settling(self, parameters: Parameters, posterior: Reference) -> tuple[Tensor, float]:
        """The coefficients: bases are orthonormal, so that the signal moves as far as they do."""
        scale = self._each(parameters).rsqrt()
        variance = (scale.square() * posterior.rough_variance).expand_as(posterior.mean)
        return (scale * posterior.mean).flatten(), float(variance.cpu().double().sum())

    def inferred(self, parameters: Parameters, posterior: Reference) -> dict[str, Tensor]:
        mean, deviation = self.latents(parameters, posterior)
        shape = (len(mean), *self.dictionary.real_shape)
        signal, spread = self._signal(mean), deviation
        if self.basis is not None:
            spread = float(self._unit) * posterior.variance_in(self.basis).sqrt().expand_as(signal)
        signal, spread = ((part[0] if len(part) == 1 else part) for part in (signal.view(shape), spread.reshape(shape)))
        found = {"latent_mean": mean, "latent_standard_deviation": deviation}
        return found | {"signal_mean": signal, "signal_standard_deviation": spread}

    def _signal(self, coefficients: Tensor) -> Tensor:
        return coefficients if self.basis is None else self.basis.transpose(coefficients)

    def own_columns(self, data: Data) -> list[str]:
        known = ["relative_error", "psnr_db"] if data.table.truth and "signal" in data.table.truth else []
        return [*known, "active"] if known else [*super().own_columns(data), "active"]

    def measure(self, parameters: Parameters, chunk: Chunk, posterior: Reference) -> dict[str, Tensor]:
        """Squared distance to the true signals, and their squared length."""
        truth = self.observations.signal
        if truth is None:
            return {}
        found = float(self._unit) * self._signal(self._each(parameters).rsqrt() * posterior.mean)
        true = truth[chunk.points.cpu()]
        entries = torch.tensor(float(true.numel()), dtype=torch.float64)
        return {"error": (found.cpu().double() - true).square().sum(), "power": true.square().sum(), "entries": entries}

    def _active(self, parameters: Parameters) -> int:
        return int(self._size[1 / parameters["precisions"] > 2 * self._floor].sum())

    def own_scores(self, parameters: Parameters, sums: Mapping[str, Tensor], data: Data) -> dict[str, float]:
        """relative_error = |x - x0| / |x0|; psnr_db = 10 log10(max |x0|^2 / mean (x - x0)^2); active: coefficients with
        a prior variance of more than twice its bound."""
        active: dict[str, float] = {"active": self._active(parameters)} if self.smallest_variance else {}
        if not sums:
            return super().own_scores(parameters, sums, data) | active
        error, power, entries = (float(sums[name]) for name in ("error", "power", "entries"))
        truth = self.observations.signal
        assert truth is not None
        ratio = decibels(float(truth.abs().max()), error / entries)
        return {"relative_error": math.sqrt(error / power), "psnr_db": ratio} | active

    def zero_filled(self, y: Tensor) -> Tensor:
        """H^T y, of measured frequencies with the conjugates that a real image gives: the least-squares signal of least
        norm."""
        y = y.to(self._norms)
        if self.dictionary.sensing != "fourier":
            return self._signal(self.operator.transpose(y))
        kept = torch.as_tensor(self.dictionary.kept, device=y.device)
        sensing = subsampled_fourier(self.dictionary.shape, kept, self.dictionary.is_complex)
        return sensing.least_norm(y)

    def warnings(self, parameters: Parameters, names: list[str]) -> list[str]:
        if not self.learn_noise:
            return []
        noise, found = float(self._noise_of(parameters)), []
        if noise <= NEAR_FLOOR * self.noise_floor:
            found.append(
                f"the noise variance ended at its floor, {self.noise_floor:g} of the measurements' mean square: the "
                "coefficients explain everything; give model.noise_variance with model.learn_noise=false"
            )
        active, measured = self._active(parameters), self.observations.observed / self.observations.shape[0]
        if not found and (active > measured / 3 or noise < 0.1 * float(self._noise)):
            before, after = (value * float(self._unit) ** 2 for value in (float(self._noise), noise))
            found.append(
                f"{active:,} coefficients are active with {measured:,.0f} measurements, and the noise variance went "
                f"from {before:.3g} to {after:.3g}: it can hardly be told from the prior; give model.noise_variance "
                "with model.learn_noise=false"
            )
        return found
