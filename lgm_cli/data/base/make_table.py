"""Tables from arrays: a rectangle, a regression, measurements of a signal."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lgm_cli.data.base.table import Dictionary, Table


def rectangle(
    name: str,
    values: np.ndarray,  # (N, M), NaN where nothing was observed
    row_labels: pd.Index,
    column_labels: pd.Index,
    index_name: str | None = None,
    truth: dict[str, np.ndarray] | None = None,
    kind: str = "table",
) -> Table:
    """The table of a rectangle with gaps. Rows without a value stay: their gaps are filled like any other."""
    observed = ~np.isnan(values)
    rows, columns = np.nonzero(observed)
    blank = len(values) - int(observed.any(axis=1).sum())
    return Table(
        name=name,
        rows=rows.astype(np.int64),
        columns=columns.astype(np.int64),
        values=values[observed].astype(np.float64),
        row_labels=row_labels,
        column_labels=column_labels,
        common_unit=False,
        is_table=True,
        kind=kind,
        index_name=index_name,
        truth=truth,
        notes=(f"{blank:,} {'row has' if blank == 1 else 'rows have'} no value",) if blank else (),
    )


def regression(
    name: str,
    features: np.ndarray,  # (N, p), complete
    response: np.ndarray,  # (N,), NaN where it is not known
    row_labels: pd.Index,
    feature_labels: pd.Index,
    target: str,
    index_name: str | None = None,
    truth: dict[str, np.ndarray] | None = None,
    target_position: int = 0,
) -> Table:
    """The table of a regression: one column, the response, and beside it the features."""
    known = np.flatnonzero(~np.isnan(response))
    return Table(
        name=name,
        rows=known.astype(np.int64),
        columns=np.zeros(len(known), np.int64),
        values=response[known].astype(np.float64),
        row_labels=row_labels,
        column_labels=pd.Index([target]),
        common_unit=False,
        is_table=True,
        kind="regression",
        index_name=index_name,
        truth=truth,
        features=np.ascontiguousarray(features, np.float64),
        feature_labels=feature_labels,
        target_position=target_position,
    )


def measurements(
    name: str,
    values: np.ndarray,  # (J, M), NaN where not measured
    dictionary: Dictionary,
    truth: dict[str, np.ndarray] | None = None,  # signal (J, n), or parameters
    notes: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
) -> Table:
    """The table of J signals, each measured in the same M ways, or in some of them."""
    rows, columns = np.nonzero(~np.isnan(values))
    return Table(
        name=name,
        rows=rows.astype(np.int64),
        columns=columns.astype(np.int64),
        values=values[rows, columns].astype(np.float64),
        row_labels=pd.RangeIndex(len(values)),
        column_labels=pd.RangeIndex(values.shape[1]),
        common_unit=True,
        is_table=False,
        kind="signal",
        dictionary=dictionary,
        truth=truth,
        notes=notes,
        warnings=warnings,
    )
