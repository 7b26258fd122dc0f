"""l1 reconstruction: the minimum of 1/2 |Phi w - y|^2 + weight |w|_1, or of that of groups, by FISTA."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lgm_cli.operators.base import LinearOperator


@dataclass(frozen=True)
class Solution:
    """Coefficients, and how they were found."""

    coefficients: Tensor  # (D,)
    iterations: int
    violation: float  # of the optimality conditions, in units of the weight
    converged: bool


def fista(
    operator: LinearOperator,
    measured: Tensor,
    weight: float,
    tolerance: float,
    most: int,
    start: Tensor | None = None,
    groups: Tensor | None = None,
) -> Solution:
    """Beck & Teboulle, SIAM J. Imaging Sciences 2 (2009) 183-202, with steps of 1 (|Phi| <= 1), and the momentum taken
    off wherever it points uphill (O'Donoghue & Candes, Foundations of Computational Mathematics 15 (2015) 715-732).

    It ends when the conditions of a minimum hold to `tolerance` weights at every coefficient, or after `most` steps:
    with the gradient g = Phi^T (Phi w - y), |g| <= weight where w is 0, else g = -weight sign(w). With `groups`, (D,),
    the group of each coefficient, lengths of groups times the roots of their sizes take the place of absolute values.
    """
    offset = operator.transpose(measured)
    w = torch.zeros_like(offset) if start is None else start
    ahead, momentum, violation = w, 1.0, math.inf
    for step in range(1, most + 1):
        shrunk = soft(ahead - operator.normal(ahead) + offset, weight, groups)
        if torch.dot(ahead - shrunk, shrunk - w) > 0:
            ahead, momentum = shrunk, 1.0
        else:
            following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            ahead, momentum = shrunk + (momentum - 1) / following * (shrunk - w), following
        w = shrunk
        if step % 10 == 0 or step == most:
            violation = unmet(w, operator.normal(w) - offset, weight, groups)
            if violation <= tolerance:
                return Solution(w, step, violation, True)
    return Solution(w, most, violation, False)


def soft(x: Tensor, weight: float, groups: Tensor | None = None) -> Tensor:
    """sign(x) max(|x| - weight, 0)."""
    if groups is None:
        return x - x.clamp(-weight, weight)
    length, size = _lengths(x, groups), _lengths(torch.ones_like(x), groups)
    return x * (1 - weight * size / length.clamp_min(1e-300)).clamp_min(0)


def unmet(w: Tensor, gradient: Tensor, weight: float, groups: Tensor | None = None) -> float:
    """By how much the conditions of a minimum are violated at most, in units of the weight."""
    groups = torch.arange(len(w)) if groups is None else groups
    length, bound = _lengths(w, groups), weight * _lengths(torch.ones_like(w), groups)
    inactive = (_lengths(gradient, groups) - bound).clamp_min(0)
    active = (gradient + bound * w / length.clamp_min(1e-300)).abs()
    return float(torch.where(length == 0, inactive, active).max()) / weight


def _lengths(x: Tensor, groups: Tensor) -> Tensor:
    """Of each coefficient's group."""
    return torch.zeros(int(groups.max()) + 1, dtype=x.dtype).index_add(0, groups, x.square()).sqrt()[groups]
