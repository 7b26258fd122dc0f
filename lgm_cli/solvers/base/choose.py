"""Which preconditioner a solver applies."""

from __future__ import annotations

from typing import Any

from lgm_cli.solvers.base.nystrom import sketched
from lgm_cli.solvers.base.preconditioner import DiagonalPreconditioner, Preconditioner


def preconditioner_of(precision: Any, name: str, rank: int | str = "auto") -> Preconditioner:
    """The preconditioner of a precision by its name: `none`, `jacobi`, `nystrom`, or `auto`.

    A precision may have a better one than its diagonal for `jacobi` and `auto`, its `preconditioner`. One that was
    sketched for it or for a matrix near it, its `sketch`, is taken for `nystrom` and `auto`; without one, `nystrom`
    sketches A anew. What is left of `auto` is `none`, or `jacobi` where the precision says that its diagonal is uneven
    (`uneven`).
    """
    if name == "none":
        return Preconditioner()
    kept = getattr(precision, "sketch", None)
    if name in ("nystrom", "auto") and kept is not None:
        return kept
    if name == "nystrom":
        return sketched(precision, rank)
    own = getattr(precision, "preconditioner", lambda _: None)(name)
    if own is not None:
        return own
    if name == "jacobi" or getattr(precision, "uneven", False):
        return DiagonalPreconditioner(precision.diagonal())
    return Preconditioner()
