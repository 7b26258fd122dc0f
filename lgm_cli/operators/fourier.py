"""The orthonormal discrete Fourier transform, in pairs of real numbers, and periodic convolution by it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lgm_cli.operators.base import LinearOperator, Product, Scaled, grid
from lgm_cli.operators.blocks import BlockDiagonal, Stack
from lgm_cli.operators.entries import Masked, ones


class Fourier(LinearOperator):
    """The orthonormal DFT of a signal of n entries, or of an image (h, w) along both directions:

        y_f = n^(-1/2) sum_k x_k exp(-2 pi i f k / n)

    Complex vectors are pairs of real ones, (2, n) flattened: all real parts, then all imaginary parts. The output is
    one (out_dim = 2n); the input is real (in_dim = n), so that Phi^T y is the real part of the inverse transform, or
    with complex_input one too (in_dim = 2n), and Phi^T the inverse. As numpy.fft.fftn(x, norm="ortho").
    """

    def __init__(self, shape: int | Sequence[int], complex_input: bool = False) -> None:
        self.shape, self.complex_input = grid(shape), complex_input
        n = math.prod(self.shape)
        super().__init__(2 * n if complex_input else n, 2 * n)
        self._dims = tuple(range(-len(self.shape), 0))

    def forward(self, x: Tensor) -> Tensor:
        image = self._complex(x) if self.complex_input else x.unflatten(-1, self.shape)
        return self._pairs(torch.fft.fftn(image, dim=self._dims, norm="ortho"))

    def transpose(self, y: Tensor) -> Tensor:
        image = torch.fft.ifftn(self._complex(y), dim=self._dims, norm="ortho")
        return self._pairs(image) if self.complex_input else image.real.flatten(self._dims[0])

    def squares(self) -> LinearOperator:
        """Of cos^2 t = (1 + cos 2t) / 2 and sin^2 t = (1 - cos 2t) / 2, and cos 2t is row 2f of the transform."""
        n = math.prod(self.shape)
        indices = torch.arange(n).view(self.shape)
        for dim, size in enumerate(self.shape):
            indices = indices.index_select(dim, 2 * torch.arange(size) % size)
        cosines = Scaled(Masked(indices.flatten(), 2 * n) @ Fourier(self.shape), 0.5 / math.sqrt(n))
        mean = Scaled(ones(n, n), 0.5 / n)
        cos, sin = mean + cosines, mean + Scaled(cosines, -1)  # cos^2 / n and sin^2 / n, symmetric
        real = Stack([cos, sin])
        return Stack([real.adjoint(), Stack([sin, cos]).adjoint()]) if self.complex_input else real

    def _complex(self, pairs: Tensor) -> Tensor:
        return torch.complex(*pairs.unflatten(-1, (2, *self.shape)).unbind(self._dims[0] - 1))

    def _pairs(self, image: Tensor) -> Tensor:
        return torch.cat([image.real.flatten(self._dims[0]), image.imag.flatten(self._dims[0])], -1)


def subsampled_fourier(shape: int | Sequence[int], kept: Tensor, complex_input: bool = False) -> SubsampledFourier:
    """The real and then the imaginary parts of the frequencies `kept`, indices into the flattened spectrum."""
    return SubsampledFourier(shape, kept, complex_input)


class SubsampledFourier(Product):
    """P F for the DFT F and the selection P of some frequencies, twice for real and imaginary parts. Of a real input,
    F^T P^T P F multiplies the spectrum by how often each frequency or its conjugate is selected, on average."""

    def __init__(self, shape: int | Sequence[int], kept: Tensor, complex_input: bool) -> None:
        fourier = Fourier(shape, complex_input)
        part = Masked(kept, fourier.out_dim // 2)
        super().__init__(BlockDiagonal([part, part]), fourier)
        self.shape, self.complex_input = fourier.shape, complex_input
        count = torch.bincount(kept.cpu(), minlength=fourier.out_dim // 2).view(self.shape).to(kept.device)
        dims = tuple(range(len(self.shape)))
        conjugate = count.flip(dims).roll((1,) * len(dims), dims)
        self._selected = ((count + conjugate) / 2)[..., : self.shape[-1] // 2 + 1]

    def normal(self, x: Tensor) -> Tensor:
        if self.complex_input:
            return super().normal(x)
        dims = tuple(range(-len(self.shape), 0))
        spectrum = torch.fft.rfftn(x.unflatten(-1, self.shape), dim=dims) * self._selected.to(x)
        return torch.fft.irfftn(spectrum, self.shape, dims).flatten(dims[0])

    def least_norm(self, y: Tensor) -> Tensor:
        """The signal of least norm with the frequencies y, (..., out_dim) -> (..., in_dim): Phi^+ y. Of a complex
        signal no frequency may be kept twice."""
        if self.complex_input:
            return self.transpose(y)
        dims = tuple(range(-len(self.shape), 0))
        spectrum = torch.fft.rfftn(self.transpose(y).unflatten(-1, self.shape), dim=dims)
        selected = self._selected.to(y)
        spectrum = torch.where(selected > 0, spectrum / selected.clamp_min(0.5), 0.0)
        return torch.fft.irfftn(spectrum, self.shape, dims).flatten(dims[0])


class Convolution(LinearOperator):
    """Periodic convolution of a signal of n entries, or of an image (h, w), with a kernel, which may be learned:

        y_i = sum_j kernel_j x_{(i - j) mod n}

    kernel: (k,) with k <= n, or (k, l) for an image. Its first entry multiplies x_i; for one about its middle, roll
    the output.
    """

    def __init__(self, kernel: Tensor, shape: int | Sequence[int]) -> None:
        self.kernel, self.shape = kernel, grid(shape)
        if kernel.dim() != len(self.shape) or any(k > n for k, n in zip(kernel.shape, self.shape, strict=True)):
            raise ValueError(f"a kernel of shape {tuple(kernel.shape)} does not fit into {self.shape}")
        super().__init__(math.prod(self.shape), math.prod(self.shape))
        self._dims = tuple(range(-len(self.shape), 0))

    def forward(self, x: Tensor) -> Tensor:
        return self._multiply(x, self._spectrum(x))

    def transpose(self, y: Tensor) -> Tensor:
        return self._multiply(y, self._spectrum(y).conj())

    def squares(self) -> LinearOperator:
        return Convolution(self.kernel.square(), self.shape)

    def _spectrum(self, like: Tensor) -> Tensor:
        return torch.fft.rfftn(self.kernel.to(like), self.shape, self._dims)

    def _multiply(self, x: Tensor, spectrum: Tensor) -> Tensor:
        image = torch.fft.rfftn(x.unflatten(-1, self.shape), dim=self._dims) * spectrum
        return torch.fft.irfftn(image, self.shape, self._dims).flatten(self._dims[0])
