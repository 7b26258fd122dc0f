"""Check a composed configuration against the rules that its YAML files state beside their keys.

A rule is one line of a small grammar, under `allowed:` in the YAML that gives the key its default:

    integer | number | boolean | text | texts | path | blocks of a, b, c | one of a, b, c
    followed for integer and number by bounds:  >= x, > x, <= x, < x, joined by `and`
    followed by the words that are allowed too:  , or auto   , or none   (none is YAML's null)

Numbers are finite and integers below 2^53, exact in every format; a path is that of a file that can be read;
texts are a list or a single one. Blocks are a list of {family: one of these, columns: texts}; columns may be left out.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lgm_cli.command import choices
from lgm_cli.command.error_messages import unknown_key
from lgm_cli.errors import UserError, nearest, shortened, spelled
from lgm_cli.run.updates import asked

PARTS = ("model", "data", "method", "solver", "device")
MISSING = "???"
LARGEST = {"integer": 2**53, "number": sys.float_info.max}
NOUNS = {
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "text": "a text",
    "texts": "a text or several, [A,B]",
    "path": "a file",
}
COMPARISONS = {
    ">=": lambda value, bound: value >= bound,
    ">": lambda value, bound: value > bound,
    "<=": lambda value, bound: value <= bound,
    "<": lambda value, bound: value < bound,
}


@dataclass(frozen=True)
class Rule:
    """A parsed rule: what a value may be."""

    kind: str  # integer, number, boolean, text, texts, path, blocks or choice
    options: tuple[str, ...]  # of a choice, or families of blocks
    bounds: tuple[tuple[str, float], ...]  # of an integer or a number
    words: tuple[str, ...]  # auto, none

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read a rule; ValueError when it is not in the grammar."""
        body, *words = text.split(", or ")
        if set(words) - {"auto", "none"}:
            raise ValueError(f"not a rule: {text!r}")
        if body.startswith("one of "):
            return cls("choice", tuple(body.removeprefix("one of ").split(", ")), (), tuple(words))
        if body.startswith("blocks of "):
            return cls("blocks", tuple(body.removeprefix("blocks of ").split(", ")), (), tuple(words))
        kind, *limits = re.split(r" and | (?=[<>])", body)
        matches = [re.fullmatch(r"([<>]=?) (\S+)", limit) for limit in limits]
        if kind not in NOUNS or not all(matches):
            raise ValueError(f"not a rule: {text!r}")
        return cls(kind, (), tuple((match[1], float(match[2])) for match in matches if match), tuple(words))

    def __str__(self) -> str:
        if self.kind == "choice":
            text = f"{'one of ' if len(self.options) > 1 else ''}{', '.join(self.options)}"
        elif self.kind == "blocks":
            text = f"a list of blocks, [{{family:{self.options[0]},columns:[A,B]}},..], of {', '.join(self.options)}"
        else:
            limits = (f"{comparison} {bound:.15g}" for comparison, bound in self.bounds)
            text = f"{NOUNS[self.kind]} {' and '.join(limits)}".rstrip()
        return ", or ".join([text, *self.words])

    def convert(self, value: Any) -> Any:
        """The value in its own type (an integral 1e3 is the integer 1000), or ValueError."""
        if value in ("none", None) and "none" in self.words:
            return None
        if value == "auto" and "auto" in self.words:
            return value
        match self.kind:
            case "boolean" if isinstance(value, bool):
                return value
            case "choice" if value in self.options:
                return value
            case "text" | "path" if _is_text(value):
                return str(value)
            case "texts" if (each := value if isinstance(value, list) else [value]) and all(map(_is_text, each)):
                return [str(item) for item in each]
            case "blocks" if isinstance(value, list) and value:
                return [_block(item, self.options) for item in value]
            case "integer" | "number" if isinstance(value, int | float) and not isinstance(value, bool):
                return self._bounded(value)
        raise ValueError

    def _bounded(self, value: float) -> float:
        if not abs(value) < LARGEST[self.kind] or (self.kind == "integer" and value != int(value)):
            raise ValueError  # the comparison is false for nan too
        if not all(COMPARISONS[comparison](value, bound) for comparison, bound in self.bounds):
            raise ValueError
        return int(value) if self.kind == "integer" else float(value)


def _block(value: Any, families: tuple[str, ...]) -> dict[str, Any]:
    """A block of columns in its own types, or ValueError."""
    if not isinstance(value, Mapping) or value.keys() - {"family", "columns"} or value.get("family") not in families:
        raise ValueError
    columns = value.get("columns")
    each = columns if isinstance(columns, list) else [] if columns is None else [columns]
    if not all(map(_is_text, each)):
        raise ValueError
    return {"family": value["family"], "columns": [str(name) for name in each] or None}


def _is_text(value: Any) -> bool:
    """A word of the command line, which Hydra may have read as a number."""
    return isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""


def check(config: Mapping[str, Any]) -> dict[str, Any]:
    """The checked configuration without its rules; UserError for the first value that is not allowed."""
    top = {key: value for key, value in config.items() if key not in PARTS}
    checked = choices.nested(_check_part("", "config", choices.flat(top)))
    for part in PARTS:
        content = config.get(part)
        if not isinstance(content, Mapping) or "name" not in content:
            raise UserError(f"no {part} is chosen", f"choices: {', '.join(choices.choices(part))}")
        checked[part] = _check_part(f"{part}.", f"{part}/{content['name']}", content)
    _check_combination(checked)
    if checked["method"]["name"] == "auto":
        checked["method"]["among"] = {name: _defaults(name) for name in ("em", "unroll")}
    return checked


