"""What the posteriors of one pass through the data cost: exact ones, and those of an iterative solver."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lgm_cli.models.base.latent_variable_model import LatentVariableModel


@dataclass(frozen=True)
class Operations:
    """Operations, two for each multiplication, of the posteriors of all data points."""

    exact: float
    unrolled: float

    @property
    def exact_is_cheaper(self) -> bool:
        return self.exact < self.unrolled


def operations(model: LatentVariableModel, num_samples: int, iterations: float) -> Operations:
    """Count the operations of exact posteriors, and of means and so many samples by a solver that takes so many
    iterations on average. Beside the iterations there are two products: for right-hand sides and for residuals."""
    exact = unrolled = 0.0
    for chunk in model.observations.chunks:
        n = len(chunk.points)
        mean = np.array([float(chunk.weight.sum()) / n])
        exact += 2 * n * model.exact_operations(mean)[0]
        layout = mean if chunk.index is not None else np.array([float(chunk.weight.shape[1])])
        unrolled += 2 * n * model.product_operations(layout)[0] * (1 + num_samples) * (iterations + 2)
    return Operations(exact, unrolled)
