"""Small data sets in each layout of the observations, and gradients as a method takes them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lgm_cli.command import choices
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.make_table import rectangle
from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.observations.blocks import Observations, observe
from lgm_cli.observations.units import plain_units
from lgm_cli.run.build import of_name

CPU = torch.device("cpu")
LAYOUTS = ("masked", "shared", "gathered")


def as_data(
    values: np.ndarray,
    hidden: np.ndarray | None = None,
    truth: dict[str, np.ndarray] | None = None,
    kind: str = "table",
) -> Data:
    """A table of values (N, M), NaN where nothing was observed; hidden (N, M) marks what is kept for testing."""
    table = rectangle(
        "test",
        values,
        pd.RangeIndex(len(values)),
        pd.Index([f"y{column}" for column in range(values.shape[1])]),
        truth=truth,
        kind=kind,
    )
    chosen = np.zeros(len(table.values), bool) if hidden is None else hidden[table.rows, table.columns]
    return Data(table, chosen)


def with_gaps(values: np.ndarray, layout: str, seed: int = 0) -> np.ndarray:
    """A copy with the gaps that make `observe` choose a layout; one row is left without any value."""
    random = np.random.default_rng(seed)
    values = values.copy()
    if layout == "masked":
        values[random.random(values.shape) < 0.3] = np.nan
    elif layout == "shared":  # three masks
        for group in range(3):
            values[group::3, random.permutation(values.shape[1])[: values.shape[1] * group // 4]] = np.nan
    else:
        values[random.random(values.shape) > 0.1] = np.nan
    values[-1] = np.nan
    return values


def layouts(observations: Observations) -> set[str]:
    """The layouts that occur."""
    dims = {None if chunk.index is None else chunk.index.dim() for chunk in observations.chunks}
    return {{None: "masked", 1: "shared", 2: "gathered"}[dim] for dim in dims}


def regathered(observations: Observations) -> Observations:
    """The same entries with every masked chunk in the gathered layout."""
    blocks = [[chunk.gathered for chunk in block] for block in observations.blocks]
    return dataclasses.replace(observations, blocks=blocks)


def bind(
    model: LatentVariableModel,
    data: Data | np.ndarray,
    dtype: torch.dtype = torch.float64,
    block_size: int | None = None,
    seed: int = 0,
    device: torch.device = CPU,
) -> LatentVariableModel:
    """The model with the data laid out for it."""
    data = data if isinstance(data, Data) else as_data(data)
    units = None if model.standardise else plain_units(data)
    return model.bind(observe(data, seed, dtype, device, block_size, units))


def variants(name: str) -> list[dict[str, Any]]:
    """A model's own options, as its YAML sets them, with every combination of its yes-or-no keys."""
    keys = choices.keys(f"model/{name}")
    switches = [key for key, entry in keys.items() if entry.rule.startswith("boolean")]
    defaults = {key: entry.default for key, entry in keys.items()}
    return [
        defaults | dict(zip(switches, values, strict=True))
        for values in itertools.product([False, True], repeat=len(switches))
    ]


def build_model(name: str, options: Mapping[str, Any]) -> LatentVariableModel:
    return of_name("models", name, options)


def perturbed(parameters: Parameters, seed: int = 0, size: float = 0.1) -> Parameters:
    """Parameters of no particular symmetry: all multiplied by about one, and those at zero moved."""
    draw = torch.Generator().manual_seed(seed)
    moved = {}
    for name, value in parameters.items():
        noise = torch.randn(value.shape, generator=draw, dtype=torch.float64).to(value)
        moved[name] = value * (size * noise).exp() if bool((value > 0).all()) else value + size * noise
    return moved


def moved(model: LatentVariableModel, parameters: Parameters, seed: int = 0, size: float = 0.1) -> Parameters:
    """`perturbed`, or where parameters have a domain, such as probabilities and matrices: in free coordinates."""
    if model.has_system:
        return perturbed(parameters, seed, size)
    return model.constrain(perturbed(model.free(parameters), seed, size))


def leaves(parameters: Parameters) -> Parameters:
    """Copies that gradients can be taken for."""
    return {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}


def log_likelihood(model: LatentVariableModel, parameters: Parameters) -> Tensor:
    """Sum over all data points; differentiable. ()"""
    parts = [
        model.log_likelihood(parameters, chunk, model.posterior(parameters, chunk)).sum()
        for chunk in model.observations.chunks
    ]
    return torch.stack(parts).sum()


def expected_gradient(
    model: LatentVariableModel,
    expectation: Exact | MonteCarlo,
    parameters: Parameters,
    step: int = 0,
    blocks: Iterable[int] | None = None,
) -> Parameters:
    """Gradient of the log-likelihood as the expectation estimates it (output or network), summed over blocks."""
    inputs = leaves(parameters)
    for block in range(len(model.observations.blocks)) if blocks is None else blocks:
        chunks = model.observations.blocks[block]
        for chunk, posterior, pairing in expectation.posteriors(inputs, block, chunks, step, SolverRecord()):
            loss = model.complete_loss(inputs, chunk, posterior)
            (loss if pairing is None else loss - pairing).backward()
    return {name: torch.zeros_like(value) if value.grad is None else -value.grad for name, value in inputs.items()}


def exact_gradient(model: LatentVariableModel, parameters: Parameters) -> Parameters:
    """Gradient of the exact log-likelihood, by automatic differentiation through the factorisation."""
    inputs = leaves(parameters)
    return dict(zip(inputs, torch.autograd.grad(log_likelihood(model, inputs), list(inputs.values())), strict=True))


def flat(gradient: Parameters) -> Tensor:
    """All entries in one vector."""
    return torch.cat([value.detach().flatten().double() for value in gradient.values()])


def numpy_of(exported: Parameters) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in exported.items()}


def check_step_of_em(model: LatentVariableModel, parameters: Parameters) -> Parameters:
    """From posteriors at the parameters: the gradient of the expected loss is that of the likelihood, to rounding, the
    M-step has no lower neighbour, and each block of it changes its own parameters alone, for the better. Returns the
    statistics."""
    chunks, total = list(model.observations.chunks), {}
    for chunk in chunks:
        total = model.add_statistics(total, chunk, model.posterior(parameters, chunk))
    free = {name: value.clone().requires_grad_() for name, value in model.free(parameters).items()}
    surrogate = torch.autograd.grad(-model.expected_loss(model.constrain(free), total), list(free.values()))
    inside = model.constrain(free)
    each = [model.log_likelihood(inside, chunk, model.posterior(inside, chunk)).sum() for chunk in chunks]
    for own, other in zip(surrogate, torch.autograd.grad(torch.stack(each).sum(), list(free.values())), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-7, atol=1e-8)
    before = float(model.expected_loss(parameters, total))
    best = model.maximise(parameters, total)
    least = float(model.expected_loss(best, total))
    assert least <= before
    for seed in range(5):
        assert least <= float(model.expected_loss(moved(model, best, seed, 0.02), total)) + 1e-9
    for block in model.blocks:  # of ECM: the others stay
        partly = model.maximise(parameters, total, block)
        assert all((name in block) != torch.equal(partly[name], parameters[name]) for name in parameters)
        assert float(model.expected_loss(partly, total)) <= before + 1e-9
    return total
