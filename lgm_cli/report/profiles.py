"""Components of a mixture of whole numbers: what they are like, and how surely rows belong to them."""

from __future__ import annotations

import numpy as np
import torch

from lgm_cli import plots
from lgm_cli.data.base.categories import names_of, titles_of_ones
from lgm_cli.models.base.whole_mixture import WholeMixture
from lgm_cli.report.learned import Learned, Picture

LEAST_RATIO = 3.0  # doublings at either end of the colours of rates


def pictures(model: WholeMixture, learned: Learned) -> dict[str, Picture]:
    """Probabilities, or rates, of each component by column; of a single column of counts, shares of the counts;
    responsibilities of all rows."""
    data = learned.data
    names = list(map(str, data.table.titles_of_columns))
    weights, theta = learned.exported["weights"].numpy(), learned.exported[model.theta].numpy()
    found: dict[str, Picture] = {
        "responsibilities": lambda path: plots.responsibilities(
            learned.inferred()["responsibilities"].cpu().double().numpy(), weights, path
        )
    }
    if theta.ndim == 3:  # of each category of a column
        possible = theta > 0
        first = int(possible.any((0, 1)).argmax())
        shown = np.where(possible, theta, np.nan)[:, :, first:]
        called = [each[first:] for each in names_of(data.table)]
        found["components"] = lambda path: plots.component_categories(shown, weights, names, path, first, called)
    elif not model.scaled:
        label = "probability of the named category" if data.table.categories else "probability of a one"
        names = titles_of_ones(data.table, names)
        words = np.vectorize(lambda value: f"{value:.2f}")(theta)
        found["components"] = lambda path: plots.component_profiles(
            theta, words, weights, names, label, (0.0, 1.0), path
        )
    elif theta.shape[1] == 1:
        values = data.train_values
        grid = torch.arange(int(values.max()) + 1, dtype=torch.float64)
        masses = model.log_mass(learned.exported[model.theta][None], grid[None]).exp()[0].numpy()
        found["components"] = lambda path: plots.count_components(values, masses, weights, names[0], path)
    else:
        ratio = np.log2(theta / (weights @ theta))
        words = np.vectorize(lambda value: f"{value:.3g}")(theta)
        reach = max(1.0, min(LEAST_RATIO, float(np.abs(ratio).max())))
        found["components"] = lambda path: plots.component_profiles(
            ratio, words, weights, names, "rate, in doublings of the average", (-reach, reach), path
        )
    return found
