"""What a finished run leaves beside metrics.csv: parameters, predictions, latents, pictures, a closing word."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Dictionary, Table, as_complex
from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.report.learned import Learned, result
from lgm_cli.report.text import Result
from lgm_cli.results.files import atomic_path
from lgm_cli.results.outcome import Outcome
from lgm_cli.results.parameters import write_parameters
from lgm_cli.results.pictures import draw as _draw
from lgm_cli.results.scores import Scores
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

log = logging.getLogger(__name__)


def write(
    folder: Path,
    config: Mapping[str, Any],
    model: LatentVariableModel,
    data: Data,
    evaluator: Evaluator,
    outcome: Outcome,
    errors: Parameters | None = None,
) -> tuple[Result, dict[str, Any]]:
    """Everything of the contract but metrics.csv, summary.txt and summary.json; parameters and latents in the model's
    canonical form. errors: standard errors of the exported parameters. Returns what was learned, for the closing lines,
    and the scores of the hidden entries, for summary.json."""
    parameters = model.canonical(outcome.parameters)
    exported = model.export(parameters)
    save_tensors(folder / "parameters.safetensors", exported)
    if left_out := write_parameters(folder / "parameters.csv", model.axes, exported, data.table, errors):
        log.info("parameters.csv is without %s, which parameters.safetensors has: they are large", ", ".join(left_out))
    with atomic_path(folder / "columns.csv") as temporary:
        write_columns(temporary, data.table)
    if not evaluator.iterative and (state := model.applied_state(parameters)):
        save_tensors(folder / "apply.safetensors", state)
    mean, deviation = evaluator.predict(parameters, data.test_rows, data.test_columns)
    with atomic_path(folder / "predictions.csv") as temporary:
        write_predictions(temporary, data, mean, deviation)
    scores = _score(folder, model, data, mean, deviation)
    predict = partial(evaluator.predict, parameters)
    if data.table.is_table and "path" in config["data"]:
        fill_gaps(folder, data, predict)
    if data.table.forecast:
        forecast(folder, data, predict)
    if data.season is not None:
        with atomic_path(folder / "season.csv") as temporary:
            write_season(temporary, data)
    learned = Learned(data, exported, cache(lambda: evaluator.inferred(parameters)), predict, errors)
    if config["save_posterior"]:
        save_tensors(folder / "posterior.safetensors", learned.inferred())
    if data.table.dictionary is not None:
        write_reconstruction(folder, data.table.dictionary, learned.inferred())
    seed = None if evaluator.iterative else config["seed"]
    found = result(model, learned)
    for name, table in found.tables.items():
        with atomic_path(folder / f"{name}.csv") as temporary:
            write_csv(table, temporary)
    _draw(folder, config, model, learned, mean, deviation, outcome.steps, seed)
    return found, scores


def _score(
    folder: Path, model: LatentVariableModel, data: Data, mean: np.ndarray, deviation: np.ndarray
) -> dict[str, Any]:
    """scores.csv, unless nothing is hidden or the columns are measurements of a signal, which have no names; the scores
    of all columns together. Counts and categories have no normal intervals."""
    if not len(mean):
        return {}
    scores = Scores(data, mean, deviation, intervals=model.standardise if model.intervals is None else model.intervals)
    if data.table.dictionary is None:
        with atomic_path(folder / "scores.csv") as temporary:
            write_csv(scores.by_column(), temporary, index=False)
    return scores.overall()


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


def write_reconstruction(folder: Path, dictionary: Dictionary, inferred: Mapping[str, Tensor]) -> None:
    """reconstruction.npy: the posterior mean of the signal in its own shape, (J, ...) of several signals, complex where
    the signal is."""
    mean = inferred["signal_mean"].numpy()
    if dictionary.is_complex:
        mean = as_complex(mean, dictionary.shape)
    with atomic_path(folder / "reconstruction.npy") as temporary, temporary.open("wb") as file:
        np.save(file, mean)
