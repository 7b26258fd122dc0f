"""The orthonormal periodic discrete wavelet transform."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pywt
import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv_transpose1d, one_hot, pad

from lgm_cli.errors import UserError, nearest
from lgm_cli.operators.base import LinearOperator, grid, sized
from lgm_cli.operators.blocks import Stack
from lgm_cli.operators.entries import Masked
from lgm_cli.operators.fourier import Convolution


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
        self.filters = torch.tensor([wavelet.rec_lo, wavelet.rec_hi], dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        averages, details = x.unflatten(-1, self.shape), []
        filters = self.filters.to(x)
        for _ in range(self.levels):
            averages, rest = self._analyse(averages, filters).split([1, self._kinds - 1], self._kind)
            averages = averages.squeeze(self._kind)
            details.insert(0, rest.flatten(self._kind))
        return torch.cat([averages.flatten(self._kind + 1), *details], -1)

    def transpose(self, y: Tensor) -> Tensor:
        filters = self.filters.to(y)
        averages = sized(y, self.out_dim)[..., : self._size(self.levels)]
        for level in range(self.levels, 0, -1):
            bands = torch.cat([averages, y[..., self._size(level) : self._size(level - 1)]], -1)
            sides = [side >> level for side in self.shape]
            image = self._synthesise(bands.unflatten(-1, (self._kinds, *sides)), filters)
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

    def _analyse(self, image: Tensor, filters: Tensor) -> Tensor:
        """One level: (..., n) -> (..., 2, n/2), or (..., h, w) -> (..., 4, h/2, w/2)."""
        bands = _split(image, filters)
        if len(self.shape) == 1:
            return bands
        # (..., h, 2, w/2) -> (..., 2, w/2, h) -> (..., 2, w/2, 2, h/2) -> (..., 2, 2, h/2, w/2)
        return _split(bands.movedim(-3, -1), filters).movedim(-3, -1).flatten(-4, -3)

    def _synthesise(self, bands: Tensor, filters: Tensor) -> Tensor:
        """The transpose of `_analyse`."""
        if len(self.shape) == 2:
            columns = _merge(bands.unflatten(-3, (2, 2)).movedim(-1, -3), filters)
            bands = columns.movedim(-1, -3)
        return _merge(bands, filters)


def _split(a: Tensor, filters: Tensor) -> Tensor:
    """Averages and details of the last dimension, (..., n) -> (..., 2, n/2), for filters (2, 2p)."""
    n, taps = a.shape[-1], filters.shape[-1]
    length = n + taps - 2
    around = a.reshape(-1, 1, n).roll(taps // 2 - 1, -1).repeat(1, 1, -(-length // n))
    bands = conv1d(around[..., :length], filters[:, None], stride=2)
    return bands.view(*a.shape[:-1], 2, n // 2)


def _merge(bands: Tensor, filters: Tensor) -> Tensor:
    """The transpose of `_split`, (..., 2, n/2) -> (..., n)."""
    n, taps = 2 * bands.shape[-1], filters.shape[-1]
    around = conv_transpose1d(bands.reshape(-1, 2, n // 2), filters[:, None], stride=2)
    around = pad(around, (0, -around.shape[-1] % n)).unflatten(-1, (-1, n)).sum(-2)
    return around.roll(1 - taps // 2, -1).view(*bands.shape[:-2], n)
