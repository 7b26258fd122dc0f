"""The steady-state preconditioner of a chain of states."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lgm_cli.numerics.recurrence import limit_pivot, recurrence
from lgm_cli.posteriors.base import in_double
from lgm_cli.solvers.base.preconditioner import Preconditioner, constant_map

PART = 1 << 18  # numbers of a part of a product, which stay in a processor's cache
EXACT = 1e-12  # residual of the pivot's equation, relative, up to which M is known by its blocks


class SteadyStatePreconditioner(Preconditioner):
    """M is the posterior precision of a chain of which every step observes the same, factorised as if pivots were at
    their limit from the second step on:

        M = K K^T,  K_tt = chol(X_t),  K_(t+1),t = -G K_tt^-T;  X_1 = A_11,  X_t = X,  X_T = X - G^T G

    where X = I + G^T G + S - G X^-1 G^T. With P the covariance of the predicted state in the steady state of the Kalman
    filter, which the discrete algebraic Riccati equation gives, X = P^-1 + S + G^T G (Anderson & Moore, Optimal
    Filtering, 1979, section 4.4). M differs from A by what its steps observe beside the average, and in the second
    block (`rest`). It is a constant to differentiation.

    transition G (d, d). start (d, d): prior precision of z_1. rows V (M, d) and mask (T, M), Omega by its diagonals:
    S = V^T Omega V is taken of the average over time.
    """

    def __init__(self, transition: Tensor, start: Tensor, rows: Tensor, mask: Tensor) -> None:
        like, steps, share = transition, len(mask), mask.mean(0)
        g, start, wide = (in_double(value) for value in (transition, start, rows))
        information = (wide.mT * share.to(wide)) @ wide
        identity = torch.eye(len(g), dtype=g.dtype, device=g.device)
        square = g.mT @ g
        inner = limit_pivot(identity + square + information, -g)
        last = inner - square
        if bool(torch.linalg.cholesky_ex(last).info):  # nothing is known of a state that grows, but for rounding
            last = inner
        missing = last - (inner - square)  # of the last block, which M has and A has not
        factors = torch.linalg.cholesky(torch.stack([start + square + information, inner, last]))
        inverses = torch.cholesky_inverse(factors)
        roots = torch.linalg.solve_triangular(factors, identity.expand_as(factors), upper=False)
        gains = inverses[:2] @ g.mT
        self._steps, self._dim = steps, len(g)
        self._gain, self._first = gains[1].to(like), (gains[0] - gains[1]).to(like)
        self._inverses, self._factors, self._roots = (value.to(like) for value in (inverses, factors, roots))
        self._forward = recurrence(self._gain, steps)
        self._backward = self._forward.transposed
        pivot = g @ inverses[1] @ g.mT
        off = inner + pivot - (identity + square + information)
        self._has_rest = float(off.norm()) <= EXACT * float(inner.norm())
        if self._has_rest:
            self._rows, self._beside = rows, mask - share
            self._even = not bool(self._beside.count_nonzero())
            self._second, self._end = (g @ inverses[0] @ g.mT - pivot).to(like), missing.to(like)

    @property  # a method kept on its own object would keep the object
    def rest(self) -> Callable[[Tensor, Tensor | None], Tensor] | None:  # pyright: ignore
        return self._rest if self._has_rest else None

    @torch.no_grad()
    def _rest(self, x: Tensor, onto: Tensor | None) -> Tensor:
        """onto + (A - M) x: A - M = V^T (Omega - its average) V, less what the second and the last block of M have
        beside those of A. In parts of right-hand sides that stay in the processor's cache."""
        x = x.reshape(-1, self._steps, self._dim)
        found = torch.zeros_like(x) if onto is None else onto.reshape(x.shape).clone()
        if not self._even:
            size = max(1, PART // (self._steps * max(self._dim, len(self._rows))))
            for part, z in zip(found.split(size), x.split(size), strict=True):
                seen = (z @ self._rows.mT).mul_(self._beside).flatten(0, 1)
                part.view(-1, self._dim).addmm_(seen, self._rows)
        found[:, 1] -= x[:, 1] @ self._second
        found[:, -1] -= x[:, -1] @ self._end
        return found.flatten(1)[None]

    def _steps_of(self, x: Tensor) -> Tensor:
        """A copy of (1, R, T d) as (R, T, d), zeros to the end of the last block."""
        x = x.reshape(-1, self._steps, self._dim)
        return torch.nn.functional.pad(x, (0, 0, 0, self._forward.padded(self._steps) - self._steps))

    def _flat(self, u: Tensor) -> Tensor:
        return u[:, : self._steps].flatten(1)[None]

    def _eliminate(self, u: Tensor) -> None:
        """N^-1 r with M = N diag(X_t) N^T, N_tt = I, N_(t+1),t = -G X_t^-1, in place."""
        u[:, 1] += u[:, 0] @ self._first
        self._forward.run(u)

    def _substitute(self, u: Tensor) -> None:
        """N^-T z, in place."""
        self._backward.run(u)
        u[:, 0] += u[:, 1] @ self._first.mT

    def _by_step(self, u: Tensor, matrices: Tensor) -> Tensor:
        """The first, every inner and the last step times its matrix from the right, zeros behind."""
        first, inner, last = matrices
        size = max(1, PART // u[0].numel())
        found = torch.empty_like(u)
        for part, before in zip(found.split(size), u.split(size), strict=True):
            torch.matmul(before, inner, out=part)
        found[:, 0], found[:, self._steps - 1] = u[:, 0] @ first, u[:, self._steps - 1] @ last
        found[:, self._steps :] = 0
        return found

    def _shrink(self, b: Tensor) -> Tensor:
        u = self._steps_of(b)
        self._eliminate(u)
        return self._flat(self._by_step(u, self._roots.mT))

    def _expand(self, y: Tensor) -> Tensor:
        u = self._by_step(self._steps_of(y), self._roots)
        self._substitute(u)
        return self._flat(u)

    def _solve(self, r: Tensor) -> Tensor:
        u = self._steps_of(r)
        self._eliminate(u)
        u = self._by_step(u, self._inverses)
        self._substitute(u)
        return self._flat(u)

    def _undo_shrink(self, r: Tensor) -> Tensor:
        u = self._by_step(self._steps_of(r), self._factors.mT)
        change = u[:, :-1] @ self._gain
        change[:, 0] += u[:, 0] @ self._first
        u[:, 1:] -= change
        return self._flat(u)

    def _undo_expand(self, x: Tensor) -> Tensor:
        u = self._steps_of(x)
        change = u[:, 1:] @ self._gain.mT
        change[:, 0] += u[:, 1] @ self._first.mT
        u[:, :-1] -= change
        return self._flat(self._by_step(u, self._factors))

    def shrink(self, b: Tensor) -> Tensor:
        return constant_map(b, self._shrink, self._expand)

    def expand(self, y: Tensor) -> Tensor:
        return constant_map(y, self._expand, self._shrink)

    def solve(self, r: Tensor) -> Tensor:
        return constant_map(r, self._solve, self._solve)

    def undo_shrink(self, r: Tensor) -> Tensor:
        return constant_map(r, self._undo_shrink, self._undo_expand)

    def undo_expand(self, x: Tensor) -> Tensor:
        return constant_map(x, self._undo_expand, self._undo_shrink)
