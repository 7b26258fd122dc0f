"""Series: the states behind them, and their channels with gaps and what is to come."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lgm_cli import plots
from lgm_cli.models.state_space import StateSpace
from lgm_cli.report.learned import Learned, Picture

MOST_CHANNELS = 8


def pictures(model: StateSpace, learned: Learned) -> dict[str, Picture]:
    mean, deviation = (value.double().numpy() for value in learned.inferred().values())
    labels = list(map(str, learned.data.table.row_labels))
    return channels(learned) | {
        "states": lambda path: plots.states(mean, deviation, labels, path, observed=model.steps)
    }


def channels(learned: Learned) -> dict[str, Picture]:
    """The channels with their gaps filled and their forecasts, from some steps before the horizon on; of many channels,
    those whose range is spread evenly from the least to the most varied."""
    data, table = learned.data, learned.data.table
    begin = plots.first_drawn(data.shape[0], table.horizon, table.forecast)
    given, hidden = (np.full(data.shape, np.nan) for _ in range(2))
    given[data.train_rows, data.train_columns] = data.train_values
    hidden[data.test_rows, data.test_columns] = data.test_values
    order = np.argsort(np.nanstd(given, axis=0), kind="stable")
    chosen = np.unique(np.linspace(0, len(order) - 1, min(MOST_CHANNELS, len(order))).round().astype(int))
    columns = sorted(int(column) for column in order[chosen])

    def draw(path: Path) -> object:
        wanted = np.zeros(data.shape, bool)
        wanted[begin:, columns] = np.isnan(given[begin:, columns])
        mean, deviation = (np.full(data.shape, np.nan) for _ in range(2))
        rows, places = np.nonzero(wanted)
        if len(rows):
            mean[rows, places], deviation[rows, places] = learned.predict(rows, places)
        return plots.channels(
            given, hidden, mean, deviation, list(table.column_labels), list(table.row_labels), path, begin,
            table.horizon, table.forecast, columns,
        )  # fmt: skip

    return {"channels": draw}
