"""Promax: an oblique rotation of the factors, each told by few columns, which may be correlated. NumPy only."""

from __future__ import annotations

import numpy as np

from lgm_cli.numerics.varimax import varimax

POWER = 4  # of Hendrickson and White, and of R's `promax`


def promax(loadings: np.ndarray, power: float = POWER) -> tuple[np.ndarray, np.ndarray]:
    """Turn T (D, D) and correlations C (D, D) of the factors, of which `loadings @ T` (M, D) are the loadings.

    The varimax loadings X are fitted by least squares to their own powers Q = X |X|^(power - 1), in which small
    loadings are smaller still; the columns of the solution U are scaled so that factors keep a variance of one,

        U = (X^T X)^-1 X^T Q,   T = R U diag((U^T U)^-1)^(1/2),   C = (T^T T)^-1,

    with R of varimax. L T C T^T L^T = L L^T, so communalities stay; scores (N, D) turn by T^-T. Where X lacks full rank
    there is no solution, and the varimax rotation itself is given.

    Hendrickson & White (1964), Promax: a quick method for rotation to oblique simple structure, British Journal of
    Statistical Psychology 17, 65-70; as R's `promax`.
    """
    loadings = np.asarray(loadings, np.float64)
    rotation = varimax(loadings)
    rotated = loadings @ rotation
    factors = rotated.shape[1]
    if factors < 2 or np.linalg.matrix_rank(rotated) < factors:
        return rotation, np.eye(factors)
    target = rotated * np.abs(rotated) ** (power - 1)
    solution = np.linalg.lstsq(rotated, target, rcond=None)[0]
    scale = np.sqrt(np.linalg.inv(solution.T @ solution).diagonal())
    turn = rotation @ (solution * scale)
    return turn, np.linalg.inv(turn.T @ turn)
