"""Preconditioners that every solver may apply."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from lgm_cli.solvers.base.solver import Precision


class Preconditioner:
    """M = L L^T near A, as linear maps of (N, R, D): diag(A) with `jacobi`, the identity with `none`.

    A precision may have better: `preconditioner_blocks` gives it, for `jacobi` and `auto`, blocks of a matrix near A.
    Real ones (N, B, d, d) lie on its diagonal. Complex ones (N, T // 2 + 1, d, d) are those of a circulant matrix of
    T x T blocks after a Fourier transform over the T parts of a vector; their Cholesky factors are conjugate at
    conjugate frequencies, and so are those of a real L. Blocks are a constant to differentiation. Without them,
    `auto` is `none`, or `jacobi` where the precision says that its diagonal is uneven (`uneven`).
    """

    def __init__(self, precision: Precision, name: str) -> None:
        blocks = None if name == "none" else getattr(precision, "preconditioner_blocks", lambda _: None)(name)
        self._factor = self._scale = None
        if blocks is not None:
            self._factor = torch.linalg.cholesky(blocks)
            self._parts = precision.dim // blocks.shape[-1]
        elif name == "jacobi" or (name == "auto" and getattr(precision, "uneven", False)):
            self._scale = precision.diagonal().rsqrt()[:, None, :]

    @cached_property
    def _root(self) -> Tensor:
        """L^-1, block by block."""
        assert self._factor is not None
        identity = torch.eye(self._factor.shape[-1], dtype=self._factor.dtype, device=self._factor.device)
        return torch.linalg.solve_triangular(self._factor, identity.expand_as(self._factor), upper=False)

    @cached_property
    def _inverse(self) -> Tensor:
        """M^-1, block by block."""
        assert self._factor is not None
        return torch.cholesky_inverse(self._factor)

    def _by_block(self, matrices: Tensor, x: Tensor) -> Tensor:
        """Each block of x times its matrix, in the frequency domain if they are complex."""
        parts = x.view(*x.shape[:2], self._parts, -1)  # (N, R, T, d)
        if matrices.is_complex():
            parts = torch.fft.rfft(parts, dim=2)
        product = (matrices @ parts.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if matrices.is_complex():
            product = torch.fft.irfft(product, n=self._parts, dim=2)
        return product.reshape(x.shape)

    def shrink(self, b: Tensor) -> Tensor:
        """L^-1 b."""
        if self._factor is not None:
            return self._by_block(self._root, b)
        return b if self._scale is None else self._scale * b

    def expand(self, y: Tensor) -> Tensor:
        """L^-T y."""
        if self._factor is not None:
            return self._by_block(self._root.mH, y)
        return y if self._scale is None else self._scale * y

    def undo_shrink(self, r: Tensor) -> Tensor:
        """L r."""
        if self._factor is not None:
            return self._by_block(self._factor, r)
        return r if self._scale is None else r / self._scale

    def undo_expand(self, x: Tensor) -> Tensor:
        """L^T x."""
        if self._factor is not None:
            return self._by_block(self._factor.mH, x)
        return x if self._scale is None else x / self._scale

    def solve(self, r: Tensor) -> Tensor:
        """M^-1 r."""
        if self._factor is not None:
            return self._by_block(self._inverse, r)
        return r if self._scale is None else self._scale.square() * r


class Scaled(Preconditioner):
    """The preconditioned operator L^-1 A L^-T; without a preconditioner, A itself.

    L^-1 A L^-T y = L^-1 b has the solution x = L^-T y and the residual b - A x = L r.
    """

    def __init__(self, precision: Precision, preconditioner: str) -> None:
        super().__init__(precision, preconditioner)
        self._precision, self.dim = precision, precision.dim

    def matvec(self, y: Tensor) -> Tensor:
        return self.shrink(self._precision.matvec(self.expand(y)))
