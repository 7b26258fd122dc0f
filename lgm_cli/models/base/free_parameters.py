"""Which parameters of a model are free: what information criteria count, and what has a standard error."""

from __future__ import annotations

import torch
from torch import Tensor

from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters
from lgm_cli.observations.blocks import Observations

NEAR_ZERO = 1e-6  # probabilities up to which a component, a state or a transition is at the edge of its domain


class FreeParameters:
    """The part of a model that says which changes of its parameters are free. A model overrides `constraints` where its
    parameters are bound to each other, or where the likelihood leaves some of them open."""

    observations: Observations
    learns_from: str

    def constraints(self, parameters: Parameters) -> Tensor:
        """Independent functions of the parameters, (c,), that no free change of them alters; differentiable. These are
        sums that are one, entries of a symmetric matrix that are equal, and the convention that chooses the axes of
        latents among all with the same likelihood. None by default: every entry is free."""
        return next(iter(parameters.values())).new_zeros(0)

    def free_parameters(self, parameters: Parameters) -> int:
        """The number of free parameters: all entries less the constraints. A parameter that ended at its bound counts,
        too, as it was free to go elsewhere."""
        with torch.no_grad():
            return sum(value.numel() for value in parameters.values()) - len(self.constraints(parameters))

    def floors(self) -> Parameters:
        """Lower bounds of the variances whose best value may be none, in internal units, by the name of their
        parameter. That of a precision is of its inverse."""
        return {}

    def at_bounds(self, parameters: Parameters) -> dict[str, Tensor]:
        """By the name of a parameter, which of its entries ended at the edge of their domain, or just above, where the
        likelihood has a slope: bool, in the shape of the parameter or one that expands to it."""
        return {
            name: (parameters[name].reciprocal() if "precision" in name else parameters[name]) <= NEAR_FLOOR * floor
            for name, floor in self.floors().items()
        }

    @property
    def sample_size(self) -> int:
        """n of the Bayesian information criterion: the data points with an observed entry; of a regression the observed
        responses; of a series the steps up to the last observed one, those without a value included, as statsmodels
        counts (`nobs` of its state-space models)."""
        observations = self.observations
        if observations.shape[0] > 1 or self.learns_from == "table":
            return sum(int((chunk.weight.sum(1) > 0).sum()) for chunk in observations.chunks)
        (chunk,) = observations.chunks
        rows = observations.table_shape[0]
        seen = chunk.scattered(observations.shape[1])[0].view(rows, -1).sum(1).nonzero()
        return int(seen.max()) + 1 if self.learns_from == "series" else len(seen)


def symmetric(matrices: Tensor) -> Tensor:
    """Constraints of symmetric matrices (.., M, M): differences of entries below the diagonal and above, flattened."""
    row, column = torch.tril_indices(*matrices.shape[-2:], offset=-1, device=matrices.device)
    return (matrices[..., row, column] - matrices[..., column, row]).flatten()


def off_diagonal(matrix: Tensor) -> Tensor:
    """Constraints of axes in which a symmetric matrix (D, D) is diagonal: its entries below the diagonal."""
    row, column = torch.tril_indices(*matrix.shape, offset=-1, device=matrix.device)
    return matrix[row, column]
