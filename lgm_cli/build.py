"""From a checked configuration to objects: the choices that were left to the program are made here."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch

from lgm_cli.errors import UserError
from lgm_cli.memory import available_memory
from lgm_cli.methods.expectation import ExactExpectation, MonteCarloExpectation
from lgm_cli.methods.method import Method
from lgm_cli.methods.update import ClosedFormUpdate, GradientUpdate
from lgm_cli.models.base import Model, Parameters
from lgm_cli.process import MOST_THREADS, cores, threads_asked
from lgm_cli.solvers.base.solver import Solver

DTYPES = {"float32": torch.float32, "float64": torch.float64}
SMALL_WORK = 5e6  # half the multiplications of a product with A, up to which one thread is as good as several
MAX_STEPS = {"closed_form": 2000, "gradient": 5000}
RETREATS = 4  # from steps that led astray, where their size was left open
FEW_BLOCKS = 8  # up to so many blocks every step uses all data points
BATCH_BLOCKS = 2
COLUMN_SAMPLES = 512  # posterior samples behind a column's gradient, at least, in steps over all data points
MOST_SAMPLES = 10
LEARNING_RATE = {"adam": 0.55, "rmsprop": 0.1, "adagrad": 0.5, "sgd": 1.0}  # times dim^-0.95


def class_of(package: str, name: str) -> Any:
    """The class of lgm_cli/<package>/<name>.py, its name in CamelCase."""
    return getattr(import_module(f"lgm_cli.{package}.{name}"), name.title().replace("_", ""))


def of_name(package: str, name: str, options: Mapping[str, Any]) -> Any:
    """That class with the options of its YAML."""
    return class_of(package, name)(**{key: value for key, value in options.items() if key != "name"})


def model(config: Mapping[str, Any]) -> Model:
    return of_name("models", config["model"]["name"], config["model"])


def solver(config: Mapping[str, Any], model: Model) -> Solver:
    """The solver of the configuration; what was left open is the model's to choose, and then the solver's."""
    options = dict(config["solver"])
    options |= {key: value for key, value in model.choices.items() if options.get(key) == "auto"}
    return of_name("solvers", options["name"], options)


def device(options: Mapping[str, Any]) -> torch.device:
    """The device of the configuration, with its threads set; UserError when it is not there."""
    name = options["name"]
    there = {"cpu": lambda: True, "cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if name == "auto":
        name = "cuda" if there["cuda"]() else "cpu"
    if not there[name]():
        found = ", ".join(kind for kind, present in there.items() if present())
        raise UserError(f"device={name} is not to be had on this machine", f"use one of: {found}")
    threads, most = options["threads"], cores()
    if threads == "auto":
        threads = threads_asked() or most  # a scheduler's word counts
    elif threads > MOST_THREADS * most:
        advice = f"use device.threads={most}, at most {MOST_THREADS * most}"
        raise UserError(f"device.threads={threads} on {most} cores", advice)
    torch.set_num_threads(threads)
    if name == "cuda":  # sums in a fixed order: the same seed gives the same numbers
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.cuda.reset_peak_memory_stats()
    return torch.device(name)


def spare_threads(options: Mapping[str, Any], model: Model) -> None:
    """One thread for small data where the number was left open: there, several gain little, and wait for each other
    many times as long when another process is busy."""
    small = model.product_operations(np.array([model.observations.observed]))[0] < 2 * SMALL_WORK
    if small and options["threads"] == "auto" and not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(1)


def dtype(options: Mapping[str, Any], model: Model) -> torch.dtype:
    """That of the configuration's device group, or double precision where the model needs it and the device has it."""
    if model.double_precision and options["name"] != "mps":
        return torch.float64
    return DTYPES[options["dtype"]]


