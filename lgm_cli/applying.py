"""`lgm-run apply=RUN_DIR data.path=FILE`: a finished run on new data, from which nothing is learned.

Nothing heavy is imported before the work begins.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lgm_cli import catalogue, config, resume
from lgm_cli.errors import UserError
from lgm_cli.mistakes import OTHER_FOLDER, unknown_choice

if TYPE_CHECKING:
    from torch import Tensor

    from lgm_cli.data.base.table import Table
    from lgm_cli.models.base import Model

DEVICE = ("device", "device.dtype", "device.threads")
DIALECT = ("data.index", "data.separator", "data.decimal", "data.encoding", "data.missing")  # of a file
OPEN = ("data.path", *DIALECT, "data.forecast", *DEVICE, "hydra.run.dir", "save_posterior")
UNUSED = {"test_fraction": 0.0, "horizon": 0, "forecast": 0, "last": None}  # what the run did with its own data
SCORES = ("train_log_likelihood", "test_log_likelihood", "log_likelihood_se", "test_rmse")
AGAIN = "it was written by another version of lgm-run: learn it again"

LEARN_AGAIN = "learn the run again"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Applied:
    """What is asked for: the run, where the answer goes, the configuration with the new data in place of the run's."""

    run: Path
    folder: Path
    config: dict[str, Any]
    overrides: list[str]
    learned: dict[str, Any]  # the run's summary


def read(options: list[str], overrides: list[str]) -> Applied:
    """What the command line asks for; UserError when it asks for more, or when the run has nothing to apply."""
    given = {resume.key_of(item): _unquoted(item.partition("=")[2]) for item in overrides}
    if refused := [*options, *(item for item in overrides if resume.key_of(item) not in ("apply", *OPEN))]:
        raise UserError(
            f"apply= cannot be joined by {', '.join(refused)}",
            f"a run is applied as it was configured; only {', '.join(OPEN)} may be given",
        )
    if len(given) < len(overrides):
        raise UserError("a key is given twice", f"{' '.join(overrides)} must name each once")
    run = resume.folder_of("apply", given["apply"])
    recorded, _ = resume.recorded_in(run)
    learned = _summary(run)
    if "data.path" not in given:
        raise UserError("data.path is missing", "add data.path=FILE, the new data")
    model, keys = recorded["model"]["name"], recorded["model"].keys() - {"name"}
    if model not in catalogue.choices("model") or keys != catalogue.keys(f"model/{model}").keys():
        raise UserError(f"{run} does not have the keys of model={model}", AGAIN)
    changed = {key: entry.default for key, entry in catalogue.keys("config").items()} | recorded
    changed |= {
        "data": _data(recorded["data"], learned["data"], given),
        "device": _device(recorded, given),
    }
    if (text := given.get("save_posterior")) is not None:
        rule = config.Rule.parse(catalogue.keys("config")["save_posterior"].rule)
        value = {"true": True, "false": False}.get(text.lower(), text)
        changed["save_posterior"] = config.check_value("save_posterior", "config", value, rule)
    return Applied(run, _folder(run, changed, given.get("hydra.run.dir")), changed, overrides, learned)


