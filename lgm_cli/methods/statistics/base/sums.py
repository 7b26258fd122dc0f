"""What every way of gathering expected sufficient statistics gives to a step that works from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from lgm_cli.methods.saved_state import require
from lgm_cli.models.base.latent_variable_model import LatentVariableModel, Posterior
from lgm_cli.models.base.parameters import Parameters, Statistics
from lgm_cli.observations.chunk import Chunk


class Sums(ABC):
    """Sums of expected sufficient statistics, each by its name, that stand for all N data points.

    A data point may be added several times, once for each draw of its latents: what was added is multiplied by the
    number of data points that it stands for over the number that was added.
    """

    bounds = True  # whether the free energy of these statistics is a bound of the log-likelihood
    begins_with_all = False  # whether the first step takes all data points, whatever a batch is

    def __init__(self, model: LatentVariableModel) -> None:
        self.model = model

    @property
    def everything(self) -> bool:
        """Whether the next step has to take all data points, whatever a batch is."""
        return False

    @property
    def ready(self) -> bool:
        """Whether enough was gathered for the parameters to move."""
        return True

    @abstractmethod
    def add(self, block: int, chunk: Chunk, posterior: Posterior) -> None:
        """Add the expectations of some data points of a block."""

    @abstractmethod
    def close(self) -> Statistics:
        """End a step: the statistics that stand for all data points. They are not to be changed in place."""

    def settle(self, before: Parameters, after: Parameters) -> Parameters:
        """The parameters to go on with, from those before the step and those that maximise the statistics."""
        return after

    def restart(self) -> None:  # noqa: B027
        """Forget what belongs to other parameters: the caller has moved them."""

    def quieter(self) -> bool:
        """Lower the noise of the statistics, asked for when it hides what the steps gain; False if that cannot be."""
        return False

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state of `state`; ValueError when it is not one."""
        require(state, {}, "statistics")


def scaled(sums: Statistics, factor: float) -> Statistics:
    """Each sum times a factor; the same sums where it is one."""
    return sums if factor == 1 else {name: factor * value for name, value in sums.items()}


def restored(found: Any, name: str, device: torch.device) -> Statistics:
    """Sums of a saved state, on a device; ValueError unless they are tensors of finite numbers."""
    require(found, dict, name)
    for key, value in found.items():
        require(value, Tensor, f"{name}.{key}")
        require(value, value, f"{name}.{key}")
    return {key: value.to(device) for key, value in found.items()}
