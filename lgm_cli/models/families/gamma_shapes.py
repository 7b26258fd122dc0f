"""Shapes of gamma distributions: where their likelihood is highest, and draws."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

SMALLEST = 1e-3  # of shapes
NEWTON = 50  # steps at most


def standard_gamma(shapes: Tensor, generator: Generator) -> Tensor:
    """Draws of gamma variables of these shapes and scale one. (torch.distributions takes no generator.)"""
    return torch._standard_gamma(shapes, generator=generator)  # pyright: ignore[reportPrivateImportUsage]


@torch.no_grad()
def shapes_of(gap: Tensor) -> Tensor:
    """Where a log a - log G(a) - a gap is highest, gap = E[z - log z]: there log a - digamma(a) = gap - 1, float64.

    z is a gamma variable whose mean is held at one. Newton's steps in log a, from the start of Minka, Estimating a
    gamma distribution (2002).
    """
    right = (gap.double() - 1).clamp(1e-12, 1e6)
    log_a = ((3 - right + ((right - 3).square() + 24 * right).sqrt()) / (12 * right)).log()
    for _ in range(NEWTON):
        a = log_a.exp()
        slope = 1 - a * torch.polygamma(1, a)
        step = (log_a - torch.digamma(a) - right) / torch.where(slope < 0, slope, -1e-12)
        log_a = log_a - step.clamp(-2, 2)
        if float(step.abs().max()) < 1e-12:
            break
    return log_a.exp().clamp_min(SMALLEST)
