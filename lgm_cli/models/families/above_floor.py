"""Families of positive parameters that have a floor."""

from __future__ import annotations

import torch
from torch import Tensor


class AboveFloor:
    """The coordinates of a positive parameter of components, such as rates (K, M). floor: its lower bound, (M,) or (),
    in the units of the values."""

    def __init__(self, floor: Tensor) -> None:
        self.floor = floor

    def free(self, theta: Tensor) -> Tensor:
        """Logarithms of what exceeds the floor."""
        floor = self.floor.to(theta)
        return torch.maximum(theta - floor, 1e-3 * floor).log()

    def constrain(self, free: Tensor) -> Tensor:
        return self.floor.to(free) + free.exp()
