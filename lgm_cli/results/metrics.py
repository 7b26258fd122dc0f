"""metrics.csv, row by row."""

from __future__ import annotations

import errno
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lgm_cli.errors import ANEW, UserError
from lgm_cli.results.files import atomic_path

COLUMNS = (
    "step",
    "fit_seconds",
    "train_log_likelihood",
    "test_log_likelihood",
    "log_likelihood_se",
    "test_rmse",
    "gradient_norm",
    "solver_iterations",
    "solver_residual",
    "matvecs",
    "peak_memory_mib",
)

FREE_ENERGY = "free_energy"  # first of the extra columns, of methods that have one

FILE = "metrics.csv"

log = logging.getLogger(__name__)


class Recorder:
    """metrics.csv: one row per evaluation, on disk as soon as it is known.

    The columns are COLUMNS and then the model's own. The file is opened anew for each row, and never created
    again, so that a full disk or a folder that was removed raises its OSError at the very next row.
    """

    def __init__(
        self, folder: Path, extra_columns: Iterable[str] = (), rows: Sequence[dict[str, Any]] | None = None
    ) -> None:
        """Start the file; or, given the rows that are kept of an earlier one, leave it as it is until `rewind`."""
        self.path = Path(folder) / FILE
        self.columns = (*COLUMNS, *extra_columns)
        self.rows = list(rows or ())
        if rows is None:
            self.rewind()

    @classmethod
    def resume(cls, folder: Path, step: int, extra_columns: Iterable[str] = ()) -> Recorder:
        """Go on after the row of `step`: later rows, a second one of a step and one torn by a crash are dropped."""
        found = cls(folder, extra_columns, ())
        what = f"{found.path} is missing or is not a run's metrics"
        damaged = UserError(what, ANEW)
        try:
            header, *lines = found.path.read_text(encoding="utf-8").split("\n")
            if FREE_ENERGY not in header.split(","):  # a run recorded before there was this column goes on without it
                found.columns = tuple(name for name in found.columns if name != FREE_ENERGY)
            whole = [line.split(",") for line in lines[:-1]]  # [-1] has no line end
            rows = [
                dict(zip(found.columns, map(_number, cells), strict=True))
                for cells in whole
                if len(cells) == len(found.columns)
            ]
        except (OSError, ValueError):
            raise damaged from None
        if tuple(header.split(",")) != found.columns or not all(isinstance(row["step"], int) for row in rows):
            raise damaged
        kept = {int(row["step"] or 0): row for row in reversed(rows)}  # the first of a step
        found.rows = [kept[at] for at in sorted(kept) if at <= step]
        return found

    def rewind(self) -> None:
        """Write the file anew, with the rows that are kept."""
        lines = (",".join(self.columns), *(self._line(row) for row in self.rows))
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")

    def _line(self, row: Mapping[str, Any]) -> str:
        return ",".join("" if value is None else repr(value) for value in row.values())

    def row(self, *, step: int, **values: Any) -> None:
        """Append one evaluation. What is left out, None or not a number becomes an empty cell."""
        unknown = values.keys() - set(self.columns)
        if unknown:
            raise ValueError(f"no such columns in {FILE}: {', '.join(sorted(unknown))}")
        row = {column: _present(values.get(column)) for column in self.columns} | {"step": int(step)}
        line = f"{self._line(row)}\n".encode()
        with self.path.open("r+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if file.write(line) < len(line):  # the disk is full: leave no torn row behind
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self.rows.append(row)

    @property
    def last(self) -> dict[str, Any]:
        """The newest row, with None for an empty cell; {} before the first."""
        return self.rows[-1] if self.rows else {}


def _present(value: Any) -> int | float | None:
    """A plain number, with all of its digits, or None for a cell that does not apply."""
    value = value.item() if hasattr(value, "item") else value
    return None if value is None or math.isnan(value) else value


def _number(cell: str) -> int | float | None:
    if not cell:
        return None
    return int(cell) if cell.lstrip("-").isdigit() else float(cell)
