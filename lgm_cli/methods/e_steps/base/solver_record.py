"""What the iterative solver did in a step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class SolverRecord:
    """What the iterative solver did in one step, over all systems."""

    systems: int = 0
    iterations: float = 0.0
    residual: float = 0.0
    products: int = 0

    @property
    def mean_iterations(self) -> float | None:
        return self.iterations / self.systems if self.systems else None
