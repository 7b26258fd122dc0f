"""Small systems, written out element by element, against LAPACK and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lgm_cli.numerics import small_systems
from lgm_cli.numerics.small_systems import inverse_and_log_det, packed_products, pairs, product, unpacked


def matrices(dim: int, number: int = 6) -> Tensor:
    """Symmetric positive definite, condition numbers from 1 to 1e6."""
    random = np.random.default_rng(dim)
    axes = np.linalg.qr(random.normal(size=(number, dim, dim)))[0]
    sizes = np.stack([np.geomspace(1, condition, dim) for condition in np.geomspace(1, 1e6, number)])
    return torch.as_tensor(axes * sizes[:, None, :] @ axes.swapaxes(1, 2))


def packed(matrix: Tensor) -> Tensor:
    return torch.stack([matrix[:, i, j] for i, j in pairs(matrix.shape[1])])


@pytest.mark.parametrize("written_out", [True, False])
@pytest.mark.parametrize("dim", [1, 2, 3, 7])
def test_inverses_determinants_and_products(dim: int, written_out: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_systems, "LARGEST_WRITTEN_OUT", dim if written_out else 0)
    matrix = matrices(dim)
    inverse, log_det = inverse_and_log_det(packed(matrix), dim)
    expected = np.linalg.inv(matrix.numpy())
    found = unpacked(inverse, dim).numpy()
    scale = np.linalg.norm(expected, axis=(1, 2), keepdims=True)
    assert np.all(np.abs(found - expected) <= 1e-9 * scale)  # eps times the condition number
    np.testing.assert_allclose(log_det.numpy(), np.linalg.slogdet(matrix.numpy())[1], rtol=1e-9, atol=1e-12)
    x = torch.as_tensor(np.random.default_rng(1).normal(size=(dim, len(matrix))))
    torch.testing.assert_close(
        product(packed(matrix), x), (matrix @ x.mT[:, :, None])[..., 0].mT, rtol=1e-12, atol=1e-9
    )


def test_what_is_written_out_is_differentiable() -> None:
    inputs = packed(matrices(4, 2)).requires_grad_()
    torch.autograd.gradcheck(lambda a: inverse_and_log_det(a, 4), inputs, atol=1e-6)


def test_products_of_rows_are_packed_alike() -> None:
    rows = torch.as_tensor(np.random.default_rng(0).normal(size=(5, 4)))
    torch.testing.assert_close(unpacked(packed_products(rows).mT, 4), rows[:, :, None] * rows[:, None, :])
