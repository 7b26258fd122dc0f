"""Methods that have no meaning for a model, or do not fit: each is refused with the reason and the nearest that has."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch

from lgm_cli.errors import UserError
from lgm_cli.evaluation.memory import available_memory
from lgm_cli.methods.e_steps.base.e_step import EStep
from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.run.updates import leaves_open


def refuse_what_has_no_meaning(options: Mapping[str, Any], model: LatentVariableModel, name: str) -> None:
    """UserError when the model lacks what a method needs. name: of the model, as it is chosen."""
    method, points = f"method={options['name']}", model.observations.shape[0]
    statistics = options.get("statistics", "fresh")
    if statistics in ("running", "replaced") and (not model.averages or points == 1):
        raise UserError(
            f"{method} puts statistics of several steps together, which model={name} has no use for: all its data are "
            "one data point",
            f"method=em{', or a file of several series with data.series' * model.several_series}",
        )
    if options["posterior"] == "monte_carlo" and not model.has_system:
        unrolled = options["update"] == "gradient" or leaves_open(options)
        mend = (
            "use method=em, method=auto or method=gradient_em"
            if unrolled
            else "leave method.posterior out, or use method=em"
        )
        raise UserError(f"model={name} has no linear system that a solver could be unrolled on", mend)
    if statistics == "settling" and not model.averages:
        raise UserError(
            f"method.statistics=settling averages statistics of several steps, and those of model={name} are about a "
            "level of their own",
            "method.statistics=fresh, or leave it out",
        )
    if options["posterior"] == "tempered" and "inverse_temperature" not in signature(model.posterior).parameters:
        raise UserError(f"{method} needs posteriors at a temperature, and model={name} has none", "use method=em")
    if options["update"] == "conditional" and len(model.blocks) < 2:
        raise UserError(
            f"{method} maximises blocks of parameters in turn, and all parameters of model={name} are one block",
            "method=em, which is the same",
        )


def named_parameters(given: Any, key: str, auto: tuple[str, ...], parameters: Parameters) -> tuple[str, ...]:
    """Names of parameters as a key gives them; UserError for one that the model does not have. auto: the names where
    the key leaves them open, some perhaps of options of the model that are off."""
    if given == "auto":
        return tuple(name for name in auto if name in parameters)
    names = tuple(given or ())
    for each in names:
        if each not in parameters:
            raise UserError(f"method.{key}={each} is no parameter of this model", f"one of {', '.join(parameters)}")
    return names


def refuse_what_does_not_fit(model: LatentVariableModel, gradient: bool) -> None:
    """UserError when exact posteriors do not fit into the memory that is free."""
    needed, free = model.exact_bytes(gradient), available_memory(model.observations.device)
    if needed > free:
        raise UserError(
            f"exact posteriors need {needed / 1e9:,.2f} GB, and {free / 1e9:,.2f} GB are free",
            _what_fits(model),
        )


def _what_fits(model: LatentVariableModel) -> str:
    if not model.has_system:
        return "fewer components, or a simpler model.covariance"
    return "method=unroll" if model.standard_prior else "fewer latent dimensions, or less of the series"


def _what_keeps_less(options: Mapping[str, Any], copies: int) -> str:
    if leaves_open(options):
        return "method.update=gradient"
    return "a larger method.batch_size, or method=em" if copies > 2 else "fewer latent dimensions, or method=unroll"


def rehearse(
    options: Mapping[str, Any],
    model: LatentVariableModel,
    name: str,
    e_step: EStep,
    parameters: Parameters,
    copies: int,
) -> None:  # fmt: skip
    """Take the statistics of one data point as the method will. UserError where the model says, by a TypeError, that it
    cannot; or where so many copies of them, which the method keeps, do not fit into the memory that is free."""
    block = model.observations.blocks[0]
    try:
        with torch.no_grad():
            found = e_step.posteriors(parameters, 0, block[0].split(1)[:1], 0, SolverRecord())
            statistics = model.statistics(*next(iter(found))[:2])
    except TypeError as error:
        raise UserError(f"method={options['name']} has no meaning for model={name}: {error}", "method=em") from error
    needed = copies * sum(value.numel() * value.element_size() for value in statistics.values())
    free = available_memory(model.observations.device)
    if needed > free:
        raise UserError(
            f"method={options['name']} keeps {copies} sets of statistics, which need {needed / 1e9:,.2f} GB, and "
            f"{free / 1e9:,.2f} GB are free",
            _what_keeps_less(options, copies),
        )
