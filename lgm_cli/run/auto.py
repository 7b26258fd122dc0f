"""What `auto` means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lgm_cli.errors import UserError
from lgm_cli.evaluation.memory import available_memory
from lgm_cli.methods.acceleration import AcceleratedMethod
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.m_steps.gradient import Gradient
from lgm_cli.methods.method import Method
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.run.build import class_of, solver

MAX_STEPS = {"closed_form": 2000, "gradient": 5000}


RETREATS = 4  # from steps that led astray, where their size was left open


FEW_BLOCKS = 8  # up to so many blocks every step uses all data points


BATCH_BLOCKS = 2


COLUMN_SAMPLES = 512  # posterior samples behind a column's gradient, at least, in steps over all data points


MOST_SAMPLES = 10


LEARNING_RATE = {"adam": 0.55, "rmsprop": 0.1, "adagrad": 0.5, "sgd": 1.0}  # times dim^-0.95


def max_steps(config: Mapping[str, Any]) -> int:
    given = config["max_steps"]
    if given != "auto":
        return given
    return class_of("models", config["model"]["name"]).choices.get("max_steps", MAX_STEPS[config["method"]["update"]])


def block_size(config: Mapping[str, Any]) -> int | None:
    """Data points of a block: a batch smaller than the usual block is a block of its own."""
    batch = config["method"].get("batch_size", "auto")
    return None if batch == "auto" else batch


def method(
    config: Mapping[str, Any], model: LatentVariableModel, parameters: Parameters
) -> tuple[Method, dict[str, Any]]:
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
        expectation: Exact | MonteCarlo = Exact(model)
    else:
        iterative = solver(config, model)
        # Minibatches bring noise of their own, which one sample a data point does not much increase.
        samples = 1 if per_step < blocks else min(MOST_SAMPLES, math.ceil(COLUMN_SAMPLES / model.replicates))
        samples = model.choices.get("num_samples", samples)
        chosen["num_samples"] = _auto(options["num_samples"], samples)
        chosen["refresh_every"] = _auto(options["refresh_every"], 1)
        chosen["max_iterations"], chosen["tolerance"] = iterative.max_iterations, iterative.tolerance
        expectation = MonteCarlo(
            model,
            iterative,
            chosen["num_samples"],
            chosen["refresh_every"],
            seed,
            options["gradient"] == "network",
        )
    if options["update"] == "closed_form":
        update: ClosedForm | Gradient = ClosedForm(model, parameters)
    else:
        optimizer = options["optimizer"]
        rate = LEARNING_RATE[optimizer] * model.step_dim**-0.95
        rate = model.choices.get("learning_rate", {}).get(optimizer, rate)
        chosen["learning_rate"] = _auto(options["learning_rate"], rate)
        betas = model.choices.get("betas") if optimizer == "adam" else None
        chosen |= {} if betas is None else {"betas": list(betas)}
        retreats = RETREATS if options["learning_rate"] == "auto" else 0
        update = Gradient(model, parameters, optimizer, chosen["learning_rate"], betas, retreats)
    made = Method(model, expectation, update, per_step, seed)
    acceleration = options.get("acceleration", "none")  # of runs recorded before there was any, too
    return (made if acceleration == "none" else AcceleratedMethod(made, acceleration)), chosen


def _refuse_what_does_not_fit(model: LatentVariableModel, gradient: bool) -> None:
    """UserError when exact posteriors do not fit into the memory that is free."""
    needed, free = model.exact_bytes(gradient), available_memory(model.observations.device)
    if needed > free:
        raise UserError(
            f"exact posteriors need {needed / 1e9:,.2f} GB, and {free / 1e9:,.2f} GB are free",
            "method=unroll" if model.standard_prior else "fewer latent dimensions, or less of the series",
        )


def _auto(given: Any, choice: Any) -> Any:
    return choice if given == "auto" else given