def _unquoted(value: str) -> str:
    """Without the quotes that Hydra asks for around special characters: a command may have been copied."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _summary(run: Path) -> dict[str, Any]:
    """How the run ended; UserError when it has learned nothing, or has not said of what kind its data were."""
    summary = resume.summary_of(run)
    if summary is None:
        raise UserError(f"{run} has no summary.json: the run has not ended", f"lgm-run resume={run} goes on")
    if summary["status"] in ("diverged", "failed"):
        raise UserError(f"the run in {run} {summary['status']}", "apply one that has learned something")
    data, row = summary.get("data"), summary.get("last_row")
    if (isinstance(data, dict) and "reader" not in data) or not (run / "columns.csv").is_file():
        raise UserError(f"{run} does not say what its columns are", AGAIN)
    if isinstance(data, dict) and data["reader"] is None:
        raise UserError(f"{run} has learned from {data.get('name')}", "no file can hold more of these data")
    if (
        not (isinstance(data, dict) and isinstance(row, dict))
        or data["reader"] not in catalogue.owners("data", "path")
        or not isinstance(row.get("train_log_likelihood"), float | None)
        or (data["reader"] == "image" and not isinstance(data.get("signal"), list))
    ):
        raise _damaged(run / "summary.json")
    return summary


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} is damaged: a run does not write such values", LEARN_AGAIN)


def _data(recorded: Mapping[str, Any], learned: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """The data group that reads the new file: that of the run, or the one that reads files of its kind."""
    reader = learned["reader"]
    keys = catalogue.keys(f"data/{reader}")
    asked = [key for key in ("data.path", *DIALECT, "data.forecast") if key in given]
    for key in asked:
        if key.removeprefix("data.") not in keys:
            raise UserError(f"{key} is not a key of data={reader}", "leave it out: the run has learned from such data")
    found: dict[str, Any] = {"name": reader} | {key: recorded.get(key, entry.default) for key, entry in keys.items()}
    found |= {key: value for key, value in UNUSED.items() if key in keys}
    for key in asked:
        name, text = key.removeprefix("data."), given[key]
        value: Any = resume.number(text) if name == "forecast" or text == "null" else text
        if name == "missing" and text.startswith("["):
            value = [_unquoted(word.strip()) for word in text.strip("[]").split(",")]
        found[name] = config.check_value(key, f"data/{reader}", value, config.Rule.parse(keys[name].rule))
    for key, value in found.items():
        if key not in ("name", "path"):
            found[key] = config.check_value(f"data.{key}", f"data/{reader}", value, config.Rule.parse(keys[key].rule))
    return found


def _device(recorded: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """That of the run, where nothing else is given and where the device can."""
    name = given.get("device", recorded["device"]["name"])
    if name not in catalogue.choices("device"):
        raise unknown_choice("device", name)
    found: dict[str, Any] = {"name": name}
    for key, entry in catalogue.keys(f"device/{name}").items():
        rule = config.Rule.parse(entry.rule)
        if (text := given.get(f"device.{key}")) is not None:
            found[key] = config.check_value(f"device.{key}", f"device/{name}", resume.number(text), rule)
            continue
        try:
            found[key] = rule.convert(recorded["device"].get(key, entry.default))
        except ValueError:
            found[key] = entry.default
    return found


def _folder(run: Path, changed: Mapping[str, Any], given: str | None) -> Path:
    """Where the answer goes: not into the run."""
    if given is None:
        stem = re.sub(r"[^\w.-]+", "_", Path(changed["data"]["path"]).stem)
        given = f"outputs/applied/{datetime.now():%Y-%m-%d_%H-%M-%S-%f}-{changed['model']['name']}-{stem}"
    if given in ("", "???") or "${" in given:
        raise UserError(f"hydra.run.dir={given} is not the name of a folder", "write it out")
    folder = Path(os.path.expanduser(given)).absolute()
    if Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(run)):
        raise UserError(f"{folder} is inside the run that is applied", OTHER_FOLDER)
    return folder


# The work ------------------------------------------------------------------------------------------------------


def work(asked: Applied, summary: dict[str, Any]) -> None:
    """Read, infer, write; fills the summary. What does not fit is a UserError."""
    import numpy as np
    import torch

    try:
        _work(asked, summary)
    except (np.linalg.LinAlgError, torch.linalg.LinAlgError) as error:  # pyright: ignore[reportPrivateImportUsage]
        name = Path(asked.config["data"]["path"]).name
        raise UserError(
            f"the posterior of {name} cannot be computed with the parameters of {asked.run}",
            f"its values are too far from those learned from, or the parameters are damaged: {LEARN_AGAIN}",
        ) from error


def _work(asked: Applied, summary: dict[str, Any]) -> None:
    settings, folder, learned = asked.config, asked.folder, asked.learned["data"]
    log.info("reading %s for the %s of %s", settings["data"]["path"], settings["model"]["name"], asked.run)

    import numpy as np

    from lgm_cli.data import fitting
    from lgm_cli.data.base.data import Data
    from lgm_cli.data.series import extended

    index_given = any(resume.key_of(item) == "data.index" for item in asked.overrides)
    table = whole = fitting.load(asked.run, settings["data"], learned, index_given)

    from lgm_cli import build, results
    from lgm_cli.evaluation import Evaluator
    from lgm_cli.observations.blocks import observe
    from lgm_cli.recorder import host

    model = build.model(settings)
    exported, state = (results.load_tensors(asked.run / f"{name}.safetensors") for name in ("parameters", "apply"))
    _require_fit(asked.run, exported, table, model)
    model.fix(exported, state)
    if table.kind == "series":
        ahead, steps = settings["data"]["forecast"], max(table.end, learned["shape"][0])
        if ahead > steps:
            raise UserError(
                f"data.forecast={ahead} is more than the {steps:,} steps that are known",
                f"at most data.forecast={steps}",
            )
        whole = extended(table, max(ahead, model.least_steps - table.end))  # what is too short is filled up
        table = extended(table, ahead)
    data = Data(table, np.zeros(len(table.values), bool))
    log.info("%s", data.describe())
    device = build.device(settings["device"])
    dtype = build.dtype(settings["device"], model)

    def evaluator(hidden: bool) -> Evaluator:
        placed = Data(whole, np.full(len(whole.values), hidden))
        model.attach(observe(placed, settings["seed"], dtype, device, units=model.units(exported)))
        build.spare_threads(settings["device"], model)
        return Evaluator(model, placed, settings["seed"])

    row: dict[str, float | None] = dict.fromkeys(SCORES)
    known = evaluator(hidden=False)
    parameters = model.restore(exported)
    if any(bool(value.isnan().any()) for value in parameters.values()):
        raise _damaged(asked.run / "parameters.safetensors")
    if len(table.values):
        scores = known.score(parameters, final=True)
        if not math.isfinite(scores.train_log_likelihood):
            raise UserError(
                f"the likelihood of {table.name} cannot be computed", "its values are too far from those learned from"
            )
        row |= {"train_log_likelihood": scores.train_log_likelihood, "log_likelihood_se": scores.standard_error}
        row |= scores.own
        summary["evaluation"] = known.describe(scores)
    # A response is predicted from what the run has learned alone, as if none of the new ones were known.
    asker = evaluator(hidden=True) if table.kind == "regression" else known
    predict = partial(asker.predict, parameters)
    if table.kind == "regression":
        row |= results.predict_responses(folder, table, predict)
    if table.is_table:
        results.fill_gaps(folder, data, predict)
    if table.forecast:
        results.forecast(folder, data, predict)
    if settings["save_posterior"]:
        found = asker.inferred(parameters)
        if table.kind == "series":
            found = {name: value[: table.shape[0]] for name, value in found.items()}
        results.save_tensors(folder / "posterior.safetensors", found)
    summary["host"] = host() | build.describe(device, dtype)
    summary["run"] = {"folder": str(asked.run), "status": asked.learned["status"], "data": learned}
    summary |= {"data": data.summary, "warnings": [*table.notes, *table.warnings], "last_row": row, "status": "applied"}
    for line in _closing(asked, row):
        log.info("%s", line)
    for warning in table.warnings:
        log.warning("warning: %s", warning)


def _require_fit(run: Path, exported: Mapping[str, Tensor], table: Table, model: Model) -> None:
    """UserError for parameters that are not those of the run's model of the columns that columns.csv names."""
    from lgm_cli.models.base import sound

    shapes = {name: tuple(value.shape) for name, value in exported.items()}
    if table.kind != model.kind or shapes != model.exported_shapes(table):
        raise UserError(f"{run} has no parameters of the columns that it names", LEARN_AGAIN)
    if not sound(exported):
        raise _damaged(run / "parameters.safetensors")


def _closing(asked: Applied, row: Mapping[str, float | None]) -> list[str]:
    """What a person wants to know at the end."""
    lines = []
    if row["train_log_likelihood"] is not None:
        error = f" +- {row['log_likelihood_se']:.4f}" if row["log_likelihood_se"] else ""
        before = asked.learned["last_row"].get("train_log_likelihood")
        of_run = "" if before is None else f", of the run's own data {before:.4f}"
        lines.append(f"log-likelihood per entry: {row['train_log_likelihood']:.4f}{error} nats{of_run}")
    if row["test_rmse"] is not None:
        density = row["test_log_likelihood"]
        lines.append(f"responses predicted: rmse {row['test_rmse']:.4g}, log-likelihood {density:.4f} nats each")
    return [*lines, f"files: {asked.folder}"]
