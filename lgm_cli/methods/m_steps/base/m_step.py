"""What every M-step gives to a method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from lgm_cli.models.base.latent_variable_model import Posterior
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.observations.chunk import Chunk


class MStep(ABC):
    """New parameters from the posteriors of one step."""

    parameters: Parameters
    most_steps = 2000  # of a run whose max_steps is left open
    parts = 1  # E-steps of a step: `apply` is called after each
    held: tuple[str, ...] = ()  # parameters to leave as they are
    has_free_energy = False  # whether `free_energy` can be known, given posteriors that have an entropy
    measured = False  # whether `free_energy` is wanted
    free_energy: Tensor | None = None  # of the last step, after it, under the posteriors that led to it; ()

    @property
    def bounds(self) -> bool:
        """Whether the free energy is a bound of the log-likelihood."""
        return True

    @property
    def begins_with_all(self) -> bool:
        """Whether the first step takes all data points, whatever a batch is."""
        return False

    @property
    def everything(self) -> bool:
        """Whether the next step has to take all data points, whatever a batch is."""
        return False

    @abstractmethod
    def add(self, block: int, chunk: Chunk, posterior: Posterior, pairing: Tensor | None) -> None:
        """Take the posterior of some data points of a block."""

    @abstractmethod
    def apply(self, observed: float) -> float | None:
        """Take the step; observed: the number of entries behind it. The norm of the gradient per entry, if there is
        one."""

    def anneal(self) -> bool:
        """Shorten the steps; False where they have no size."""
        return False

    def retreat(self, parameters: Parameters) -> bool:
        """Go back to parameters that were good, with shorter steps; False where steps have no size."""
        return False

    @abstractmethod
    def move(self, parameters: Parameters) -> None:
        """Go on from these parameters."""

    @abstractmethod
    def state(self) -> dict[str, Any]: ...

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state of `state`; ValueError when it is not one."""
