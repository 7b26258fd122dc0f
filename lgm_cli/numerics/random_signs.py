"""Random bits and signs, many from each number of a generator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

BITS = 31  # random bits of each number


def random_bits(count: int, draw: Generator) -> Tensor:
    """Integers of at least BITS random low bits each, (count,) int32, on the generator's device."""
    pairs = torch.empty((count + 1) // 2, dtype=torch.int64, device=draw.device).random_(generator=draw)
    return pairs.view(torch.int32)[:count]


def random_signs(size: Sequence[int], dtype: torch.dtype, draw: Generator) -> Tensor:
    """1 or -1, with mean zero and variance one."""
    return 1 - 2 * (random_bits(math.prod(size), draw) & 1).to(dtype).view(*size)


def sign_table(number: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The signs that the low bits of 0 .. 2^number - 1 stand for, (2^number, number)."""
    patterns = torch.arange(1 << number, device=device)[:, None] >> torch.arange(number, device=device)
    return 1 - 2 * (patterns & 1).to(dtype)
