"""Which columns each block of a composed model has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lgm_cli.errors import UserError, nearest


def places_of(
    asked: str | Sequence[Mapping[str, Any]], labels: Sequence[str], categories: Sequence[int]
) -> list[tuple[str, list[int]]]:
    """The family and the numbers of the columns of each block, those without columns left out.

    asked: `auto`, or {"family": .., "columns": [..]} each. categories: how many names each column has, 0 of numbers.
    """
    if isinstance(asked, str):
        named = [m for m, size in enumerate(categories) if size]
        rest = [m for m in range(len(labels)) if m not in named]
        return [(family, found) for family, found in (("normal", rest), ("categorical", named)) if found]
    found: list[tuple[str, list[int]]] = []
    for block in asked:
        places = []
        for name in block.get("columns") or []:
            if name not in labels:
                near = nearest(name, labels)
                mend = f"did you mean {near!r}?" if near else f"there are {', '.join(labels[:10])}"
                raise UserError(f"model.blocks has a column {name!r}, which the data have not", mend)
            places.append(labels.index(name))
        found.append((block["family"], places))
    taken = [m for _, places in found for m in places]
    if twice := [labels[m] for m in dict.fromkeys(taken) if taken.count(m) > 1]:
        raise UserError(f"model.blocks has the column {twice[0]!r} twice", "give each column to one block")
    rest = [m for m in range(len(labels)) if m not in taken]
    open_places = [places for _, places in found if not places]
    if len(open_places) > 1:
        raise UserError("model.blocks has several blocks without columns", "name the columns of all but one")
    if open_places:
        open_places[0] += rest
    elif rest:
        raise UserError(
            f"the column {labels[rest[0]]!r} is in no block of model.blocks",
            "name it in one, give a block without columns, which has all others, or leave it out by data.drop",
        )
    return [(family, places) for family, places in found if places]
