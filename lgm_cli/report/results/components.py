"""The components of a mixture or the states of a chain: how large, and what they are like."""

from __future__ import annotations

import numpy as np

from lgm_cli.data.base.categories import names_of, titles_of_ones
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.hidden_markov import HiddenMarkov
from lgm_cli.report.learned import Learned
from lgm_cli.report.text import Result, number, ruled, shortened, wrapped

ROWS, ROOM, NAME = 8, 48, 20  # lines; characters for columns, and for the name of one
WHAT = {"means": "mean", "rates": "rate", "probabilities": "probability of a one"}


def result(model: LatentVariableModel, learned: Learned) -> Result:
    """Weights, and by column the means, rates or probabilities; of a chain, the mean stay 1 / (1 - P_kk) in each state
    and its share of the time. Columns are those that differ most between components, beside their own spread."""
    exported = {name: value.double().numpy() for name, value in learned.exported.items()}
    chain = isinstance(model, HiddenMarkov)
    share = model.shares(learned.exported).numpy() if chain else exported["weights"]
    emission = next(name for name in WHAT if name in exported)
    values, words = exported[emission], WHAT[emission]
    table = learned.data.table
    names, categories = list(map(str, table.titles_of_columns)), names_of(table)
    if values.ndim == 3:  # of categories: the likeliest of each column
        words = "likeliest category"
    elif emission == "probabilities" and table.categories:
        names, words = titles_of_ones(table, names), "probability of the named category"
    order, columns = np.argsort(-share, kind="stable")[:ROWS], telling(values, share)
    texts = [(names[m], *(categories[m] if values.ndim == 3 else ())) for m in columns]
    widths = np.cumsum([2 + max(8, *(len(shortened(text, NAME)) for text in each)) for each in texts])
    columns = columns[: max(1, int((widths <= ROOM).sum()))]
    classes = learned.data.table.class_names
    title, of = ("state", "states") if chain else ("component", "components")
    head = [
        title,
        "share" if chain else "weight",
        *(["mean stay"] if chain else []),
        *(shortened(names[m], NAME) for m in columns),
    ]
    body = []
    for k in order:
        name = f"{k + 1}" + (f" {classes[k]}" if classes is not None and k < len(classes) else "")
        row = [name, f"{share[k]:.1%}"]
        if chain:
            row.append(stay(exported["transition"], k))
        row += [
            number(float(values[k, m])) if values.ndim == 2 else likeliest(values[k, m], categories[m]) for m in columns
        ]
        body.append(row)
    few = f"; {len(columns)} of {values.shape[1]:,} columns" if len(columns) < values.shape[1] else ""
    few += f"; {len(order)} of {len(share)} {of}" if len(order) < len(share) else ""
    return Result([*wrapped(f"{of}, with the {words} of each column{few}:"), *ruled([head, *body])])


def stay(transition: np.ndarray, state: int) -> str:
    """The mean number of steps in a state, 1 / (1 - P_kk)."""
    leaves = 1 - float(transition[state, state])
    return number(1 / leaves) if leaves > 0 else "for ever"


def likeliest(probabilities: np.ndarray, names: tuple[str, ...]) -> str:
    """The most probable category: its name, or its number where it has none."""
    place = int(probabilities.argmax())
    return shortened(names[place], NAME) if names else str(place)


def telling(values: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Columns by how much they differ between components (K, M) or (K, M, C), relative to their average size."""
    if values.ndim == 3:
        return np.argsort(-(share @ np.abs(values - np.tensordot(share, values, 1)).sum(2)), kind="stable")
    center = share @ values
    spread = np.sqrt(share @ (values - center) ** 2)
    return np.argsort(-spread / (np.abs(center) + spread + 1e-300), kind="stable")
