"""Nesterov's accelerated gradient descent."""

from __future__ import annotations

import torch
from torch import Tensor

from lgm_cli.solvers.base.choose import preconditioner_of
from lgm_cli.solvers.base.preconditioner import Scaled
from lgm_cli.solvers.base.solver import Precision, Solution, Solver, Watch, norm
from lgm_cli.solvers.base.spectrum import extreme_eigenvalues, refine


class Nesterov(Solver):
    """x' = v + (b - A v) / lambda_max,  v' = x' + m (x' - x),  m = (sqrt k - 1) / (sqrt k + 1).

    Asymptotic contraction 1 - 1 / sqrt k per step (Nesterov, Introductory Lectures on Convex Optimization,
    section 2.2). The reported solution is v, whose residual is at hand. Both eigenvalues come from Lanczos
    iteration and are corrected whenever a step proves them wrong; step and momentum are constants to
    differentiation.
    """

    def solve(self, precision: Precision, b: Tensor, x0: Tensor | None = None) -> Solution:
        by = preconditioner_of(precision, self.preconditioner, self.rank)
        system = Scaled(precision, by)
        smallest, largest, products = extreme_eigenvalues(system.matvec, b)
        products += by.products
        systems = b.shape[0] * b.shape[1]
        target = system.shrink(b)
        if x0 is None:
            v, r = b * 0, target
        else:
            v = system.undo_expand(x0)
            r = target - system.matvec(v)
            products += systems
        x = v
        scale = norm(target.detach())
        watch = Watch(precision, b, self.tolerance)
        finished = watch.done(norm(system.undo_shrink(r)))
        for _ in range(self.max_iterations):
            if finished:
                break
            root = (largest / smallest).sqrt()
            ahead = v + r / largest
            moved = ahead + ((root - 1) / (root + 1)) * (ahead - x)
            x = torch.where(watch.active, ahead, x)
            moved = torch.where(watch.active, moved, v)
            residual = torch.where(watch.active, target - system.matvec(moved), r)
            products += systems
            smallest, largest = refine(smallest, largest, r - residual, moved - v, scale)
            v, r = moved, residual
            watch.count()
            finished = watch.done(norm(system.undo_shrink(r)))
        return watch.solution(system.expand(v), products)
