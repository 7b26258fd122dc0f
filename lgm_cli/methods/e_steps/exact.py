"""The E-step by factorisation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lgm_cli.methods.e_steps.base.e_step import EStep
from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.models.base.latent_variable_model import LatentVariableModel, Posterior
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.costs import exact_parts


class Exact(EStep):
    """Posteriors by Cholesky factorisation, a bounded number of data points at a time."""

    has_entropy = True

    def __init__(self, model: LatentVariableModel) -> None:
        self.model = model

    def layout(self, block: int) -> list[Chunk]:
        return self.model.layout(block)

    def posteriors(
        self, parameters: Parameters, block: int, chunks: list[Chunk], step: int, record: SolverRecord
    ) -> Iterator[tuple[Chunk, Posterior, Tensor | None]]:
        for part in exact_parts(chunks, self.model.dim):
            with torch.no_grad():
                posterior = self.posterior(parameters, part)
            yield part, posterior, None

    def posterior(self, parameters: Parameters, part: Chunk) -> Posterior:
        """The posterior of a few data points."""
        return self.model.posterior(parameters, part)
