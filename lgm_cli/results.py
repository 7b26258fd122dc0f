"""What a finished run leaves beside metrics.csv: parameters, predictions, latents, pictures, a closing word."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from lgm_cli import plots
from lgm_cli.data import baseline_rmse, naive_forecasts
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Table
from lgm_cli.data.outputs import (
    INTERVAL,
    gaps,
    write_columns,
    write_csv,
    write_entries,
    write_forecast,
    write_imputed,
    write_predictions,
    write_season,
)
from lgm_cli.errors import UserError
from lgm_cli.evaluation import Evaluator
from lgm_cli.learning import Outcome
from lgm_cli.models.base import Learned, Model
from lgm_cli.recorder import FILE, atomic_path
from lgm_cli.stopping import SETTLED


def write(
    folder: Path, config: Mapping[str, Any], model: Model, data: Data, evaluator: Evaluator, outcome: Outcome
) -> None:
    """Everything of the contract but metrics.csv and summary.json; parameters and latents in the model's canonical
    form."""
    parameters = model.canonical(outcome.parameters)
    exported = model.export(parameters)
    save_tensors(folder / "parameters.safetensors", exported)
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
    _draw(folder, model, learned, mean, deviation)


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


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with atomic_path(path) as temporary:  # save_file() would make a file that its owner alone may read
        temporary.write_bytes(save({name: value.contiguous() for name, value in tensors.items()}))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Those of a file that a run has left; none where there is no file, which a model that needs it refuses."""
    try:
        found = load_file(path) if path.exists() else {}
    except (OSError, ValueError, LookupError, SafetensorError):  # LookupError: a kind of number that torch lacks
        raise UserError(f"{path} cannot be read", "learn the run again") from None
    if not all(value.dtype == torch.float64 and bool(value.isfinite().all()) for value in found.values()):
        raise UserError(f"{path} is damaged: a run does not write such values", "learn the run again")
    return found


def _write_loadings(path: Path, exported: Mapping[str, Tensor], data: Data) -> None:
    """One row per column of the input: its loadings as in parameters.safetensors, in canonical form."""
    loadings = exported["loadings"].numpy()
    names = [f"factor_{k + 1}" for k in range(loadings.shape[1])]
    frame = pd.DataFrame(loadings, index=data.table.column_labels, columns=pd.Index(names))
    with atomic_path(path) as temporary:
        write_csv(frame, temporary, index_label="column")


def _draw(folder: Path, model: Model, learned: Learned, mean: np.ndarray, deviation: np.ndarray) -> None:
    """What every run has, and the model's own. Columns in units of their own are drawn together in standard deviations
    of each."""
    data = learned.data
    pictures = folder / "plots"
    pictures.mkdir(exist_ok=True)
    columns, (center, scale, unit) = data.test_columns, model.unit_of_pictures(data)
    references = {"test_rmse": {"predicting the mean": baseline_rmse(data)}} if len(mean) else {}
    with atomic_path(pictures / "convergence.png") as path:
        plots.convergence({folder.name: folder / FILE}, path, references=references)
    if len(mean):
        true, mean = ((values - center[columns]) / scale[columns] for values in (data.test_values, mean))
        with atomic_path(pictures / "predictions.png") as path:
            plots.predictions(true, mean, deviation / scale[columns], path, unit=unit)
    for name, draw in model.pictures(learned).items():
        with atomic_path(pictures / f"{name}.png") as path:
            draw(path)


