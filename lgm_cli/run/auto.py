"""What `auto` means: from the words and values of a method to its objects."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from lgm_cli.methods.acceleration import AcceleratedMethod
from lgm_cli.methods.e_steps.base.e_step import EStep
from lgm_cli.methods.e_steps.base.first_split import first_split
from lgm_cli.methods.m_steps.base.m_step import MStep
from lgm_cli.methods.method import Method
from lgm_cli.methods.statistics.base.sums import Sums
from lgm_cli.methods.statistics.running import first_update
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.run.build import class_of, solver
from lgm_cli.run.meaning import (
    named_parameters,
    refuse_what_does_not_fit,
    refuse_what_has_no_meaning,
    rehearse,
)
from lgm_cli.run.updates import asked, leaves_open

MAX_STEPS = 5000  # of a method whose update is still open; of others, their M-step says it
MAX_BATCH_STEPS = 20_000  # of closed-form steps over a minibatch each
RETREATS = 4  # from steps that led astray, where their size was left open
FEW_BLOCKS = 8  # up to so many blocks every step uses all data points
BATCH_BLOCKS = 2
BATCHES = {"running": 20, "replaced": 10}  # to pass through the data, where statistics of batches are put together
COLUMN_SAMPLES = 512  # posterior samples behind a column's gradient, at least, in steps over all data points
MOST_SAMPLES = 10
GROWTH = 2  # of the samples of method=unroll in closed form, where their statistics are not averaged instead
WARM = 0.5  # inverse temperature at first, of models without components
JUST_BELOW = 0.95  # of the inverse temperature at which components come apart
LEARNING_RATE = {"adam": 0.55, "rmsprop": 0.1, "adagrad": 0.5, "sgd": 1.0}  # times dim^-0.95


def max_steps(config: Mapping[str, Any]) -> int:
    given, options = config["max_steps"], config["method"]
    if given != "auto":
        return given
    if _batched(options):
        return MAX_BATCH_STEPS
    word = asked(options)
    return MAX_STEPS if word == "auto" else class_of("methods.m_steps", word).most_steps


def block_size(config: Mapping[str, Any], points: int) -> int | None:
    """Data points of a block, of so many in all: a batch smaller than the usual block is a block of its own."""
    options = config["method"]
    batch = options.get("batch_size", "auto")
    if batch != "auto":
        return batch
    return math.ceil(points / BATCHES[options["statistics"]]) if _batched(options) else None


def method(
    config: Mapping[str, Any], model: LatentVariableModel, parameters: Parameters
) -> tuple[Method, dict[str, Any]]:
    """The method, and what was chosen for the values that were left open.

    E-step, statistics and M-step are the classes that the words `posterior`, `statistics` and `update` name, by file;
    each is given what its arguments ask for by name, of the method's keys and of what is made here.

    The choices were measured on MovieLens (D = 3 with the offset), bfi (D = 5) and simulated data (D = 5 and 400):
    from a third to three times the learning rate, all reach the same likelihood where D is small.
    """
    options = dict(config["method"])
    if options.get("statistics") in BATCHES and model.independent > model.observations.shape[0]:
        model = model.apart(config["seed"], block_size(config, model.independent))
    observations, tuning = model.observations, model.tuning()
    chosen: dict[str, Any] = {}
    prepared = 0.0
    if options["posterior"] == "auto":
        options["posterior"] = chosen["posterior"] = "monte_carlo" if model.has_system else "drawn"
    name = config.get("model", {}).get("name", type(model).__name__)
    chosen |= (found := _left_open(options, model))
    options |= found
    gradient = options["update"] == "gradient"
    refuse_what_has_no_meaning(options, model, name)
    blocks, (per_step, batch) = len(observations.blocks), _batch(config, options, model)
    chosen["batch_size"] = batch
    if options["posterior"] != "monte_carlo" or not model.standard_prior:  # judged by exact posteriors alone
        refuse_what_does_not_fit(model, gradient)
    given: dict[str, Any] = options | {
        "model": model, "parameters": parameters, "seed": config["seed"], "blocks_per_step": per_step,
    }  # fmt: skip
    if options["posterior"] in ("monte_carlo", "drawn"):
        # Minibatches bring noise of their own, which one sample a data point does not much increase; so do averages.
        few = per_step < blocks or options.get("statistics") == "running"
        samples = 1 if few else min(MOST_SAMPLES, math.ceil(COLUMN_SAMPLES / tuning.observations_per_column))
        chosen["num_samples"] = _auto(options["num_samples"], tuning.num_samples or samples)
        chosen["refresh_every"] = _auto(options["refresh_every"], 1)
        if leaves_open(options) and not gradient:
            given["growth"] = GROWTH if options["statistics"] == "fresh" else 1
    if options["posterior"] == "monte_carlo":
        iterative = given["solver"] = solver(config, model)
        chosen["max_iterations"], chosen["tolerance"] = iterative.max_iterations, iterative.tolerance
        given["differentiable"] = options.get("gradient") == "network"
    if gradient:
        optimizer = options["optimizer"]
        rate = tuning.learning_rate.get(optimizer, LEARNING_RATE[optimizer] * tuning.tuned_dim**-0.95)
        chosen["learning_rate"] = _auto(options["learning_rate"], rate)
        betas = tuning.betas if optimizer == "adam" else None
        chosen |= {} if betas is None else {"betas": list(betas)}
        given |= {"betas": betas, "retreats": RETREATS if options["learning_rate"] == "auto" else 0}
    if "first_update" in options:
        entries = observations.observed * per_step / blocks
        numbers = sum(value.numel() for value in parameters.values())
        first = first_update(numbers, entries, max(1, blocks // per_step))
        chosen["first_update"] = _auto(options["first_update"], first)
    if "either" in options:
        names = named_parameters(options["either"], "either", model.blocks[-1], parameters)
        given["either"] = chosen["either"] = names
    if "hold" in options:
        names = named_parameters(options["hold"], "hold", model.held_when_tempered, parameters)
        given["hold"] = chosen["hold"] = names
        if options["inverse_temperature"] == "auto":
            begun = time.perf_counter()
            alike = model.alike(parameters)
            beta = WARM if alike is None else JUST_BELOW * first_split(model, alike, names, config["seed"])
            chosen["inverse_temperature"] = min(1.0, beta)
            prepared = time.perf_counter() - begun
            if alike is not None and beta < 1:  # or else they would stay alike
                given["parameters"] = parameters = alike
    given |= {key: value for key, value in chosen.items() if key in options}
    e_step: EStep = _made("methods.e_steps", options["posterior"], given)
    if not gradient:
        kept = {"running": 2, "settling": 3, "replaced": blocks + 1}.get(options.get("statistics", "fresh"), 0)
        if kept or options["posterior"] != "exact":
            rehearse(options, model, name, _made("methods.e_steps", options["posterior"], given), parameters, kept)
        sums: Sums = _made("methods.statistics", options.get("statistics", "fresh"), given)
        given["sums"] = sums
    m_step: MStep = _made("methods.m_steps", options["update"], given)
    chosen = {key: list(value) if isinstance(value, tuple) else value for key, value in chosen.items()}
    made = Method(model, e_step, m_step, per_step, config["seed"])
    made.prepared_seconds = prepared
    acceleration = options.get("acceleration", "none")  # of runs recorded before there was any, too
    return (made if acceleration == "none" else AcceleratedMethod(made, acceleration)), chosen


def _left_open(options: Mapping[str, Any], model: LatentVariableModel) -> dict[str, str]:
    """The words of a method that leaves its update open: the update and what belongs to it, where they are auto.

    The maximum takes all data points a step and, of factor analysis, statistics of (M, D, D): where both are many,
    gradient steps have got further (simulated: 54 steps against 498 in 25 s of 100,000 data points, where both are as
    good; D = 150, where gradients are better).
    """
    if not leaves_open(options):
        return {}
    if (word := asked(options)) == "auto":
        tuning = model.tuning()
        fits = len(model.observations.blocks) <= FEW_BLOCKS and model.dim <= tuning.most_latent
        word = tuning.update if fits else "gradient"
    usual = {"update": word} | (
        {"gradient": "output", "optimizer": "adam"}
        if word == "gradient"
        else {"statistics": "settling" if model.averages else "fresh"}
    )
    return {key: value for key, value in usual.items() if options[key] == "auto"}


def _made(package: str, word: str, given: Mapping[str, Any]) -> Any:
    """An object of the class that a word names, with those of the given values that its arguments name."""
    kind: Callable[..., Any] = class_of(package, word)
    return kind(**{name: given[name] for name in signature(kind).parameters if name in given})


def _batched(options: Mapping[str, Any]) -> bool:
    """Whether statistics of minibatches are put together."""
    return "batch_size" in options and options.get("statistics") in BATCHES


def _batch(config: Mapping[str, Any], options: Mapping[str, Any], model: LatentVariableModel) -> tuple[int, int]:
    """Blocks of a step, and data points. options: of the method, with its update."""
    observations = model.observations
    blocks = len(observations.blocks)
    largest = max(observations.block_sizes)
    if "batch_size" not in options or (leaves_open(options) and options["update"] == "closed_form"):
        per_step = blocks
    elif (size := block_size(config, observations.shape[0])) is not None:
        per_step = min(blocks, max(1, round(size / largest)))
    else:
        per_step = blocks if blocks <= FEW_BLOCKS else BATCH_BLOCKS
    return per_step, min(observations.shape[0], per_step * largest)


def _auto(given: Any, choice: Any) -> Any:
    return choice if given == "auto" else given
