"""The gaps of a table, filled, with their intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lgm_cli import plots
from lgm_cli.data.base.categories import sizes
from lgm_cli.data.base.intervals import interval
from lgm_cli.report.learned import Learned, Picture

MOST_COLUMNS = 12
MOST_GAPS = 2000  # of a column; of more, gaps at even distances


def gaps(learned: Learned) -> dict[str, Picture]:
    """Of a table with missing entries: by column, the values that fill them, beside those that were observed. The
    channels of a series show their gaps themselves."""
    table = learned.data.table
    rows, columns = table.end, table.shape[1]
    missing = rows - np.bincount(table.columns, minlength=columns)
    if not table.is_table or table.kind == "series" or not missing.any():
        return {}
    missing[sizes(table) > 0] = 0  # imputed.csv has their names
    most = np.argsort(-missing, kind="stable")[:MOST_COLUMNS]
    chosen = sorted(int(column) for column in most if missing[column])
    if not chosen:
        return {}

    def draw(path: Path) -> object:
        places = []
        for column in chosen:
            lacking = np.setdiff1d(np.arange(rows), table.rows[table.columns == column])
            kept = np.unique(np.linspace(0, len(lacking) - 1, MOST_GAPS).round().astype(int))
            places += [(row, column) for row in lacking[kept].tolist()]
        row, column = np.array(sorted(places), np.int64).T
        mean, deviation = learned.predict(row, column)
        lower, upper = interval(table, mean, deviation)
        drawn = []
        for each in chosen:
            own, seen = column == each, table.values[table.columns == each]
            name = str(table.titles_of_columns[each])
            drawn.append(plots.Column(name, seen, mean[own], lower[own], upper[own], int(missing[each])))
        return plots.filled(drawn, path, with_gaps=int((missing > 0).sum()))

    return {"gaps": draw}
