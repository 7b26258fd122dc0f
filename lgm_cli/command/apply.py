"""`lgm-run apply=RUN_DIR data.path=FILE`: a finished run on new data, from which nothing is learned.

Nothing heavy is imported before the work begins.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lgm_cli.command import choices, resume, rules
from lgm_cli.command.error_messages import OTHER_FOLDER, unknown_choice
from lgm_cli.errors import UserError
from lgm_cli.results import run_folder
from lgm_cli.run.apply import AGAIN, Applied, damaged, file_of

if TYPE_CHECKING:
    pass

DEVICE = ("device", "device.dtype", "device.threads")

DIALECT = ("data.index", "data.series", "data.separator", "data.decimal", "data.encoding", "data.missing")  # of a file

IMAGES = ("data.measurements", "data.mask_file", "data.slice")  # in place of data.path, and of a volume

OPEN = ("data.path", *IMAGES, *DIALECT, "data.forecast", *DEVICE, "hydra.run.dir", "save_posterior")

UNUSED = {"test_fraction": 0.0, "horizon": 0, "forecast": 0, "last": None}  # what the run did with its own data


def read(options: list[str], overrides: list[str]) -> Applied:
    """What the command line asks for; UserError when it asks for more, or when the run has nothing to apply."""
    given = {run_folder.key_of(item): _unquoted(item.partition("=")[2]) for item in overrides}
    if refused := [*options, *(item for item in overrides if run_folder.key_of(item) not in ("apply", *OPEN))]:
        raise UserError(
            f"apply= cannot be joined by {', '.join(refused)}",
            f"a run is applied as it was configured; only {', '.join(OPEN)} may be given",
        )
    if len(given) < len(overrides):
        raise UserError("a key is given twice", f"{' '.join(overrides)} must name each once")
    run = resume.folder_of("apply", given["apply"])
    recorded, _ = resume.recorded_in(run)
    learned = _summary(run)
    if "data.path" not in given and "data.measurements" not in given:
        of_images = ", or data.measurements=FILE" if learned["data"]["reader"] == "image" else ""
        raise UserError("data.path is missing", f"add data.path=FILE{of_images}, the new data")
    model, keys = recorded["model"]["name"], recorded["model"].keys() - {"name"}
    if model not in choices.choices("model") or keys != choices.keys(f"model/{model}").keys():
        raise UserError(f"{run} does not have the keys of model={model}", AGAIN)
    changed = choices.nested({key: entry.default for key, entry in choices.keys("config").items()}) | recorded
    changed |= {
        "data": _data(recorded["data"], learned["data"], given),
        "device": _device(recorded, given),
    }
    if (text := given.get("save_posterior")) is not None:
        rule = rules.Rule.parse(choices.keys("config")["save_posterior"].rule)
        value = {"true": True, "false": False}.get(text.lower(), text)
        changed["save_posterior"] = rules.check_value("save_posterior", "config", value, rule)
    return Applied(run, _folder(run, changed, given.get("hydra.run.dir")), changed, overrides, learned)


def _unquoted(value: str) -> str:
    """Without the quotes that Hydra asks for around special characters: a command may have been copied."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _summary(run: Path) -> dict[str, Any]:
    """How the run ended; UserError when it has learned nothing, or has not said of what kind its data were."""
    summary = run_folder.summary_of(run)
    if summary is None:
        raise UserError(
            f"{run} has no summary.json: the run has not ended", f"lgm-run {shlex.quote(f'resume={run}')} goes on"
        )
    if summary["status"] in ("diverged", "failed"):
        raise UserError(f"the run in {run} {summary['status']}", "apply one that has learned something")
    data, row = summary.get("data"), summary.get("last_row")
    if (isinstance(data, dict) and "reader" not in data) or not (run / "columns.csv").is_file():
        raise UserError(f"{run} does not say what its columns are", AGAIN)
    if isinstance(data, dict) and data["reader"] is None:
        raise UserError(f"{run} has learned from {data.get('name')}", "no file can hold more of these data")
    if (
        not (isinstance(data, dict) and isinstance(row, dict))
        or data["reader"] not in choices.owners("data", "path")
        or not isinstance(row.get("train_log_likelihood"), float | None)
        or (data["reader"] == "image" and not isinstance(data.get("signal"), list))
    ):
        raise damaged(run / "summary.json")
    return summary


def _data(recorded: Mapping[str, Any], learned: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """The data group that reads the new file: that of the run, or the one that reads files of its kind."""
    reader = learned["reader"]
    keys = choices.keys(f"data/{reader}")
    asked = [key for key in ("data.path", *IMAGES, *DIALECT, "data.forecast") if key in given]
    for key in asked:
        if key.removeprefix("data.") not in keys:
            raise UserError(f"{key} is not a key of data={reader}", "leave it out: the run has learned from such data")
    found: dict[str, Any] = {"name": reader} | {key: recorded.get(key, entry.default) for key, entry in keys.items()}
    found |= {key: value for key, value in UNUSED.items() if key in keys}
    if reader == "image":  # the new image, or its measurements, are real or complex as those of the run
        found |= {"path": None, "measurements": None, "mask_file": None, "slice": ["auto"]}
        found |= {"complex": learned.get("complex", False)} | (
            {"masks": "auto"} if "data.measurements" in given else {}
        )
    for key in asked:
        name, text = key.removeprefix("data."), given[key]
        value: Any = resume.number(text) if name == "forecast" or text == "null" else text
        if name in ("missing", "slice") and text.startswith("["):
            value = [_unquoted(word.strip()) for word in text.strip("[]").split(",")]
        found[name] = rules.check_value(key, f"data/{reader}", value, rules.Rule.parse(keys[name].rule))
    for key, value in found.items():
        if key not in ("name", "path"):
            found[key] = rules.check_value(f"data.{key}", f"data/{reader}", value, rules.Rule.parse(keys[key].rule))
    return found


def _device(recorded: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """That of the run, where nothing else is given and where the device can."""
    name = given.get("device", recorded["device"]["name"])
    if name not in choices.choices("device"):
        raise unknown_choice("device", name)
    found: dict[str, Any] = {"name": name}
    for key, entry in choices.keys(f"device/{name}").items():
        rule = rules.Rule.parse(entry.rule)
        if (text := given.get(f"device.{key}")) is not None:
            found[key] = rules.check_value(f"device.{key}", f"device/{name}", resume.number(text), rule)
            continue
        try:
            found[key] = rule.convert(recorded["device"].get(key, entry.default))
        except ValueError:
            found[key] = entry.default
    return found


def _folder(run: Path, changed: Mapping[str, Any], given: str | None) -> Path:
    """Where the answer goes: not into the run."""
    if given is None:
        stem = re.sub(r"[^\w.-]+", "_", Path(file_of(changed["data"])).stem)
        given = f"outputs/applied/{datetime.now():%Y-%m-%d_%H-%M-%S-%f}-{changed['model']['name']}-{stem}"
    if given in ("", "???") or "${" in given:
        raise UserError(f"hydra.run.dir={given} is not the name of a folder", "write it out")
    folder = Path(os.path.expanduser(given)).absolute()
    if Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(run)):
        raise UserError(f"{folder} is inside the run that is applied", OTHER_FOLDER)
    return folder
