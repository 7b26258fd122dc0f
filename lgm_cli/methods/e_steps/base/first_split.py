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
ROUNDS, MORE_PASSES = 5, 3  # of the secant method, and passes of each
APART = 1e-3  # free coordinates of the components differ by about this much meanwhile
NEAR = 1e-3  # by which the growth may differ from one


@torch.no_grad()
def first_split(model: LatentVariableModel, alike: Parameters, held: tuple[str, ...], seed: int) -> float:
    """The inverse temperature above which components that are all alike come apart; infinite if they never do.

    Near such a state a step of EM at beta multiplies small differences of the components by a matrix whose largest
    eigenvalue is one at the split. Without gaps it is beta G, and the split is 1 / lambda(G): of means, G is the
    covariance of the data times the inverse of the components' own, which is held (Rose, Proc. IEEE 86 (1998)
    2210-2239). Entries that are missing are latents, too, which no temperature changes: they add a part without beta.
    So the power method finds the growth at beta = 1, then the secant method the beta of growth one.
    Weights are left alone, whose differences grow by beta itself and say nothing.

    alike: parameters whose components are all alike. held: names of those that no step changes.
    """
    center = _step(model, alike, {"weights", *held}, 1.0)
    free = model.free(center)
    draw = generator(seed, "first split")
    moving = [name for name in free if name not in ("weights", *held, *model.in_common)]
    like = {"generator": draw, "dtype": torch.float64}
    differences = {name: _centered(torch.randn(free[name].shape, **like)) for name in moving}

    def growth(beta: float, passes: int) -> float:
        nonlocal differences
        for _ in range(passes):
            if not (size := _norm(differences)) > 0:
                return 0.0
            moved = {name: free[name] + (APART / size * value).to(free[name]) for name, value in differences.items()}
            near = center | {name: value for name, value in model.constrain(free | moved).items() if name in moving}
            after = model.free(_step(model, near, {"weights", *held}, beta))
            differences = {name: _centered((after[name] - free[name]).cpu().double()) for name in moving}
        return _norm(differences) / APART

    before, grown = 1.0, growth(1.0, PASSES)
    if not grown > 1:
        return math.inf
    beta = 1 / grown
    for _ in range(ROUNDS):
        now = growth(beta, MORE_PASSES)
        if abs(now - 1) < NEAR or now == grown:
            break
        before, grown, beta = beta, now, beta + (1 - now) * (beta - before) / (now - grown)
        beta = min(max(beta, before / 10), 1.0)
    return beta


def _norm(differences: Parameters) -> float:
    return math.sqrt(sum(float(value.square().sum()) for value in differences.values()))


def _centered(value: Tensor) -> Tensor:
    """Without the components' average."""
    return value - value.mean(0, keepdim=True)


def _step(model: LatentVariableModel, parameters: Parameters, kept: set[str], beta: float) -> Parameters:
    """A step of EM at beta on the blocks without any of the kept parameters."""
    total: Statistics = {}
    for part in exact_parts(model.observations.chunks, model.dim):
        found = model.statistics(part, model.posterior(parameters, part, beta))
        total = {name: value + total.get(name, 0.0) for name, value in found.items()}
    for block in model.blocks:
        if not set(block) & kept:
            parameters = model.maximise(parameters, model.with_prior(total), block)
    return parameters
