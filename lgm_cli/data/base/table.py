"""What every data set becomes: the observed entries of a table, some of them hidden to score the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lgm_cli.data.base.transform import Transform

SMALLEST = 1e-100  # spread of a column; its square is far from the limits of double precision


@dataclass(frozen=True)
class Kind:
    """What a table is of, for which models, and whether the whole of it is one data point, whose entries are those of
    its rows, one row after the other."""

    what: str
    data: str  # how to get one
    model: str  # what learns from one
    joint: bool
    classes: str | None = None  # a model whose components or states are classes of its rows


KINDS = {
    "table": Kind(
        "a table of independent rows",
        "data=csv data.path=FILE",
        "model=factor_analysis",
        joint=False,
        classes="model=gaussian_mixture",
    ),
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
        "model=state_space, model=autoregressive or model=hidden_markov",
        joint=True,
        classes="model=hidden_markov",
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
    is_complex: bool = False  # the signal is complex: its real part and then its imaginary part are the unknowns

    @property
    def parts(self) -> int:
        """Real numbers of an entry of the signal: two of a complex one."""
        return 2 if self.is_complex else 1

    @property
    def real_shape(self) -> tuple[int, ...]:
        """Of the signal in real numbers: of a complex one, (2, ...), the real and the imaginary part."""
        return (2, *self.shape) if self.is_complex else self.shape


def as_complex(parts: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A complex signal of its real and imaginary parts, (..., 2, *shape) -> (..., *shape)."""
    real, imaginary = np.moveaxis(parts, -1 - len(shape), 0)
    return real + 1j * imaginary


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
    classes: np.ndarray | None = None  # (N,) int64, the class of each row, -1 where it is not known
    class_names: pd.Index | None = None  # of the numbers in `classes`
    categories: Mapping[str, tuple[str, ...]] | None = None  # names of the numbers in columns that were texts
    series: np.ndarray | None = None  # (N,) int64, the series of each row; rows past their ends come last
    series_names: pd.Index | None = None  # of the numbers in `series`
    series_column: str | None = None  # header of the column that they came from
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
    transform: Transform | None = None  # what of a series is learned from, where it is not the values
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
    def titles_of_columns(self) -> pd.Index:
        """What a person calls the columns; their labels, where nothing else is known."""
        return self.column_labels if self.column_titles is None else self.column_titles

    @property
    def num_series(self) -> int:
        return 1 if self.series_names is None else len(self.series_names)

    def in_horizon(self, rows: np.ndarray) -> np.ndarray:
        """Which of the rows are among the last ones of their series, which are hidden, or past its end."""
        if self.series is None:
            return rows >= self.end - self.horizon
        stops = np.bincount(self.series[: self.end]).cumsum()
        return rows >= stops[self.series[rows]] - self.horizon

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
