"""Components of a mixture of whole or positive numbers: what they are like, and how surely rows belong to them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from lgm_cli import plots
from lgm_cli.data.base.categories import names_of, titles_of_ones
from lgm_cli.data.base.data import Data
from lgm_cli.models.base.column_mixture import ColumnMixture
from lgm_cli.report.learned import Learned, Picture
from lgm_cli.report.text import number

LEAST_RATIO = 3.0  # doublings at either end of the colours of rates


def pictures(model: ColumnMixture, learned: Learned) -> dict[str, Picture]:
    """Probabilities, rates or means of each component by column; of a single column of numbers, their distribution;
    responsibilities of all rows."""
    data = learned.data
    weights = learned.exported["weights"].numpy()
    return {
        "responsibilities": lambda path: plots.responsibilities(
            learned.inferred()["responsibilities"].cpu().double().numpy(), weights, path
        ),
        "components": components(model, learned.exported, weights, data, np.arange(data.shape[1])),
    }


def components(
    model: ColumnMixture, inside: Mapping[str, Tensor], weights: np.ndarray, data: Data, columns: np.ndarray
) -> Picture:
    """Theta of some columns (m,) of the data, which are those of the model, whose parameters are `inside`."""
    titles, called = list(map(str, data.table.titles_of_columns)), names_of(data.table)
    names, shown = [titles[m] for m in columns], inside[model.theta].numpy()
    if shown.ndim == 3:  # of each category of a column
        possible = shown > 0
        first = int(possible.any((0, 1)).argmax())
        shown = np.where(possible, shown, np.nan)[:, :, first:]
        own = [called[m][first:] for m in columns]
        return lambda path: plots.component_categories(shown, weights, names, path, first, own, model.word)
    if not model.scaled:
        label = "probability of the named category" if data.table.categories else "probability of a one"
        titles = titles_of_ones(data.table, titles)
        words = np.vectorize(lambda value: f"{value:.2f}")(shown)
        names = [titles[m] for m in columns]
        return lambda path: plots.component_profiles(shown, words, weights, names, label, (0.0, 1.0), path, model.word)
    if shown.shape[1] == 1:
        values = data.train_values[data.train_columns == columns[0]]
        high = float(values.max())
        grid = torch.arange(high + 1) if model.whole else torch.linspace(0, high, 800)[1:]
        index = torch.zeros(1, len(grid), dtype=torch.long)
        each = model.densities(dict(inside), index)(grid.double()[None]).exp()[0].numpy()
        if model.whole:
            return lambda path: plots.count_components(values, each, weights, names[0], path, model.word)
        line = values, grid.numpy(), weights[:, None] * each, weights, names[0]
        return lambda path: plots.component_curves(*line, path, word=model.word)
    ratio = np.log2(shown / (weights @ shown))
    words = np.vectorize(lambda value: number(float(value)))(shown)
    reach = max(1.0, min(LEAST_RATIO, float(np.abs(ratio).max())))
    label = f"{'rate' if model.theta == 'rates' else 'mean'}, in doublings of the average"
    return lambda path: plots.component_profiles(ratio, words, weights, names, label, (-reach, reach), path, model.word)
