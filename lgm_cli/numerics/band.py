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


def slanted(band: Tensor) -> Tensor:
    """The columns of a lower band from its rows: out[i, s] = band[i, s + i], zero past the end. (p + 1, T)"""
    return torch.stack([pad(row[i:], (0, i)) for i, row in enumerate(band)])


def squared(band: Tensor) -> Tensor:
    """The band of F^T F for band[i, t] = F[t, t - i]: out[k, t] = (F^T F)[t, t - k]. (p + 1, T)"""
    columns, order, length = slanted(band), len(band) - 1, band.shape[1]
    parts = [pad((columns[: order + 1 - k, k:] * columns[k:, : length - k]).sum(0), (k, 0)) for k in range(order + 1)]
    return torch.stack(parts)
