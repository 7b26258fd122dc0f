"""What `auto` means for a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

ACCURATE = {"tolerance": 1e-6, "max_iterations": 1000}  # of a solver, where one data point averages no errors


@dataclass(frozen=True)
class Tuning:
    """What a model says of the values that a method leaves open. None leaves them to the method.

    tuned_dim: latents that a column has loadings of its own for, on which the size of a good step depends.
    observations_per_column: average number of observed entries per column. The more there are, the fewer posterior
        samples each data point needs.
    """

    tuned_dim: float
    observations_per_column: float
    learning_rate: Mapping[str, float] = field(default_factory=dict)  # by optimiser
    betas: tuple[float, float] | None = None  # of Adam
    num_samples: int | None = None  # of each posterior
    signs: bool = False  # perturbations of random signs instead of normal numbers, which have the same covariance
    solver: Mapping[str, float] = field(default_factory=dict)  # its tolerance and max_iterations
    update: str = "gradient"  # of method=unroll; closed_form where that was measured to be better,
    most_latent: float = math.inf  # up to so many dimensions
