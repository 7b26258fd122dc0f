"""Conditional maximisation: one block of parameters after the other."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lgm_cli.methods.m_steps.base.climb import Climb
from lgm_cli.methods.m_steps.base.from_statistics import FromStatistics
from lgm_cli.methods.statistics.base.sums import Sums
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters, Statistics
from lgm_cli.posteriors.costs import exact_parts


class Conditional(FromStatistics):
    """theta_s <- argmax of E log p(y, z | theta) over block s alone, for s = 1 .. S, each at the latest of the others.

    Neither the free energy nor the likelihood falls (ECM: Meng & Rubin, Biometrika 80 (1993) 267-278). cycle: "one"
    E-step for all blocks, or an E-step for "each" block (multicycle ECM).

    either: parameters that raise the likelihood itself instead, by inner_steps steps of limited-memory BFGS that
    respect the floors, after all other blocks (ECME: Liu & Rubin, Biometrika 81 (1994) 633-648). That order keeps the
    likelihood from falling: the other blocks raise it by way of a posterior that the last ones make old.
    """

    def __init__(
        self, model: LatentVariableModel, parameters: Parameters, sums: Sums | None, cycle: str = "one",
        either: tuple[str, ...] = (), inner_steps: int = 5,
    ) -> None:  # fmt: skip
        super().__init__(model, parameters, sums)
        blocks = model.blocks or (tuple(parameters),)
        remaining = (tuple(name for name in block if name in parameters and name not in either) for block in blocks)
        self.blocks = [block for block in remaining if block]
        self.either, self.inner_steps = either, inner_steps
        self.parts = len(self.blocks) if cycle == "each" else 1
        self._next = 0  # block of the next part, where each has an E-step of its own

    def updated(self, statistics: Statistics) -> tuple[Parameters, float | None]:
        parameters = self.parameters
        if self.parts == 1:
            for block in self.blocks:
                parameters = self.maximised(parameters, statistics, block)
        else:
            parameters = self.maximised(parameters, statistics, self.blocks[self._next])
            self._next = (self._next + 1) % self.parts
            if self._next:
                return parameters, None
        if not self.either:
            return parameters, None
        return Climb(self.model, self._evidence, self.inner_steps)(parameters, self.either)

    def _evidence(self, parameters: Parameters) -> Iterator[Tensor]:
        """-log p(y | parameters), and the prior's, whose derivatives are those of -E log p(y, z | parameters) under the
        posterior at these parameters (Fisher's identity): none is taken through a posterior, so that an evaluation
        costs about as much as an E-step."""
        model, total, value = self.model, {}, 0.0
        with torch.no_grad():
            for block in range(len(model.observations.blocks)):
                for part in exact_parts(model.layout(block), model.dim):
                    posterior = model.posterior(parameters, part)
                    value -= float(model.log_likelihood(parameters, part, posterior).sum())
                    total = model.add_statistics(total, part, posterior)
        loss = model.expected_loss(parameters, total)
        yield value + (loss - loss.detach()).cpu().double()
        if (prior := model.log_prior(parameters)) is not None:
            yield -prior
