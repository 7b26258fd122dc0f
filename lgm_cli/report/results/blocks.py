"""The components of a mixture of mixed columns, or the states of such a chain: how large, and what is typical."""

from __future__ import annotations

import numpy as np

from lgm_cli.data.base.categories import names_of
from lgm_cli.models.composed import Composed
from lgm_cli.models.composed_chain import ComposedChain
from lgm_cli.report.learned import Learned
from lgm_cli.report.results.components import NAME, ROOM, ROWS, likeliest, stay, telling
from lgm_cli.report.text import Result, number, ruled, shortened, wrapped

WORDS = {"means": "mean", "rates": "rate", "probabilities": "probability of a one"}


def result(model: Composed | ComposedChain, learned: Learned) -> Result:
    """Weights, or shares of the time and mean stays, and by column the mean, the rate, the probability of a one or the
    likeliest category. Of each block the columns that differ most between components, the blocks by turns."""
    exported = {name: value.double().numpy() for name, value in learned.exported.items()}
    chain = isinstance(model, ComposedChain)
    table, share = learned.data.table, model.shares(learned.exported).numpy() if chain else exported["weights"]
    titles, categories = list(map(str, table.titles_of_columns)), names_of(table)
    order = np.argsort(-share, kind="stable")[:ROWS]
    blocks, kinds = [], []
    for each in model.parts:
        name = next(name for name in each.names if name in WORDS)
        values, own = exported[each.names[name]], each.columns.tolist()
        kinds.append("likeliest category" if values.ndim == 3 else WORDS[name])
        blocks.append([
            (shortened(titles[own[m]], NAME), [
                number(float(values[k, m])) if values.ndim == 2 else likeliest(values[k, m], categories[own[m]])
                for k in order
            ])
            for m in telling(values, share)
        ])  # fmt: skip
    turns = [block[turn] for turn in range(max(map(len, blocks))) for block in blocks if turn < len(block)]
    widths = np.cumsum([2 + max(len(title), *map(len, cells)) for title, cells in turns])
    shown = turns[: max(1, int((widths <= ROOM).sum()))]
    classes = table.class_names
    body = [
        [
            f"{k + 1}" + (f" {classes[k]}" if classes is not None and k < len(classes) else ""),
            f"{share[k]:.1%}",
            *([stay(exported["transition"], k)] if chain else []),
            *(cells[row] for _, cells in shown),
        ]
        for row, k in enumerate(order)
    ]
    few = f"; {len(shown)} of {len(titles):,} columns" if len(shown) < len(titles) else ""
    title, of = ("state", "states") if chain else ("component", "components")
    few += f"; {len(order)} of {len(share)} {of}" if len(order) < len(share) else ""
    what = " or ".join(dict.fromkeys(kinds))
    head = [title, *(["share", "mean stay"] if chain else ["weight"]), *(name for name, _ in shown)]
    return Result([*wrapped(f"{of}, with the {what} of each column{few}:"), *ruled([head, *body])])
