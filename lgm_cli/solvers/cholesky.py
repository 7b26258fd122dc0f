"""Direct solution by Cholesky factorisation: exact, O(D^3) per data point."""

from __future__ import annotations

import torch
from torch import Tensor

from lgm_cli.solvers.base.solver import Precision, Solution, Solver, divide, norm


class Cholesky(Solver):
    """A = L L^T, x = L^-T L^-1 b (Golub & Van Loan, Matrix Computations, section 4.2).

    The reference for the iterative solvers. As the solver of em and gradient_em the posterior factorises by
    itself, in the cheaper of the primal and the dual form, and this class is not called.
    """

    def solve(self, precision: Precision, b: Tensor, x0: Tensor | None = None) -> Solution:
        factor = torch.linalg.cholesky(precision.dense())
        x = torch.cholesky_solve(b.mT, factor).mT
        with torch.no_grad():
            residual = divide(norm(b - precision.matvec(x)), norm(b)).squeeze(-1)
        return Solution(x, torch.ones_like(residual), residual, products=b.shape[0] * b.shape[1])
