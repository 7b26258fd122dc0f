"""`lgm-run resume=RUN_DIR`: the configuration of a run that is to go on, and the little that may be changed in it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lgm_cli.command import choices, rules
from lgm_cli.command.outputs import LATEST
from lgm_cli.errors import ANEW, UserError, nearest
from lgm_cli.results.run_folder import OPEN, key_of, status_of, with_later_keys

LIMITS = ("max_steps", "max_seconds")


@dataclass(frozen=True)
class Resumed:
    """A run that is to go on: where it is, and its configuration and overrides with what was given anew."""

    folder: Path
    config: dict[str, Any]
    overrides: list[str]


def asked(overrides: list[str], key: str = "resume") -> bool:
    """Whether a command line is one that resumes a run, or has another such key."""
    return any(key_of(item) == key for item in overrides)


def read(options: list[str], overrides: list[str]) -> Resumed:
    """What the command line asks for; UserError when it asks for more, or when there is nothing to go on from."""
    given = {key_of(item): item.partition("=")[2] for item in overrides}
    others = [item for item in overrides if key_of(item) not in ("resume", *OPEN)]
    if refused := [*options, *others]:
        raise UserError(
            f"resume= cannot be joined by {', '.join(refused)}",
            f"a run goes on as it was configured; only {', '.join(OPEN)} may be given anew",
        )
    if len(given) < len(overrides):
        raise UserError("a key is given twice", f"{' '.join(overrides)} must name each once")
    folder = folder_of("resume", given.pop("resume"))
    recorded, earlier = recorded_in(folder, complete=True)
    status = status_of(folder)
    if status == "diverged":
        raise UserError(
            f"{folder} has diverged", "it would again; start anew, e.g. with a smaller method.learning_rate"
        )
    if not (folder / "checkpoint" / "state.pt").is_file():
        raise UserError(f"{folder} holds no checkpoint", ANEW)
    changed = {key: _value(key, text, recorded) for key, text in given.items()}
    before = recorded["tolerance"]
    if status == "converged" and changed.get("tolerance", before) == before:
        smaller = f"tolerance={before / 10 if isinstance(before, float) and before else 1e-6:g}"
        raise UserError(
            f"{folder} has converged", f"nothing is left to learn; it goes on with a smaller tolerance, e.g. {smaller}"
        )
    kept = [item for item in earlier if key_of(item) not in changed]
    return Resumed(folder, _with(recorded, changed), kept + [f"{key}={text}" for key, text in given.items()])


def folder_of(key: str, name: str) -> Path:
    """The folder that resume=NAME, or another key, means."""
    folder = Path(os.path.expanduser(name)).absolute()  # a name without a home is left as it is
    if name and folder.is_dir():
        moving = any(part.name == LATEST and part.is_symlink() for part in (folder, *folder.parents))
        return Path(os.path.realpath(folder)) if moving else folder
    if name and folder.exists():
        raise UserError(f"{key}={name} is a file", "give the folder of the run")
    beside = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
    close = nearest(folder.name, beside) if name else None
    mend = f"did you mean {key}={Path(name).with_name(close)}?" if close else "give the folder of a run"
    raise UserError(f"{key}={name} does not exist" if name else f"{key}= names no folder", mend)


def recorded_in(folder: Path, complete: bool = False) -> tuple[dict[str, Any], list[str]]:
    """Configuration and overrides as the run has recorded them. complete: as `rules.check_recorded` takes it."""
    place = folder / ".hydra"
    try:
        recorded, overrides = (
            yaml.safe_load((place / f"{name}.yaml").read_text(encoding="utf-8")) for name in ("config", "overrides")
        )
        for key in OPEN:
            _get(recorded, key)
        recorded, overrides = with_later_keys(recorded), [str(item) for item in overrides]
    except (OSError, ValueError, TypeError, LookupError, RecursionError, yaml.YAMLError):  # not there, or not a run's
        runs = sorted(path.parent.name for path in folder.glob("*/.hydra"))
        mend = f"it holds runs: {', '.join(runs[:3])}" if runs else "give a folder that lgm-run has written"
        what = f"{folder} is not the folder of a run: .hydra/ is missing or cannot be read"
        raise UserError(what, mend) from None
    try:
        return rules.check_recorded(recorded, complete), overrides
    except UserError as error:
        what = f"{place / 'config.yaml'} is not as a run has written it: {error.what}"
        raise UserError(what, "write it as it was, or learn the run again") from None


def _value(key: str, text: str, recorded: Mapping[str, Any]) -> Any:
    """A value given anew, by its rule, and not below what it was."""
    source, name = OPEN[key], key.rpartition(".")[2]
    rule = rules.Rule.parse(choices.keys(source)[name].rule)
    value = rules.check_value(key, source, number(text), rule)
    before = _get(recorded, key)
    own = f"the run's own {key}={'none' if before is None else before}"
    if key in LIMITS and _limit(value) < _limit(before):
        raise UserError(f"{key}={text} is less than {own}", "a limit may only be raised")
    if key == "tolerance" and _limit(value) > _limit(before):
        raise UserError(f"{key}={text} is more than {own}", "a tolerance may only be lowered")
    return value


def number(text: str) -> int | float | str | None:
    """A value as it stands on the command line."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return None if text == "null" else text


def _limit(value: Any) -> float:
    """auto may be any number, so it is neither less nor more than one."""
    return math.inf if value is None else math.nan if isinstance(value, str) else value


def _get(settings: Mapping[str, Any], key: str) -> Any:
    group, _, name = key.rpartition(".")
    return (settings[group] if group else settings)[name]


def _with(settings: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the configuration in which some values are others."""
    copy = {key: dict(value) if isinstance(value, Mapping) else value for key, value in settings.items()}
    for key, value in changed.items():
        group, _, name = key.rpartition(".")
        (copy[group] if group else copy)[name] = value
    return copy
