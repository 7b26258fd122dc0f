"""Descent by limited-memory BFGS or along the gradient, with steps that are proved to descend."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SUFFICIENT = 1e-4  # share of the descent that the slope promises, which a step has to bring (Armijo)
HALVINGS = 30  # of a step, before the search is given up
PAIRS = 10  # differences that the inverse Hessian is made of


@dataclass(frozen=True)
class Descent:
    """Where a descent ended: the place, its value, the gradient there, and how many steps were accepted."""

    place: Tensor
    value: float
    gradient: Tensor
    steps: int


def descend(
    function: Callable[[Tensor], tuple[float, Tensor]], start: Tensor, steps: int, scale: float = 1.0,
    curvature: bool = True,
) -> Descent:  # fmt: skip
    """Take a number of steps, each of which lowers the function.

    x <- x + a d,  a halved until  f(x + a d) <= f(x) + 1e-4 a g^T d;  where 30 halvings do not do, x stays.
    d = -H g, with H the inverse Hessian of limited-memory BFGS (Nocedal, Math. Comp. 35 (1980) 773-782), or H = scale
    and a at first twice the last one.

    function: value and gradient (p,) at a place (p,); a value that is not finite counts as infinite. scale: of the
    first step, which is -scale g. curvature: whether to use limited-memory BFGS.
    """
    place, (value, gradient) = start, function(start)
    pairs: list[tuple[Tensor, Tensor]] = []
    length, taken = 1.0, 0
    while taken < steps and math.isfinite(value):
        direction = -_inverse_times(pairs, gradient, scale)
        slope = float(gradient @ direction)
        if not slope < 0:  # of the rounded pairs, or at a stationary point
            if not pairs:
                break
            pairs = []
            continue
        found = _search(function, place, value, direction, slope, length)
        if found is None:
            if not pairs:
                break
            pairs = []  # what they say of the curvature no longer holds
            continue
        length, new, new_value, new_gradient = found
        step, change = new - place, new_gradient - gradient
        place, value, gradient, taken = new, new_value, new_gradient, taken + 1
        if curvature:
            length = 1.0
            if float(step @ change) > 1e-10 * float(step.norm() * change.norm()):
                pairs = [*pairs[1 - PAIRS :], (step, change)]
        else:
            length *= 2
    return Descent(place, value, gradient, taken)


def _search(
    function: Callable[[Tensor], tuple[float, Tensor]], place: Tensor, value: float, direction: Tensor, slope: float,
    length: float,
) -> tuple[float, Tensor, float, Tensor] | None:  # fmt: skip
    """Length, place, value and gradient of the first step that descends enough; None where none does."""
    least = torch.finfo(place.dtype).eps * abs(value)  # what rounding hides
    for _ in range(HALVINGS + 1):
        if -length * slope <= least:
            return None
        new = place + length * direction
        new_value, gradient = function(new)
        enough = new_value <= value + SUFFICIENT * length * slope
        if enough and new_value < value and bool(gradient.isfinite().all()):
            return length, new, new_value, gradient
        length /= 2
    return None


def _inverse_times(pairs: list[tuple[Tensor, Tensor]], gradient: Tensor, scale: float) -> Tensor:
    """H g by the two-loop recursion; H begins as s^T y / y^T y of the last pair, or as `scale`."""
    result, weights = gradient, []
    for step, change in reversed(pairs):
        weight = (step @ result) / (step @ change)
        weights.append(weight)
        result = result - weight * change
    if pairs:
        step, change = pairs[-1]
        result = result * ((step @ change) / (change @ change))
    else:
        result = scale * result
    for (step, change), weight in zip(pairs, reversed(weights), strict=True):
        result = result + (weight - (change @ result) / (step @ change)) * step
    return result


def flattened(tensors: dict[str, Tensor]) -> Tensor:
    """All entries in one vector, (p,)."""
    return torch.cat([value.reshape(-1) for value in tensors.values()])


def unflattened(vector: Tensor, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of these names and shapes from the entries of a vector; inverse of `flattened`."""
    parts = vector.split([value.numel() for value in like.values()])
    return {name: part.view(value.shape) for part, (name, value) in zip(parts, like.items(), strict=True)}
