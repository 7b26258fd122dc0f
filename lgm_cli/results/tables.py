"""Files that speak of entries by the input's own labels: hidden entries predicted, the user's gaps filled."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lgm_cli.data.base.categories import Names, as_given, named, sizes
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.intervals import interval
from lgm_cli.data.base.table import Table

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
LARGEST = 2.0**53  # whole numbers below are exact in double precision


def gaps(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of every entry that the input itself lacks, row by row; neither hidden entries nor the
    rows past the end of a series are gaps."""
    missing = np.ones((table.end, table.shape[1]), bool)
    missing[table.rows, table.columns] = False
    rows, columns = np.nonzero(missing)
    return rows, columns


def write_csv(frame: pd.DataFrame, path: Path, **options: Any) -> None:
    """A table as CSV. With a control character, such as a carriage return, among its names or labels every text is
    quoted: Python's csv and pandas quote those with a line feed alone, and would end a line at the others."""
    texts = [*map(str, frame.columns)]
    for cells in (frame.index, *(frame[name] for name in frame.columns)):
        if not pd.api.types.is_numeric_dtype(cells.dtype):
            texts += map(str, cells)
    odd = any(CONTROL.search(text) for text in (*texts, str(frame.index.name), str(options.get("index_label"))))
    frame.to_csv(path, quoting=csv.QUOTE_NONNUMERIC if odd else csv.QUOTE_MINIMAL, **options)


def write_predictions(path: Path, data: Data, mean: np.ndarray, standard_deviation: np.ndarray) -> None:
    """The hidden entries beside their predictions, which come in the order of data.test_rows."""
    places = data.test_rows, data.test_columns
    write_entries(path, data.table, *places, data.test_values, mean, standard_deviation)


def write_entries(
    path: Path,
    table: Table,
    rows: np.ndarray,  # (entries,)
    columns: np.ndarray,
    true: np.ndarray,  # NaN where it is not known, which is written as an empty cell
    mean: np.ndarray,
    standard_deviation: np.ndarray,
) -> None:
    """Entries of the table by its labels, beside their predictions.

    Numbers are written in full (the shortest decimals that read back as the same number), categories by their names.
    The true values of a column are written without a decimal point where all of them are whole numbers.
    """
    frame = pd.DataFrame(
        {
            "row": table.row_labels.take(rows),
            "column": table.column_labels.take(columns),
            "true": _as_given(true, columns, table),
            "mean": named(np.asarray(mean, np.float64), columns, table),
            "standard_deviation": np.asarray(standard_deviation, np.float64),
        }
    )
    _name_series(frame, table, rows)
    write_csv(frame, path, index=False)


def _as_given(values: np.ndarray, columns: np.ndarray, table: Table) -> np.ndarray:
    """Values of entries in these columns by their names where they are categories, as integers in the columns (all
    together where they share a unit) of which all that are known are whole numbers, and otherwise as they are."""
    names = named(values, columns, table)
    if table.common_unit:
        columns = np.zeros_like(columns)
    known = ~np.isnan(values)
    broken = known & ((values != np.trunc(values)) | (np.abs(values) >= LARGEST))
    whole = known & ~np.isin(columns, columns[broken])
    if whole.all() and names is values:
        return values.astype(np.int64)
    numbers = whole & (names == values)
    if not numbers.any():
        return names
    mixed = names.astype(object)
    mixed[numbers] = values[numbers].astype(np.int64)
    return mixed


def _name_series(frame: pd.DataFrame, table: Table, rows: np.ndarray, column: str = "series") -> None:
    """Say in a first column of which series the rows are, where data.series names several."""
    if table.series is not None and table.series_names is not None:
        frame.insert(0, column, table.series_names.take(table.series[rows]))


