"""The last lines of a run: what it learned, the verdict and what to do about it, warnings, and where the files are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lgm_cli.data.base.categories import sizes
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.naive_forecasts import naive_forecasts
from lgm_cli.evaluation.evaluator import LOG_PRIOR
from lgm_cli.evaluation.operations import operations
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.report.learned import WRONG, drawn_units
from lgm_cli.report.text import WIDTH, Result, number, shortened, wrapped
from lgm_cli.results.outcome import SETTLED, Outcome

MOST_LINES = 25
WARNING = "warning: "  # how a warning begins; its further lines begin with two spaces
FILE = "summary.txt"
VERDICTS = ("converged", "stopped at", "ended at", "diverged", "interrupted")  # how the verdict's line begins


def closing(
    folder: Path,
    config: Mapping[str, Any],
    model: LatentVariableModel,
    data: Data,
    outcome: Outcome,
    summary: Mapping[str, Any],
    result: Result,
    notes: list[str],
) -> list[str]:
    """At most MOST_LINES lines: the result, the verdict, warnings, files. notes: what was chosen for the run, in lines.

    Sentences are broken between words at 80 characters; commands and paths stand in lines of their own, unbroken.
    """
    last = summary["last_row"]
    lines = [*result.lines, *_scores(data, summary["scores"]), *_likelihoods(outcome, summary)]
    lines += wrapped(
        f"{_verdict(config, model, outcome)} (step {last['step']}, {last['fit_seconds']:.1f} s of learning)"
    )
    for note in notes:
        lines += wrapped(note)
    if (advice := cheaper_exactly(model, outcome, config, summary["overrides"])) is not None:
        lines.append(advice)
    if outcome.status in ("max_steps", "max_seconds"):
        doubled = 2 * (last["step"] if outcome.status == "max_steps" else config["max_seconds"])
        lines.append(f"to go on: lgm-run {shlex.quote(f'resume={folder}')} {outcome.status}={doubled:g}")
    lines += _warnings(summary["warnings"], MOST_LINES - 1 - len(lines))
    return [*lines, f"files and pictures: {folder}"]


def _verdict(config: Mapping[str, Any], model: LatentVariableModel, outcome: Outcome) -> str:
    settled = ""
    if model.settled_gain is not None:
        settled = f" moved the signal by less than {SETTLED:g} of its standard deviation and"
    gain = config["tolerance"] * (model.settled_gain or 1.0)
    return {
        "converged": f"converged: doubling the steps{settled} gained less than {gain:g} nats per entry",
        "max_steps": _limited(config, "max_steps"),
        "max_seconds": _limited(config, "max_seconds"),
        "diverged": "diverged: the last good parameters were kept; try method=em, or a smaller method.learning_rate",
        "interrupted": "interrupted, not converged",
    }[outcome.status]


def _likelihoods(outcome: Outcome, summary: Mapping[str, Any]) -> list[str]:
    """Of the data learned from, of their joint distribution; of the hidden entries, each given what is known beside
    it. The two are never in one line, since they are of different kinds. Criteria, where the summary has them."""
    scores = outcome.scores
    error = f" +- {scores.standard_error:.4f}" if scores.standard_error else ""
    text = f"log-likelihood per entry learned from: train {scores.train_log_likelihood:.4f}{error} nats (joint)"
    if (prior := scores.own.get(LOG_PRIOR)) is not None:
        text += f"; log prior {prior:.4f} beside it, whose sum with it was raised"
    lines = wrapped(text)
    if scores.test_log_likelihood is not None:
        given = (
            f"log density per hidden entry: test {scores.test_log_likelihood:.4f} nats (given what is known beside it)"
        )
        lines += wrapped(given)
    if summary.get("aic") is not None and summary.get("bic") is not None:
        free = summary.get("free_parameters")
        of = "" if free is None else f", {free:,} free parameters"
        lines.append(f"AIC {summary['aic']:,.1f}, BIC {summary['bic']:,.1f}{of}")
    return lines


def _scores(data: Data, found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The errors of hidden entries beside naive ones, gaps and forecasts apart, and how many values the 90% intervals
    hold. The unit is that of pictures and of `scores` in summary.json."""
    lines = []
    for kind, score in found.items():
        of_what = "each column's mean" if data.shape[1] > 1 else "the mean"
        if sizes(data.table).any():
            of_what += " or most frequent category"
        naive = f"predicting {of_what} {number(score['mean_rmse'])}"
        what = f"test rmse {number(score['rmse'])}"
        if kind == "forecast":
            each = " of each series" if data.table.num_series > 1 else ""
            what = f"forecast rmse {number(score['rmse'])} over the last {data.table.horizon} steps{each}"
            by_name = naive_forecasts(data, drawn_units(data)[1])
            naive = ", ".join(f"{name} {number(value)}" for name, value in by_name.items())
        held = score["coverage_90"]
        if score["unit"] == WRONG:
            what = f"{score['rmse'] ** 2:.1%} of the hidden categories are predicted wrong"
            naive = f"by the most frequent one of its column {score['mean_rmse'] ** 2:.1%}"
        of = f" of {score['coverage_of']}" if "coverage_of" in score else ""
        inside = "" if held is None else f"; 90% intervals{of} hold {held:.1%}"
        entries = "entry" if score["number"] == 1 else "entries"
        unit = "" if score["unit"] == WRONG else f"{score['unit']}, "
        lines += wrapped(f"{what}, {naive} ({unit}{score['number']:,} hidden {entries}){inside}")
    return lines


def _warnings(warnings: list[str], room: int) -> list[str]:
    """The warnings in so many lines; what has no room is cut, with a word of where it is."""
    lines: list[str] = []
    for place, warning in enumerate(warnings):
        found, left = wrapped(WARNING + warning), len(warnings) - place
        if len(lines) + len(found) + (left > 1) > max(room, 1):
            *kept, last = found[: max(room, 1) - len(lines)]
            where = f" ({left} warnings in summary.json)" if left > 1 else " (in full in summary.json)"
            indent = " " * (len(last) - len(last.lstrip()))
            return [*lines, *kept, indent + shortened(f"{last} …", WIDTH - len(where) - len(indent)) + where]
        lines += found
    return lines


def _limited(config: Mapping[str, Any], limit: str) -> str:
    """How a run at its limit ended: as asked, where the limit was given, by a user or a preset."""
    if config[limit] in ("auto", None):
        return f"stopped at {limit}, not converged"
    return f"ended at {limit}={config[limit]:g}, as asked; not converged"


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
