"""Preconditioned conjugate gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from lgm_cli.solvers.base.choose import preconditioner_of
from lgm_cli.solvers.base.preconditioner import Preconditioner
from lgm_cli.solvers.base.solver import Precision, Solution, Solver, Watch, divide, dot, norm


class ConjugateGradient(Solver):
    """Conjugate gradient (Hestenes & Stiefel 1952; Saad, Iterative Methods, algorithm 9.1), z = M^-1 r:

        a = r^T z / p^T A p,  x += a p,  r -= a A p,  p = z + (r'^T z' / r^T z) p

    |x_i - x|_A <= 2 ((sqrt k - 1) / (sqrt k + 1))^i |x_0 - x|_A with k the condition number of M^-1 A. A
    converged system gets steps of length zero, so that values and gradients stay finite however many follow.

    M p follows the recurrence of p, M p = r + (r'^T z' / r^T z) M p, so that a preconditioner that knows A - M saves
    the rest of A p (Eisenstat, SIAM J. Sci. Stat. Comput. 2 (1981) 1-4).
    """

    def solve(self, precision: Precision, b: Tensor, x0: Tensor | None = None) -> Solution:
        preconditioner = preconditioner_of(precision, self.preconditioner, self.rank)
        systems = b.shape[0] * b.shape[1]
        if x0 is None:
            x, r, products = torch.zeros_like(b), b, preconditioner.products
        else:
            x, r, products = x0, b - precision.matvec(x0), preconditioner.products + systems
        plain = type(preconditioner) is Preconditioner  # z is r, whose length r^T z tells
        rest = None if torch.is_grad_enabled() else preconditioner.rest
        watch = Watch(precision, b, self.tolerance)
        p, mapped = r, r  # the direction, and M p
        before = None
        for iteration in range(self.max_iterations + 1):
            rz = dot(r, r) if plain else None
            if watch.done(norm(r) if rz is None else rz.sqrt()) or iteration == self.max_iterations:
                break
            z = r if plain else preconditioner.solve(r)
            rz = dot(r, z) if rz is None else rz
            if before is None:
                p, mapped = z, r
            else:
                share = watch.active * divide(rz, before)
                p = torch.addcmul(z, share, p)
                mapped = r if rest is None else torch.addcmul(r, share, mapped)
            before = rz
            image = precision.matvec(p) if rest is None else rest(p, mapped)
            products += systems
            step = watch.active * divide(rz, dot(p, image))
            x = torch.addcmul(x, step, p)
            r = torch.addcmul(r, step, image, value=-1)
            watch.count()
        return watch.solution(x, products)
