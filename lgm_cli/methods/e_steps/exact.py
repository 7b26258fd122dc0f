"""The E-step by factorisation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.methods.saved_state import require
from lgm_cli.models.base.latent_variable_model import LatentVariableModel, Posterior
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.costs import exact_part_size


class Exact:
    """Posteriors by Cholesky factorisation, a bounded number of data points at a time."""

    def __init__(self, model: LatentVariableModel) -> None:
        self.model = model

    def layout(self, block: int) -> list[Chunk]:
        """The data points of a block as their posteriors are cheapest."""
        return self.model.layout(block)

    def posteriors(
        self, parameters: Parameters, block: int, chunks: list[Chunk], step: int, record: SolverRecord
    ) -> Iterator[tuple[Chunk, Posterior, Tensor | None]]:
        for chunk in chunks:
            for part in chunk.split(exact_part_size(chunk, self.model.dim)):
                with torch.no_grad():
                    posterior = self.model.posterior(parameters, part)
                yield part, posterior, None

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing is carried from step to step."""
        require(state, {}, "expectation")
