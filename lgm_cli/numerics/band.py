"""Products of banded matrices that are stored by their diagonals."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def multiply(columns: Tensor, x: Tensor, first: int) -> Tensor:
    """sum_i columns_i * (x moved by first + i): out[t] = sum_i columns[i, t] x[t + first + i], zero outside.
    # (b, T), (..., T) -> (..., T)"""
    width, length = columns.shape
    around = pad(x, (max(-first, 0), max(first + width - 1, 0)))
    start = max(first, 0)
    out = columns[0] * around[..., start : start + length]
    for i in range(1, width):
        out = torch.addcmul(out, columns[i], around[..., start + i : start + i + length])
    return out


class BandProduct:
    """Products of a matrix with p diagonals on either side of its main one: a matrix product for each block of its
    rows, instead of 2 p + 1 elementwise ones. Differentiable.

    rows: (2 p + 1, T), rows[i, t] = A[t, t + i - p].
    """

    def __init__(self, rows: Tensor, block: int) -> None:
        width, self._length = rows.shape
        self._order, self._block = width // 2, block
        extra = -self._length % block
        parts = pad(rows, (0, extra)).view(width, -1, block).permute(1, 2, 0)  # (J, B, 2 p + 1)
        # Each row begins one place further to the right than the one above: rows one longer than they are read.
        parts = pad(parts, (0, block)).flatten(1)[:, : block * (width + block - 1)]
        self._matrices = parts.view(-1, block, width + block - 1).mT.contiguous()  # (J, B + 2 p, B)

    def __call__(self, x: Tensor) -> Tensor:
        """A x, (.., T)."""
        block, order, count = self._block, self._order, len(self._matrices)
        around = pad(x.reshape(-1, self._length), (order, count * block - self._length + order))
        windows = around.unfold(1, block + 2 * order, block).transpose(0, 1)  # (J, R, B + 2 p)
        found = (windows @ self._matrices).transpose(0, 1).reshape(len(around), -1)
        return found[:, : self._length].reshape(x.shape)


def slanted(band: Tensor) -> Tensor:
    """The columns of a lower band from its rows: out[i, s] = band[i, s + i], zero past the end. (p + 1, T)"""
    return torch.stack([pad(row[i:], (0, i)) for i, row in enumerate(band)])


def squared(band: Tensor) -> Tensor:
    """The band of F^T F for band[i, t] = F[t, t - i]: out[k, t] = (F^T F)[t, t - k]. (p + 1, T)"""
    columns, order, length = slanted(band), len(band) - 1, band.shape[1]
    parts = [pad((columns[: order + 1 - k, k:] * columns[k:, : length - k]).sum(0), (k, 0)) for k in range(order + 1)]
    return torch.stack(parts)
