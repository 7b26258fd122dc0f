"""How components and states are named in messages."""

from __future__ import annotations

from collections.abc import Sequence, Sized

from lgm_cli.errors import UserError

SHOWN = 5  # numbers that a warning has


def axes_of_components(word: str) -> dict[str, tuple[str, ...]]:
    """What the parameters of components or states are along, for parameters.csv."""
    emissions = {"means": (word, "column"), "covariances": (word, "column", "column"), "rates": (word, "column")}
    chain = {"weights": (word,), "initial": (word,), "transition": (word, word)}
    return {**chain, **emissions, "probabilities": (word, "column", "category")}


def named(what: str, numbers: Sequence[int], classes: Sequence[str] = ()) -> str:
    """`component 2`, or `components 2, 3 (Adelie) and 4 more`, counted from one, with the names of classes."""
    names = [f"{number + 1}" + (f" ({classes[number]})" if number < len(classes) else "") for number in numbers]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{what}{'s' if len(names) > 1 else ''} {', '.join(names[:SHOWN])}{more}"


def fewer_than_classes(components: int, classes: Sized) -> UserError:
    return UserError(
        f"model.num_components={components} is fewer than the {len(classes)} classes of data.labels",
        f"at least model.num_components={len(classes)}",
    )