def closing(
    folder: Path,
    config: Mapping[str, Any],
    model: Model,
    data: Data,
    outcome: Outcome,
    last: Mapping[str, Any],
    overrides: list[str],
) -> list[str]:
    """What a person wants to know at the end, in about five lines."""
    settled = ""
    if model.settled_gain is not None:
        settled = f" moved the signal by less than {SETTLED:g} of its standard deviation and"
    gain = config["tolerance"] * (model.settled_gain or 1.0)
    verdict = {
        "converged": f"converged: doubling the steps{settled} gained less than {gain:g} nats per entry",
        "max_steps": _limited(config, "max_steps"),
        "max_seconds": _limited(config, "max_seconds"),
        "diverged": "diverged: the last good parameters were kept",
        "interrupted": "interrupted: what was learned until then is kept",
    }[outcome.status]
    lines = [f"{verdict} (step {last['step']}, {last['fit_seconds']:.1f} s of learning)"]
    scores = outcome.scores
    error = f" +- {scores.standard_error:.4f}" if scores.standard_error else ""
    likelihoods = f"log-likelihood per entry: train {scores.train_log_likelihood:.4f}{error} nats"
    if scores.test_log_likelihood is not None and scores.test_rmse is not None:
        likelihoods += f", test {scores.test_log_likelihood:.4f} nats"
        baseline = baseline_rmse(data)
        of_what = "each column's mean" if data.shape[1] > 1 else "the mean"
        lines += [likelihoods, f"test rmse {scores.test_rmse:.4g}, predicting {of_what} {baseline:.4g}"]
    else:
        lines.append(likelihoods)
    if data.ahead.any():
        lines.append(_forecasts(folder, data, scores.own["forecast_rmse"]))
    if (advice := cheaper_exactly(model, outcome, config, overrides)) is not None:
        lines.append(advice)
    if outcome.status in ("max_steps", "max_seconds"):
        doubled = 2 * (last["step"] if outcome.status == "max_steps" else config["max_seconds"])
        lines.append(f"to go on: lgm-run {shlex.quote(f'resume={folder}')} {outcome.status}={doubled:g}")
    return [*lines, f"files and pictures: {folder}"]


def _limited(config: Mapping[str, Any], limit: str) -> str:
    """How a run at its limit ended: as asked, where the limit was given, by a user or a preset."""
    if config[limit] in ("auto", None):
        return f"stopped at {limit}, not converged"
    return f"ended at {limit}={config[limit]:g}, as asked; not converged"


def _forecasts(folder: Path, data: Data, rmse: float | None) -> str:
    """The forecasts over the horizon beside naive ones, and how many of the values the 90% intervals hold."""
    frame = pd.read_csv(folder / "predictions.csv", usecols=["true", "mean", "standard_deviation"])
    true, mean, deviation = frame.to_numpy(float)[data.ahead].T
    inside = np.abs(true - mean) <= INTERVAL * deviation
    naive = ", ".join(f"{name} {value:.4g}" for name, value in naive_forecasts(data).items())
    return (
        f"forecast rmse {rmse:.4g} over the last {data.table.horizon} steps, {naive}; "
        f"90% intervals hold {inside.mean():.1%}"
    )


def cheaper_exactly(model: Model, outcome: Outcome, config: Mapping[str, Any], overrides: list[str]) -> str | None:
    """Say so when exact posteriors would have cost less than the Monte Carlo ones of this run, by their operations."""
    if config["method"]["posterior"] == "exact" or outcome.mean_iterations is None:
        return None
    systems = 1 + (outcome.num_samples or 1)
    exact = iterative = 0.0
    for chunk in model.observations.chunks:
        n = len(chunk.points)
        mean = np.array([float(chunk.weight.sum()) / n])
        exact += 2 * n * model.exact_operations(mean)[0]
        layout = mean if chunk.index is not None else np.array([float(chunk.weight.shape[1])])
        iterative += 2 * n * model.product_operations(layout)[0] * systems * (outcome.mean_iterations + 2)
    if exact >= iterative:
        return None
    groups = ("method", "solver", "hydra")  # what the advice replaces, and what belongs to that run alone
    kept = [item for item in overrides if re.split(r"[./=@]", item.lstrip("+~"))[0] not in groups]
    return (
        f"exact posteriors are cheaper here (latent dimension {model.dim}, {iterative / exact:.0f} times fewer "
        f"operations): {shlex.join(['lgm-run', *kept, 'method=em'])}"
    )
