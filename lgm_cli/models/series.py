"""What the models of series share: what one step leaves unexplained, and the pictures of their channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lgm_cli import plots
from lgm_cli.models.base import Learned, Picture

MOST_CHANNELS = 8
SMALLEST_CHANGE = 1e-12  # of a variance over one step, in those of the channel: less is lost in rounding


def one_step_variances(weight: Tensor, values: Tensor) -> Tensor:
    """Half the mean squared change of each channel from one observed step to the next, about the line from its first to
    its last value: the variance of white noise, half that of a random walk's innovations. It is the reference of noise
    floors, because the channel's own variance has a trend in it, and this has not.

    weight, values: (T, M), values standardised -> (M,). A change over k steps counts as one of k innovations. Of fewer
    than three values it is that of the channel, 1.
    """
    found = torch.ones(weight.shape[1], dtype=torch.float64)
    for channel, (seen, y) in enumerate(zip(weight.mT.cpu() > 0, values.mT.cpu().double(), strict=True)):
        steps, y = seen.nonzero()[:, 0].double(), y[seen]
        if len(y) > 2:
            lag = steps.diff()
            change = y.diff() - lag * (y[-1] - y[0]) / (steps[-1] - steps[0])
            found[channel] = 0.5 * (change.square() / lag).sum() / (len(lag) - 1)
    return found.clamp_min(SMALLEST_CHANGE)


def channel_pictures(learned: Learned) -> dict[str, Picture]:
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
