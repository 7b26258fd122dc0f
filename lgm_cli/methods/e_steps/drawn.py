"""The E-step by draws from the exact posterior."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lgm_cli.methods.e_steps.base.samples import grown, saved_samples
from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.saved_state import require
from lgm_cli.models.base.latent_variable_model import LatentVariableModel, Posterior
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.observations.chunk import Chunk
from lgm_cli.randomness import generator


class Drawn(Exact):
    """K draws z_nk ~ p(z_n | y_n): each part of the data points comes K times, each time with a posterior that is
    certain of one draw, because K draws of discrete latents have no posterior in common (Wei & Tanner, JASA 85 (1990)
    699-704; with one draw, the stochastic EM of Celeux & Diebolt, Comp. Stat. Quarterly 2 (1985) 73-82).

    Draws are anew every `refresh_every` steps, keyed to the seed, the refresh and the block. growth: factor of K each
    time that the noise of the draws hides what the steps gain; one keeps it.
    """

    has_entropy = False

    def __init__(
        self, model: LatentVariableModel, num_samples: int, refresh_every: int, seed: int, growth: float = 1.0
    ) -> None:
        super().__init__(model)
        self.num_samples, self.refresh_every, self.seed, self.growth = num_samples, refresh_every, seed, growth

    def posteriors(
        self, parameters: Parameters, block: int, chunks: list[Chunk], step: int, record: SolverRecord
    ) -> Iterator[tuple[Chunk, Posterior, Tensor | None]]:
        refresh = step // self.refresh_every
        draw = generator(self.seed, "draws of latents", refresh, block, device=chunks[0].values.device)
        for part, posterior, _ in super().posteriors(parameters, block, chunks, step, record):
            for _ in range(self.num_samples):
                with torch.no_grad():
                    drawn = _draw(posterior, draw)
                yield part, drawn, None

    def quieter(self) -> bool:
        before, self.num_samples = self.num_samples, grown(self.num_samples, self.growth)
        return self.num_samples > before

    def state(self) -> dict[str, Any]:
        return {"num_samples": self.num_samples}

    def load_state(self, state: dict[str, Any]) -> None:
        require(state, {"num_samples": int}, "expectation")
        self.num_samples = saved_samples(state, self.num_samples)


def _draw(posterior: Any, generator: torch.Generator) -> Any:
    """One draw of the latents, a posterior that is certain of it; TypeError where the posterior gives none."""
    if not hasattr(posterior, "draw"):
        raise TypeError("its exact posterior is not one that latents are drawn from")
    return posterior.draw(generator)
