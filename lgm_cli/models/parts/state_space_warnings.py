"""What is said of states that grow or follow every value."""

from __future__ import annotations

import torch
from torch import Tensor


def growing_states(transition: Tensor) -> list[str]:
    """A warning where the chain of the states is not stable."""
    radius = float(torch.linalg.eigvals(transition.cpu().double()).abs().max())
    if radius <= 1:
        return []
    return [
        f"the transition's spectral radius is {radius:.4f}: the states grow, and so do forecasts and their standard "
        "deviations, the further ahead the more"
    ]


def at_the_floor(names: list[str], floor: float, meaning: str) -> list[str]:
    """A warning of the channels, if any, whose noise variances ended at their floor, and what that means."""
    if not names:
        return []
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return [
        f"the noise variance of {shown} ended at its floor, {floor:g} of what one step leaves unexplained, or just "
        f"above: {meaning}"
    ]
