"""The states behind a series, over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lgm_cli import plots
from lgm_cli.data.base.categories import names_of
from lgm_cli.data.base.table import Table
from lgm_cli.models.composed_chain import ComposedChain
from lgm_cli.models.hidden_markov import HiddenMarkov
from lgm_cli.report.learned import Learned, Picture
from lgm_cli.report.results.components import likeliest
from lgm_cli.report.text import number

MOST_VALUES = 3  # columns that are named with a state


def pictures(model: HiddenMarkov, learned: Learned) -> dict[str, Picture]:
    return {"states": lambda path: _states(model, learned, path)}


def _states(model: HiddenMarkov, learned: Learned, path: Path) -> object:
    data, inferred = learned.data, {name: value.numpy() for name, value in learned.inferred().items()}
    table, steps = data.table, data.shape[0]
    given, hidden, mean, deviation = (np.full(data.shape, np.nan) for _ in range(4))
    given[data.train_rows, data.train_columns] = data.train_values
    hidden[data.test_rows, data.test_columns] = data.test_values
    future, turns = table.in_horizon(np.arange(steps)), np.arange(steps)
    several = table.num_series > 1
    if several and table.series is not None:
        turns = np.argsort(table.series, kind="stable")  # what comes after each series stands behind it
    ahead = 0 if several else table.forecast + table.horizon
    wanted = np.isnan(given)
    wanted[turns[: plots.window_begin(steps, ahead)]] = False
    wanted[:, plots.MOST_CHANNELS :] = False
    rows, columns = np.nonzero(wanted)
    if len(rows):
        mean[rows, columns], deviation[rows, columns] = learned.predict(rows, columns)
    return plots.state_bands(
        inferred["state_probabilities"][turns], inferred["most_probable_path"][turns], given[turns], hidden[turns],
        mean[turns], deviation[turns], list(table.column_labels), list(table.row_labels[turns]),
        meanings(model, learned), path, ahead, future[turns], _series(table, turns) if several else {},
        names_of(table),
    )  # fmt: skip


def _series(table: Table, turns: np.ndarray) -> dict[int, str]:
    """The names of series by the places at which they begin."""
    assert table.series is not None and table.series_names is not None
    begins = np.searchsorted(table.series[turns], np.arange(table.num_series))
    return {int(begin): str(name) for begin, name in zip(begins, table.series_names, strict=True)}


def meanings(model: HiddenMarkov, learned: Learned) -> list[str]:
    """A few words on each state: the name of its class, its means or likeliest categories, its share of the time, and
    how long it lasts."""
    exported, names = learned.exported, learned.data.table.column_labels
    means = model.emissions.moments(exported)[0].numpy()
    called = _likeliest_categories(model, learned) if isinstance(model, ComposedChain) else {}
    shares = model.shares(exported).numpy()
    lasts = 1 / np.maximum(1 - exported["transition"].diagonal().numpy(), 1e-12)
    classes, found = model.observations.class_names, []
    for state in range(len(means)):
        values = [
            called[column][state] if column in called else number(means[state, column])
            for column in range(min(means.shape[1], MOST_VALUES))
        ]
        if means.shape[1] > 1:
            values = [f"{names[column]} {value}" for column, value in enumerate(values)]
        length = f"{lasts[state]:.3g}" if lasts[state] < 1e6 else "for good"
        known = f"{classes[state]}: " if state < len(classes) else ""
        found.append(f"{known}{', '.join(values)} ({shares[state]:.0%}, {length})")
    return found


def _likeliest_categories(model: ComposedChain, learned: Learned) -> dict[int, list[str]]:
    """By the number of a column of categories, the likeliest one in each state."""
    called, found = names_of(learned.data.table), {}
    for each in model.parts:
        values = learned.exported[each.names["probabilities"]].numpy() if "probabilities" in each.names else np.empty(0)
        for place, column in enumerate(each.columns.tolist() if values.ndim == 3 else ()):
            found[column] = [likeliest(own, called[column]) for own in values[:, place]]
    return found
