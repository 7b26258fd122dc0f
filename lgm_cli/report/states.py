"""The states behind a series, over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lgm_cli import plots
from lgm_cli.models.hidden_markov import HiddenMarkov, stationary
from lgm_cli.report.learned import Learned, Picture

MOST_VALUES = 3  # columns that are named with a state


def pictures(model: HiddenMarkov, learned: Learned) -> dict[str, Picture]:
    return {"states": lambda path: _states(model, learned, path)}


def _states(model: HiddenMarkov, learned: Learned, path: Path) -> object:
    data, inferred = learned.data, {name: value.numpy() for name, value in learned.inferred().items()}
    table, steps = data.table, data.shape[0]
    given, hidden, mean, deviation = (np.full(data.shape, np.nan) for _ in range(4))
    given[data.train_rows, data.train_columns] = data.train_values
    hidden[data.test_rows, data.test_columns] = data.test_values
    ahead = table.forecast + table.horizon
    wanted = np.isnan(given)
    wanted[: plots.window_begin(steps, ahead)] = False
    wanted[:, plots.MOST_CHANNELS :] = False
    rows, columns = np.nonzero(wanted)
    if len(rows):
        mean[rows, columns], deviation[rows, columns] = learned.predict(rows, columns)
    return plots.state_bands(
        inferred["state_probabilities"], inferred["most_probable_path"], given, hidden, mean, deviation,
        list(table.column_labels), list(table.row_labels), meanings(model, learned), path, ahead,
    )  # fmt: skip


def meanings(model: HiddenMarkov, learned: Learned) -> list[str]:
    """A few words on each state: its means, its share of the time, and how long it lasts."""
    exported, names = learned.exported, learned.data.table.column_labels
    means = model.emissions.moments(exported)[0].numpy()
    shares = stationary(exported).numpy()
    lasts = 1 / np.maximum(1 - exported["transition"].diagonal().numpy(), 1e-12)
    found = []
    for state in range(len(means)):
        values = [f"{means[state, column]:.3g}" for column in range(min(means.shape[1], MOST_VALUES))]
        if means.shape[1] > 1:
            values = [f"{names[column]} {value}" for column, value in enumerate(values)]
        length = f"{lasts[state]:.3g}" if lasts[state] < 1e6 else "for good"
        found.append(f"{', '.join(values)} ({shares[state]:.0%}, {length})")
    return found
