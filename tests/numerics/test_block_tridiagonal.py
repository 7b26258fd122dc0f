"""Odd-even elimination beside the dense inverse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lgm_cli.numerics.block_tridiagonal import DENSE, eliminate


def matrix(diagonal: Tensor, below: Tensor) -> Tensor:
    n, dim = diagonal.shape[:2]
    rows = []
    for t in range(n):
        row = [torch.zeros(dim, dim, dtype=diagonal.dtype)] * n
        row[t] = diagonal[t]
        if t:
            row[t - 1] = below[t - 1]
        if t + 1 < n:
            row[t + 1] = below[t].mT
        rows.append(torch.cat(row, 1))
    return torch.cat(rows)


@pytest.mark.parametrize(
    ("n", "dim"), [(1, 3), (2, 3), (7, 2), (DENSE // 3, 3), (DENSE // 3 + 1, 3), (90, 3), (91, 3), (3, 70)]
)
def test_means_blocks_of_the_inverse_and_the_determinant_are_those_of_the_whole_matrix(n: int, dim: int) -> None:
    """To 1e-12, with derivatives, on both sides of the size at which the matrix is taken as a whole."""
    random = np.random.default_rng(n)
    roots = random.normal(size=(n, dim, dim))
    diagonal = torch.as_tensor(4 * np.eye(dim) + roots @ roots.transpose(0, 2, 1) / dim).requires_grad_()
    below = torch.as_tensor(random.normal(size=(n - 1, dim, dim)) / dim).requires_grad_()
    right = torch.as_tensor(random.normal(size=(n, dim))).requires_grad_()
    whole = matrix(diagonal, below)
    whole = (whole + whole.mT) / 2
    inverse = torch.linalg.inv(whole).view(n, dim, n, dim)
    place = torch.arange(n)
    expected = (
        torch.linalg.solve(whole, right.reshape(-1)).view(n, dim),
        inverse[place, :, place],
        inverse[place[1:], :, place[:-1]],
        torch.logdet(whole),
    )
    result = eliminate(diagonal, below, right)
    found = (result.mean, result.covariance, result.next_covariance, result.log_determinant)
    weights = [torch.as_tensor(random.normal(size=tuple(value.shape))) for value in expected]
    derivatives = []
    for values in (expected, found):
        mean, own, after, log_determinant = values
        together = (mean, (own + own.mT) / 2, after, log_determinant)
        total = torch.stack([(w * v).sum() for w, v in zip(weights, together, strict=True)]).sum()
        of_diagonal, *others = torch.autograd.grad(total, (diagonal, below, right), materialize_grads=True)
        derivatives.append(((of_diagonal + of_diagonal.mT) / 2, *others))
    for one, other in zip((*expected, *derivatives[0]), (*found, *derivatives[1]), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)
