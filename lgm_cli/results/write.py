"""What a finished run leaves beside metrics.csv: parameters, predictions, latents, pictures, a closing word."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lgm_cli import plots
from lgm_cli.data.base.baselines import baseline_rmse
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Table
from lgm_cli.evaluation.bound import bound_along_a_step
from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.report.learned import Learned, drawn_units
from lgm_cli.report.learned import pictures as pictures_of
from lgm_cli.results.files import atomic_path
from lgm_cli.results.metrics import FILE, FREE_ENERGY
from lgm_cli.results.outcome import Outcome, Steps
from lgm_cli.results.parameters import write_parameters
from lgm_cli.results.tables import (
    gaps,
    write_columns,
    write_csv,
    write_entries,
    write_forecast,
    write_imputed,
    write_predictions,
    write_season,
)
from lgm_cli.results.tensors import save_tensors

ROUNDING = {torch.float32: 3e-8, torch.float64: 1e-13}  # of a gap between free energy and likelihood, per entry

log = logging.getLogger(__name__)


def write(
    folder: Path,
    config: Mapping[str, Any],
    model: LatentVariableModel,
    data: Data,
    evaluator: Evaluator,
    outcome: Outcome,
    errors: Parameters | None = None,
) -> None:
    """Everything of the contract but metrics.csv and summary.json; parameters and latents in the model's canonical
    form. errors: standard errors of the exported parameters."""
    parameters = model.canonical(outcome.parameters)
    exported = model.export(parameters)
    save_tensors(folder / "parameters.safetensors", exported)
    with atomic_path(folder / "parameters.csv") as temporary:
        write_parameters(temporary, exported, model.axes, data.table, errors)
    with atomic_path(folder / "columns.csv") as temporary:
        write_columns(temporary, data.table)
    if not evaluator.iterative and (state := model.applied_state(parameters)):
        save_tensors(folder / "apply.safetensors", state)
    mean, deviation = evaluator.predict(parameters, data.test_rows, data.test_columns)
    with atomic_path(folder / "predictions.csv") as temporary:
        write_predictions(temporary, data, mean, deviation)
    predict = partial(evaluator.predict, parameters)
    if data.table.is_table and "path" in config["data"]:
        fill_gaps(folder, data, predict)
    if data.table.forecast:
        forecast(folder, data, predict)
    if data.season is not None:
        with atomic_path(folder / "season.csv") as temporary:
            write_season(temporary, data)
    learned = Learned(data, exported, cache(lambda: evaluator.inferred(parameters)), predict)
    if config["save_posterior"]:
        save_tensors(folder / "posterior.safetensors", learned.inferred())
    if "loadings" in exported:
        _write_loadings(folder / "loadings.csv", exported, data)
    _draw(folder, model, learned, mean, deviation, outcome.steps, None if evaluator.iterative else config["seed"])


Predict = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]  # as that of `Learned`


def fill_gaps(folder: Path, data: Data, predict: Predict) -> None:
    """imputed.csv and imputed_standard_deviation.csv."""
    rows, columns = gaps(data.table)
    filled = predict(rows, columns)
    with (
        atomic_path(folder / "imputed.csv") as imputed,
        atomic_path(folder / "imputed_standard_deviation.csv") as uncertain,
    ):
        write_imputed(imputed, uncertain, data, rows, columns, *filled)


def forecast(folder: Path, data: Data, predict: Predict) -> None:
    """forecast.csv."""
    rows, columns = (place.ravel() for place in np.indices((data.table.forecast, data.shape[1])))
    predicted = predict(data.table.end + rows, columns)
    with atomic_path(folder / "forecast.csv") as temporary:
        write_forecast(temporary, data, *predicted)


def predict_responses(folder: Path, table: Table, predict: Predict) -> dict[str, float | None]:
    """predictions.csv of a finished regression: every response, known or not; the scores of those that are known."""
    rows = np.arange(table.end)
    true, columns = np.full(len(rows), np.nan), np.zeros(len(rows), np.int64)
    true[table.rows] = table.values
    mean, deviation = predict(rows, columns)
    with atomic_path(folder / "predictions.csv") as temporary:
        write_entries(temporary, table, rows, columns, true, mean, deviation)
    if not len(table.values):
        return {}
    error, spread = (true - mean)[table.rows], deviation[table.rows]
    density = -0.5 * (error / spread) ** 2 - np.log(spread) - 0.5 * np.log(2 * np.pi)
    return {"test_log_likelihood": float(density.mean()), "test_rmse": float(np.sqrt(np.mean(error**2)))}


def _write_loadings(path: Path, exported: Mapping[str, Tensor], data: Data) -> None:
    """One row per column of the input: its loadings as in parameters.safetensors, in canonical form."""
    loadings = exported["loadings"].numpy()
    names = [f"factor_{k + 1}" for k in range(loadings.shape[1])]
    frame = pd.DataFrame(loadings, index=data.table.column_labels, columns=pd.Index(names))
    with atomic_path(path) as temporary:
        write_csv(frame, temporary, index_label="column")


def _draw(
    folder: Path, model: LatentVariableModel, learned: Learned, mean: np.ndarray, deviation: np.ndarray,
    steps: Steps | None, seed: int | None,
) -> None:  # fmt: skip
    """What every run has, the model's own, and what steps of EM have. Columns in units of their own are drawn together
    in standard deviations of each."""
    data = learned.data
    pictures = folder / "plots"
    pictures.mkdir(exist_ok=True)
    columns, (center, scale, unit) = data.test_columns, drawn_units(data)
    references = {"test_rmse": {"predicting the mean": baseline_rmse(data)}} if len(mean) else {}
    with atomic_path(pictures / "convergence.png") as path:
        plots.convergence({folder.name: folder / FILE}, path, references=references)
    if len(mean):
        true, mean = ((values - center[columns]) / scale[columns] for values in (data.test_values, mean))
        with atomic_path(pictures / "predictions.png") as path:
            plots.predictions(true, mean, deviation / scale[columns], path, unit=unit)
    for name, draw in pictures_of(model, learned).items():
        with atomic_path(pictures / f"{name}.png") as path:
            draw(path)
    if steps is not None:
        _draw_steps(folder, model, steps, seed)


def _draw_steps(folder: Path, model: LatentVariableModel, steps: Steps, seed: int | None) -> None:
    """What steps of EM have: the free energy, where there is one, and the bound of the first step from the start. seed:
    of the start; None where exact posteriors cost too much."""
    metrics = pd.read_csv(folder / FILE)
    if FREE_ENERGY in metrics and np.isfinite(metrics[FREE_ENERGY].to_numpy(float)).any():
        rounding = ROUNDING[model.observations.dtype]
        with atomic_path(folder / "plots" / "free_energy.png") as path:
            plots.free_energy(metrics, path, folder.name, steps.passes, steps.first_passes, steps.bounds, rounding)
    line = None if seed is None else bound_along_a_step(model, model.start(seed), seed)
    if line is None:
        log.info("plots/bound.png is left out: one step of EM would take too long, or cannot be taken from the start")
        return
    title = f"{folder.name}: the first step of EM from the start of seed {seed}"
    if line.points < line.of:
        title += f", of {line.points:,} of {line.of:,} data points"
    coordinates = ", in free coordinates" if line.free else ""
    with atomic_path(folder / "plots" / "bound.png") as path:
        plots.bound(line.places, line.log_likelihood, line.bound, path, title, coordinates, " + log prior" * line.prior)
