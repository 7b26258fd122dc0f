"""Products with banded matrices beside dense ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lgm_cli.numerics.band import BandProduct, multiply


@pytest.mark.parametrize(("length", "order", "block"), [(23, 4, 5), (20, 3, 4), (7, 6, 16), (9, 0, 4), (40, 9, 16)])
def test_a_product_by_blocks_is_the_dense_one(length: int, order: int, block: int) -> None:
    """And the one diagonal by diagonal; what rows hold past the edges of the matrix counts for nothing."""
    random = np.random.default_rng(length)
    rows = torch.as_tensor(random.normal(size=(2 * order + 1, length)))
    x = torch.as_tensor(random.normal(size=(1, 3, length)))
    matrix = torch.zeros(length, length, dtype=torch.float64)
    for t in range(length):
        for s in range(max(0, t - order), min(length, t + order + 1)):
            matrix[t, s] = rows[s - t + order, t]
    found = BandProduct(rows, block)(x)
    torch.testing.assert_close(found, x @ matrix.mT, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(found, multiply(rows, x, -order), rtol=1e-13, atol=1e-13)


def test_its_derivatives_are_those_of_differences() -> None:
    random = np.random.default_rng(0)
    rows, x = (torch.as_tensor(random.normal(size=size)).requires_grad_() for size in ((5, 11), (2, 11)))
    assert torch.autograd.gradcheck(lambda rows, x: BandProduct(rows, 4)(x), (rows, x))
