"""How the states of a series move."""

from __future__ import annotations

import numpy as np

from lgm_cli.models.state_space import StateSpace
from lgm_cli.report.learned import Learned
from lgm_cli.report.text import Result

MOST = 3  # pairs of roots


def result(model: StateSpace, learned: Learned) -> Result:
    """The eigenvalues r exp(+- i w) of the transition: each pair is an oscillation of period 2 pi / w, which falls to a
    share r of its size in a step, and a real one a level that does."""
    found = oscillations(np.linalg.eigvals(learned.exported["transition"].double().numpy()))
    few = f", the most lasting {MOST} of {len(found)}" if len(found) > MOST else ""
    return Result([f"how the states move{few}:", *(f"  {line}" for line in found[:MOST])])


def oscillations(roots: np.ndarray) -> list[str]:
    """Real roots, and pairs r exp(+- i w), in words, the most lasting first."""
    found = []
    for root in sorted(roots[np.imag(roots) >= 0].tolist(), key=lambda root: -abs(root)):
        size = abs(root)
        if root.imag > 0:
            found.append(
                f"oscillation of period {2 * np.pi / float(np.angle(root)):.4g} steps, x {size:.3f} in each step"
            )
        else:
            sign = "" if root.real >= 0 else ", of alternating sign"
            found.append(f"{'growth' if size > 1 else 'decay'}, x {size:.3f} in each step{sign}")
    return found
