"""Series: the states behind them, and their channels with gaps and what is to come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lgm_cli import plots
from lgm_cli.data.base.intervals import interval
from lgm_cli.models.state_space import StateSpace
from lgm_cli.report.learned import Learned, Picture

MOST_CHANNELS = 8
NAMED = 3  # channels beside a state
LEAST_MOVED = 0.1  # standard deviations of some channel that a state moves, to be drawn


def pictures(model: StateSpace, learned: Learned) -> dict[str, Picture]:
    mean, deviation = (value.double().numpy() for value in learned.inferred().values())
    table, known = learned.data.table, learned.data.learned
    given = np.full(known.shape, np.nan)
    given[known.train_rows, known.train_columns] = known.train_values
    moved = (
        learned.exported["observation"].double().numpy()
        * mean[: model.steps].std(0)
        / np.nanstd(given, axis=0)[:, None]
    )
    chosen = np.flatnonzero(np.abs(moved).max(0) >= LEAST_MOVED)
    names, labels = (list(map(str, each)) for each in (table.column_labels, table.row_labels))
    said = [moving(column, names) for column in moved.T]
    if not len(chosen):
        return channels(learned)
    return channels(learned) | {
        "states": lambda path: plots.states(
            mean, deviation, labels, path, observed=model.steps, moves=said, chosen=chosen.tolist()
        )
    }


def moving(moved: np.ndarray, names: Sequence[object]) -> str:
    """The channels that move most with a state. moved (M,): by how many of their standard deviations they move when the
    state does by its own."""
    order = np.argsort(-np.abs(moved), kind="stable")
    kept = [int(place) for place in order[:NAMED] if abs(moved[place]) >= 0.5 * abs(moved[order[0]])]
    numbers = [f"{moved[place]:+.2f}".replace("-", "\u2212") for place in kept]
    said = ", ".join(f"{names[place]} {number}" for place, number in zip(kept, numbers, strict=True))
    return f"moves {said} of their standard deviations" if len(kept) > 1 else f"moves {said} of its standard deviation"


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
        lower, upper = interval(table, mean, deviation)
        return plots.channels(
            given, hidden, mean, lower, upper, list(table.column_labels), list(table.row_labels), path, begin,
            table.horizon, table.forecast, columns,
        )  # fmt: skip

    return {"channels": draw}
