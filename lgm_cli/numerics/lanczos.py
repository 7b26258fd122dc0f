"""Quadratic forms of the logarithm of a matrix, by its products with vectors."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

LANCZOS_STEPS = 200  # at most


def lanczos_log(matvec: Callable[[Tensor], Tensor], probes: Tensor) -> Tensor:
    """u^T log(A) u for vectors u (..., D), with A symmetric positive definite, (...): Gauss quadrature by Lanczos'
    recursion, until another tenth of the steps changes the mean over the vectors by less than a tenth of its standard
    error over them; float64."""
    norm = torch.linalg.vector_norm(probes.cpu().double(), dim=-1)
    before, current = torch.zeros_like(probes), probes / norm.to(probes)[..., None]
    diagonals, off_diagonals = [], []
    off = torch.zeros_like(norm)
    value, due = None, 10
    for step in range(1, LANCZOS_STEPS + 1):
        image = matvec(current) - off.to(probes)[..., None] * before
        diagonal = (image * current).sum(-1)
        image = image - diagonal[..., None] * current
        off = torch.linalg.vector_norm(image, dim=-1).cpu().double()
        diagonals.append(diagonal.cpu().double())
        if step >= due or step == LANCZOS_STEPS or bool((off < 1e-6).all()):
            found = _quadrature(diagonals, off_diagonals, norm)
            count = math.sqrt(max(1, found.shape[-1] - 1))
            enough = 0.1 * found.std(-1).max() / count + 1e-12 * found.abs().max() if found.shape[-1] > 1 else 0.0
            if value is not None and float((found - value).mean(-1).abs().max()) <= float(enough):
                return found
            value, due = found, step + max(2, step // 10)
            if bool((off < 1e-6).all()):
                return found
        off_diagonals.append(off)
        before, current = current, image / off.clamp_min(1e-30).to(probes)[..., None]
    assert value is not None
    return value


def _quadrature(diagonals: list[Tensor], off_diagonals: list[Tensor], norm: Tensor) -> Tensor:
    tridiagonal = torch.diag_embed(torch.stack(diagonals, -1))
    if off_diagonals:
        beside = torch.diag_embed(torch.stack(off_diagonals, -1), offset=1)
        tridiagonal = tridiagonal + beside + beside.mT
    values, vectors = torch.linalg.eigh(tridiagonal)
    weights = vectors[..., 0, :].square()
    return norm.square() * (weights * values.clamp_min(1e-300).log()).sum(-1)
