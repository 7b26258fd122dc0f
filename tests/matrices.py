"""Symmetric positive definite matrices with a prescribed spectrum, as the solvers see them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

CONDITION = 50.0


def spectra(dim: int, condition: float = CONDITION) -> dict[str, np.ndarray]:
    """Spectra from 1 to `condition` that are known to please or to trouble one solver or another."""
    half = dim // 2
    return {
        "even": np.linspace(1, condition, dim),
        "geometric": np.geomspace(1, condition, dim),
        "one small": np.r_[1.0, np.linspace(condition / 2, condition, dim - 1)],
        "one large": np.r_[np.linspace(1, 2, dim - 1), condition],
        "prior and data": np.r_[np.ones(half), np.linspace(condition / 2, condition, dim - half)],
    }


def symmetric(spectrum: np.ndarray, count: int = 3, seed: int = 0) -> np.ndarray:
    """`count` matrices Q diag(spectrum) Q^T with random orthogonal Q.  # -> (count, D, D)"""
    dim = len(spectrum)
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(count, dim, dim)))[0]
    return (basis * spectrum) @ basis.transpose(0, 2, 1)


class MatrixPrecision:
    """Matrices A (N, D, D) as a solver's operator, which counts the vectors it is multiplied with."""

    def __init__(self, matrices: Tensor) -> None:
        self.matrices, self.dim, self.products = matrices, matrices.shape[-1], 0

    def matvec(self, x: Tensor) -> Tensor:
        self.products += x.shape[0] * x.shape[1]
        return x @ self.matrices

    def diagonal(self) -> Tensor:
        return self.matrices.diagonal(dim1=-2, dim2=-1)

    def dense(self) -> Tensor:
        return self.matrices


def systems(
    spectrum: np.ndarray, right_sides: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[MatrixPrecision, Tensor, np.ndarray]:
    """(A, b, A^-1 b): three matrices, standard normal right-hand sides, and NumPy's solution, (3, R, D)."""
    matrices = symmetric(spectrum, seed=seed)
    right = np.random.default_rng(seed + 1).normal(size=(len(matrices), right_sides, len(spectrum)))
    solution = np.linalg.solve(matrices, right.transpose(0, 2, 1)).transpose(0, 2, 1)
    return MatrixPrecision(torch.as_tensor(matrices, dtype=dtype)), torch.as_tensor(right, dtype=dtype), solution
