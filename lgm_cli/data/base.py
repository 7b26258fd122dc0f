"""What every data set becomes: the observed entries of a table, some of them hidden to score the model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from lgm_cli.data.season import periodic_means
from lgm_cli.errors import UserError

SMALLEST = 1e-100  # spread of a column; its square is far from the limits of double precision


@dataclass(frozen=True)
class Kind:
    """What a table is of, for which models, and whether the whole of it is one data point, whose entries are those of
    its rows, one row after the other."""

    what: str
    data: str  # how to get one
    model: str  # what learns from one
    joint: bool


KINDS = {
    "table": Kind("a table of independent rows", "data=csv data.path=FILE", "model=factor_analysis", joint=False),
    "regression": Kind(
        "a response and its features",
        "data=csv data.path=FILE data.target=NAME, or data=concrete",
        "model=linear_regression",
        joint=True,
    ),
    "signal": Kind(
        "measurements of a signal", "data=cosine, or data=image data.path=FILE", "model=sparse_bayes", joint=False
    ),
    "series": Kind(
        "a series in the order of time",
        "data=series data.path=FILE",
        "model=state_space or model=autoregressive",
        joint=True,
    ),
}


@dataclass(frozen=True, eq=False)
class Dictionary:
    """How a signal x (shape) makes the M measurements of a row: y = H x + noise, x = B^T w with sparse coefficients w.

    sensing: H, one of
        samples   the entries `kept` of the signal, indices into it flattened
        fourier   the real parts and then the imaginary parts of the frequencies `kept` of its orthonormal DFT
        matrix    `matrix` (M, n)
    basis: B, orthonormal, one of identity, cosine, wavelet.
    """

    shape: tuple[int, ...]
    sensing: str
    basis: str
    kept: np.ndarray | None = None  # int64
    matrix: np.ndarray | None = None
    wavelet: str = "db4"
    levels: int = 1
    noise_variance: float | None = None  # of the measurements, where it is known
    is_image: bool = False


@dataclass(frozen=True, eq=False)
class Table:
    """Observed entries of N data points in M dimensions, in the data's own units, and their names."""

    name: str
    rows: np.ndarray  # (E,) int64, the data point of each entry; entries are sorted by (row, column) and unique
    columns: np.ndarray  # (E,) int64, its dimension
    values: np.ndarray  # (E,) float64
    row_labels: pd.Index  # (N,)
    column_labels: pd.Index  # (M,)
    common_unit: bool  # all entries are measured in one unit (ratings), so one scale serves all columns
    is_table: bool  # the input was a rectangle, so what it lacks are gaps to fill
    kind: str = "table"  # one of KINDS
    row_titles: pd.Index | None = None  # (N,) what a person calls the rows, such as the titles of films
    column_titles: pd.Index | None = None  # (M,)
    row_groups: pd.Index | None = None  # (N,) what kind each data point is of, for pictures alone
    index_name: str | None = None  # header of the column that row_labels came from, None when they are positions
    features: np.ndarray | None = None  # (N, p) of a regression, whose response is the only column
    feature_labels: pd.Index | None = None  # (p,)
    target_position: int = 0  # of the response among the columns of the user's table
    dictionary: Dictionary | None = None  # of a signal
    season: int | None = None  # rows of a period of a series, whose means are taken off before learning
    periodic: np.ndarray | None = (
        None  # (season, M), these means where they are known, from a run that has learned them
    )
    phases: np.ndarray | None = None  # (end,) of the season, of each row; None where rows are counted
    horizon: int = 0  # last rows of a series that are hidden, to be forecast
    forecast: int = 0  # rows past the end of a series that was given, appended without values
    truth: dict[str, np.ndarray] | None = None  # what simulated data were drawn with: parameters, a signal
    notes: tuple[str, ...] = ()  # what reading the input decided and a user should know
    warnings: tuple[str, ...] = ()  # what may make the results wrong, for summary.json
    places: np.ndarray | None = None  # (end,) of the rows in the user's file, where they were sorted by time

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.row_labels), len(self.column_labels)

    @property
    def end(self) -> int:
        """Rows that were given."""
        return len(self.row_labels) - self.forecast

    def phase(self, rows: np.ndarray) -> np.ndarray:
        """The phases of rows in the season of a series; past its end they are counted on."""
        assert self.season is not None
        if self.phases is None:
            return rows % self.season
        past = np.maximum(rows - (self.end - 1), 0)
        return (self.phases[np.minimum(rows, self.end - 1)] + past) % self.season

    @property
    def joint(self) -> bool:
        """Whether the whole table is one data point."""
        return KINDS[self.kind].joint

    @property
    def reader(self) -> str | None:
        """The choice of the data group that reads a user's file of this kind; None where no file has one."""
        if self.kind == "signal":
            return "image" if self.dictionary is not None and self.dictionary.is_image else None
        if self.kind == "series":
            return "series"
        return "csv" if self.is_table else "ratings"


