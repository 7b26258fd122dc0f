"""The orthonormal discrete cosine transform."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from lgm_cli.operators.base import PIECE, LinearOperator, Product, grid
from lgm_cli.operators.blocks import Kronecker
from lgm_cli.operators.entries import Diagonal, Masked, ones


class Cosine(LinearOperator):
    """The orthonormal DCT-II of a signal of n entries, or of an image (h, w) along both directions:

        y_j = s_j sum_k x_k cos(pi j (2k + 1) / 2n),   s_0 = sqrt(1/n), s_j = sqrt(2/n)

    from signal to coefficients; its transpose, the DCT-III, is its inverse. By one real FFT of n points (Makhoul,
    IEEE Trans. Acoustics, Speech, Signal Processing 28 (1980) 27-34). As scipy.fft.dctn(x, norm="ortho").
    """

    def __init__(self, shape: int | Sequence[int]) -> None:
        self.shape = grid(shape)
        super().__init__(math.prod(self.shape), math.prod(self.shape))

    def forward(self, x: Tensor) -> Tensor:
        image = _dct(x.unflatten(-1, self.shape))
        if len(self.shape) == 2:
            image = _dct(image.mT).mT
        return image.flatten(-len(self.shape))

    def transpose(self, y: Tensor) -> Tensor:
        image = _inverse_dct(y.unflatten(-1, self.shape))
        if len(self.shape) == 2:
            image = _inverse_dct(image.mT).mT
        return image.flatten(-len(self.shape))

    def squares(self) -> LinearOperator:
        directions = [_squares(n) for n in self.shape]
        return directions[0] if len(directions) == 1 else Kronecker(*directions)


def subsampled_cosine(shape: int | Sequence[int], kept: Tensor) -> LinearOperator:
    """Phi z = (C^T z)[kept], C the DCT-II: the samples `kept` of the signal that has the cosine coefficients z."""
    sizes = grid(shape)
    if len(sizes) == 1:
        return SubsampledCosine(sizes[0], kept)
    return Masked(kept, math.prod(sizes)) @ Cosine(sizes).adjoint()


class SubsampledCosine(Product):
    """Phi_tk = s_k cos(pi k (2t + 1) / 2n), the rows t in `kept` of the transposed DCT-II. By the cosines of sums,

        Phi_tk Phi_uk = 1/2 s_k^2 [cos(pi k |t - u| / n) + cos(pi k (t + u + 1) / n)],

    so that Phi diag(w) Phi^T takes one cosine transform, of s^2 w, looked up at |t - u| and t + u + 1, and
    diag(Phi^T M Phi) one, of the sums of M over the entries with equal |t - u| and t + u + 1.
    """

    def __init__(self, n: int, kept: Tensor) -> None:
        super().__init__(Masked(kept, n), Cosine(n).adjoint())
        self.n, self.kept = n, kept

    def gram(self, weights: Tensor) -> Tensor:
        lookup = torch.fft.rfft(pad(weights * _scale(weights).square(), (0, self.n))).real / 2
        return torch.cat([lookup[places].sum(0) for places in self._places(weights)])

    def quadratic_diagonal(self, matrix: Tensor) -> Tensor:
        sums, row = matrix.new_zeros(2 * self.n), 0
        for places in self._places(matrix):
            part = matrix[row : row + places.shape[1]]
            sums, row = sums.index_add(0, places.flatten(), part.expand(places.shape).flatten()), row + len(part)
        return torch.fft.rfft(sums).real[: self.n] * _scale(matrix[0].new_empty(self.n)).square() / 2

    def _places(self, like: Tensor) -> Iterator[Tensor]:
        """|t - u| and t + u + 1, (2, rows, m), some rows at a time; cosines of the latter past n are those of 2n less
        it."""
        t = self.kept.to(like.device)
        for rows in t.split(max(1, PIECE // len(t))):
            total = rows[:, None] + t + 1
            yield torch.stack([(rows[:, None] - t).abs(), torch.minimum(total, 2 * self.n - total)])


def _squares(n: int) -> LinearOperator:
    """C o C in one direction, of cos^2 t = (1 + cos 2t) / 2: rows 2j of the transform itself, or, past its end, rows
    2n - 2j with the other sign; at j = n/2 the cosine is zero."""
    row = torch.arange(n)
    doubled = torch.minimum(2 * row, 2 * n - 2 * row).clamp_max(n - 1)
    scale = _scale(torch.empty(n, dtype=torch.float64))
    cosines = Diagonal(torch.sign(n - 2 * row) / scale[doubled]) @ Masked(doubled, n) @ Cosine(n)
    return Diagonal(scale.square() / 2) @ (ones(n, n) + cosines)


def _dct(x: Tensor) -> Tensor:
    """Of the last dimension. The even entries and then the odd ones backwards have the Fourier transform V, and
    y_j = s_j Re z_j, y_{n-j} = -s_j Im z_j for z_j = exp(-i pi j / 2n) V_j, j = 0..n/2."""
    order, _, twiddle, parts, signed, *_ = _tables(x.shape[-1], x.dtype, x.device)
    z = torch.fft.rfft(_pick(x, order)) * twiddle
    return _pick(torch.view_as_real(z).flatten(-2), parts) * signed


def _inverse_dct(y: Tensor) -> Tensor:
    """`_dct` backwards: z_j = y_j / s_j - i y_{n-j} / s_{n-j}, with zero for y_n."""
    _, place, twiddle, _, _, pairs, weights = _tables(y.shape[-1], y.dtype, y.device)
    z = torch.view_as_complex((_pick(y, pairs) * weights).unflatten(-1, (-1, 2)))
    return _pick(torch.fft.irfft(z * twiddle.conj(), y.shape[-1]), place)


def _pick(x: Tensor, places: Tensor) -> Tensor:
    """x[..., places]; on a CPU many times as fast as index_select and as indexing, where x is small."""
    return x.gather(-1, places.expand(*x.shape[:-1], -1))


@lru_cache(maxsize=32)
def _tables(n: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """What the transforms of n entries look up: the order of the entries and its inverse; the factors of V; where real
    and imaginary parts of z become y, and their scales; the entries of y behind each part of z, and theirs."""
    like = torch.empty(n, dtype=dtype, device=device)
    scale, half = _scale(like), n // 2 + 1
    places = torch.arange(n, device=device)
    order = torch.cat([places[::2], places[1::2].flip(0)])
    parts = torch.where(places < half, 2 * places, 2 * (n - places) + 1)
    signed = torch.where(places < half, scale, -scale)
    j = torch.arange(half, device=device)
    pairs = torch.stack([j, (n - j) % n], 1).flatten()
    weights = torch.stack([1 / scale[j], torch.where(j > 0, -1 / scale[(n - j) % n], 0.0)], 1).flatten()
    return order, order.argsort(), _twiddle(like), parts, signed, pairs, weights


def _scale(x: Tensor) -> Tensor:
    """s, (n,), for x (..., n)."""
    n = x.shape[-1]
    scale = x.new_full((n,), math.sqrt(2 / n))
    scale[0] = math.sqrt(1 / n)
    return scale


def _twiddle(x: Tensor) -> Tensor:
    """exp(-i pi j / 2n), j = 0..n/2, for x (..., n)."""
    n = x.shape[-1]
    angle = torch.arange(n // 2 + 1, dtype=x.dtype, device=x.device) * (-math.pi / (2 * n))
    return torch.polar(torch.ones_like(angle), angle)
