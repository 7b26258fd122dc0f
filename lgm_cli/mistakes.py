"""Say in one line, with the nearest right name, what Hydra and the file system say in many."""

from __future__ import annotations

import re

from lgm_cli import catalogue
from lgm_cli.errors import UserError, nearest

SEE_HELP = "lgm-run --help lists what there is"
OTHER_FOLDER = "choose another with hydra.run.dir=DIR, or hydra.sweep.dir=DIR for a sweep"
QUOTING = """write KEY=VALUE; quote a value with special characters twice: 'data.path="my (1).csv"'"""


def unknown_choice(group: str, choice: str) -> UserError:
    """The error for group=choice where there is no such choice."""
    if group.startswith("hydra/"):
        return UserError(f"there is no {group}={choice}", "pip install 'lgm-run[launchers]' brings Hydra's launchers")
    offered = catalogue.choices(group)
    close = nearest(choice, offered)
    listing = f"choices: {', '.join(offered)}"
    return UserError(f"there is no {group}={choice}", f"did you mean {group}={close}? {listing}" if close else listing)


def unknown_key(key: str) -> UserError:
    """The error for a key, or a group, that the composed configuration does not have."""
    group, _, last = key.partition(".")
    if group in catalogue.GROUPS and (having := catalogue.owners(group, last)):
        return UserError(f"{key} is not a key of the chosen {group}", f"it belongs to {group}={', '.join(having)}")
    known = catalogue.all_keys()
    same_ending = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    close = nearest(key, [*known, *catalogue.GROUPS, "resume", "apply", "hydra.run.dir", "hydra.sweep.dir"])
    meant = " or ".join(same_ending) or close
    return UserError(f"there is no key {key}", f"did you mean {meant}?" if meant else SEE_HELP)


def explain(error: Exception, overrides: list[str]) -> UserError:
    """The one line for an error that Hydra, OmegaConf or the file system raised before a run began.

    Hydra's exceptions are told apart by their fixed wording (the version is pinned to 1.3), since most have
    neither type nor attribute of their own; what is not known is passed on by its first line.
    """
    text = str(error) or str(error.__cause__)
    if isinstance(error, OSError) and error.filename and not hasattr(error, "missing_cfg_file"):
        where = f"{error.filename}: {error.strerror}"
        return UserError(f"cannot write to {where}", OTHER_FOLDER)
    if missing := getattr(error, "missing_cfg_file", None):
        group, _, choice = missing.rpartition("/")
        return unknown_choice(group, choice) if group else UserError(text.splitlines()[0], SEE_HELP)
    if match := re.match(r"Could not override '([^'@]+)", text):
        return unknown_key(match[1])
    if match := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.*)'", text):
        return UserError(f"{match[1]} has several values", "add --multirun to run them all")
    if unreadable := getattr(error, "override", None):  # OverrideParseException
        return UserError(f"cannot read the argument {unreadable}", QUOTING)
    if text.startswith("Config group override must be a string"):
        for override in overrides:
            group, _, choice = override.lstrip("+").partition("=")
            if group in catalogue.GROUPS and choice not in catalogue.choices(group):
                return unknown_choice(group, choice)
    if match := re.search(r"An item is already at '(.*?)'", text):
        return UserError(f"{match[1]} is there already", f"write {match[1]}=VALUE, without +")
    return UserError(text.splitlines()[0] if text else type(error).__name__, SEE_HELP)
