"""The options of the command line, and the text of `lgm-run --help`, made from conf/."""

from __future__ import annotations

import argparse
import os
import textwrap
from typing import Any, NoReturn

from lgm_cli import __version__
from lgm_cli.command import choices
from lgm_cli.command.error_messages import SEE_HELP, unknown_choice
from lgm_cli.command.rules import Rule
from lgm_cli.errors import UserError, nearest

WIDTH = 110
NAMES_WIDTH = 80
USAGE = f"""\
lgm-run {__version__}: latent variable models by EM, its variants and probabilistic unrolling.

usage: lgm-run [GROUP=CHOICE ...] [KEY=VALUE ...]   one run
       lgm-run --multirun [KEY=VALUE,VALUE ...]     a run for each combination
       lgm-run resume=RUN_DIR [max_steps=N]         go on with a run that was stopped
       lgm-run apply=RUN_DIR data.path=FILE         a finished run on new data
       lgm-run report=DIR[,DIR...]                  the page of a run, or runs compared
"""
EXAMPLES = """\
examples:
  lgm-run                                       films' factors from MovieLens ratings
  lgm-run data=csv data.path=table.csv          a table of your own: fill its gaps
  lgm-run data=ratings data.path=ratings.csv    user, item, rating[, timestamp]
  lgm-run model=linear_regression data=csv data.path=t.csv data.target=y
  lgm-run model=state_space data=series data.path=days.csv data.forecast=14
  lgm-run model=sparse_bayes data=image data.path=picture.png
  lgm-run model=gaussian_mixture starts=5       clusters, the best of five starts
  lgm-run --multirun method=em,unroll seed=0,1,2         six runs, compared
  lgm-run resume=outputs/latest max_seconds=120          two more minutes
  lgm-run apply=outputs/latest data.path=new.csv         its answers for new rows
"""
MORE = """\
more:  lgm-run --help model=ppca     what a choice is, and its keys (any other too)
       lgm-run --help all            every key with its default and what is allowed

Each run gets a folder in outputs/runs, named at its end: report.html shows it all.
exit codes: 0 finished, 1 failed, 2 something you can mend, 130 interrupted.
"""

TAIL = """\
stopping: Ctrl-C or SIGTERM ends a run after its step and writes everything; a second one ends it at once.
With resume=RUN_DIR a run that was stopped or killed, or that has met max_steps or max_seconds, goes on from
its last checkpoint as if it had not stopped, and with a smaller tolerance so does one that has converged.
Only these three and device.threads may be given: limits to be raised, a tolerance to be lowered.

With apply=RUN_DIR data.path=FILE a finished run is put to new data with the same columns: their posterior and
likelihood, gaps filled, responses predicted, a series forecast, in a folder of its own in outputs/applied.
Only data.index, data.series, data.separator, data.decimal, data.encoding, data.missing, data.forecast,
device, device.*, save_posterior and hydra.run.dir may be given besides; of images data.measurements,
data.mask_file and data.slice in place of data.path.

results: every run gets a folder of its own in outputs/runs, a sweep in outputs/sweeps; hydra.run.dir=DIR and
hydra.sweep.dir=DIR choose another. A folder that holds a run already is refused: nothing is overwritten.
The same sweep in the same folder keeps what has ended, goes on with what was stopped, redoes what failed.

options:
  --help, -h               the short help; --help GROUP=CHOICE explains a choice, --help all is this text
  --version                the version
  --multirun, -m           run every combination of the values given; hydra/launcher=joblib runs them side by
                           side, and submitit and ray on clusters (pip install 'lgm-run[launchers]')
  --cfg job                show the configuration, with its rules, and run nothing
  --config-dir DIR         a folder with YAML files of your own beside those above; Hydra may run code from it
  --info defaults          which YAML files take part; --hydra-help shows the options of Hydra itself
  --shell-completion       eval "$(lgm-run --shell-completion install=bash)" completes groups and keys

exit codes: 0 finished; 1 the run diverged or failed; 2 the configuration, the data or a file is wrong; 130
interrupted, what was learned is written. A sweep: 1 when some of its runs failed, 2 when none could begin.
HYDRA_FULL_ERROR=1 shows the traceback behind an error.
"""


# Options with and without a value, and their short forms; all but the first two are Hydra's.
SWITCHES = {
    "help": "h",
    "version": None,
    "multirun": "m",
    "resolve": None,
    "hydra-help": None,
    "shell-completion": "sc",
}
VALUED = {"cfg": "c", "info": "i", "package": "p", "config-dir": "cd"}
MODES = ("multirun", "cfg", "info", "hydra-help", "shell-completion")  # each for itself
CHOICES = {
    "cfg": ("job", "hydra", "all"),
    "info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}


class _Parser(argparse.ArgumentParser):
    """Raises in one line what argparse would print over several."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message, SEE_HELP)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options, and the overrides wherever they stand among them."""
    parser = _Parser(prog="lgm-run", add_help=False, allow_abbrev=False)
    for name, short in SWITCHES.items():
        parser.add_argument(f"--{name}", *([f"-{short}"] if short else []), action="store_true")
    for name, short in VALUED.items():
        parser.add_argument(f"--{name}", f"-{short}", choices=CHOICES.get(name))
    parser.add_argument("overrides", nargs="*")
    options, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        close = nearest(unknown[0], [f"--{name}" for name in (*SWITCHES, *VALUED)])
        raise UserError(f"there is no option {unknown[0]}", f"did you mean {close}?" if close else SEE_HELP)
    given = [f"--{name}" for name in MODES if getattr(options, name.replace("-", "_"))]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} cannot be joined", "give one of them")
    if options.resolve and not options.cfg:
        raise UserError("--resolve goes with --cfg", "add --cfg job")
    if options.config_dir is not None and not os.path.isdir(options.config_dir):
        raise UserError(f"--config-dir {options.config_dir} is not a folder", "give one that is there")
    return options


