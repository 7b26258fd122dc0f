"""What a model must give beside that has Gaussian latents, so that its posteriors are those of linear systems."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from torch import Tensor

from lgm_cli.models.base.latent_variable_model import LatentVariableModel, Reference
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.base import Frame, PosteriorPrecision
from lgm_cli.posteriors.iterative import IterativePosterior


class LatentGaussianModel(LatentVariableModel):
    """A model y = eta + Phi z + noise with z ~ N(0, prior), in latent coordinates of `dim` numbers, whitened where the
    prior is simple: z ~ N(0, I)."""

    has_system = True

    def frame(self, parameters: Parameters) -> Frame:
        """Where the coordinates of posteriors lie in the model's own."""
        return Frame()

    @abstractmethod
    def system(self, parameters: Parameters, chunk: Chunk) -> tuple[PosteriorPrecision, Tensor]:
        """A_n by its products, and the targets t_n = Psi^(1/2) Omega (y_n - eta), (n, m): b_n is their transpose
        product."""

    def iterative_posterior(self, parameters: Parameters, chunk: Chunk, seed: int) -> IterativePosterior:
        return IterativePosterior(*self.system(parameters, chunk), seed, self.frame(parameters))

    def log_volume(self, parameters: Parameters) -> Tensor | float:
        """log |det dz/dw| for the coordinates z of posteriors and the latents w whose density `complete_loss` takes,
        of one data point: zero where these are the same."""
        return 0.0

    @abstractmethod
    def product_operations(self, observed: np.ndarray) -> np.ndarray:
        """Multiplications of a product with A_n, for each data point. (N,)"""

    @abstractmethod
    def latents(self, parameters: Parameters, posterior: Reference) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latent variables as the contract names them: (n, D) each, of a joint table
        in the shape that is written."""

    def inferred(self, parameters: Parameters, posterior: Reference) -> dict[str, Tensor]:
        """What posterior.safetensors holds, a row for each data point, of a joint table in the shape that is
        written."""
        mean, deviation = self.latents(parameters, posterior)
        return {"latent_mean": mean, "latent_standard_deviation": deviation}


def refuse_a_temperature(inverse_temperature: float) -> None:
    """TypeError for another temperature than one, for models whose posteriors have no other."""
    if inverse_temperature != 1:
        raise TypeError("its posterior has no temperature")
