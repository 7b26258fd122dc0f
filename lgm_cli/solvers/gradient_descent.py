"""Gradient descent with a fixed step."""

from __future__ import annotations

from torch import Tensor

from lgm_cli.solvers.base.choose import preconditioner_of
from lgm_cli.solvers.base.preconditioner import Scaled
from lgm_cli.solvers.base.solver import Precision, Solution, Solver, Watch, norm
from lgm_cli.solvers.base.spectrum import extreme_eigenvalues, refine


class GradientDescent(Solver):
    """x += a (b - A x), a = 2 / (lambda_max + lambda_min): contraction (k - 1) / (k + 1) per step.

    Richardson iteration (Saad, Iterative Methods, section 4.2.1). Both eigenvalues come from Lanczos iteration
    and are corrected whenever a residual proves them wrong; the step is a constant to differentiation.
    """

    def solve(self, precision: Precision, b: Tensor, x0: Tensor | None = None) -> Solution:
        by = preconditioner_of(precision, self.preconditioner, self.rank)
        system = Scaled(precision, by)
        smallest, largest, products = extreme_eigenvalues(system.matvec, b)
        products += by.products
        systems = b.shape[0] * b.shape[1]
        if x0 is None:
            y, r = b * 0, system.shrink(b)
        else:
            y = system.undo_expand(x0)
            r = system.shrink(b) - system.matvec(y)
            products += systems
        scale = norm(system.shrink(b).detach())
        watch = Watch(precision, b, self.tolerance)
        finished = watch.done(norm(system.undo_shrink(r)))
        for _ in range(self.max_iterations):
            if finished:
                break
            image = system.matvec(r)
            products += systems
            smallest, largest = refine(smallest, largest, image, r, scale)
            step = watch.active * (2 / (largest + smallest))
            y = y + step * r
            r = r - step * image
            watch.count()
            finished = watch.done(norm(system.undo_shrink(r)))
        return watch.solution(system.expand(y), products)