def describe(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What a run was timed on, for summary.json: processor threads, the device, a GPU by its name, the numbers."""
    found: dict[str, Any] = {"threads": torch.get_num_threads(), "device": str(device)}
    found["dtype"] = str(dtype).removeprefix("torch.")
    return found | ({"device_name": torch.cuda.get_device_name(device)} if device.type == "cuda" else {})


def max_steps(config: Mapping[str, Any]) -> int:
    given = config["max_steps"]
    if given != "auto":
        return given
    return class_of("models", config["model"]["name"]).choices.get("max_steps", MAX_STEPS[config["method"]["update"]])


def block_size(config: Mapping[str, Any]) -> int | None:
    """Data points of a block: a batch smaller than the usual block is a block of its own."""
    batch = config["method"].get("batch_size", "auto")
    return None if batch == "auto" else batch


def method(config: Mapping[str, Any], model: Model, parameters: Parameters) -> tuple[Method, dict[str, Any]]:
    """The method, and what was chosen for the values that were left open.

    The choices were measured on MovieLens (D = 3 with the offset), bfi (D = 5) and simulated data (D = 5 and 400):
    from a third to three times the learning rate, all reach the same likelihood where D is small.
    """
    options, seed = config["method"], config["seed"]
    observations = model.observations
    blocks = len(observations.blocks)
    largest = max(sum(len(chunk.points) for chunk in block) for block in observations.blocks)
    if options["update"] == "closed_form":
        per_step = blocks
    elif options["batch_size"] == "auto":
        per_step = blocks if blocks <= FEW_BLOCKS else BATCH_BLOCKS
    else:
        per_step = min(blocks, max(1, round(options["batch_size"] / largest)))
    batch = min(observations.shape[0], per_step * largest)
    chosen: dict[str, Any] = {"batch_size": batch}
    if options["posterior"] == "exact" or not model.standard_prior:  # whose parameters are judged by exact ones alone
        _refuse_what_does_not_fit(model, options["update"] == "gradient")
    if options["posterior"] == "exact":
        expectation: ExactExpectation | MonteCarloExpectation = ExactExpectation(model)
    else:
        iterative = solver(config, model)
        # Minibatches bring noise of their own, which one sample a data point does not much increase.
        samples = 1 if per_step < blocks else min(MOST_SAMPLES, math.ceil(COLUMN_SAMPLES / model.replicates))
        samples = model.choices.get("num_samples", samples)
        chosen["num_samples"] = _auto(options["num_samples"], samples)
        chosen["refresh_every"] = _auto(options["refresh_every"], 1)
        chosen["max_iterations"], chosen["tolerance"] = iterative.max_iterations, iterative.tolerance
        expectation = MonteCarloExpectation(
            model,
            iterative,
            chosen["num_samples"],
            chosen["refresh_every"],
            seed,
            options["gradient"] == "network",
        )
    if options["update"] == "closed_form":
        update: ClosedFormUpdate | GradientUpdate = ClosedFormUpdate(model, parameters)
    else:
        optimizer = options["optimizer"]
        rate = LEARNING_RATE[optimizer] * model.step_dim**-0.95
        rate = model.choices.get("learning_rate", {}).get(optimizer, rate)
        chosen["learning_rate"] = _auto(options["learning_rate"], rate)
        betas = model.choices.get("betas") if optimizer == "adam" else None
        chosen |= {} if betas is None else {"betas": list(betas)}
        retreats = RETREATS if options["learning_rate"] == "auto" else 0
        update = GradientUpdate(model, parameters, optimizer, chosen["learning_rate"], betas, retreats)
    return Method(model, expectation, update, per_step, seed), chosen


def _refuse_what_does_not_fit(model: Model, gradient: bool) -> None:
    """UserError when exact posteriors do not fit into the memory that is free."""
    needed, free = model.exact_bytes(gradient), available_memory(model.observations.device)
    if needed > free:
        raise UserError(
            f"exact posteriors need {needed / 1e9:,.2f} GB, and {free / 1e9:,.2f} GB are free",
            "method=unroll" if model.standard_prior else "fewer latent dimensions, or less of the series",
        )


def _auto(given: Any, choice: Any) -> Any:
    return choice if given == "auto" else given
