"""Block tridiagonal systems by odd-even elimination."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DENSE = 128  # rows of a matrix that is factorised as a whole


@dataclass(frozen=True)
class Eliminated:
    """The solution of a block tridiagonal system, and the blocks of the inverse where the matrix has its own."""

    mean: Tensor  # (n, D)
    covariance: Tensor  # (n, D, D)
    next_covariance: Tensor  # (n - 1, D, D), block (t + 1, t)
    log_determinant: Tensor  # ()


def eliminate(diagonal: Tensor, below: Tensor, right: Tensor) -> Eliminated:
    """Odd-even elimination of a symmetric positive definite block tridiagonal matrix A.

    diagonal A_tt (n, D, D), below A_{t+1,t} (n - 1, D, D), right b (n, D); n is halved at each of log2(n) levels, all
    of whose blocks are computed at once. With e an eliminated block, between l = e - 1 and r = e + 1, and A_ee = L L^T,

        X_r = L^-1 A_er,  X_l = L^-1 A_el,  A'_rr = A_rr - X_r^T X_r,  A'_ll = A_ll - X_l^T X_l,  A'_rl = -X_r^T X_l

    and back, W = L^-T X:  mu_e = A_ee^-1 b_e - W_r mu_r - W_l mu_l,
        S_er = -W_r S_rr - W_l S_lr,  S_el = -W_r S_rl - W_l S_ll,  S_ee = A_ee^-1 - S_er W_r^T - S_el W_l^T.

    It is a Cholesky factorisation in another order, and so as stable as one; algebraically the two passes are the
    Kalman filter and the smoother of Rauch, Tung & Striebel (AIAA Journal 3 (1965) 1445-1450) in information form.
    Golub & Van Loan, Matrix Computations, section 4.5.4; Sarkka & Garcia-Fernandez, IEEE Trans. Automatic Control 66
    (2021) 299-306, for smoothers that are parallel over time. Differentiable.
    """
    n, dim = right.shape
    if n == 1 or n * dim <= DENSE:
        return _by_the_matrix(diagonal, below, right)
    factor = torch.linalg.cholesky(diagonal[::2])
    solved = torch.linalg.solve_triangular(factor, right[::2, :, None], upper=False)
    log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum()
    none = below.new_zeros(1, dim, dim)
    to_right = below[::2].mT if n % 2 == 0 else torch.cat([below[::2].mT, none])  # A_er; the last may have none
    to_left = torch.cat([none, below[1::2]])  # A_el; the first has none
    right_x, left_x = (torch.linalg.solve_triangular(factor, x, upper=False) for x in (to_right, to_left))
    del to_right, to_left  # memory counts where states are many
    kept = n // 2
    after = left_x[1:] if n % 2 else torch.cat([left_x[1:], none])  # of the eliminated block after each kept one
    after_solved = solved[1:] if n % 2 else torch.cat([solved[1:], solved.new_zeros(1, dim, 1)])
    before, before_solved = right_x[:kept], solved[:kept]
    inner = eliminate(
        diagonal[1::2] - before.mT @ before - after.mT @ after,
        -right_x[1:kept].mT @ left_x[1:kept],
        right[1::2] - (before.mT @ before_solved + after.mT @ after_solved)[..., 0],
    )

    def at_right(x: Tensor) -> Tensor:
        """Of the kept block after each eliminated one, zero where there is none."""
        return x if n % 2 == 0 else torch.cat([x, x.new_zeros(1, *x.shape[1:])])

    def at_left(x: Tensor) -> Tensor:
        return torch.cat([x.new_zeros(1, *x.shape[1:]), x[: len(factor) - 1]])

    del before, after
    own = torch.linalg.solve_triangular(factor.mT, solved, upper=True)[..., 0]
    w_right = torch.linalg.solve_triangular(factor.mT, right_x, upper=True)
    del right_x
    w_left = torch.linalg.solve_triangular(factor.mT, left_x, upper=True)
    del left_x
    mean = own - (w_right @ at_right(inner.mean)[..., None] + w_left @ at_left(inner.mean)[..., None])[..., 0]
    across = inner.next_covariance  # between a kept block and the kept one before it: (r, l) of the eliminated between
    across = torch.cat([none, across, none])[: len(factor)]
    s_right = -w_right @ at_right(inner.covariance) - w_left @ across.mT
    s_left = -w_right @ across - w_left @ at_left(inner.covariance)
    covariance = torch.cholesky_inverse(factor) - s_right @ w_right.mT - s_left @ w_left.mT
    return Eliminated(
        _interleaved(mean, inner.mean),
        _interleaved((covariance + covariance.mT) / 2, inner.covariance),
        _interleaved(s_right[:kept].mT, s_left[1:])[: n - 1],
        log_determinant + inner.log_determinant,
    )


def _by_the_matrix(diagonal: Tensor, below: Tensor, right: Tensor) -> Eliminated:
    """The same of the whole matrix, where that is small: its levels would be many calls on few numbers."""
    n, dim = right.shape
    lower = torch.diag_embed(below.permute(1, 2, 0), offset=-1)  # (D, D, n, n)
    upper = torch.diag_embed(below.permute(2, 1, 0), offset=1)
    whole = (torch.diag_embed(diagonal.permute(1, 2, 0)) + lower + upper).permute(2, 0, 3, 1)
    factor = torch.linalg.cholesky(whole.reshape(n * dim, n * dim))
    mean = torch.cholesky_solve(right.reshape(-1, 1), factor).view(n, dim)
    inverse = torch.cholesky_inverse(factor).view(n, dim, n, dim)
    own, after = (inverse.diagonal(offset=offset, dim1=0, dim2=2).permute(2, 0, 1) for offset in (0, -1))
    return Eliminated(mean, own, after, 2 * factor.diagonal().log().sum())


def _interleaved(first: Tensor, second: Tensor) -> Tensor:
    """first[0], second[0], first[1], ..; first has as many or one more."""
    pairs = torch.stack([first[: len(second)], second], dim=1).flatten(0, 1)
    return pairs if len(first) == len(second) else torch.cat([pairs, first[-1:]])
