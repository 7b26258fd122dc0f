"""Which update a method takes, as far as its options say: by the word, or by keys that belong to one update alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lgm_cli.errors import UserError, spelled

# Keys of a method that leaves its update open, by the update that they belong to.
OF_UPDATE = {
    "gradient": ("gradient", "optimizer", "learning_rate", "batch_size"),
    "closed_form": ("statistics",),
}


def leaves_open(options: Mapping[str, Any]) -> bool:
    """Whether a method has keys of both updates, so that either may be taken."""
    return all(set(keys) <= options.keys() for keys in OF_UPDATE.values())


def asked(options: Mapping[str, Any]) -> str:
    """The update that the options of a method ask for; auto where they leave it open. UserError where a key was given
    that has no meaning with this update, or keys of both."""
    word = options["update"]
    if not leaves_open(options):
        return word
    given = {update: [key for key in keys if options[key] != "auto"] for update, keys in OF_UPDATE.items()}
    for update, keys in given.items():
        if keys and word not in ("auto", update):
            what = f"method.{keys[0]}={spelled(options[keys[0]])}"
            raise UserError(
                f"{what} has no meaning with method.update={word}",
                f"leave method.{keys[0]} out, or use method.update={update}",
            )
    wanted = [update for update, keys in given.items() if keys]
    if word == "auto" and len(wanted) > 1:
        first, second = (given[update][0] for update in wanted)
        raise UserError(
            f"method.{first}={spelled(options[first])} is of method.update={wanted[0]}, and "
            f"method.{second}={spelled(options[second])} of method.update={wanted[1]}",
            "leave one of them out",
        )
    return wanted[0] if word == "auto" and wanted else word
