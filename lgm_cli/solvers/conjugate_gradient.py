"""Preconditioned conjugate gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from lgm_cli.solvers.base.choose import preconditioner_of
from lgm_cli.solvers.base.solver import Precision, Solution, Solver, Watch, divide, norm


class ConjugateGradient(Solver):
    """Conjugate gradient (Hestenes & Stiefel 1952; Saad, Iterative Methods, algorithm 9.1), z = M^-1 r:

        a = r^T z / p^T A p,  x += a p,  r -= a A p,  p = z + (r'^T z' / r^T z) p

    |x_i - x|_A <= 2 ((sqrt k - 1) / (sqrt k + 1))^i |x_0 - x|_A with k the condition number of M^-1 A. A
    converged system gets steps of length zero, so that values and gradients stay finite however many follow.
    """

    def solve(self, precision: Precision, b: Tensor, x0: Tensor | None = None) -> Solution:
        preconditioner = preconditioner_of(precision, self.preconditioner, self.rank)
        systems = b.shape[0] * b.shape[1]
        if x0 is None:
            x, r, products = torch.zeros_like(b), b, preconditioner.products
        else:
            x, r, products = x0, b - precision.matvec(x0), preconditioner.products + systems
        z = preconditioner.solve(r)
        p = z
        rz = (r * z).sum(-1, keepdim=True)
        watch = Watch(precision, b, self.tolerance)
        finished = watch.done(norm(r))
        for _ in range(self.max_iterations):
            if finished:
                break
            image = precision.matvec(p)
            products += systems
            step = watch.active * divide(rz, (p * image).sum(-1, keepdim=True))
            x = torch.addcmul(x, step, p)
            r = torch.addcmul(r, step, image, value=-1)
            watch.count()
            finished = watch.done(norm(r))
            z = preconditioner.solve(r)
            rz, before = (r * z).sum(-1, keepdim=True), rz
            p = torch.addcmul(z, watch.active * divide(rz, before), p)
        return watch.solution(x, products)
