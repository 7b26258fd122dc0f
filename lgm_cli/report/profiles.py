"""Components of a mixture of whole numbers: what they are like, and how surely rows belong to them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lgm_cli import plots
from lgm_cli.data.base.categories import names_of, titles_of_ones
from lgm_cli.data.base.data import Data
from lgm_cli.models.base.whole_mixture import WholeMixture
from lgm_cli.report.learned import Learned, Picture

LEAST_RATIO = 3.0  # doublings at either end of the colours of rates


def pictures(model: WholeMixture, learned: Learned) -> dict[str, Picture]:
    """Probabilities, or rates, of each component by column; of a single column of counts, shares of the counts;
    responsibilities of all rows."""
    data = learned.data
    weights, theta = learned.exported["weights"].numpy(), learned.exported[model.theta]
    return {
        "responsibilities": lambda path: plots.responsibilities(
            learned.inferred()["responsibilities"].cpu().double().numpy(), weights, path
        ),
        "components": components(model, theta, weights, data, np.arange(data.shape[1])),
    }


def components(model: WholeMixture, theta: Tensor, weights: np.ndarray, data: Data, columns: np.ndarray) -> Picture:
    """Theta of some columns (m,) of the data, which are those of the model."""
    titles, called = list(map(str, data.table.titles_of_columns)), names_of(data.table)
    names, shown = [titles[m] for m in columns], theta.numpy()
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
        grid = torch.arange(int(values.max()) + 1, dtype=torch.float64)
        masses = model.log_mass(theta[None], grid[None]).exp()[0].numpy()
        return lambda path: plots.count_components(values, masses, weights, names[0], path, model.word)
    ratio = np.log2(shown / (weights @ shown))
    words = np.vectorize(lambda value: f"{value:.3g}")(shown)
    reach = max(1.0, min(LEAST_RATIO, float(np.abs(ratio).max())))
    label = "rate, in doublings of the average"
    return lambda path: plots.component_profiles(ratio, words, weights, names, label, (-reach, reach), path, model.word)