def write_imputed(
    path: Path,
    uncertain_path: Path,
    data: Data,
    gap_rows: np.ndarray,
    gap_columns: np.ndarray,
    mean: np.ndarray,  # (gaps,)
    standard_deviation: np.ndarray,  # (gaps,)
) -> None:
    """path: the user's table, its gaps filled by `mean`; what was given, hidden or not, is unchanged, and so is the
    order of the rows. Where a column was given whole numbers alone, these are written without a decimal point.
    Categories are written by their names.

    uncertain_path: `standard_deviation` in a table of the same shape, empty where the value was given.
    """
    table = data.table
    given = np.full(table.shape, np.nan)
    given[table.rows, table.columns] = table.values
    uncertain = np.full(table.shape, np.nan)
    given[gap_rows, gap_columns] = mean
    uncertain[gap_rows, gap_columns] = standard_deviation
    for target, values in ((path, given), (uncertain_path, uncertain)):
        frame = _frame(values, uncertain, table.row_labels, table.column_labels)
        frame = frame.head(table.end)
        _name_series(frame, table, np.arange(table.end), str(table.series_column))
        if table.places is not None:
            frame = frame.take(np.argsort(table.places))
        if table.features is not None:  # they stand beside the response
            beside, labels = as_given(table)
            if target != path:
                beside = np.full(beside.shape, np.nan)
            response = frame.iloc[:, 0]
            frame = _frame(beside, np.full(beside.shape, np.nan), table.row_labels, labels)
            frame.insert(table.target_position, str(table.column_labels[0]), response)
        if target == path:
            frame = _with_names(frame, table.categories or {})
        write_csv(frame, target, index=table.index_name is not None, index_label=table.index_name)


def _frame(values: np.ndarray, filled: np.ndarray, index: pd.Index, columns: Any) -> pd.DataFrame:
    """Values (N, M) as a table. filled is NaN where a value was given; in a column of which all such values are whole
    numbers, they are integers, and the others stay as they are."""
    shown = []
    for own, other in zip(values.T, filled.T, strict=True):
        given = np.isnan(other) & ~np.isnan(own)
        whole = given.any() and bool((own[given] == np.trunc(own[given])).all() and np.abs(own[given]).max() < LARGEST)
        if whole and given.all():
            shown.append(pd.Series(own.astype(np.int64)))
        elif whole:
            mixed = own.astype(object)
            mixed[given] = own[given].astype(np.int64)
            shown.append(pd.Series(mixed))
        else:
            shown.append(pd.Series(own))
    frame = pd.DataFrame(dict(enumerate(shown)), index=pd.RangeIndex(len(values)))
    return frame.set_axis(index, axis=0).set_axis(columns, axis=1)


def _with_names(frame: pd.DataFrame, categories: Names) -> pd.DataFrame:
    """The frame with the names of categories in place of their numbers."""
    return frame.assign(
        **{
            label: pd.Series([names[int(value)] for value in frame[label]], frame.index, object)
            for label, names in categories.items()
        }
    )


def write_forecast(path: Path, data: Data, mean: np.ndarray, standard_deviation: np.ndarray) -> None:
    """The rows past the end of a series, each channel in turn, with 90% intervals; mean and deviation are (rows M,).
    Categories are written by their names and have no intervals."""
    table, columns = data.table, data.shape[1]
    places = np.tile(np.arange(columns), table.forecast)
    number = (sizes(table) == 0)[places]
    lower, upper = (np.where(number, end, np.nan) for end in interval(table, mean, standard_deviation))
    frame = pd.DataFrame(
        {
            "row": table.row_labels[table.end :].repeat(columns),
            "column": list(table.column_labels) * table.forecast,
            "mean": named(mean, places, table),
            "standard_deviation": standard_deviation,
            "lower_90": lower,
            "upper_90": upper,
        }
    )
    _name_series(frame, table, np.arange(table.end, len(table.row_labels)).repeat(columns))
    write_csv(frame, path, index=False)


def write_columns(path: Path, table: Table) -> None:
    """The names of the columns and what each is to the model, by which new data are known to fit; nothing of the
    measurements of a signal, which have no names. Classes follow, in the order of their components, and categories, in
    that of their numbers, beside the column that they are of."""
    labels, roles = list(table.column_labels), ["column"] * table.shape[1]
    if table.features is not None:
        assert table.feature_labels is not None
        labels, roles = [*table.feature_labels, *labels], ["feature"] * len(table.feature_labels) + ["target"]
    if table.dictionary is not None:
        labels, roles = [], []
    if table.class_names is not None:
        labels, roles = [*labels, *table.class_names], [*roles, *["class"] * len(table.class_names)]
    frame = pd.DataFrame({"column": labels, "role": roles})
    if table.categories:
        pairs = [(name, column) for column, names in table.categories.items() for name in names]
        each, of = zip(*pairs, strict=True)
        frame = pd.concat([frame.assign(of=""), pd.DataFrame({"column": each, "role": "category", "of": of})])
    write_csv(frame, path, index=False)


def write_season(path: Path, data: Data) -> None:
    """What was taken off before learning: a row for each phase, phase 0 that of the first row."""
    write_csv(pd.DataFrame(data.season, columns=data.table.column_labels), path, index_label="phase")
