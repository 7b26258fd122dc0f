"""From a checked configuration to objects: the choices that were left to the program are made here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from lgm_cli.errors import UserError
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.solvers.base.solver import Solver


def class_of(package: str, name: str) -> Any:
    """The class of lgm_cli/<package>/<name>.py, its name in CamelCase."""
    return getattr(import_module(f"lgm_cli.{package}.{name}"), name.title().replace("_", ""))


def of_name(package: str, name: str, options: Mapping[str, Any]) -> Any:
    """That class with the options of its YAML."""
    return class_of(package, name)(**{key: value for key, value in options.items() if key != "name"})


def model(config: Mapping[str, Any]) -> LatentVariableModel:
    return of_name("models", config["model"]["name"], config["model"])


def solver(config: Mapping[str, Any], model: LatentVariableModel) -> Solver:
    """The solver of the configuration; what was left open is the model's to choose, and then the solver's."""
    options = dict(config["solver"])
    if options.get("preconditioner") == "nystrom" and not model.standard_prior:
        name = config["model"]["name"]
        raise UserError(
            f"solver.preconditioner=nystrom sketches A - I, and the prior of model={name} is no standard normal one",
            "solver.preconditioner=auto",
        )
    options |= {key: value for key, value in model.tuning().solver.items() if options.get(key) == "auto"}
    return of_name("solvers", options["name"], options)
