"""A finished run on new data: everything that a run leaves, and nothing is learned."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lgm_cli.errors import UserError
from lgm_cli.results import run_folder

if TYPE_CHECKING:
    from torch import Tensor

    from lgm_cli.data.base.table import Table
    from lgm_cli.models.base.latent_variable_model import LatentVariableModel

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


def file_of(options: Mapping[str, Any]) -> str:
    """The new file: data.path, or data.measurements of an image."""
    return options.get("path") or options["measurements"]


def damaged(path: Path) -> UserError:
    return UserError(f"{path} is damaged: a run does not write such values", LEARN_AGAIN)


def work(asked: Applied, summary: dict[str, Any]) -> None:
    """Read, infer, write; fills the summary. What does not fit is a UserError."""
    import numpy as np
    import torch

    try:
        _work(asked, summary)
    except (np.linalg.LinAlgError, torch.linalg.LinAlgError) as error:  # pyright: ignore[reportPrivateImportUsage]
        name = Path(file_of(asked.config["data"])).name
        raise UserError(
            f"the posterior of {name} cannot be computed with the parameters of {asked.run}",
            f"its values are too far from those learned from, or the parameters are damaged: {LEARN_AGAIN}",
        ) from error


def _work(asked: Applied, summary: dict[str, Any]) -> None:
    settings, folder, learned = asked.config, asked.folder, asked.learned["data"]
    log.info("reading %s for the %s of %s", file_of(settings["data"]), settings["model"]["name"], asked.run)

    import numpy as np

    from lgm_cli.data.base.data import Data
    from lgm_cli.data.series import extended
    from lgm_cli.run import new_data

    given = set(map(run_folder.key_of, asked.overrides))
    table = whole = new_data.load(asked.run, settings["data"], learned, given)

    from lgm_cli.evaluation.evaluator import LOG_PRIOR, Evaluator
    from lgm_cli.observations.blocks import observe
    from lgm_cli.results import write
    from lgm_cli.results.host import host
    from lgm_cli.results.tensors import load_tensors
    from lgm_cli.run import build
    from lgm_cli.run import device as devices

    model = build.model(settings)
    exported, state = (load_tensors(asked.run / f"{name}.safetensors") for name in ("parameters", "apply"))
    _require_fit(asked.run, exported, table, model)
    model.require_one_series(table)
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
    device = devices.device(settings["device"])
    dtype = devices.dtype(settings["device"], model)

    def evaluator(hidden: bool) -> Evaluator:
        placed = Data(whole, np.full(len(whole.values), hidden))
        bound = model.bind(observe(placed.learned, settings["seed"], dtype, device, units=model.units(exported)))
        devices.spare_threads(settings["device"], bound)
        return Evaluator(bound, placed, settings["seed"])

    row: dict[str, float | None] = dict.fromkeys(SCORES)
    known = evaluator(hidden=False)
    model = known.model
    parameters = model.restore(exported)
    if any(bool(value.isnan().any()) for value in parameters.values()):
        raise damaged(asked.run / "parameters.safetensors")
    if len(data.learned.table.values):
        scores = known.score(parameters, final=True)
        if not math.isfinite(scores.train_log_likelihood):
            raise UserError(
                f"the likelihood of {table.name} cannot be computed", "its values are too far from those learned from"
            )
        row |= {"train_log_likelihood": scores.train_log_likelihood, "log_likelihood_se": scores.standard_error}
        row |= {name: value for name, value in scores.own.items() if name != LOG_PRIOR}
        summary["evaluation"] = known.describe(scores)
    # A response is predicted from what the run has learned alone, as if none of the new ones were known.
    asker = evaluator(hidden=True) if table.kind == "regression" else known
    predict = partial(asker.predict, parameters)
    if table.kind == "regression":
        row |= write.predict_responses(folder, table, predict)
    if table.is_table:
        write.fill_gaps(folder, data, predict)
    if table.forecast:
        write.forecast(folder, data, predict)
    found = asker.inferred(parameters) if settings["save_posterior"] or table.dictionary is not None else {}
    if table.dictionary is not None:
        write.write_reconstruction(folder, table.dictionary, found)
    if settings["save_posterior"]:
        if table.kind == "series":
            found = {name: value[: table.shape[0]] for name, value in found.items()}
        write.save_tensors(folder / "posterior.safetensors", found)
    summary["host"] = host() | devices.describe(device, dtype)
    summary["run"] = {"folder": str(asked.run), "status": asked.learned["status"], "data": learned}
    summary |= {"data": data.summary, "warnings": [*table.notes, *table.warnings], "last_row": row, "status": "applied"}
    for line in _closing(asked, row):
        log.info("%s", line)
    for warning in table.warnings:
        log.warning("warning: %s", warning)


def _require_fit(run: Path, exported: Mapping[str, Tensor], table: Table, model: LatentVariableModel) -> None:
    """UserError for parameters that are not those of the run's model of the columns that columns.csv names."""
    from lgm_cli.models.base.parameters import has_shapes, sound

    if table.kind != model.learns_from or not has_shapes(exported, model.exported_shapes(table)):
        raise UserError(f"{run} has no parameters of the columns that it names", LEARN_AGAIN)
    if not sound(exported):
        raise damaged(run / "parameters.safetensors")


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
