"""Fewer steps for a method that goes from parameters to better ones: extrapolation, guarded by the objective."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.linalg import LinAlgError  # pyright: ignore[reportAttributeAccessIssue]

from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.methods.extrapolation import SCHEMES, Scheme
from lgm_cli.methods.m_steps.base.from_statistics import FromStatistics
from lgm_cli.methods.m_steps.base.m_step import MStep
from lgm_cli.methods.method import Method, StepInfo
from lgm_cli.methods.saved_state import require
from lgm_cli.models.base.latent_variable_model import LatentVariableModel, Posterior
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.observations.chunk import Chunk

POSITIVE = ("variance", "precision", "precisions")  # how the names of parameters above floors end
ROUNDING = 4.0  # roundings of the likelihood, by which it may seem to fall


class Coordinates:
    """Parameters as a vector (p,), float64, on the CPU, any value of which stands for parameters within their bounds.

    It holds logarithms of variances and precisions, and the free form of other parameters. (The free form of a variance
    is the logarithm of its excess over the floor, which has no limit where the floor is met.) Each has a unit in which
    its Fisher information is about that of the others: the root of `gradient_scale` of the model.
    """

    def __init__(self, model: LatentVariableModel, like: Parameters) -> None:
        self.model, self._like = model, model.free(like)
        scale = model.gradient_scale()
        self._unit = {name: math.sqrt(scale.get(name, 1.0)) for name in self._like}
        self._positive = [name for name in self._like if name.endswith(POSITIVE)]  # each has a free form of its own

    def vector(self, parameters: Parameters) -> Tensor:
        free = self.model.free(parameters)
        free |= {name: parameters[name].cpu().double().log() for name in self._positive}
        return torch.cat([(free[name].cpu().double() / unit).flatten() for name, unit in self._unit.items()])

    def parameters(self, vector: Tensor, image: Parameters, same: Tensor) -> Parameters:
        """The parameters of a vector. Variances are as in `image` where the vector is the `same`, (p,) bool, as that
        of the image: on the way there and back, they would be taken off their floors."""
        parts, kept = self._split(vector), self._split(same)
        positive = {
            name: torch.where(kept[name].to(image[name].device), image[name], parts[name].exp().to(image[name]))
            for name in self._positive
        }
        bounded = self.model.free(image | positive)
        free = {name: bounded[name] if name in positive else parts[name].to(bounded[name]) for name in parts}
        found = self.model.constrain(free)
        for name in positive:
            found[name] = torch.where(kept[name].to(image[name].device), image[name], found[name])
        return found

    def _split(self, vector: Tensor) -> dict[str, Tensor]:
        parts = vector.split([value.numel() for value in self._like.values()])
        return {
            name: (part * self._unit[name] if part.dtype != torch.bool else part).view(value.shape)
            for (name, value), part in zip(self._like.items(), parts, strict=True)
        }


class Accelerated(MStep):
    """An M-step theta <- F(theta) whose E-steps are taken at extrapolated points, where these are no worse.

    A step is one E-step, and its likelihood is that of the point; where there is a prior, the log prior is added. If
    that has fallen below the highest at the points accepted so far, the point is refused: the next E-step is taken at
    `learned`, the image of the last accepted point, which no step of EM makes worse than that point was. `learned` is
    what the method shows for its parameters: extrapolated points are seen by no one else until their likelihood is
    known. So the free energy is that of the step that led to `learned`, also where the last point was refused.
    """

    has_free_energy = True

    def __init__(self, inner: FromStatistics, scheme: Scheme) -> None:
        self.inner, self.scheme, self.model = inner, scheme, inner.model
        self.coordinates = Coordinates(self.model, inner.parameters)
        self.learned, self.measured = inner.parameters, inner.measured
        self.highest: float | None = None  # log-likelihood, and log prior, of the points accepted so far
        self.extrapolated = False  # whether the next E-step is at another point than `learned`
        self.refusals = 0
        self._log_likelihood = 0.0  # of the data points that were added

    @property
    def parameters(self) -> Parameters:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Where the next E-step is taken."""
        return self.inner.parameters

    def add(self, block: int, chunk: Chunk, posterior: Posterior, pairing: Tensor | None) -> None:
        with torch.no_grad():
            found = self.model.log_likelihood(self.parameters, chunk, posterior)
        self._log_likelihood += float(found.cpu().double().sum())
        self.inner.add(block, chunk, posterior, pairing)

    @torch.no_grad()
    def apply(self, observed: float) -> float | None:
        found, self._log_likelihood = self._log_likelihood + self.model.prior_nats(self.parameters), 0.0
        if self.highest is not None:
            eps = torch.finfo(self.model.observations.dtype).eps
            if self.extrapolated and not found >= self.highest - ROUNDING * eps * (abs(found) + observed):
                self.refuse()
                return None
            found = max(found, self.highest)
        before = self.parameters
        self.inner.measured = self.measured
        self.inner.apply(observed)
        self.free_energy = self.inner.free_energy
        self.learned, self.highest, self.extrapolated = self.parameters, found, False
        point, image = self.coordinates.vector(before), self.coordinates.vector(self.learned)
        ahead = self.scheme.ahead(point, image)
        if ahead is None:
            return None
        ahead = torch.where(image == point, image, ahead)  # what a step leaves as it is, at a bound, stays
        proposal = self.coordinates.parameters(ahead, self.learned, ahead == image)
        if all(bool(value.isfinite().all()) for value in proposal.values()):
            self.inner.move(proposal)
            self.extrapolated = True
        else:
            self.scheme.refused()
        return None

    def refuse(self) -> None:
        """Go back from an extrapolated point."""
        self.inner.move(self.learned)
        self.scheme.refused()
        self.extrapolated, self._log_likelihood, self.refusals = False, 0.0, self.refusals + 1

    def move(self, parameters: Parameters) -> None:
        """Go on from these parameters; what was known of the way to others tells nothing of them."""
        self.inner.move(parameters)
        self.scheme.reset()
        self.free_energy = None
        self.learned, self.highest, self.extrapolated, self._log_likelihood = parameters, None, False, 0.0

    def state(self) -> dict[str, Any]:
        return {
            "parameters": self.learned,
            "inner": self.inner.state(),
            "scheme": self.scheme.state(),
            "highest": self.highest,
            "extrapolated": self.extrapolated,
            "refusals": self.refusals,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        kinds = {"highest": float | None, "extrapolated": bool, "refusals": int, "inner": dict, "scheme": dict}
        require(state, {"parameters": self.learned} | kinds, "update")
        inside = state["inner"].get("parameters", {})  # of a checkpoint, which is read on the CPU
        placed = {name: value.to(self.learned[name]) for name, value in inside.items() if name in self.learned}
        self.inner.load_state(state["inner"] | {"parameters": inside | placed})
        self.scheme.load_state(state["scheme"], self.coordinates.vector(self.learned))
        self.learned, self.highest = {**state["parameters"]}, state["highest"]
        self.extrapolated, self.refusals = state["extrapolated"], state["refusals"]


class AcceleratedMethod(Method):
    """A method whose update is accelerated."""

    update: Accelerated  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, method: Method, scheme: str) -> None:
        assert isinstance(method.update, FromStatistics)
        super().__init__(method.model, method.expectation, method.update, method.blocks_per_step, method.seed)
        self.update = Accelerated(method.update, SCHEMES[scheme]())

    @property
    def parameters(self) -> Parameters:
        return {name: value.detach() for name, value in self.update.learned.items()}

    def step(self) -> StepInfo:
        """Take one step; where the E-step at an extrapolated point fails, it only goes back from there."""
        steps = self.steps
        try:
            return super().step()
        except (LinAlgError, np.linalg.LinAlgError):
            if not self.update.extrapolated:
                raise
            self.update.refuse()
            self.steps = steps + 1
            return StepInfo(None, SolverRecord())
