"""The temperature at which components that are all alike first come apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters, Statistics
from lgm_cli.posteriors.costs import exact_parts
from lgm_cli.randomness import generator

PASSES = 10  # of the power method, each of which takes the posteriors of all data points once
APART = 1e-3  # free coordinates of the components differ by about this much meanwhile


@torch.no_grad()
def first_split(model: LatentVariableModel, alike: Parameters, held: tuple[str, ...], seed: int) -> float:
    """The inverse temperature 1 / lambda, above which components that are all alike come apart.

    Near such a state a step of EM at beta multiplies small differences of the components by beta G, with lambda the
    largest eigenvalue of G: of means, G is the covariance of the data times the inverse of the components' own, which
    is held (Rose, Proc. IEEE 86 (1998) 2210-2239). It is found by the power method, from steps of EM at beta = 1.
    Weights are left alone, whose differences grow by beta itself and say nothing.

    alike: parameters whose components are all alike. held: names of those that no step changes.
    """
    center = _step(model, alike, {"weights", *held})
    free = model.free(center)
    draw = generator(seed, "first split")
    moving = [name for name in free if name != "weights" and name not in held]
    like = {"generator": draw, "dtype": torch.float64}
    differences, growth = {name: _centered(torch.randn(free[name].shape, **like)) for name in moving}, 0.0
    for _ in range(PASSES):
        scale = APART / max(_norm(differences), 1e-300)
        moved = {name: free[name] + scale * value.to(free[name]) for name, value in differences.items()}
        near = center | {name: value for name, value in model.constrain(free | moved).items() if name in moving}
        after = model.free(_step(model, near, {"weights", *held}))
        differences = {name: _centered((after[name] - free[name]).cpu().double()) for name in moving}
        growth = _norm(differences) / APART
    return 1 / growth if growth > 0 else math.inf


def _norm(differences: Parameters) -> float:
    return math.sqrt(sum(float(value.square().sum()) for value in differences.values()))


def _centered(value: Tensor) -> Tensor:
    """Without the components' average."""
    return value - value.mean(0, keepdim=True)


def _step(model: LatentVariableModel, parameters: Parameters, kept: set[str]) -> Parameters:
    """A step of EM on the blocks without any of the kept parameters."""
    total: Statistics = {}
    for part in exact_parts(model.observations.chunks, model.dim):
        found = model.statistics(part, model.posterior(parameters, part))
        total = {name: value + total.get(name, 0.0) for name, value in found.items()}
    for block in model.blocks:
        if not set(block) & kept:
            parameters = model.maximise(parameters, model.with_prior(total), block)
    return parameters
