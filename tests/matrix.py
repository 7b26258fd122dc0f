"""Each method of conf/method on each model of conf/model, as a run builds it: no list of either is kept.

Data are drawn from the model itself and have gaps; they are learned from in double precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch

from lgm_cli.command import choices
from lgm_cli.data.base.data import Data
from lgm_cli.data.simulated import load
from lgm_cli.errors import UserError
from lgm_cli.methods.method import Method
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.run import auto, cheaper
from tests import cases

SMALL = {"latent_dim": 2, "num_components": 3, "order": 2}  # of a model's keys, where it has them
POINTS, DIMENSIONS = 60, 5

MODELS = choices.choices("model")
METHODS = choices.choices("method")
AMONG = ("em", "unroll")  # what method=auto decides between
Options = dict[str, Any]


def defaults(name: str) -> Options:
    return {key: entry.default for key, entry in choices.keys(name).items()}


def varied(group: str, name: str) -> list[Options]:
    """Nothing, and each other value of each key that is a choice of a few words, or yes or no, alone."""
    found: list[Options] = [{}]
    for key, entry in choices.keys(f"{group}/{name}").items():
        values: list[Any] = []
        if entry.rule.startswith("boolean"):
            values = [True, False]
        elif entry.rule.startswith("one of "):
            words = entry.rule.removeprefix("one of ").replace(", or ", ", ").split(", ")
            values = [word.strip() for word in words]
        found += [{key: value} for value in values if value != entry.default]
    return found


def label(name: str, options: Options) -> str:
    return "-".join([name, *(f"{key}={value}" for key, value in options.items())])


def model_options(name: str, options: Mapping[str, Any]) -> Options:
    found = defaults(f"model/{name}")
    if {"latent_dim", "num_components"} <= found.keys():  # few rows tell little of each component's factors
        return found | {"latent_dim": 1, "num_components": 2} | dict(options)
    return found | {key: value for key, value in SMALL.items() if key in found} | dict(options)


@cache
def _drawn(name: str, options: tuple[tuple[str, Any], ...], points: int) -> tuple[dict[str, Any], Data]:
    settings = defaults("data/simulated") | {"num_points": points, "num_dimensions": DIMENSIONS, "hidden_share": 0.0}
    own = model_options(name, dict(options))
    settings |= {"latent_dim": 2, "factor_share": 0.7} | ({"offset_share": 0.1} if own.get("offset") else {})
    drawn = cases.build_model(name, own).simulate(settings)
    drawn |= {"values": cases.with_gaps(drawn["values"], "masked")}
    table = load({}, lambda _: drawn)
    return drawn["truth"], Data(table, np.zeros(len(table.values), bool))


def data(name: str, options: Options | None = None, points: int = POINTS) -> Data:
    """Drawn from the model, three tenths of its entries missing, and one row of it whole."""
    return _drawn(name, tuple((options or {}).items()), points)[1]


def bound(
    name: str,
    options: Options | None = None,
    block_size: int | None = None,
    device: torch.device = cases.CPU,
    points: int = POINTS,
) -> LatentVariableModel:
    model = cases.build_model(name, model_options(name, options or {}))
    return cases.bind(model, data(name, options, points), block_size=block_size, device=device)


def configuration(method: str, model: str, method_options: Options, options: Options, seed: int = 0) -> dict[str, Any]:
    solver = choices.picks("method", method)["solver"]
    return {
        "seed": seed,
        "method": defaults(f"method/{method}") | {"name": method} | method_options,
        "model": model_options(model, options) | {"name": model},
        "solver": defaults(f"solver/{solver}") | {"name": solver},
    }


def build(
    method: str,
    model: str,
    method_options: Options | None = None,
    options: Options | None = None,
    seed: int = 0,
    device: torch.device = cases.CPU,
    points: int = POINTS,
) -> tuple[Method, dict[str, Any]]:
    """As a run builds it, and what was chosen for what was left open. UserError where it is refused."""
    config = configuration(method, model, method_options or {}, options or {}, seed)
    if method == "auto":
        config["method"]["among"] = {word: configuration(word, model, {}, options or {}, seed) for word in AMONG}
        made = bound(model, options, device=device, points=points)
        config, _ = cheaper.decided(config, made, made.start(0))
    size = auto.block_size(config, data(model, options, points).layout[0])
    made = bound(model, options, size, device, points)
    return auto.method(config, made, made.start(0))


def is_allowed(method: str, model: str) -> bool:
    try:
        build(method, model)
    except UserError:
        return False
    return True


def likelihood(method: Method) -> float:
    """log p(y) of all data points, exactly."""
    return float(cases.log_likelihood(method.model, method.parameters))


def allowed(*models: str) -> list[tuple[str, str]]:
    """Pairs of a model, of these or of all, and a method that has a meaning for it."""
    return [(model, method) for model in models or MODELS for method in METHODS if is_allowed(method, model)]
