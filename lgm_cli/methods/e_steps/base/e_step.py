"""What every E-step gives to a method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.methods.m_steps.base.m_step import MStep
from lgm_cli.methods.saved_state import require
from lgm_cli.models.base.latent_variable_model import Posterior
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.observations.chunk import Chunk


class EStep(ABC):
    """Posteriors of the latent variables, chunk by chunk."""

    has_entropy = False  # whether the posteriors have one, and their M-step a free energy
    needs_free_energy = False  # whether `finish` asks the M-step for the free energy

    @property
    def tempered(self) -> bool:
        """Whether the posteriors are not those of the model yet, so that no step may be judged."""
        return False

    @property
    def held(self) -> tuple[str, ...]:
        """Parameters that the M-step has to leave as they are."""
        return ()

    @abstractmethod
    def layout(self, block: int) -> list[Chunk]:
        """The data points of a block as their posteriors are cheapest."""

    @abstractmethod
    def posteriors(
        self, parameters: Parameters, block: int, chunks: list[Chunk], step: int, record: SolverRecord
    ) -> Iterator[tuple[Chunk, Posterior, Tensor | None]]:
        """The chunks of a block, perhaps in parts or several times, each with a posterior."""

    def finish(self, m_step: MStep) -> None:  # noqa: B027
        """End a step, which the M-step has taken."""

    def quieter(self) -> bool:
        """Lower the noise of the posteriors, asked for when it hides what the steps gain; False if there is none."""
        return False

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state of `state`; ValueError when it is not one."""
        require(state, {}, "expectation")
