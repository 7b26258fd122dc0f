"""Say in one line, with the nearest right name, what Hydra and the file system say in many."""

from __future__ import annotations

import itertools
import re

from lgm_cli.command import choices
from lgm_cli.errors import RunFailed, UserError, nearest, shortened
from lgm_cli.machine import out_of_memory

SEE_HELP = "lgm-run --help lists what there is"
OTHER_FOLDER = "choose another with hydra.run.dir=DIR, or hydra.sweep.dir=DIR for a sweep"
OUT_OF_MEMORY = RunFailed("out of memory before a run began", "free some, or raise the limit that ulimit -v shows")
PLUGINS = {
    "hydra/launcher": "pip install 'lgm-run[launchers]' brings joblib, submitit_local, submitit_slurm and ray",
    "hydra/sweeper": "basic is there; others are plugins of Hydra's, e.g. pip install hydra-optuna-sweeper for optuna",
}
OBJECT = re.compile(r"\s*(full_key|object_type|reference_type)[:=]")
GRAMMAR = r"GrammarParseError|viable alternative|extraneous input|mismatched input|token recognition"  # ANTLR's words
QUOTING = """write KEY=VALUE; quote a value with special characters twice: 'data.path="my (1).csv"'"""


def unknown_choice(group: str, choice: str) -> UserError:
    """The error for group=choice where there is no such choice."""
    if group.startswith("hydra/"):
        return UserError(f"there is no {group}={choice}", PLUGINS.get(group, "leave it out: --hydra-help tells more"))
    offered = choices.choices(group)
    close = nearest(choice, offered)
    listing = f"choices: {', '.join(offered)}"
    return UserError(f"there is no {group}={choice}", f"did you mean {group}={close}? {listing}" if close else listing)


def unknown_key(key: str) -> UserError:
    """The error for a key, or a group, that the composed configuration does not have."""
    group, _, last = key.partition(".")
    if group in choices.GROUPS and (having := choices.owners(group, last)):
        return UserError(f"{key} is not a key of the chosen {group}", f"it belongs to {group}={', '.join(having)}")
    known = choices.all_keys()
    same_ending = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    close = nearest(key, [*known, *choices.GROUPS, "resume", "apply", "hydra.run.dir", "hydra.sweep.dir"])
    meant = " or ".join(same_ending) or close
    return UserError(f"there is no key {key}", f"did you mean {meant}?" if meant else SEE_HELP)


REFERENCES = {  # OmegaConf's words about ${...}, as those of a key; what to do
    r"Interpolation key '(.*)' not found": ("refers to {0}, which is not there", "write a value, or a key that exists"),
    r"Recursive interpolation": ("refers to itself", "write a value"),
    r"Environment variable '(.*)' not found": (
        "refers to a variable of the environment, {0}, that is not set",
        "set it",
    ),
    r"Unsupported interpolation type (\S+)": ("refers to {0}:, which is not there", "write a value"),
}


def explain(error: Exception, overrides: list[str]) -> UserError:
    """The one line for an error that Hydra, OmegaConf or the file system raised before a run began.

    Hydra's exceptions are told apart by their fixed wording (the version is pinned to 1.3), since most have
    neither type nor attribute of their own; what is not known is passed on by its first sentence.
    """
    if out_of_memory(error):
        return OUT_OF_MEMORY
    text = str(error) or str(error.__cause__ or "")
    if isinstance(error, OSError) and error.filename and not hasattr(error, "missing_cfg_file"):
        return UserError(f"cannot write to {shortened(str(error.filename))}: {error.strerror}", OTHER_FOLDER)
    if missing := getattr(error, "missing_cfg_file", None):
        group, _, choice = missing.rpartition("/")
        return unknown_choice(group, choice) if group else UserError(_beginning(text), SEE_HELP)
    if match := re.match(r"Could not override '([^'@]+)", text):
        return unknown_key(match[1])
    if match := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.*)'", text):
        return UserError(f"{match[1]} has several values", "add --multirun to run them all")
    if match := re.search(r"An item is already at '(.*?)'", text):
        return UserError(f"{match[1]} is there already", f"write {match[1]}=VALUE, without +")
    if match := re.match(r"Could not delete '(.*?)'", text):
        return UserError(f"{match[1]} cannot be taken away", "leave it as it is, without ~")
    if isinstance(error, RecursionError) or re.search(GRAMMAR, f"{text} {error.__cause__}"):
        return UserError(f"cannot read the reference in {_referring(overrides)}", "write a value, or ${KEY}")
    if match := re.match(r"Error merging override (.*)", text):
        why = _beginning(str(error.__cause__ or ""))
        return UserError(f"{match[1]} is not possible{': ' if why else ''}{why}", "change it or leave it out")
    for pattern, (what, mend) in REFERENCES.items():
        if match := re.search(pattern, text):
            key = getattr(error, "full_key", None) or "a key"
            return UserError(f"{key} {what.format(*match.groups())}", mend)
    if text.startswith("Unable to configure"):
        return UserError("the logging that is asked for cannot be set up", "leave out hydra/job_logging and the like")
    if type(error).__module__ == "builtins":  # the text of a KeyError, say, is the key alone
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return UserError(_beginning(text), SEE_HELP)


def _referring(overrides: list[str]) -> str:
    """The arguments that refer to others."""
    return " ".join(shortened(item) for item in overrides if "${" in item) or "the configuration"


def _beginning(text: str) -> str:
    """The first paragraph of a message, on one line, without what OmegaConf says of its own objects."""
    lines = itertools.takewhile(lambda line: line.strip() and not OBJECT.match(line), text.splitlines())
    return " ".join(line.strip() for line in lines)
