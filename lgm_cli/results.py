"""What a finished run leaves beside metrics.csv: parameters, predictions, latents, pictures, a closing word."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.torch import save
from torch import Tensor

from lgm_cli import plots
from lgm_cli.data import baseline_rmse
from lgm_cli.data.base import Data
from lgm_cli.data.outputs import gaps, write_imputed, write_predictions
from lgm_cli.evaluation import Evaluator
from lgm_cli.learning import Outcome
from lgm_cli.models.base import Model
from lgm_cli.recorder import FILE, atomic_path
from lgm_cli.rotation import varimax

ROTATED = 12  # factors in a picture, at most


def write(
    folder: Path, config: Mapping[str, Any], model: Model, data: Data, evaluator: Evaluator, outcome: Outcome
) -> None:
    """Everything of the contract but metrics.csv and summary.json; parameters and latents in the model's canonical
    form."""
    parameters = model.canonical(outcome.parameters)
    exported = model.export(parameters)
    _save_tensors(folder / "parameters.safetensors", exported)
    mean, deviation = evaluator.predict(parameters, data.test_rows, data.test_columns)
    with atomic_path(folder / "predictions.csv") as temporary:
        write_predictions(temporary, data, mean, deviation)
    if data.table.is_table and "path" in config["data"]:
        rows, columns = gaps(data.table)
        filled = evaluator.predict(parameters, rows, columns)
        with (
            atomic_path(folder / "imputed.csv") as imputed,
            atomic_path(folder / "imputed_standard_deviation.csv") as uncertain,
        ):
            write_imputed(imputed, uncertain, data, rows, columns, *filled)
    scores = None
    named_rows = data.table.row_titles is not None or data.table.row_groups is not None
    if config["save_posterior"] or named_rows:  # it takes every data point's factorisation
        scores, uncertainty = evaluator.latents(parameters)
        if config["save_posterior"]:
            named = {"latent_mean": scores, "latent_standard_deviation": uncertainty}
            _save_tensors(folder / "posterior.safetensors", named)
    if "loadings" in exported:
        _write_loadings(folder / "loadings.csv", exported, data)
    _draw(folder, data, model, exported, scores, mean, deviation)


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with atomic_path(path) as temporary:  # save_file() would make a file that its owner alone may read
        temporary.write_bytes(save({name: value.contiguous() for name, value in tensors.items()}))


def _write_loadings(path: Path, exported: Mapping[str, Tensor], data: Data) -> None:
    """One row per column of the input: its loadings as in parameters.safetensors (not rotated)."""
    loadings = exported["loadings"].numpy()
    names = [f"factor_{k + 1}" for k in range(loadings.shape[1])]
    frame = pd.DataFrame(loadings, index=data.table.column_labels, columns=pd.Index(names))
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index_label="column")


def _draw(
    folder: Path,
    data: Data,
    model: Model,
    exported: Mapping[str, Tensor],
    scores: Tensor | None,
    mean: np.ndarray,
    deviation: np.ndarray,
) -> None:
    """Columns in units of their own are drawn together in standard deviations of each. scores: the latents of the data
    points, where these have titles or are of several kinds."""
    pictures = folder / "plots"
    pictures.mkdir(exist_ok=True)
    (n, m), columns = data.shape, data.test_columns
    center, scale, unit = np.zeros(m), np.ones(m), "units of the data"
    if not data.table.common_unit:
        center, scale = model.observations.center.cpu().numpy(), model.observations.scale.cpu().numpy()
        unit = "standard deviations of the column"
    references = {"test_rmse": {"predicting the mean": baseline_rmse(data)}} if len(mean) else {}
    with atomic_path(pictures / "convergence.png") as path:
        plots.convergence({folder.name: folder / FILE}, path, references=references)
    if len(mean):
        true, mean = ((values - center[columns]) / scale[columns] for values in (data.test_values, mean))
        with atomic_path(pictures / "predictions.png") as path:
            plots.predictions(true, mean, deviation / scale[columns], path, unit=unit)
    if "loadings" not in exported:
        return
    loadings = exported["loadings"].numpy() / scale[:, None]
    if scores is not None and data.table.row_groups is not None and loadings.shape[1] > 1:
        with atomic_path(pictures / "latents.png") as path:
            plots.latent_scatter(scores[:, :2].double().numpy(), list(map(str, data.table.row_groups)), path)
    rotation, rotated_by = picture_rotation(loadings)
    titles = data.table.row_titles
    if titles is not None and scores is not None:
        own = scores[:, : loadings.shape[1]].double().numpy() @ rotation  # without the offset
        ratings = np.bincount(data.train_rows, minlength=n)
        with atomic_path(pictures / "factors.png") as path:
            plots.factor_extremes(own, list(map(str, titles)), path, weights=ratings, rotated_by=rotated_by)
        return
    names = data.table.column_titles if data.table.column_titles is not None else data.table.column_labels
    rotated, names = loadings @ rotation, list(map(str, names))
    with atomic_path(pictures / "loadings.png") as path:
        plots.loadings_table(rotated, names, path, rotated_by=rotated_by, meaning=f"in {unit}")


def picture_rotation(loadings: np.ndarray) -> tuple[np.ndarray, str]:
    """Varimax (D, factors) for the pictures, and its name: of the leading axes alone where there are many, because it
    turns pairs of factors, and the pictures show a few of them."""
    if loadings.shape[1] <= ROTATED:
        return varimax(loadings), "varimax"
    return varimax(loadings, ROTATED), f"varimax of the {ROTATED} leading axes"


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
    verdict = {
        "converged": f"converged: doubling the steps gained less than tolerance={config['tolerance']:g} nats per entry",
        "max_steps": "stopped at max_steps, not converged",
        "max_seconds": "stopped at max_seconds, not converged",
        "diverged": "diverged: the last good parameters were kept",
        "interrupted": "interrupted: what was learned until then is kept",
    }[outcome.status]
    lines = [f"{verdict} (step {last['step']}, {last['fit_seconds']:.1f} s of learning)"]
    scores = outcome.scores
    error = f" +- {scores.standard_error:.4f}" if scores.standard_error else ""
    likelihoods = f"log-likelihood per entry: train {scores.train_log_likelihood:.4f}{error} nats"
    if scores.test_log_likelihood is not None:
        likelihoods += f", test {scores.test_log_likelihood:.4f} nats"
        baseline = baseline_rmse(data)
        lines += [likelihoods, f"test rmse {scores.test_rmse:.4g}, predicting each column's mean {baseline:.4g}"]
    else:
        lines.append(likelihoods)
    if (advice := cheaper_exactly(model, outcome, config, overrides)) is not None:
        lines.append(advice)
    if outcome.status in ("max_steps", "max_seconds"):
        doubled = 2 * (last["step"] if outcome.status == "max_steps" else config["max_seconds"])
        lines.append(f"to go on: lgm-run {shlex.quote(f'resume={folder}')} {outcome.status}={doubled:g}")
    return [*lines, f"files and pictures: {folder}"]


def cheaper_exactly(model: Model, outcome: Outcome, config: Mapping[str, Any], overrides: list[str]) -> str | None:
    """Say so when exact posteriors would have cost less than the Monte Carlo ones of this run, by their operations."""
    if config["method"]["posterior"] == "exact" or outcome.mean_iterations is None:
        return None
    systems = 1 + (outcome.num_samples or 1)
    exact = iterative = 0.0
    for chunk in model.observations.chunks:
        n, width = chunk.weight.shape
        m = float(chunk.weight.sum()) / n
        small, large = min(m, model.dim), max(m, model.dim)
        exact += n * (3 * small**2 * large + small**3 / 3)
        iterative += n * 4 * width * model.dim * systems * (outcome.mean_iterations + 2)
    if exact >= iterative:
        return None
    groups = ("method", "solver", "hydra")  # what the advice replaces, and what belongs to that run alone
    kept = [item for item in overrides if re.split(r"[./=@]", item.lstrip("+~"))[0] not in groups]
    return (
        f"exact posteriors are cheaper here (latent dimension {model.dim}, {iterative / exact:.0f} times fewer "
        f"operations): {shlex.join(['lgm-run', *kept, 'method=em'])}"
    )
