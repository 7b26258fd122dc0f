"""The pictures of a finished run, in plots/: what every run has, the model's own, and what steps of EM have."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lgm_cli import plots
from lgm_cli.data.base.baselines import baseline_rmse
from lgm_cli.data.base.categories import sizes
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.intervals import distance
from lgm_cli.evaluation.bound import bound_along_a_step
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.observations.units import standardisation
from lgm_cli.report.gaps import gaps
from lgm_cli.report.learned import DEVIATIONS, Learned, drawn_units
from lgm_cli.report.learned import pictures as pictures_of
from lgm_cli.results.files import atomic_path
from lgm_cli.results.metrics import FILE, FREE_ENERGY
from lgm_cli.results.outcome import Steps

LEVELS = 12  # of a rating scale, at most
ROUNDING = {torch.float32: 3e-8, torch.float64: 1e-13}  # of a gap between free energy and likelihood, per entry

log = logging.getLogger(__name__)


def draw(
    folder: Path,
    config: Mapping[str, Any],
    model: LatentVariableModel,
    learned: Learned,
    mean: np.ndarray,
    deviation: np.ndarray,
    steps: Steps | None,
    seed: int | None,
) -> None:
    """What every run has, the model's own and, of steps of EM, what these have.

    mean, deviation: predictions of the hidden entries. seed: of the start of the steps; None where exact posteriors
    cost too much. Columns in units of their own are drawn together in standard deviations of each.
    """
    data = learned.data
    naive = "predicting the most frequent category" if sizes(data.table).any() else "predicting the mean"
    references = {"test_rmse": {naive: baseline_rmse(data)}} if len(mean) else {}
    with _picture(folder, config, "convergence") as path:
        unit = drawn_units(data)[2]
        unit = unit.replace(DEVIATIONS, "units of the data")  # as metrics.csv has it
        plots.convergence({title(config): folder / FILE}, path, references, unit)
    if len(mean) and not sizes(data.table).any():  # a name is near no other
        groups, unit = predicted(data, mean, deviation)
        with _picture(folder, config, "predictions") as path:
            plots.predictions(groups, path, unit=unit)
    for name, picture in (pictures_of(model, learned) | gaps(learned)).items():
        with _picture(folder, config, name) as path:
            picture(path)
    if steps is not None:
        _draw_steps(folder, config, model, steps, seed)


def predicted(data: Data, mean: np.ndarray, deviation: np.ndarray) -> tuple[list[plots.Group], str]:
    """Hidden entries and forecasts, each for themselves, in the unit that they are drawn in, and its name.

    Root mean squared errors are in the data's own units and, of several columns with units of their own, in standard
    deviations of the column, too.
    """
    columns, (center, scale, unit) = data.test_columns, drawn_units(data)
    if unit == DEVIATIONS and on_one_scale(data.table.values):
        center, scale, unit = np.zeros_like(center), np.ones_like(scale), "points of the scale"
    center, scale, error = center[columns], scale[columns], data.test_values - mean
    away = distance(data.table, data.test_values, mean, deviation)
    errors = {unit: error}
    if not data.table.common_unit and data.shape[1] > 1:
        own = standardisation(data)[1][columns]
        errors = {DEVIATIONS: error / np.where(own > 0, own, 1.0), "in the data's own units": error}
    groups = []
    for name, chosen in (("hidden entries", ~data.ahead), ("forecasts", data.ahead)):
        if chosen.any():
            true, found = ((values - center)[chosen] / scale[chosen] for values in (data.test_values, mean))
            of = {word: float(np.sqrt(np.mean(each[chosen] ** 2))) for word, each in errors.items()}
            groups.append(plots.Group(name, true, found, away[chosen], of))
    return groups, unit


def on_one_scale(values: np.ndarray) -> bool:
    """Whether values can be answers on one rating scale: whole numbers, at most LEVELS of them."""
    return bool((values == np.round(values)).all() and len(np.unique(values)) <= LEVELS)


def _draw_steps(
    folder: Path, config: Mapping[str, Any], model: LatentVariableModel, steps: Steps, seed: int | None
) -> None:
    """What steps of EM have: the free energy, where there is one, and the bound of the first step from the start.

    seed: of the start; None where exact posteriors cost too much.
    """
    metrics = pd.read_csv(folder / FILE)
    if FREE_ENERGY in metrics and np.isfinite(metrics[FREE_ENERGY].to_numpy(float)).any():
        rounding = ROUNDING[model.observations.dtype]
        with _picture(folder, config, "free_energy") as path:
            plots.free_energy(metrics, path, title(config), steps.passes, steps.first_passes, steps.bounds, rounding)
    line = None if seed is None else bound_along_a_step(model, model.start(seed), seed)
    if line is None:
        log.info("plots/bound is left out: one step of EM would take too long, or cannot be taken from the start")
        return
    words = f"{title(config)}\nThe first step of EM"
    if line.points < line.of:
        words += f", of {line.points:,} of {line.of:,} data points"
    coordinates = ", in free coordinates" if line.free else ""
    with _picture(folder, config, "bound") as path:
        plots.bound(line.places, line.log_likelihood, line.bound, path, words, coordinates, " + log prior" * line.prior)


def title(config: Mapping[str, Any]) -> str:
    """What was learned from what, how and from which seed: "factor analysis of bfi, learned by em, seed 0"."""
    model, data, method = (str(config[part]["name"]) for part in ("model", "data", "method"))
    if (path := config["data"].get("path")) is not None:
        data = Path(path).name
    return f"{model.replace('_', ' ')} of {data}, learned by {method.replace('_', ' ')}, seed {config['seed']}"


@contextmanager
def _picture(folder: Path, config: Mapping[str, Any], name: str) -> Iterator[Path]:
    """Where to draw a picture, in the format that plots.format names."""
    place, kind = folder / "plots", config["plots"]["format"]
    place.mkdir(exist_ok=True)
    with atomic_path(place / f"{name}.{kind}") as path:
        yield path
