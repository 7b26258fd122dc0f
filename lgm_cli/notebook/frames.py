"""A table of Python as a file that `data=csv` and `data=series` read, every number as it is."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lgm_cli.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Table = pd.DataFrame | pd.Series | np.ndarray | Sequence[Any]

FILE = "data.csv"  # in the folder of the run
WRITTEN = {"data.separator": "comma", "data.decimal": "point", "data.encoding": "utf-8"}


def as_frame(table: Table) -> pd.DataFrame:
    """The table with names for its columns: those of an array, and numbers in their place, are `column_0`, ..

    UserError for what is no table of two dimensions, for complex numbers and for an index of several levels.
    """
    import numpy as np
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        frame = table.copy()
    elif isinstance(table, pd.Series):
        frame = table.to_frame("value" if table.name is None else table.name)
    else:
        try:
            array = np.ma.filled(np.ma.asarray(table).astype(float), np.nan) if np.ma.isMA(table) else np.asarray(table)
        except ValueError as error:
            raise UserError(f"the table cannot be read: {error}", "give a DataFrame, or an array with NaN") from None
        if array.ndim not in (1, 2):
            raise UserError(
                f"the array has {array.ndim} dimensions", "give one row for each data point, two dimensions"
            )
        frame = pd.DataFrame(array)
    if frame.index.nlevels > 1 or frame.columns.nlevels > 1:
        raise UserError("the table has labels of several levels", "give one level, e.g. by frame.reset_index()")
    frame.columns = [f"column_{name}" if isinstance(name, int | np.integer) else str(name) for name in frame.columns]
    for place, kind in enumerate(frame.dtypes):
        if getattr(kind, "kind", "") == "c":
            raise UserError(f"column {frame.columns[place]!r} is complex", "give its real and imaginary parts")
    return frame


def write(table: Table, path: Path) -> dict[str, str]:
    """Write the table as CSV, and say by which keys it is read: its file, its separator, its index.

    Numbers are the shortest decimals that read back as the same number, of 64 bits. An index that counts rows from 0 is
    left out.
    """
    import numpy as np
    import pandas as pd

    frame = as_frame(table)
    narrow = [kind.kind == "f" and kind.itemsize < 8 for kind in map(_numpy_kind, frame.dtypes)]
    if any(narrow):  # their own shortest decimals are other numbers of 64 bits
        frame = frame.astype(
            {name: np.float64 for name, is_narrow in zip(frame.columns, narrow, strict=True) if is_narrow}
        )
    counts = _only_counts(frame.index)
    if not counts and frame.index.name is not None and str(frame.index.name) in frame.columns:
        raise UserError(f"the index and a column are both named {frame.index.name!r}", "rename one of them")
    if isinstance(frame.index, pd.DatetimeIndex):
        form = "%Y-%m-%d" if frame.index.tz is None and (frame.index == frame.index.normalize()).all() else None
        name = frame.index.name
        frame.index = frame.index.map(lambda time: time.strftime(form) if form else time.isoformat(sep=" "))
        frame.index.name = name
    quoting = csv.QUOTE_NONNUMERIC if any(map(_is_text, frame.dtypes)) else csv.QUOTE_MINIMAL
    label = "" if counts or frame.index.name is None else str(frame.index.name)
    frame.to_csv(path, index=not counts, index_label=label, quoting=quoting, encoding="utf-8")
    return {"data.path": str(path), **WRITTEN, **({"data.index": label} if label else {})}


def _is_text(kind: Any) -> bool:
    import pandas as pd

    return pd.api.types.is_object_dtype(kind) or pd.api.types.is_string_dtype(kind)


def _only_counts(index: pd.Index) -> bool:
    """Whether an index says no more than which row it is."""
    import pandas as pd

    return isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1 and index.name is None


def _numpy_kind(kind: Any) -> Any:
    """The NumPy type of a column, of an extension type the one that it stands for."""
    import numpy as np

    return kind if isinstance(kind, np.dtype) else getattr(kind, "numpy_dtype", np.dtype(object))


def read_labels(texts: pd.Series) -> pd.Index:
    """Labels of rows, which a file holds as texts, as they were meant: numbers where each is written as Python writes
    it (007 is none), dates where each is one of ISO 8601, or else texts."""
    import pandas as pd

    for read in (_numbers, lambda given: pd.to_datetime(given, format="ISO8601")):
        try:
            return pd.Index(read(texts), name=texts.name)
        except (ValueError, TypeError):
            continue
    return pd.Index(texts, name=texts.name)


def _numbers(texts: pd.Series) -> pd.Series:
    import pandas as pd

    found = pd.Series(pd.to_numeric(texts), index=texts.index)
    if not (found.map(str) == texts).all():
        raise ValueError
    return found