@dataclass(frozen=True, eq=False)
class Data:
    """A table and which of its entries are hidden: scored, never learned from."""

    table: Table
    hidden: np.ndarray  # (E,) bool

    @property
    def shape(self) -> tuple[int, int]:
        return self.table.shape

    @property
    def layout(self) -> tuple[int, int]:
        """Data points and dimensions as a model takes them: those of the table, or (1, N M) of a joint one."""
        n, m = self.shape
        return (1, n * m) if self.table.joint else (n, m)

    def located(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Data point and dimension of entries of the table."""
        return (np.zeros_like(rows), rows * self.shape[1] + columns) if self.table.joint else (rows, columns)

    @property
    def train_rows(self) -> np.ndarray:
        return self.table.rows[~self.hidden]

    @property
    def train_columns(self) -> np.ndarray:
        return self.table.columns[~self.hidden]

    @property
    def train_values(self) -> np.ndarray:
        return self.table.values[~self.hidden]

    @property
    def test_rows(self) -> np.ndarray:
        return self.table.rows[self.hidden]

    @property
    def test_columns(self) -> np.ndarray:
        return self.table.columns[self.hidden]

    @property
    def test_values(self) -> np.ndarray:
        return self.table.values[self.hidden]

    @property
    def ahead(self) -> np.ndarray:
        """Which of the hidden entries are those to be forecast, in the order of test_rows."""
        return self.test_rows >= self.table.end - self.table.horizon

    @cached_property
    def season(self) -> np.ndarray | None:
        """Periodic means of the visible entries about a moving level, less their average over the period, (season, M):
        row p is of the rows in phase p; zero where nothing is visible. None without a season."""
        if self.table.season is None or self.table.periodic is not None:
            return self.table.periodic
        visible = np.full(self.shape, np.nan)
        visible[self.train_rows, self.train_columns] = self.train_values
        return periodic_means(visible, self.table.phase(np.arange(len(visible))), self.table.season)

    def seasonal(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The periodic part of entries of the table."""
        return np.zeros(len(rows)) if self.season is None else self.season[self.table.phase(rows), columns]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shape, entries and hidden entries, the same on every platform."""
        digest = hashlib.sha256(repr(self.shape).encode())
        features = np.empty(0) if self.table.features is None else self.table.features
        arrays = []
        if (dictionary := self.table.dictionary) is not None:
            parts = (dictionary.shape, dictionary.sensing, dictionary.basis, dictionary.wavelet, dictionary.levels)
            digest.update(repr((*parts, dictionary.noise_variance)).encode())
            arrays = [(dictionary.kept, "<i8"), (dictionary.matrix, "<f8")]
        for array, dtype in (
            (self.table.rows, "<i8"),
            (self.table.columns, "<i8"),
            (self.table.values, "<f8"),
            (self.hidden, "?"),
            (features, "<f8"),
            *((array, dtype) for array, dtype in arrays if array is not None),
        ):
            digest.update(np.ascontiguousarray(array, dtype).data)
        return digest.hexdigest()

    @property
    def summary(self) -> dict[str, object]:
        """What summary.json says of the data; kind, reader and signal are what `lgm-run apply=` goes by."""
        table = self.table
        found: dict[str, object] = {"name": table.name, "shape": [table.end, self.shape[1]]}
        found["fingerprint"] = self.fingerprint
        found |= {"kind": table.kind, "reader": table.reader}
        return found | ({} if table.dictionary is None else {"signal": list(table.dictionary.shape)})

    def describe(self) -> str:
        """One line: the size of the data, how much was observed and hidden, what was decided in reading."""
        (n, m), entries = self.shape, len(self.table.values)
        notes = *self.table.notes, *self.table.warnings
        if self.table.features is not None:
            size = f"{self.table.name}: {entries:,} responses, {self.table.features.shape[1]:,} features"
            return "; ".join([f"{size}, {self.hidden.sum():,} hidden for testing", *notes])
        if (dictionary := self.table.dictionary) is not None:
            unknowns = " x ".join(map(str, dictionary.shape))
            of = f"{n} signals of" if n > 1 else "a signal of"
            size = f"{self.table.name}: {of} {unknowns} entries, {m:,} measurements{' each' if n > 1 else ''}"
            return "; ".join([f"{size}, {self.hidden.sum():,} hidden for testing", *notes])
        n = self.table.end
        size = f"{self.table.name}: {n:,} x {m:,}, {entries:,} values ({entries / (n * m):.1%} observed)"
        return "; ".join([f"{size}, {self.hidden.sum():,} hidden for testing", *notes])


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
) -> Table:
    """The table of J signals, each measured in the same M ways."""
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
    )


TOO_CLOSE = "too close to each other to be squared", "use a smaller unit"
TOO_LARGE = "too large to be squared", "use a larger unit"


def beyond(values: np.ndarray) -> tuple[str, str] | None:
    """What is wrong with values that share a unit, and how to mend it, where their spread cannot be squared."""
    with np.errstate(over="ignore"):
        spread = np.ptp(values)
    return TOO_CLOSE if spread < SMALLEST else TOO_LARGE if spread > 1 / SMALLEST else None


def check(table: Table) -> None:
    """Refuse a table that nothing can be learned from, naming what is wrong with it."""
    n, m = table.shape
    sizes = [(n, "row" if table.is_table else "data point"), (m, "column" if table.is_table else "dimension")]
    if table.features is not None:
        if len(table.values) < 3:
            raise UserError(f"{table.name} has fewer than three known responses", "give more")
        assert table.feature_labels is not None
        with np.errstate(over="ignore"):
            spread = np.ptp(table.features, axis=0)
        if (spread > 1 / SMALLEST).any():
            wrong = _listing(table.feature_labels[spread > 1 / SMALLEST])
            raise UserError(f"{table.name} has values {TOO_LARGE[0]} in {wrong}", TOO_LARGE[1])
        if (spread < SMALLEST).all():
            raise UserError(f"{table.name} has no feature with two different values", "give one that varies")
    if table.joint:
        sizes = sizes[:1]  # a single column is what a regression has, and a series may have
    if table.dictionary is not None:
        sizes = sizes[1:]  # a single signal is enough
    if not len(table.values):
        raise UserError(f"{table.name} has no value in {n:,} x {m:,} entries", "give at least two values per column")
    for size, axis in sizes:
        if size < 2:
            raise UserError(f"{table.name} has a single {axis}", f"give at least two {axis}s")
    if table.common_unit:
        if (table.values == table.values[0]).all():
            raise UserError(f"every value in {table.name} is {table.values[0]:g}", "give values that differ")
        if (wrong := beyond(table.values)) is not None:
            raise UserError(f"{table.name} has values {wrong[0]}", wrong[1])
        return
    lowest, highest = np.full(m, np.inf), np.full(m, -np.inf)
    np.minimum.at(lowest, table.columns, table.values)
    np.maximum.at(highest, table.columns, table.values)
    with np.errstate(over="ignore"):
        spread = highest - lowest
    for wrong, what, mend in (
        (lowest > highest, "no value", "leave out what does not vary"),
        (lowest == highest, "no two different values", "leave out what does not vary"),
        (spread < SMALLEST, f"values {TOO_CLOSE[0]}", TOO_CLOSE[1]),
        (spread > 1 / SMALLEST, f"values {TOO_LARGE[0]}", TOO_LARGE[1]),
    ):
        if wrong.any():
            raise UserError(f"{table.name} has {what} in {_listing(table.column_labels[wrong])}", mend)


def _listing(labels: pd.Index) -> str:
    names = ", ".join(repr(str(label)) for label in labels[:3])
    more = f" and {len(labels) - 3:,} more" if len(labels) > 3 else ""
    return f"{'column' if len(labels) == 1 else 'columns'} {names}{more}"


def baseline_rmse(data: Data) -> float:
    """Root mean squared error, when each column's training mean predicts them, on the hidden entries but those to be
    forecast; or NaN.

    A column without a training entry is predicted by the mean of all training entries.
    """
    scored = ~data.ahead
    if not scored.any():
        return float("nan")
    m, columns, values = data.shape[1], data.train_columns, data.train_values
    count = np.bincount(columns, minlength=m)
    total = np.bincount(columns, values, minlength=m)
    mean = np.where(count > 0, total / np.maximum(count, 1), values.mean())
    return float(np.sqrt(np.mean((data.test_values - mean[data.test_columns])[scored] ** 2)))
