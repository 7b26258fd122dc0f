"""The M-step by a step of a torch optimiser."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from lgm_cli.methods.m_steps.base.m_step import MStep
from lgm_cli.methods.saved_state import require
from lgm_cli.models.base.latent_variable_model import LatentVariableModel, Posterior
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.observations.chunk import Chunk

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
}


def free_gradients(constrained: Parameters, leaves: Parameters, factor: float = 1.0) -> None:
    """Carry the gradients that have met in the leaves, times a factor, back through `constrain` to what these came
    from. (As the gradient of a sum: torch imports half a second of symbolic algebra where it is given gradients.)"""
    pairs = [(value, grad) for name, value in constrained.items() if (grad := leaves[name].grad) is not None]
    if products := [(value * (grad * factor)).sum() for value, grad in pairs]:
        torch.stack(products).sum().backward()


class Gradient(MStep):
    """theta <- one step of a torch optimiser on the average loss, in the model's free parameters.

    The loss is per observed entry and column, so that a column's gradient does not depend on how much data there is.
    """

    most_steps = 5000

    def __init__(
        self, model: LatentVariableModel, parameters: Parameters, optimizer: str, learning_rate: float,
        betas: tuple[float, float] | None = None, retreats: int = 0,
    ) -> None:  # fmt: skip
        self.model, self.retreats = model, retreats
        self._free = {name: value.clone().requires_grad_() for name, value in model.free(parameters).items()}
        self.optimizer = OPTIMIZERS[optimizer](
            list(self._free.values()), lr=learning_rate, **({} if betas is None else {"betas": betas})
        )
        self._renew()

    def _renew(self) -> None:
        """Constrained parameters as leaves: the gradients of all chunks meet there, then go through `constrain`
        once. They are copies, since a parameter without a domain may be the tensor that the optimiser writes into."""
        with torch.no_grad():
            constrained = self.model.constrain(self._free)
        self.parameters = {name: value.detach().clone().requires_grad_() for name, value in constrained.items()}

    def add(self, block: int, chunk: Chunk, posterior: Posterior, pairing: Tensor | None) -> None:
        """Accumulate the gradient of -E log p(y, z), for a network gradient of it less sum_k delta_k^T sigma_k / K."""
        loss = self.model.complete_loss(self.parameters, chunk, posterior)
        if pairing is not None:
            loss = loss - pairing
        loss.backward()

    def apply(self, observed: float) -> float | None:
        """Take the step; observed: the number of entries that are expected behind it. The norm of the gradient per
        entry. Of a part of the entries, the prior counts by their share."""
        if (prior := self.model.log_prior(self.parameters)) is not None:
            (-prior * (observed / self.model.observations.observed)).backward()
        self.optimizer.zero_grad()
        free_gradients(self.model.constrain(self._free), self.parameters, self.model.observations.shape[1] / observed)
        for name, scale in self.model.gradient_scale().items():
            if (grad := self._free[name].grad) is not None:
                grad.mul_(scale)
        grads = [value.grad for value in self._free.values() if value.grad is not None]
        norm = (
            float(torch.stack([grad.square().sum() for grad in grads]).sum().sqrt()) / self.model.observations.shape[1]
        )
        self.optimizer.step()
        self._renew()
        return norm

    def anneal(self) -> bool:
        """Halve the step size."""
        for group in self.optimizer.param_groups:
            group["lr"] *= 0.5
        return True

    def retreat(self, parameters: Parameters) -> bool:
        """Go back to parameters that were good, with a quarter of the step size and no memory of gradients; False
        when that has been done as often as it may."""
        if self.retreats == 0:
            return False
        self.retreats -= 1
        self.optimizer.state.clear()
        for group in self.optimizer.param_groups:
            group["lr"] *= 0.25
        self.move(parameters)
        return True

    def move(self, parameters: Parameters) -> None:
        """Go on from these parameters, without the momentum of earlier steps but with their sizes."""
        with torch.no_grad():
            for name, value in self.model.free(parameters).items():
                self._free[name].copy_(value)
        for memory in self.optimizer.state.values():
            if "exp_avg" in memory:
                memory["exp_avg"].zero_()
        self._renew()

    def state(self) -> dict[str, Any]:
        return {
            "retreats": self.retreats,
            "free": {name: value.detach() for name, value in self._free.items()},
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        require(state, {"retreats": int, "free": self._free, "optimizer": dict}, "update")
        self._require_optimizer(state["optimizer"])
        self.retreats = state["retreats"]
        with torch.no_grad():
            for name, value in state["free"].items():
                self._free[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self._renew()

    def _require_optimizer(self, state: dict[str, Any]) -> None:
        """Raise ValueError unless this can be the optimiser's state: its settings, whatever the step size, and for each
        parameter nothing or what a step leaves, as a copy of the optimiser shows."""
        stepped = copy.deepcopy(self.optimizer)
        for group in stepped.param_groups:
            for value in group["params"]:
                value.grad = torch.zeros_like(value)
        stepped.step()
        like = stepped.state_dict()
        require(state, {"state": dict, "param_groups": list}, "optimizer")
        for number, moments in state["state"].items():
            require(moments, like["state"][number], f"optimizer.state.{number}")
        rates = [group["lr"] for group in state["param_groups"]]
        require(rates, list[float], "optimizer.lr")
        settings = [group | {"lr": rate} for group, rate in zip(like["param_groups"], rates, strict=True)]
        if settings != state["param_groups"] or not all(0 < rate < math.inf for rate in rates):
            raise ValueError("optimizer.param_groups")
