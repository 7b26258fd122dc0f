"""The arguments of a command line, checked before Hydra composes a configuration from them.

Hydra and its parser answer many mistakes in words of their own; here each kind gets one line, with its remedy. What a
value may be is not asked here but by `lgm_cli.command.rules`, once the configuration is composed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lgm_cli.command import choices
from lgm_cli.command.error_messages import QUOTING, unknown_choice
from lgm_cli.errors import UserError, shortened, spelled

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

MOST_RUNS = 1_000  # of a sweep: Hydra composes them all before the first begins, some five a second
MOST_NESTED = 20  # brackets; the parser calls itself for each
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
PARAMS = "hydra.sweeper.params"
FOREIGN = {  # what would bring in code or configurations from elsewhere, or write where lgm-run does itself
    "hydra.callbacks": "leave it out: lgm-run has no callbacks",
    "hydra.output_subdir": "leave it out: the record of a run is in .hydra",
    "hydra.searchpath": "a folder with YAML files of your own is given by --config-dir DIR",
}


def check(overrides: list[str], *, sweep: bool, folder: str | None = None) -> None:
    """Refuse what cannot be meant. folder: of YAML files of the user's own, whose choices are known too."""
    parsed = [_parsed(text) for text in overrides]
    parsed += [_parsed(text) for override in parsed for text in _params(override)]
    for override in parsed:
        _check_key(override)
        if override.key_or_group in choices.GROUPS:
            _check_choice(override, folder)
        if not sweep and override.is_sweep_override():
            raise UserError(f"{override.key_or_group} has several values", "add --multirun to run them all")
    chosen = {override.get_key_element(): override for override in parsed}  # of one key given twice the last counts
    sweeper = chosen.get("hydra/sweeper")
    if sweep and (sweeper is None or sweeper.value() == "basic"):  # others draw runs and state how many
        _check_number(chosen.values())


def _parsed(text: str) -> Override:
    """One argument as Hydra reads it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if not text.strip():
        raise UserError("an argument is empty", "leave it out; is a variable of the shell not set?")
    shown = shortened(text)
    depths = itertools.accumulate((char in "[{(") - (char in "]})") for char in text)
    if max(depths) > MOST_NESTED:
        raise UserError(f"cannot read the argument {shown}", "its brackets are nested too deeply")
    try:
        parsed = OverridesParser.create().parse_override(text)
    except ValueError as error:  # Python converts no integer of more than 4,300 digits
        raise UserError(f"cannot read the argument {shown}", "its number has too many digits") from error
    except Exception as error:  # the parser has an error of its own for each of its parts
        raise UserError(f"cannot read the argument {shown}", QUOTING) from error
    if not parsed.key_or_group:
        raise UserError(f"the argument {shown} names no key", QUOTING)
    return parsed


def _params(override: Override) -> Iterator[str]:
    """The sweep that a key of Hydra's sweeper stands for, as arguments."""
    key, value = override.key_or_group, override.value()
    if key == PARAMS and isinstance(value, Mapping):
        yield from (f"{name}={text}" for name, text in value.items())
    elif key.startswith(f"{PARAMS}."):
        yield f"{key.removeprefix(f'{PARAMS}.')}={value}"


def _check_key(override: Override) -> None:
    key, package = override.key_or_group, override.package
    group, _, last = key.partition(".")
    value = override.value() if override.value_type is not None else None
    if package is not None:
        raise UserError(f"{key}@{package} names a place for {key}", f"write {key}=CHOICE: it has its place")
    if group in choices.GROUPS and last == "name":
        raise UserError(f"{key} cannot be set", f"use {group}={spelled(value)}")
    if "allowed" in key.split("."):
        raise UserError(f"{key} cannot be set", "it is the rule that values are checked against")
    for foreign, mend in FOREIGN.items():
        if f"{key}.".startswith(f"{foreign}."):
            raise UserError(f"{foreign} cannot be set", mend)
    if key == "hydra/callbacks":
        raise UserError("hydra/callbacks cannot be set", FOREIGN["hydra.callbacks"])
    if key in FOLDERS and value in ("", "???", None):
        raise UserError(f"{key}={spelled(value)} is not the name of a folder", "write it out, or leave it out")
    if key == "hydra":
        raise UserError("hydra cannot be set as a whole", "set a key of it, e.g. hydra.run.dir=DIR")
    if key.startswith("hydra/") and not isinstance(value, str) and not override.is_sweep_override():
        raise unknown_choice(key, spelled(value))
    if "_target_" in key.split(".") or _holds(value, "_target_"):
        raise UserError(f"{key} names code by _target_", "choose among the names that lgm-run --help lists")


def _holds(value: Any, key: str) -> bool:
    """Whether a key occurs anywhere in a value."""
    if isinstance(value, Mapping):
        return key in value or any(_holds(item, key) for item in value.values())
    return isinstance(value, list) and any(_holds(item, key) for item in value)


def _check_choice(override: Override, folder: str | None) -> None:
    """Refuse all but a name of the group."""
    group = override.key_or_group
    offered = choices.choices(group)
    own = _names_in(Path(folder, group)) if folder else []
    if override.is_delete():
        raise UserError(f"{group} cannot be taken away", f"choose one: {', '.join(offered)}")
    if override.is_add() or override.is_force_add():
        raise UserError(f"{group} is there already", f"write {group}=CHOICE, without +")
    values: Any = [override.value()]
    if override.is_sweep_override():
        if not override.is_choice_sweep() or not hasattr(values[0], "list"):
            return
        values = [getattr(item, "text", item) for item in values[0].list]  # a quoted text has its quotes beside it
    for value in values:
        if isinstance(value, list | Mapping):
            raise UserError(
                f"{group}={spelled(value)} is not one choice",
                f"several run one after the other with --multirun {group}=A,B",
            )
        if value not in (*offered, *own):
            raise unknown_choice(group, spelled(value))


def _names_in(folder: Path) -> list[str]:
    return [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")]


def _check_number(overrides: Iterable[Override]) -> None:
    """Refuse a sweep of more runs than can be wanted, before they are written out one by one."""
    counts = {override.key_or_group: _count(override) for override in overrides if override.is_sweep_override()}
    number = math.prod(counts.values())
    factors = " x ".join(f"{_written(count)} of {key}" for key, count in counts.items())
    if number == 0:
        raise UserError(f"the sweep has no runs: {factors}", "give each key a value")
    if number > MOST_RUNS:
        raise UserError(
            f"the sweep has {_written(number)} runs: {factors}",
            f"at most {MOST_RUNS:,} are one sweep: give fewer values, or several sweeps",
        )


def _written(number: int) -> str:
    return f"{number:,}" if number < 10**15 else "more than 10^15"


def _count(override: Override) -> int:
    """How many values a key has."""
    sweep: Any = override.value()
    if override.is_range_sweep():
        try:
            start, stop, step = (Fraction(value) for value in (sweep.start, sweep.stop, sweep.step))
            return max(0, math.ceil((stop - start) / step))
        except (ValueError, ArithmeticError):  # infinite, not a number, a step of zero
            shown = shortened(str(override.input_line))
            raise UserError(f"{shown} has no number of values", "write range(START,STOP,STEP)") from None
    if not override.is_discrete_sweep():
        raise UserError(
            f"{override.key_or_group}=interval(..) has no values of its own",
            "write its values or range(..), or choose a sweeper that draws from it by hydra/sweeper=NAME",
        )
    if hasattr(sweep, "filter"):  # a pattern for the choices of a group
        return len(sweep.filter(list(choices.choices(override.key_or_group))))
    return len(sweep.list)
