"""What posteriors of signals cost, by the products of a fast operator or by rows of a matrix."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from lgm_cli.models.base.linear_gaussian_model import LinearGaussianModel
from lgm_cli.observations.chunk import Chunk
from lgm_cli.operators.base import LinearOperator
from lgm_cli.operators.entries import Dense
from lgm_cli.posteriors.costs import EXACT_PARTS


class SignalCosts(LinearGaussianModel):
    """The part of sparse Bayesian learning that says what posteriors cost. Its attributes are `SparseBayes`'s."""

    operator: LinearOperator
    _dense: Tensor | None  # Phi as a matrix, once it was asked for

    def exact_operations(self, observed: np.ndarray) -> np.ndarray:
        """Of C in the dual form, its factorisation and inverse; of rows of Phi, those of a matrix."""
        if not self._by_products(float(observed.max())):
            return super().exact_operations(observed)
        return observed**3 + 2 * observed * self._transform

    def _by_products(self, observed: float) -> bool:
        """Whether `posterior` takes the dual form by the products of a fast operator: all data points of a chunk
        observe the same entries."""
        alike = all(self._alike(chunk) for chunk in self.observations.chunks)
        return alike and observed <= self.dim and not isinstance(self.operator, Dense)

    @property
    def _transform(self) -> float:
        """Multiplications of a fast transform of a signal, about."""
        return 5 * self.dim * math.log2(max(self.dim, 2))

    def product_operations(self, observed: np.ndarray) -> np.ndarray:
        if isinstance(self.operator, Dense):
            return super().product_operations(observed)
        return np.full_like(observed, 2 * self._transform)

    def exact_bytes(self, gradient: bool = False) -> float:
        """Of the dual form by the operator's own products, in double precision, seven matrices for all data points;
        otherwise the matrix of Phi, and what is computed of it."""
        observed = self.observations.longest
        if self._by_products(observed):
            before = 2 * (self.observations.shape[0] > EXACT_PARTS)  # factor and inverse of a part before
            return 8 * (7.0 + before) * observed**2
        dense = self.observations.shape[1] * self.dim * (self._dense is None)
        return super().exact_bytes(gradient) + self.observations.dtype.itemsize * dense

    @staticmethod
    def _alike(chunk: Chunk) -> bool:
        """Whether the data points of a chunk observe the same entries."""
        if chunk.index is None:
            return bool((chunk.weight == chunk.weight[0]).all())
        return chunk.index.dim() == 1 or (bool(chunk.weight.all()) and bool((chunk.index == chunk.index[0]).all()))