def hydra_options(options: argparse.Namespace) -> list[str]:
    """The options as Hydra's own parser takes them."""
    given = {name: getattr(options, name.replace("-", "_")) for name in (*SWITCHES, *VALUED)}
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in given.items() if value]


def text(asked: list[str]) -> str:
    """The short help; with `all` the whole of it, with GROUP=CHOICE that choice and its keys.

    UserError for anything else, and for a choice that is not there.
    """
    if not asked:
        return "\n".join([USAGE, EXAMPLES, _names(), MORE])
    if asked == ["all"]:
        return "\n".join([USAGE, EXAMPLES, _choices(), _keys(), TAIL])
    return "\n".join(_one(*_group_and_choice(word)) for word in asked)


def _group_and_choice(word: str) -> tuple[str, str]:
    group, _, choice = word.partition("=")
    having = [group for group in choices.GROUPS if word in choices.choices(group)]
    if len(having) == 1:
        return having[0], word
    if group not in choices.GROUPS or not choice:
        close = nearest(word, [f"{group}={name}" for group in choices.GROUPS for name in choices.choices(group)])
        mend = f"did you mean --help {close}?" if close else "give all, or GROUP=CHOICE such as model=ppca"
        raise UserError(f"there is no help on {word}", mend)
    if choice not in choices.choices(group):
        raise unknown_choice(group, choice)
    return group, choice


def _names() -> str:
    """The names of all choices, a paragraph for each group."""
    lines = []
    for group in choices.GROUPS:
        names = f"{group + '=':<12}" + " ".join(choices.choices(group))
        lines += textwrap.wrap(names, NAMES_WIDTH, subsequent_indent=" " * 12, break_on_hyphens=False)
    every = textwrap.wrap(
        "keys of every run: " + " ".join(choices.keys("config")), NAMES_WIDTH, subsequent_indent=" " * 12
    )
    head = "choices (the first is the default, unless a model or method names another):"
    return "\n".join([head, *lines, *every]) + "\n"


def _one(group: str, choice: str) -> str:
    """What a choice is, what it picks in other groups, and its keys."""
    lines = textwrap.wrap(f"{group}={choice}: {choices.describe(group, choice)}", WIDTH)
    if group == "experiment":
        return "\n".join([*lines, f"The keys that it sets: lgm-run {group}={choice} --cfg job shows them."]) + "\n"
    if picked := choices.picks(group, choice):
        lines.append(f"With it, unless you choose: {' '.join(f'{other}={name}' for other, name in picked.items())}")
    keys = _changeable(group, choice)
    lines += ["", "keys, their defaults and what is allowed:" if keys else "It has no keys of its own."]
    for name, key in keys.items():
        lines += _entry(f"  {group}.{name}={_shown(key.default)}", _meaning(key), 40)
    return "\n".join(lines) + "\n"


def _changeable(group: str, choice: str) -> dict[str, choices.Key]:
    """The keys of a choice but those of a single option, which state a fact."""
    keys = choices.keys(f"{group}/{choice}")
    return {name: key for name, key in keys.items() if len(Rule.parse(key.rule).options) != 1}


def _choices() -> str:
    """The groups and their choices, the default first, with what each picks in other groups."""
    lines = ["groups and choices (the first is the default unless a choice names another):"]
    for group in choices.GROUPS:
        for position, choice in enumerate(choices.choices(group)):
            picks = "".join(f" [{other}={name}]" for other, name in choices.picks(group, choice).items())
            meaning = choices.describe(group, choice) + (picks if group != "experiment" else "")
            label = f"  {group + '=' if position == 0 else ' ' * (len(group) + 1)}{choice}"
            lines += _entry(label, meaning, 30)
    return "\n".join(lines) + "\n"


def _keys() -> str:
    """Every key that can be set, its default and what is allowed, once for all the choices that share it."""
    lines = ["keys, their defaults and what is allowed:"]
    for name, key in choices.keys("config").items():
        lines += _entry(f"  {name}={_shown(key.default)}", _meaning(key), 40)
    for group in choices.GROUPS:
        shared: dict[tuple[str, choices.Key], list[str]] = {}
        for choice in choices.choices(group):
            for item in _changeable(group, choice).items():
                shared.setdefault(item, []).append(choice)
        for (name, key), having in shared.items():
            lacking = [choice for choice in choices.choices(group) if choice not in having]
            of = f" [not {', '.join(lacking)}]" if len(lacking) == 1 else f" [{', '.join(having)}]" if lacking else ""
            lines += _entry(f"  {group}.{name}={_shown(key.default)}", _meaning(key) + of, 40)
    return "\n".join(lines) + "\n"


def _meaning(key: choices.Key) -> str:
    return f"{Rule.parse(key.rule)}{'; ' if key.meaning else ''}{key.meaning}"


def _shown(default: Any) -> str:
    """A default as the command line spells it; FILE for what has none."""
    if default == "???":
        return "FILE"
    return "null" if default is None else str(default).lower() if isinstance(default, bool) else str(default)


def _entry(label: str, meaning: str, column: int) -> list[str]:
    """A label and its meaning, wrapped, the meaning at a column of its own."""
    label = label.ljust(column - 1) + " "
    return textwrap.wrap(label + meaning, WIDTH, subsequent_indent=" " * column, drop_whitespace=True) or [label]
