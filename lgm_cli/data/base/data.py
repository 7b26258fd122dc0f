"""A table with the entries that are hidden from learning."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lgm_cli.data.base.season import periodic_means
from lgm_cli.data.base.table import Table


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
        return self.table.in_horizon(self.test_rows)

    @cached_property
    def levels(self) -> np.ndarray:
        """The visible entries of a transformed series, or their logarithms, (N, M); NaN elsewhere."""
        assert self.table.transform is not None
        found = np.full(self.shape, np.nan)
        found[self.train_rows, self.train_columns] = self.table.transform.levels(self.train_values)
        return found

    @cached_property
    def learned(self) -> Data:
        """What is learned from: these data or, of a transformed series, the logarithms and differences of the visible
        entries, of which none is hidden, in a table of the same rows."""
        if self.table.transform is None:
            return self
        differences = self.table.transform.differences(self.levels)
        rows, columns = np.nonzero(~np.isnan(differences))
        table = replace(
            self.table, name=f"{self.table.name} ({self.table.transform})", transform=None,
            rows=rows.astype(np.int64), columns=columns.astype(np.int64), values=differences[rows, columns],
        )  # fmt: skip
        return Data(table, np.zeros(len(rows), bool))

    @cached_property
    def season(self) -> np.ndarray | None:
        """Periodic means of the visible entries about a moving level, less their average over the period, (season, M):
        row p is of the rows in phase p; zero where nothing is visible. None without a season. Of a transformed series,
        these are the means of what is learned from."""
        if self.table.transform is not None:
            return self.learned.season
        if self.table.season is None or self.table.periodic is not None:
            return self.table.periodic
        visible = np.full(self.shape, np.nan)
        visible[self.train_rows, self.train_columns] = self.train_values
        return periodic_means(visible, self.table.phase(np.arange(len(visible))), self.table.season)

    def seasonal(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The periodic part of entries of the table; that of a transformed series belongs to what is learned from."""
        return (
            np.zeros(len(rows))
            if self.season is None or self.table.transform is not None
            else self.season[self.table.phase(rows), columns]
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shape, entries and hidden entries, the same on every platform."""
        digest = hashlib.sha256(repr(self.shape).encode())
        features = np.empty(0) if self.table.features is None else self.table.features
        arrays = []
        if (dictionary := self.table.dictionary) is not None:
            parts = (dictionary.shape, dictionary.sensing, dictionary.basis, dictionary.wavelet, dictionary.levels)
            of_complex = ("complex",) if dictionary.is_complex else ()
            digest.update(repr((*parts, dictionary.noise_variance, *of_complex)).encode())
            arrays = [(dictionary.kept, "<i8"), (dictionary.matrix, "<f8")]
        if self.table.categories:
            digest.update(repr(sorted(self.table.categories.items())).encode())
        for array, dtype in (
            (self.table.rows, "<i8"),
            (self.table.columns, "<i8"),
            (self.table.values, "<f8"),
            (self.hidden, "?"),
            (features, "<f8"),
            *(() if self.table.classes is None else ((self.table.classes, "<i8"),)),
            *(() if self.table.series is None else ((self.table.series, "<i8"),)),
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
        if table.class_names is not None:
            found["classes"] = list(table.class_names)
        if table.series is not None:
            found["series"] = table.num_series
        if table.dictionary is not None:
            found["signal"] = list(table.dictionary.shape)
            found |= {"complex": True} if table.dictionary.is_complex else {}
        return found

    def _known_classes(self) -> tuple[str, ...]:
        classes, names = self.table.classes, self.table.class_names
        if classes is None or names is None:
            return ()
        return (f"the class of {int((classes >= 0).sum()):,} rows is known, one of {len(names):,}",)

    def describe(self) -> str:
        """One line: the size of the data, how much was observed and hidden, what was decided in reading."""
        (n, m), entries = self.shape, len(self.table.values)
        notes = *self.table.notes, *self._known_classes(), *self.table.warnings
        if self.table.features is not None:
            rows = f"{n:,} rows, " if entries < n else ""
            size = f"{self.table.name}: {rows}{entries:,} responses, {self.table.features.shape[1]:,} features"
            return "; ".join([f"{size}, {self.hidden.sum():,} hidden for testing", *notes])
        if (dictionary := self.table.dictionary) is not None:
            unknowns = " x ".join(map(str, dictionary.shape))
            of = f"{n} signals of" if n > 1 else "a signal of"
            size = f"{self.table.name}: {of} {unknowns} entries, {m:,} measurements{' each' if n > 1 else ''}"
            return "; ".join([f"{size}, {self.hidden.sum():,} hidden for testing", *notes])
        n = self.table.end
        size = f"{self.table.name}: {n:,} x {m:,}, {entries:,} values ({entries / (n * m):.1%} observed)"
        return "; ".join([f"{size}, {self.hidden.sum():,} hidden for testing", *notes])
