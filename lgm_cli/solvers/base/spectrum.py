"""Extreme eigenvalues of a batch of symmetric positive definite operators, by Lanczos iteration."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lgm_cli.randomness import generator

LANCZOS_STEPS = 16


@torch.no_grad()
def extreme_eigenvalues(
    matvec: Callable[[Tensor], Tensor], like: Tensor, steps: int = LANCZOS_STEPS
) -> tuple[Tensor, Tensor, int]:
    """Estimates (lambda_min, lambda_max), each (N, 1, 1), and the number of products spent.

    Lanczos with full reorthogonalisation from one random vector per operator gives a tridiagonal T_k whose
    extreme eigenvalues lie inside the spectrum; the residual beta_k |s_k| of the largest Ritz pair is added to
    it (Zhou & Li, Linear Algebra Appl. 435 (2011) 480-493), so that lambda_max is rarely below the true one.
    "Rarely" is not "never", and lambda_min comes out too large where it is not well separated: the solvers that
    rely on them correct both as they go (see `refine`).

    like: (N, R, D), for sizes, dtype and device.
    """
    n, _, dim = like.shape
    steps = min(steps, dim)
    start = torch.randn(
        dim, generator=generator(0, "lanczos", device=like.device), device=like.device, dtype=like.dtype
    )
    q = (start / torch.linalg.vector_norm(start)).expand(n, 1, dim)
    basis, alphas, betas = [q], [], []
    for _ in range(steps):
        w = matvec(basis[-1])
        alphas.append((w * basis[-1]).sum(-1))
        known = torch.cat(basis, dim=1)  # (N, j, D)
        for _ in range(2):  # twice is enough (Parlett)
            w = w - (w @ known.mT) @ known
        beta = torch.linalg.vector_norm(w, dim=-1)
        betas.append(beta)
        basis.append(w / torch.where(beta > 0, beta, 1.0)[..., None])
    alpha, beta = torch.cat(alphas, dim=1), torch.cat(betas, dim=1)  # (N, k) each
    # A breakdown (beta = 0 up to rounding) means that an invariant subspace was found: what comes after is noise.
    lost = torch.cummax(
        (beta[:, :-1] <= 1e3 * torch.finfo(alpha.dtype).eps * alpha[:, :1]).to(alpha.dtype), dim=1
    ).values
    kept = torch.cat([torch.ones_like(alpha[:, :1]), 1 - lost], dim=1)
    off = beta[:, :-1] * (1 - lost)
    diagonal = torch.where(kept > 0, alpha, alpha[:, :1])
    tridiagonal = torch.diag_embed(diagonal) + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
    values, vectors = torch.linalg.eigh(tridiagonal)
    residual = beta[:, -1] * vectors[:, -1, -1].abs() * kept[:, -1]
    largest = values[:, -1] + residual
    smallest = torch.maximum(values[:, 0], torch.finfo(largest.dtype).eps * largest)  # rounding may take it below zero
    return smallest[:, None, None], largest[:, None, None], n * steps


def refine(smallest: Tensor, largest: Tensor, image: Tensor, step: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Widen [lambda_min, lambda_max], (N, R, 1) each, by what a step d proves: lambda_min <= d^T A d / d^T d and
    |A d| / |d| <= lambda_max, the latter with a margin of 5%.

    A step that is too long grows along the largest eigenvectors, where the second ratio tends to lambda_max: the
    mistake corrects itself. What is left of an error when all else has decayed lies along the smallest
    eigenvectors, where the first ratio tends to lambda_min. Both come at no extra product.

    image: A d, step: d, (N, R, D). scale: |b|, (N, R, 1). Differences at the level of rounding say nothing about
    A: a ratio counts only while |A d| is well above it.
    """
    step, image = step.detach(), image.detach()
    length, stretched = (torch.linalg.vector_norm(x, dim=-1, keepdim=True) for x in (step, image))
    counts = (stretched > math.sqrt(torch.finfo(step.dtype).eps) * scale) & (length > 0)
    direction = step / torch.where(counts, length, 1.0)
    stretch = stretched / torch.where(counts, length, 1.0)
    quotient = (direction * image).sum(-1, keepdim=True) / torch.where(counts, length, 1.0)
    return (
        torch.where(counts & (quotient < smallest), quotient, smallest),
        torch.where(counts & (stretch > largest), 1.05 * stretch, largest),
    )
