"""Latent variable models learned by EM, its variants and probabilistic unrolling.

In a notebook or a script, `lgm_cli.fit(frame, "model=ppca", "method=em")` runs what `lgm-run` runs, and
`lgm_cli.load("outputs/bfi")` opens the folder of a run. Both give a `Run`. Mistakes raise `lgm_cli.UserError`.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Run", "UserError", "__version__", "fit", "load"]

if TYPE_CHECKING:
    from lgm_cli.errors import UserError
    from lgm_cli.notebook.door import fit, load
    from lgm_cli.notebook.finished import Run


def __getattr__(name: str) -> Any:
    """What `__all__` names, imported when it is first asked for, so that the command line does not wait for it."""
    from importlib import import_module

    places = {"Run": "notebook.finished", "UserError": "errors", "fit": "notebook.door", "load": "notebook.door"}
    if name not in places:
        raise AttributeError(f"module 'lgm_cli' has no attribute {name!r}")
    return getattr(import_module(f"lgm_cli.{places[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
