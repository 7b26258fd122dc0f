"""The M-step in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lgm_cli.methods.saved_state import require
from lgm_cli.models.base.latent_variable_model import LatentVariableModel, Posterior
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.base.statistics import Statistics
from lgm_cli.observations.chunk import Chunk


class ClosedForm:
    """theta <- argmax of the expected complete log-likelihood, from expected sufficient statistics."""

    def __init__(self, model: LatentVariableModel, parameters: Parameters) -> None:
        self.model, self.parameters = model, parameters
        self._total: Statistics | None = None

    def add(self, chunk: Chunk, posterior: Posterior, pairing: Tensor | None) -> None:
        with torch.no_grad():
            self._total = self.model.statistics(self.parameters, chunk, posterior, self._total)

    def apply(self, observed: float) -> float | None:
        """Take the step; there is no gradient to report."""
        with torch.no_grad():
            if self._total is not None:
                self.parameters = self.model.maximise(self.parameters, self._total)
        self._total = None
        return None

    def anneal(self) -> bool:
        """There is no step size to shorten."""
        return False

    def retreat(self, parameters: Parameters) -> bool:
        """There is no step size that may have been too large."""
        return False

    def move(self, parameters: Parameters) -> None:
        """Go on from these parameters; statistics taken at others are dropped."""
        self.parameters, self._total = parameters, None

    def state(self) -> dict[str, Any]:
        return {"parameters": self.parameters}

    def load_state(self, state: dict[str, Any]) -> None:
        require(state, {"parameters": self.parameters}, "update")
        self.parameters = {name: value.detach() for name, value in state["parameters"].items()}