def _defaults(method: str) -> dict[str, Any]:
    """A method and the solver that it picks, each with the values of its YAML: what method=auto may decide for."""
    chosen = {"method": method, "solver": choices.picks("method", method)["solver"]}
    return {
        group: {"name": name} | {key: entry.default for key, entry in choices.keys(f"{group}/{name}").items()}
        for group, name in chosen.items()
    }


def check_recorded(config: Mapping[str, Any], complete: bool) -> dict[str, Any]:
    """A configuration as a run has recorded it, without its rules, checked against those of conf/.

    Files may have gone since; choices that conf/ does not have are from YAML files of the user's own. complete: the
    keys must be those of this version.
    """
    top = choices.flat({key: value for key, value in config.items() if key not in PARTS})
    _check_values(top, "", "config", complete)
    checked = choices.nested(top)
    for part in PARTS:
        content = config.get(part)
        if not isinstance(content, Mapping) or not isinstance(content.get("name"), str):
            raise UserError(f"no {part} is chosen", f"choices: {', '.join(choices.choices(part))}")
        checked[part] = dict(content)
        if content["name"] in choices.choices(part):
            _check_values(checked[part], f"{part}.", f"{part}/{content['name']}", complete)
    return checked


def _check_values(content: dict[str, Any], prefix: str, source: str, complete: bool) -> None:
    """Convert the recorded values of one YAML in place."""
    keys = choices.keys(source)
    if complete and (differing := keys.keys() ^ (content.keys() - {"name"})):
        names = ", ".join(sorted(f"{prefix}{key}" for key in differing))
        raise UserError(f"another version of lgm-run knew other keys: {names}", "use that version")
    for key in keys.keys() & content.keys():
        rule = Rule.parse(keys[key].rule)
        try:
            content[key] = rule.convert(content[key])
        except ValueError:
            raise _refusal(prefix + key, source, content[key], rule) from None


def _check_part(prefix: str, source: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """One YAML's keys against its rules. prefix: of its keys on the command line, e.g. `solver.`."""
    rules = content.get("allowed", {})
    for key in content:
        if key not in rules and key not in ("name", "allowed"):
            raise unknown_key(prefix + key)
    checked = {"name": content["name"]} if "name" in content else {}
    for key, text in rules.items():
        if content.get(key, MISSING) == MISSING:
            raise UserError(f"{prefix}{key} is missing", f"add {prefix}{key}=..., {Rule.parse(text)}")
        checked[key] = check_value(prefix + key, source, content[key], Rule.parse(text))
    return checked


def check_value(key: str, source: str, value: Any, rule: Rule) -> Any:
    """A value in its own type. key: as on the command line; source: the YAML that states its rule."""
    try:
        converted = rule.convert(value)
    except ValueError:
        raise _refusal(key, source, value, rule) from None
    if rule.kind == "path" and converted is not None:
        return _readable_file(key, converted)
    return converted


def _refusal(key: str, source: str, value: Any, rule: Rule) -> UserError:
    """Say what was given, what is allowed, and something that is."""
    given = f"{key}={spelled(value)}"
    if rule.kind == "choice":
        if len(rule.options) == 1:
            group, _, choice = source.partition("/")
            others = ", ".join(other for other in choices.choices(group) if other != choice)
            return UserError(
                f"{given} is not possible with {group}={choice}",
                f"leave {key} out, or choose another {group}: {others}",
            )
        close = nearest(spelled(value), rule.options)
        return UserError(f"{given} is not {rule}", f"e.g. {key}={close or rule.options[0]}")
    default = _default(key, source)
    return UserError(f"{given} is not {rule}", f"e.g. {key}={default}" if default else "change it or leave it out")


def _default(key: str, source: str) -> str | None:
    """The YAML's own value, as an example of what is allowed."""
    try:
        default = choices.keys(source)[key if source == "config" else key.rpartition(".")[2]].default
    except (OSError, KeyError):  # a YAML from the user's own --config-dir
        return None
    return "FILE" if default == MISSING else spelled(default)


def _readable_file(key: str, name: str) -> str:
    """The absolute path of a file that can be opened: a run may be resumed in another working directory."""
    shown = f"{key}={shortened(name)}"
    path = Path(name)
    try:
        path = path.expanduser()
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{shown} does not exist", _where_it_may_be(path)) from None
    except (OSError, ValueError, RuntimeError) as error:  # too long a name, a zero byte, ~ of a user who is not there
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{shown} cannot be a file: {reason}", "give the name of one") from error
    if stat.S_ISDIR(mode):
        raise UserError(f"{shown} is a folder", f"give a file in it, e.g. {key}={path / 'FILE'}")
    if not stat.S_ISREG(mode):
        raise UserError(f"{shown} is a pipe or a device", "write its content to a file: data are read more than once")
    if not os.access(path, os.R_OK):
        raise UserError(f"{shown} cannot be read", "check its permissions")
    return str(path.absolute())


def _where_it_may_be(path: Path) -> str:
    """What to try instead of a file that does not exist."""
    neighbours: list[str] = []
    with suppress(OSError):
        neighbours = sorted(os.listdir(path.parent))
    close = nearest(path.name, neighbours)
    return f"did you mean {path.parent / close}?" if close else f"it is looked for in {path.parent.absolute()}"


def _check_combination(config: Mapping[str, Any]) -> None:
    """Refuse choices that are each allowed but have no meaning together."""
    method, solver = config["method"], config["solver"]
    iterative = "max_iterations" in solver
    if method.get("posterior") in ("exact", "tempered") and iterative:
        raise UserError(
            f"method={method['name']} takes the exact posterior, which solver={solver['name']} only nears",
            f"leave solver out, or use method=unroll solver={solver['name']}",
        )
    if "update" in method:
        asked(method)
