"""The last lines of a run: its verdict and what to do about it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lgm_cli.data.base.baselines import baseline_rmse
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.intervals import interval
from lgm_cli.data.series import naive_forecasts
from lgm_cli.evaluation.evaluator import LOG_PRIOR
from lgm_cli.evaluation.operations import operations
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.results.outcome import SETTLED, Outcome


def closing(
    folder: Path,
    config: Mapping[str, Any],
    model: LatentVariableModel,
    data: Data,
    outcome: Outcome,
    last: Mapping[str, Any],
    overrides: list[str],
    notes: list[str],
) -> list[str]:
    """What a person wants to know at the end, in about five lines. notes: what was chosen for the run, in lines."""
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
    lines = [f"{verdict} (step {last['step']}, {last['fit_seconds']:.1f} s of learning)", *notes]
    scores = outcome.scores
    error = f" +- {scores.standard_error:.4f}" if scores.standard_error else ""
    likelihoods = f"log-likelihood per entry: train {scores.train_log_likelihood:.4f}{error} nats"
    if (prior := scores.own.get(LOG_PRIOR)) is not None:
        likelihoods += f" (log prior {prior:.4f} beside it; their sum was raised)"
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
    lower, upper = interval(data.table, mean, deviation)
    inside = (lower <= true) & (true <= upper)
    naive = ", ".join(f"{name} {value:.4g}" for name, value in naive_forecasts(data).items())
    each = " of each series" if data.table.num_series > 1 else ""
    return (
        f"forecast rmse {rmse:.4g} over the last {data.table.horizon} steps{each}, {naive}; "
        f"90% intervals hold {inside.mean():.1%}"
    )


def cheaper_exactly(
    model: LatentVariableModel, outcome: Outcome, config: Mapping[str, Any], overrides: list[str]
) -> str | None:
    """Say so when exact posteriors would have cost less than the Monte Carlo ones of this run, by their operations."""
    if config["method"]["posterior"] == "exact" or outcome.mean_iterations is None:
        return None
    found = operations(model, outcome.num_samples or 1, outcome.mean_iterations)
    if not found.exact_is_cheaper:
        return None
    groups = ("method", "solver", "hydra")  # what the advice replaces, and what belongs to that run alone
    kept = [item for item in overrides if re.split(r"[./=@]", item.lstrip("+~"))[0] not in groups]
    return (
        f"exact posteriors are cheaper here (latent dimension {model.dim}, {found.unrolled / found.exact:.0f} times "
        f"fewer operations): {shlex.join(['lgm-run', *kept, 'method=em'])}"
    )
