"""The linear operators of a dictionary, its bands, and which coefficients belong together."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lgm_cli.data.base.table import Dictionary
from lgm_cli.operators.base import LinearOperator, Squares
from lgm_cli.operators.blocks import BlockDiagonal
from lgm_cli.operators.cosine import Cosine, subsampled_cosine
from lgm_cli.operators.entries import Dense, Masked
from lgm_cli.operators.fourier import subsampled_fourier
from lgm_cli.operators.wavelet import Wavelet
from lgm_cli.randomness import generator

FEW_ENTRIES = 1 << 26  # of Phi, up to which column norms without a closed form are exact
PROBES = 256  # behind an estimate of them: each is known to 9%


def bands_of(dictionary: Dictionary) -> Tensor:
    """Which band of a wavelet basis each coefficient of a real signal is of, in the order of lgm_cli.operators.wavelet,
    (n,); zero in other bases."""
    n = math.prod(dictionary.shape)
    if dictionary.basis != "wavelet":
        return torch.zeros(n, dtype=torch.long)
    kinds = 2 ** len(dictionary.shape)
    sizes = [n >> (len(dictionary.shape) * dictionary.levels)]
    for level in range(dictionary.levels, 0, -1):
        sizes += [n >> (len(dictionary.shape) * level)] * (kinds - 1)
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def group_of(dictionary: Dictionary, side: int, bands: Tensor) -> Tensor:
    """Which precision each coefficient has, (D,): squares of neighbours, or runs of them in a signal, within a band."""
    if side == 1:
        return torch.arange(len(bands))
    groups, first = [], 0
    for size in torch.bincount(bands).tolist():
        scale = round((size / len(bands)) ** (-1 / len(dictionary.shape)))
        places = [torch.arange(length // scale) // side for length in dictionary.shape]
        index = places[0]
        if len(places) == 2:
            index = places[0][:, None] * (int(places[1][-1]) + 1) + places[1]
        groups.append(first + index.flatten())
        first = int(groups[-1].max()) + 1
    return torch.cat(groups)


def basis_of(dictionary: Dictionary) -> LinearOperator | None:
    """B, from a signal to its coefficients: of a complex one, of its real and of its imaginary part."""
    if dictionary.basis == "cosine":
        found: LinearOperator = Cosine(dictionary.shape)
    elif dictionary.basis == "wavelet":
        found = Wavelet(dictionary.shape, dictionary.wavelet, dictionary.levels)
    else:
        return None
    return BlockDiagonal([found, found]) if dictionary.is_complex else found


def operator_of(
    dictionary: Dictionary, basis: LinearOperator | None, dtype: torch.dtype, device: torch.device
) -> LinearOperator:
    """Phi = H B^T."""
    if dictionary.sensing == "matrix":
        sensing: LinearOperator = Dense(torch.as_tensor(dictionary.matrix).to(device, dtype))
    else:
        kept = torch.as_tensor(dictionary.kept, device=device)
        if dictionary.sensing == "fourier":
            sensing = subsampled_fourier(dictionary.shape, kept, dictionary.is_complex)
        elif dictionary.basis == "cosine":
            return subsampled_cosine(dictionary.shape, kept)
        else:
            sensing = Masked(kept, math.prod(dictionary.shape))
    return sensing if basis is None else sensing @ basis.adjoint()


def column_norms(operator: LinearOperator, weight: Tensor) -> Tensor:
    """diag(Phi^T Omega_n Phi), (n, D), for weight (n, M). Where there is no closed form and many entries, an unbiased
    estimate from random signs (Hutchinson 1990): it only preconditions, and scales the bound."""
    if not isinstance(operator.squares(), Squares) or operator.in_dim * operator.out_dim <= FEW_ENTRIES:
        return operator.column_norms_squared(weight)
    draw = generator(0, "column norms", device=weight.device)
    total = torch.zeros(len(weight), operator.in_dim, dtype=weight.dtype, device=weight.device)
    for _ in range(PROBES):
        signs = torch.randint(2, weight.shape, generator=draw, device=weight.device)
        total += operator.transpose(weight * (2 * signs - 1)).square()
    return total / PROBES


def side_of(block: int | str, dictionary: Dictionary) -> int:
    """Side of the squares of coefficients that share a precision; 2 by `auto` for an image in a wavelet basis."""
    if block != "auto":
        return int(block)
    return 2 if dictionary.basis == "wavelet" and len(dictionary.shape) == 2 else 1
