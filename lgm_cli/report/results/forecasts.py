"""What comes after the end of a series."""

from __future__ import annotations

import numpy as np

from lgm_cli.data.base.categories import names_of
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.report.learned import Learned
from lgm_cli.report.text import Result, number, ruled, shortened, wrapped

STEPS, CHANNELS = 4, 4


def result(model: LatentVariableModel, learned: Learned) -> Result:
    return Result(forecasts(learned))


def forecasts(learned: Learned) -> list[str]:
    """The first steps past the end of the series (data.forecast), or of its hidden horizon, for the first channels."""
    table = learned.data.table
    if table.num_series > 1 or not (table.forecast or table.horizon):
        return []
    steps = min(STEPS, table.forecast or table.horizon)
    begin = table.end if table.forecast else table.end - table.horizon
    channels = min(CHANNELS, table.shape[1])
    rows, columns = (place.ravel() for place in np.indices((steps, channels)))
    mean, deviation = (value.reshape(steps, channels) for value in learned.predict(begin + rows, columns))
    names, categories = list(map(str, table.column_labels[:channels])), names_of(table)
    labels = list(map(str, table.row_labels[begin : begin + steps]))
    body = [
        [label, *(_said(*cell) for cell in zip(*row, categories[:channels], strict=True))]
        for label, row in zip(labels, zip(mean, deviation, strict=True), strict=True)
    ]
    what = "what comes next" if table.forecast else "the hidden end of the series as it is predicted"
    said = "mean ± deviation" + " or likeliest category and its probability" * bool(table.categories)
    few = f", the first {channels} of {table.shape[1]} columns" if channels < table.shape[1] else ""
    return [
        *wrapped(f"{what}, {said}{few}:"),
        *ruled([["", *(shortened(name, 14) for name in names)], *body]),
    ]


def _said(center: float, spread: float, categories: tuple[str, ...]) -> str:
    if categories:  # of which the spread is the probability of all others
        return f"{shortened(categories[int(center)], 12)} {1 - spread:.0%}"
    return f"{number(center)} ± {number(spread)}"
