"""What conf/ offers: its groups, choices, keys and their rules.

Read as plain YAML, so that nothing heavy is imported. The help text and the suggestions for a mistyped name
come from here, so they cannot go stale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

GROUPS = ("model", "data", "method", "solver", "device", "experiment")


@dataclass(frozen=True)
class Key:
    """A key of a YAML, with its default, its rule in the grammar of lgm_cli.config, and what it means."""

    default: Any
    rule: str
    meaning: str


def conf_folder() -> Path:
    """The folder of YAML files: inside the package where it was installed from a wheel, else beside it."""
    package = Path(__file__).resolve().parents[1]
    candidates = (package / "conf", package.parent / "conf")
    return next((folder for folder in candidates if (folder / "config.yaml").is_file()), candidates[0])


@cache
def read(name: str) -> dict[str, Any]:
    """The content of conf/`name`.yaml, e.g. name = solver/cholesky."""
    return yaml.safe_load((conf_folder() / f"{name}.yaml").read_text(encoding="utf-8")) or {}


@cache
def choices(group: str) -> tuple[str, ...]:
    """The choices of a group, its default first."""
    default = defaults().get(group)
    names = (path.stem for path in (conf_folder() / group).glob("*.yaml"))
    return tuple(sorted(names, key=lambda name: (name != default, name)))


@cache
def defaults() -> dict[str, str | None]:
    """The choice of each group when the user makes none: config.yaml's, or what another default picks."""
    stated = {group: name for entry in read("config")["defaults"] if entry != "_self_" for group, name in entry.items()}
    picked = {}
    for group, name in stated.items():
        if name not in (None, "???"):
            picked |= picks(group, name)
    return {group: picked.get(group) if name == "???" else name for group, name in stated.items()}


def picks(group: str, choice: str) -> dict[str, str]:
    """What a choice picks in other groups, unless the user picks: {"solver": "cholesky"} for method/em."""
    entries = [entry for entry in read(f"{group}/{choice}").get("defaults", []) if isinstance(entry, dict)]
    return {name.removeprefix("override /").split("@")[0]: value for entry in entries for name, value in entry.items()}


@cache
def keys(name: str) -> dict[str, Key]:
    """The keys of conf/`name`.yaml that a user may set; a rule's trailing comment says what the key means."""
    content = read(name)
    comments = dict(
        re.findall(
            r"^  ([\w.]+): .*?  +# (.*)$",
            (conf_folder() / f"{name}.yaml").read_text(encoding="utf-8"),
            flags=re.MULTILINE,
        )
    )
    allowed, values = content.get("allowed", {}), flat(content)
    return {key: Key(values.get(key), rule, comments.get(key, "")) for key, rule in allowed.items()}


def flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of one YAML as the command line spells them: {"plots.format": "png"} of {"plots": {"format": "png"}}."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        inner = isinstance(value, Mapping) and value and key != "allowed"
        found |= {f"{key}.{name}": item for name, item in value.items()} if inner else {key: value}
    return found


def nested(content: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flat`."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        outer, _, inner = key.partition(".")
        if inner:
            found.setdefault(outer, {})[inner] = value
        else:
            found[key] = value
    return found


@cache
def describe(group: str, choice: str) -> str:
    """The first comment of a choice's YAML."""
    text = (conf_folder() / group / f"{choice}.yaml").read_text(encoding="utf-8")
    return next((line[2:] for line in text.splitlines() if line.startswith("# ") and "@package" not in line), "")


def owners(group: str, key: str) -> list[str]:
    """The choices of a group that have a key."""
    return [choice for choice in choices(group) if key in keys(f"{group}/{choice}")]


def all_keys() -> list[str]:
    """Every key that some configuration has, as the command line spells it."""
    found = list(keys("config"))
    for group in GROUPS:
        for choice in choices(group):
            found += [f"{group}.{name}" for name in keys(f"{group}/{choice}")]
    return list(dict.fromkeys(found))
