"""Components of a mixture of mixed columns, or states of such a chain: what each block of columns is like in them."""

from __future__ import annotations

import numpy as np

from lgm_cli import plots
from lgm_cli.models.composed import Composed
from lgm_cli.models.composed_chain import ComposedChain
from lgm_cli.report.learned import DEVIATIONS, Learned, Picture, drawn_units
from lgm_cli.report.profiles import components


def pictures(model: Composed | ComposedChain, learned: Learned) -> dict[str, Picture]:
    """Means of the columns of normal blocks, all in one picture; probabilities or rates of each other block, named by
    its parameter; responsibilities of all rows of a mixture."""
    data, exported, found = learned.data, learned.exported, dict[str, Picture]()
    chain = isinstance(model, ComposedChain)
    weights = (model.shares(exported) if chain else exported["weights"]).numpy()
    word = "state" if chain else model.word
    classes = [] if data.table.class_names is None else list(map(str, data.table.class_names))
    if not chain:
        found["responsibilities"] = lambda path: plots.responsibilities(
            learned.inferred()["responsibilities"].cpu().double().numpy(), weights, path
        )
    center, scale, unit = drawn_units(data)
    unit = DEVIATIONS if unit.startswith(DEVIATIONS) else unit  # these columns are no categories
    columns, means, deviations = [], [], []
    for each in model.parts:
        own, at = each.own(exported), each.columns.cpu().numpy()
        if "covariances" in own:
            columns.append(at)
            means.append((own["means"].numpy() - center[at]) / scale[at])
            deviations.append(own["covariances"].diagonal(dim1=1, dim2=2).sqrt().numpy() / scale[at])
        else:
            found[each.names[each.model.theta]] = components(each.model, own, weights, data, at)
    if columns:
        names = [str(data.table.titles_of_columns[m]) for m in np.concatenate(columns)]
        center, spread = np.concatenate(means, 1), np.concatenate(deviations, 1)
        found["component_means"] = lambda path: plots.component_means(
            center, spread, weights, names, path, unit, classes, word
        )
    return found
