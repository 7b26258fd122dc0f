"""Linear recurrences over time, in blocks, and the pivots of block tridiagonal Toeplitz matrices that lead to them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

MOST_DOUBLINGS = 40
CONVERGED = 1e-9
DENSE = 128  # size of the matrix that runs through a block of few steps of small vectors at once
LONGEST = 128  # steps of a block of large vectors


def limit_pivot(diagonal: Tensor, below: Tensor) -> Tensor:
    """The pivot X = H - B X^-1 B^T that elimination tends to, for a matrix with blocks H on its diagonal and B below.

    It is the largest solution, which exists where H + B e^iw + B^T e^-iw is positive definite at every w; then all
    eigenvalues of X^-1 B are within the unit circle. By cyclic reduction, which doubles the steps each time:

        A' = A Q^-1 A,  Q' = Q - A Q^-1 A^T - A^T Q^-1 A,  X' = X - A^T Q^-1 A;  A = B^T, Q = X = H at first

    (Meini, Mathematics of Computation 71 (2002) 1189-1204, algorithm 3.1).

    diagonal H, below B: (d, d).
    """
    a, q, x = below.mT, diagonal, diagonal
    for _ in range(MOST_DOUBLINGS):
        factor, failed = torch.linalg.cholesky_ex(q)
        if bool(failed):  # by rounding alone: X is already the pivot after as many steps as numbers can tell
            break
        left, right = torch.linalg.solve_triangular(factor, torch.stack([a, a.mT]), upper=False)
        change = left.mT @ left
        x, q = x - change, q - right.mT @ right - change
        a = right.mT @ left
        if float(change.norm()) <= CONVERGED * float(x.norm()):  # the next change is about the square of this one
            break
    return (x + x.mT) / 2


@dataclass(frozen=True)
class Recurrence:
    """u_t = c_t + u_(t-1) W for t = 1 .. T, or u_t = c_t + u_(t+1) W backwards, for many vectors at once, in place.

    T is cut into blocks of `length` steps. All blocks run side by side from zero; then what the end of each block adds
    to the next one is carried on, with W^length in place of W, as far as powers of W are not lost in rounding.

    weight W: (d, d). reach: steps of a block that feel the one before. within: (length d, length d), the whole of a
    block as one product, where that is small. across: (d, reach d), powers of W. carried: the recurrence over the ends
    of blocks, or None where W^length is lost.
    """

    weight: Tensor
    length: int
    reach: int
    reverse: bool
    within: Tensor | None
    across: Tensor | None
    carried: Recurrence | None

    @property
    def transposed(self) -> Recurrence:
        """The recurrence backwards with W^T: the transpose of this one as a matrix."""
        across = None
        if self.across is not None:
            across = self.across.view(len(self.weight), self.reach, -1).flip(1).permute(2, 1, 0).flatten(1)
        within = None if self.within is None else self.within.mT.contiguous()
        carried = None if self.carried is None else self.carried.transposed
        weight = self.weight.mT.contiguous()
        return Recurrence(weight, self.length, self.reach, not self.reverse, within, across, carried)

    def padded(self, steps: int) -> int:
        """T, or the next multiple of a block."""
        return math.ceil(steps / self.length) * self.length

    def run(self, u: Tensor) -> None:
        """Replace c by u, (R, T, d) with T a multiple of a block, contiguous."""
        count, steps, dim = u.shape
        parts = steps // self.length
        blocks = u.view(count * parts, self.length, dim)
        order = range(self.length - 1, -1, -1) if self.reverse else range(self.length)
        if self.within is not None:
            flat = blocks.view(count * parts, -1)
            flat.copy_(flat @ self.within)
        else:
            for before, i in pairwise(order):
                blocks[:, i].addmm_(blocks[:, before], self.weight)
        if parts == 1:
            return
        ends = blocks[:, order[-1]].view(count, parts, dim)
        carry = torch.zeros_like(u[:, :parts])
        source, target = (slice(1, None), slice(None, -1)) if self.reverse else (slice(None, -1), slice(1, None))
        if self.carried is not None:
            whole = u.new_zeros(count, self.carried.padded(parts), dim)
            whole[:, :parts] = ends
            self.carried.run(whole)
            ends = whole[:, :parts]
        carry[:, target] = ends[:, source]
        carry = carry.view(-1, dim)
        if self.across is not None:
            first = self.length - self.reach if self.reverse else 0
            blocks[:, first : first + self.reach] += (carry @ self.across).view(-1, self.reach, dim)
            return
        for i in order[: self.reach]:
            carry = carry @ self.weight
            blocks[:, i] += carry


def _reach(weight: Tensor, most: int, eps: float) -> int:
    """The least k, in eighths of `most`, for which |W^k| is at most eps; `most` where none is smaller."""
    part = max(1, most // 8)
    step = power = torch.linalg.matrix_power(weight, part)
    for reach in range(part, most, part):
        if float(power.norm()) <= eps:
            return reach
        power = power @ step
    return most


def recurrence(weight: Tensor, steps: int) -> Recurrence:
    """The recurrence with W = weight, (d, d), for T = `steps` steps."""
    dim, eps = len(weight), torch.finfo(weight.dtype).eps
    power, reach = weight, 1  # W^reach
    while reach < steps and float(power.norm()) > eps:
        power, reach = power @ power, 2 * reach
    small = 4 * dim <= DENSE
    length = 1 << int(math.log2(DENSE / dim)) if small else min(4 * reach, LONGEST)
    if not small and reach < steps:  # a block is felt by fewer steps than the power of two
        reach = _reach(weight, reach, eps)
    length = min(length, 1 << math.ceil(math.log2(max(1, steps))))
    reach, parts = min(reach, length), math.ceil(steps / length)
    end, within, across = torch.linalg.matrix_power(weight, length), None, None
    if small:
        powers = torch.eye(dim, dtype=weight.dtype, device=weight.device)[None]
        while len(powers) <= length:  # I .. W^(k - 1), then W^k times these as well
            powers = torch.cat([powers, powers @ (powers[-1] @ weight)])
        ahead = torch.arange(length, device=weight.device)
        ahead = ahead[None, :] - ahead[:, None]
        within = powers[ahead.clamp_min(0)] * (ahead >= 0).to(weight.dtype)[:, :, None, None]
        within = within.transpose(1, 2).reshape(length * dim, length * dim)
        across = powers[1 : reach + 1].transpose(0, 1).flatten(1)
    lost = parts == 1 or float(end.norm()) <= eps
    return Recurrence(weight, length, reach, False, within, across, None if lost else recurrence(end, parts))
