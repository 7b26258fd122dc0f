"""l1 reconstruction: the minimum of 1/2 |Phi w - y|^2 + weight |w|_1, by FISTA."""

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
    operator: LinearOperator, measured: Tensor, weight: float, tolerance: float, most: int, start: Tensor | None = None
) -> Solution:
    """Beck & Teboulle, SIAM J. Imaging Sciences 2 (2009) 183-202, with steps of 1 (|Phi| <= 1), and the momentum taken
    off wherever it points uphill (O'Donoghue & Candes, Foundations of Computational Mathematics 15 (2015) 715-732).

    It ends when the conditions of a minimum hold to `tolerance` weights at every coefficient, or after `most` steps:
    with the gradient g = Phi^T (Phi w - y), |g| <= weight where w is 0, else g = -weight sign(w).
    """
    offset = operator.transpose(measured)
    w = torch.zeros_like(offset) if start is None else start
    ahead, momentum, violation = w, 1.0, math.inf
    for step in range(1, most + 1):
        shrunk = soft(ahead - operator.normal(ahead) + offset, weight)
        if torch.dot(ahead - shrunk, shrunk - w) > 0:
            ahead, momentum = shrunk, 1.0
        else:
            following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            ahead, momentum = shrunk + (momentum - 1) / following * (shrunk - w), following
        w = shrunk
        if step % 10 == 0 or step == most:
            violation = unmet(w, operator.normal(w) - offset, weight)
            if violation <= tolerance:
                return Solution(w, step, violation, True)
    return Solution(w, most, violation, False)


def soft(x: Tensor, weight: float) -> Tensor:
    """sign(x) max(|x| - weight, 0)."""
    return x - x.clamp(-weight, weight)


def unmet(w: Tensor, gradient: Tensor, weight: float) -> float:
    """By how much the conditions of a minimum are violated at most, in units of the weight."""
    inactive = (gradient.abs() - weight).clamp_min(0)
    return float(torch.where(w == 0, inactive, (gradient + weight * w.sign()).abs()).max()) / weight
