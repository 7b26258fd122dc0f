"""What method=auto means for a model and its data: em, or unroll."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lgm_cli.evaluation.memory import available_memory
from lgm_cli.evaluation.operations import operations
from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.run import auto


def decided(
    config: Mapping[str, Any], model: LatentVariableModel, parameters: Parameters
) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration with the cheaper of the methods that method=auto chooses among, and what is said of it: the
    method's name and the reason. With em comes its solver; with unroll stays the solver that was chosen.

    Where there is a linear system, the operations of both posteriors of all data points are compared. The iterations
    of the solver are those that it takes at the start, on the first block: later ones are as many or more.
    """
    among = config["method"]["among"]
    exact = dict(config) | among["em"]
    unrolled = dict(config) | {"method": among["unroll"]["method"]}
    name, solver = config["model"]["name"], config["solver"]["name"]
    if not model.has_system:
        return _said(exact, "em", f"model={name} has no linear system that a solver could be unrolled on")
    if "max_iterations" not in config["solver"]:
        return _said(exact, "em", f"solver={solver} takes exact solutions, which exact posteriors give at once")
    if model.standard_prior:
        needed, free = model.exact_bytes(), available_memory(model.observations.device)
        if needed > free:
            reason = f"exact posteriors need {needed / 1e9:,.2f} GB, and {free / 1e9:,.2f} GB are free"
            return _said(unrolled, "unroll", reason)
    samples, iterations = _first_iterations(unrolled, model, parameters)
    found = operations(model, samples, iterations)
    words = [("exact", found.exact), ("unrolled", found.unrolled)]
    (less, fewer), (more, most) = sorted(words, key=lambda item: item[1])
    reason = (
        f"{less} posteriors take {fewer:.2g} operations a pass through the data, {more} ones {most / fewer:.1f} times "
        f"as many ({samples} samples, {iterations:.1f} iterations of {solver} at the start)"
    )
    return _said(exact, "em", reason) if found.exact_is_cheaper else _said(unrolled, "unroll", reason)


def _said(config: dict[str, Any], method: str, reason: str) -> tuple[dict[str, Any], dict[str, str]]:
    return config, {"method": method, "reason": reason}


def _first_iterations(
    config: Mapping[str, Any], model: LatentVariableModel, parameters: Parameters
) -> tuple[int, float]:
    """Posterior samples of a data point, and the mean iterations of the solver on the first block at the start."""
    method, _ = auto.method(config, model, parameters)
    e_step, record = method.expectation, SolverRecord()
    assert isinstance(e_step, MonteCarlo)
    with torch.no_grad():
        for _ in e_step.posteriors(parameters, 0, e_step.layout(0), 0, record):
            pass
    return e_step.num_samples, record.mean_iterations or 0.0
