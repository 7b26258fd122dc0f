"""Gradient descent with the exact line search."""

from __future__ import annotations

from torch import Tensor

from lgm_cli.solvers.base.choose import preconditioner_of
from lgm_cli.solvers.base.preconditioner import Scaled
from lgm_cli.solvers.base.solver import Precision, Solution, Solver, Watch, divide, norm


class SteepestDescent(Solver):
    """x += a r with a = r^T r / r^T A r (Cauchy 1847; Saad, Iterative Methods, section 5.3.1).

    Contraction (k - 1) / (k + 1) per step in the A-norm, without any knowledge of the spectrum.
    """

    def solve(self, precision: Precision, b: Tensor, x0: Tensor | None = None) -> Solution:
        by = preconditioner_of(precision, self.preconditioner, self.rank)
        system = Scaled(precision, by)
        systems, products = b.shape[0] * b.shape[1], by.products
        if x0 is None:
            y, r = b * 0, system.shrink(b)
        else:
            y = system.undo_expand(x0)
            r = system.shrink(b) - system.matvec(y)
            products += systems
        watch = Watch(precision, b, self.tolerance)
        finished = watch.done(norm(system.undo_shrink(r)))
        for _ in range(self.max_iterations):
            if finished:
                break
            image = system.matvec(r)
            products += systems
            step = watch.active * divide((r * r).sum(-1, keepdim=True), (r * image).sum(-1, keepdim=True))
            y = y + step * r
            r = r - step * image
            watch.count()
            finished = watch.done(norm(system.undo_shrink(r)))
        return watch.solution(system.expand(y), products)
