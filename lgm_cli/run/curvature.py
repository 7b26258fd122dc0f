"""A look around parameters at which learning has slowed down: is it a maximum, a saddle, or a long slope?"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.linalg import LinAlgError  # pyright: ignore[reportAttributeAccessIssue]

from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.m_steps.gradient import free_gradients
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.randomness import generator

DIRECTIONS = 12  # of the Krylov space that is looked into
FLAT = 1e-3  # curvatures below this share of the largest count as flat: a step along them is bounded
DOUBLINGS = 8  # of a step that still climbs
SHRINKINGS = 3  # to a quarter, of one that does not


class Landscape:
    """The average log-likelihood per observed entry, with the log prior, and its gradient, by exact posteriors and
    Fisher's identity, as functions of one vector: the model's free parameters, each in units in which its Fisher
    information is about that of the others (`LatentVariableModel.gradient_scale`)."""

    def __init__(self, model: LatentVariableModel, parameters: Parameters) -> None:
        self.model, self._expectation = model, Exact(model)
        self._like = model.free(parameters)
        scale = model.gradient_scale()
        self._unit = {name: math.sqrt(scale.get(name, 1.0)) for name in self._like}
        self.start = self._vector(self._like)

    def _vector(self, free: Parameters) -> Tensor:
        """(p,), float64, on the CPU."""
        return torch.cat([(free[name].detach().cpu().double() / unit).flatten() for name, unit in self._unit.items()])

    def _free(self, vector: Tensor) -> Parameters:
        parts = vector.split([value.numel() for value in self._like.values()])
        return {
            name: (part * self._unit[name]).view(value.shape).to(value)
            for (name, value), part in zip(self._like.items(), parts, strict=True)
        }

    @torch.no_grad()
    def parameters(self, vector: Tensor) -> Parameters:
        return self.model.constrain(self._free(vector))

    def value(self, vector: Tensor) -> float:
        """Nats per entry; minus infinity where there is none."""
        try:
            found = self._sum(self.parameters(vector), None)
        except (LinAlgError, np.linalg.LinAlgError):
            return -math.inf
        return found if math.isfinite(found) else -math.inf

    def gradient(self, vector: Tensor) -> Tensor:
        """(p,)."""
        free = {name: value.requires_grad_() for name, value in self._free(vector).items()}
        constrained = self.model.constrain(free)
        leaves = {name: value.detach().requires_grad_() for name, value in constrained.items()}
        self._sum({name: value.detach() for name, value in leaves.items()}, leaves)
        free_gradients(constrained, leaves)
        observed = -self.model.observations.observed
        grads = (torch.zeros_like(value) if value.grad is None else value.grad for value in free.values())
        pairs = zip(grads, self._unit.values(), strict=True)
        return torch.cat([(grad.cpu().double() * (unit / observed)).flatten() for grad, unit in pairs])

    def _sum(self, parameters: Parameters, leaves: Parameters | None) -> float:
        """The log-likelihood and the log prior; with leaves, the gradient of the complete loss in them instead."""
        total, observations = 0.0, self.model.observations
        for number in range(len(observations.blocks)):
            record, chunks = SolverRecord(), self._expectation.layout(number)
            for chunk, posterior, _ in self._expectation.posteriors(parameters, number, chunks, 0, record):
                if leaves is not None:
                    self.model.complete_loss(leaves, chunk, posterior).backward()
                else:
                    total += float(self.model.log_likelihood(parameters, chunk, posterior).cpu().double().sum())
        if (prior := self.model.log_prior(leaves or parameters)) is not None:
            total += float(prior.detach())
            if leaves is not None:
                (-prior).backward()
        return total / observations.observed


def higher_nearby(
    model: LatentVariableModel, parameters: Parameters, gain: float, seed: int, step: int
) -> Parameters | None:
    """As `_higher`; None, too, where a matrix on the way cannot be factorised."""
    try:
        return _higher(model, parameters, gain, seed, step)
    except (LinAlgError, np.linalg.LinAlgError):
        return None


def _higher(model: LatentVariableModel, parameters: Parameters, gain: float, seed: int, step: int) -> Parameters | None:
    """Parameters whose log-likelihood per entry is more than `gain` above that of these; None where none are found.

    The Hessian H is looked at in the Krylov space of a few of its products with the gradient g, to which random numbers
    are added (Lanczos, J. Res. NBS 45 (1950) 255-282; a product is a difference of two gradients). With the
    eigenvalues mu_i and vectors v_i found there, two directions are searched by doubling or shrinking a step:

        sum_i v_i (v_i^T g) / |mu_i|    Newton's, away from a saddle too (Dauphin et al., NIPS 2014): how far to go
        +- v_1                          that of the largest mu_1, if it is positive: a saddle has it, a maximum has not
    """
    landscape = Landscape(model, parameters)
    start, dtype = landscape.start, model.observations.dtype
    size = math.sqrt(len(start))
    first, slope = landscape.value(start), landscape.gradient(start)
    width = torch.finfo(dtype).eps ** 0.4 * size  # between the error of differences and that of rounding
    draw = torch.randn(len(start), dtype=torch.float64, generator=generator(seed, "look around", step))
    basis, products = [_unit(_unit(slope) + _unit(draw))], []
    while len(products) < min(DIRECTIONS, len(start)):
        products.append((landscape.gradient(start + width * basis[-1]) - slope) / width)
        if not bool(products[-1].isfinite().all()):
            return None
        beyond = products[-1]
        for _ in range(2):  # rounding leaves something of the others after one subtraction
            for known in basis:
                beyond = beyond - known * (known @ beyond)
        if float(beyond.norm()) <= 1e-8 * float(products[-1].norm()):
            break
        basis.append(_unit(beyond))
    space = torch.stack(basis[: len(products)])
    projected = space @ torch.stack(products).mT
    curvature, axes = torch.linalg.eigh((projected + projected.mT) / 2)
    axes = axes.mT @ space
    along = axes @ slope
    largest = curvature.abs().max()
    newton = (along / curvature.abs().clamp_min(FLAT * float(largest))) @ axes
    found = _search(landscape, first, newton, 1.0)
    if curvature[-1] > FLAT * largest:
        for sign in (1.0, -1.0):
            found = max(found, _search(landscape, first, sign * axes[-1], 0.03 * size), key=lambda each: each[0])
    return landscape.parameters(found[1]) if found[0] > first + gain else None


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm().clamp_min(1e-300)


def _search(landscape: Landscape, first: float, direction: Tensor, length: float) -> tuple[float, Tensor]:
    """The highest value along a direction, and where: the step is doubled while that climbs; one that does not climb at
    all is shortened."""
    best, shrinkings = (first, landscape.start), 0
    for _ in range(DOUBLINGS):
        vector = landscape.start + length * direction
        value = landscape.value(vector)
        if value > best[0]:
            best, length = (value, vector), 2 * length
        elif best[0] > first or shrinkings == SHRINKINGS:
            break
        else:
            length, shrinkings = length / 4, shrinkings + 1
    return best
