"""The orthonormal periodic discrete wavelet transform."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pywt
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lgm_cli.errors import UserError, nearest
from lgm_cli.operators.base import LinearOperator, grid, sized
from lgm_cli.operators.blocks import Stack
from lgm_cli.operators.entries import Masked
from lgm_cli.operators.fourier import Convolution

Filters = Sequence[Sequence[float]]  # of averages and of details


class Wavelet(LinearOperator):
    """The wavelet coefficients of a signal of n entries, or of an image (h, w), periodic and orthonormal: its
    transpose, the synthesis, is its inverse.

    Each level splits the averages a of the one before into averages and details of half the size (Mallat, IEEE
    Trans. Pattern Analysis and Machine Intelligence 11 (1989) 674-693), the filters being h and g, 2p entries each:

        a'_k = sum_j h_j a_{(2k + p - j) mod n},   d'_k = sum_j g_j a_{(2k + p - j) mod n}

    in an image along both directions, which gives averages and three kinds of details. Coefficients are flattened in
    the order and with the signs of pywt.wavedec and wavedec2(mode="periodization"): averages, details of the
    coarsest level (of images: horizontal, vertical, diagonal), ..., details of the finest.
    """

    def __init__(self, shape: int | Sequence[int], name: str = "db4", levels: int = 1) -> None:
        self.shape, self.name, self.levels = grid(shape), name, levels
        known = pywt.wavelist(kind="discrete")  # pyright: ignore[reportAttributeAccessIssue]
        if name not in known:
            closest = nearest(name, known)
            raise UserError(
                f"there is no wavelet {name!r}", f"did you mean {closest!r}?" if closest else "as db4 or sym8"
            )
        wavelet = pywt.Wavelet(name)  # pyright: ignore[reportAttributeAccessIssue]
        if not wavelet.orthogonal or name == "dmey":  # which PyWavelets cuts off: orthogonal to 2e-3 only
            raise UserError(f"the wavelet {name} is not orthogonal", "take haar, db2-db38, sym2-sym20 or coif1-coif17")
        if levels < 1 or any(size % 2**levels for size in self.shape):
            raise UserError(
                f"{levels} wavelet levels do not divide {' x '.join(map(str, self.shape))}",
                "each side has to be a multiple of 2 to the power of the levels, of which there is at least 1",
            )
        super().__init__(math.prod(self.shape), math.prod(self.shape))
        # Of an orthogonal wavelet, the synthesis filters are the analysis filters backwards.
        self.filters: Filters = (wavelet.rec_lo, wavelet.rec_hi)

    def forward(self, x: Tensor) -> Tensor:
        averages, details = x.unflatten(-1, self.shape), []
        for _ in range(self.levels):
            averages, rest = self._analyse(averages).split([1, self._kinds - 1], self._kind)
            averages = averages.squeeze(self._kind)
            details.insert(0, rest.flatten(self._kind))
        return torch.cat([averages.flatten(self._kind + 1), *details], -1)

    def transpose(self, y: Tensor) -> Tensor:
        averages = sized(y, self.out_dim)[..., : self._size(self.levels)]
        for level in range(self.levels, 0, -1):
            bands = torch.cat([averages, y[..., self._size(level) : self._size(level - 1)]], -1)
            sides = [side >> level for side in self.shape]
            image = self._synthesise(bands.unflatten(-1, (self._kinds, *sides)))
            averages = image.flatten(self._kind + 1)
        return averages

    def squares(self) -> LinearOperator:
        """The rows of one kind are the same wave, 2^level entries further each: correlations with its square."""
        kinds = [self.levels] * self._kinds
        for level in range(self.levels - 1, 0, -1):
            kinds += [level] * (self._kinds - 1)
        operators, start = [], 0
        for level in kinds:
            unit = one_hot(torch.tensor(start), self.in_dim).double()
            wave = self.transpose(unit).view(self.shape)
            places = torch.arange(self.in_dim).view(self.shape)
            for dim, side in enumerate(self.shape):
                places = places.index_select(dim, torch.arange(0, side, 2**level))
            squares = Convolution(wave.square(), self.shape).adjoint()
            operators.append(Masked(places.flatten(), self.in_dim) @ squares)
            start += self._size(level)
        return Stack(operators)

    @property
    def _kinds(self) -> int:
        """Averages and details of a level: 2, or 4 in an image."""
        return 2 ** len(self.shape)

    @property
    def _kind(self) -> int:
        """The dimension of the kinds, in front of the shape."""
        return -1 - len(self.shape)

    def _size(self, level: int) -> int:
        """How many averages are left after `level` levels."""
        return self.in_dim >> (level * len(self.shape))

    def _analyse(self, image: Tensor) -> Tensor:
        """One level: (..., n) -> (..., 2, n/2), or (..., h, w) -> (..., 4, h/2, w/2)."""
        bands = _split(image, self.filters, -1)
        if len(self.shape) == 2:
            bands = [part for band in bands for part in _split(band, self.filters, -2)]
        return torch.stack(bands, self._kind)

    def _synthesise(self, bands: Tensor) -> Tensor:
        """The transpose of `_analyse`."""
        parts = bands.unbind(self._kind)
        if len(self.shape) == 2:
            parts = [_merge(parts[kind : kind + 2], self.filters, -2) for kind in (0, 2)]
        return _merge(parts, self.filters, -1)


def _split(a: Tensor, filters: Filters, dim: int) -> list[Tensor]:
    """Averages and details along a dimension, n -> n/2 each: each is a sum of the even and the odd entries, moved one
    place further for every two entries of its filter (several times as fast as a convolution with one channel)."""
    n, taps = a.shape[dim], len(filters[0]) // 2
    start = torch.arange(0, n + 2 * taps - 2, 2, device=a.device) - (taps - 1)
    parts = [a.index_select(dim, (start + parity) % n) for parity in (0, 1)]
    return [_sum([(parts[t % 2].narrow(dim, t // 2, n // 2), c) for t, c in enumerate(taken)]) for taken in filters]


def _merge(bands: Sequence[Tensor], filters: Filters, dim: int) -> Tensor:
    """The transpose of `_split`, n/2 each -> n."""
    half, taps = bands[0].shape[dim], len(filters[0]) // 2
    place = torch.arange(1 - taps, half, device=bands[0].device) % half
    around = [band.index_select(dim, place) for band in bands]
    parts = [
        _sum([
            (band.narrow(dim, taps - 1 - u, half), taken[2 * u + parity])
            for band, taken in zip(around, filters, strict=True)
            for u in range(taps)
        ])
        for parity in (0, 1)
    ]  # fmt: skip
    return torch.stack(parts, dim).flatten(dim - 1, dim).roll(1 - taps, dim)


def _sum(terms: list[tuple[Tensor, float]]) -> Tensor:
    """sum_i c_i x_i."""
    total = terms[0][0] * terms[0][1]
    for x, c in terms[1:]:
        total.add_(x, alpha=c)
    return total
