"""Standard errors of parameters, from the observed information: minus the second derivatives of the log-likelihood."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lgm_cli.errors import UserError
from lgm_cli.evaluation.subset import needs_iterations
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.posteriors.costs import exact_parts

MOST = 5_000  # free parameters, whose information is one matrix: it takes a product with the Hessian for each of them
TOGETHER = 8  # products with the Hessian that are taken at once
FLAT = 1e-8  # eigenvalues of the information, scaled to a diagonal of one, below which nothing is known of a direction
SHARE = 1e-6  # of the square of a parameter's change that lies in such directions: more, and it has no standard error
NEAR = 0.1  # standard errors from the maximum: beyond, a run ended too early for them


@dataclass(frozen=True)
class StandardErrors:
    """values: by the name of an exported parameter and in its shape, NaN where there is none. warnings: what a user
    should know of them."""

    values: Parameters
    warnings: list[str]
    seconds: float  # that they took


def require_affordable(model: LatentVariableModel, parameters: Parameters) -> None:
    """UserError, before a run learns anything, where the standard errors that it asks for would cost too much."""
    mend = "leave standard_errors out, or learn fewer parameters"
    if needs_iterations(model):
        raise UserError("standard_errors=true takes exact posteriors, and these cost too much for the data", mend)
    if (free := model.free_parameters(parameters)) > MOST:
        raise UserError(f"standard_errors=true is for up to {MOST:,} free parameters, and there are {free:,}", mend)


def standard_errors(model: LatentVariableModel, parameters: Parameters) -> StandardErrors:
    """Standard errors of the exported parameters. The model is bound in double precision, and its parameters are in
    canonical form.

    With l the log-likelihood of the observed entries (and the log prior, where there is one), x the parameters inside,
    e(x) those exported, and N an orthonormal basis of the changes of x that its constraints leave free,

        information  I = -N^T (d2 l / dx dx^T) N,    Cov(e) = J N I^-1 N^T J^T,    J = de / dx,

    by automatic differentiation in double precision. At a maximum this is the inverse of minus the Hessian on the
    parameters' own scale (delta method). Constraints are sums that are one, symmetric matrices, and the convention that
    chooses the axes of factors or states: Silvey, Ann. Math. Statist. 30 (1959) 389-407; for loadings, Jennrich,
    Psychometrika 39 (1974) 121-131.

    Entries at the edge of their domain, where the likelihood has a slope, are held where they are. They have no
    standard error, nor has what depends on a direction in which the likelihood is flat or curved upwards.
    """
    begun, names = time.monotonic(), list(parameters)
    point = {name: value.detach().cpu().double() for name, value in parameters.items()}
    held = torch.cat([_held(model, point, name).flatten() for name in names])
    basis = _basis(model, point, held)
    gradient, information = _information(model, point, basis)
    exported = model.export(point)
    jacobian = _jacobian(lambda values: torch.cat([v.flatten() for v in model.export(values).values()]), point)
    change = jacobian @ basis
    unit = information.diagonal().abs().clamp_min(1e-300).sqrt()
    size, axes = torch.linalg.eigh(information / unit / unit[:, None])
    known = size > FLAT
    seen = (change / unit) @ axes
    variance = (seen[:, known].square() / size[known]).sum(1)
    step = (axes.T @ (gradient / unit))[known] / size[known]
    total = seen.square().sum(1)
    fixed = change.square().sum(1) <= 1e-24 * jacobian.square().sum(1)
    lost = (seen[:, ~known].square().sum(1) > SHARE * total) & ~fixed
    error = torch.where(fixed | lost, math.nan, variance.sqrt())
    away = ((seen[:, known] @ step).abs() / error).nan_to_num()
    sizes = [value.numel() for value in exported.values()]
    values = {
        name: part.view(value.shape) for (name, value), part in zip(exported.items(), error.split(sizes), strict=True)
    }
    found = _said(names, point, held)
    if bool(lost.any()):
        what = "is curved upwards" if bool((size < -FLAT).any()) else "is flat"
        found.append(
            f"{int(lost.sum()):,} of {int((~fixed).sum()):,} parameters have no standard error, since the likelihood "
            f"{what} in some direction: the run may have ended before the maximum (a smaller tolerance, e.g. "
            "tolerance=1e-7), or the data do not tell these parameters apart (fewer factors, components or states)"
        )
    if len(away) and float(away.max()) > NEAR:
        found.append(
            f"the parameters are up to {float(away.max()):.2g} standard errors from the maximum of the likelihood: a "
            "smaller tolerance, e.g. tolerance=1e-7, brings them and their standard errors nearer"
        )
    return StandardErrors(values, found, time.monotonic() - begun)


def _held(model: LatentVariableModel, point: Parameters, name: str) -> Tensor:
    """Which entries of a parameter stay where they are, bool in its shape."""
    low = model.at_bounds(point).get(name)
    return torch.zeros_like(point[name], dtype=torch.bool) if low is None else low.cpu().expand_as(point[name])


def _said(names: list[str], point: Parameters, held: Tensor) -> list[str]:
    parts = held.split([point[name].numel() for name in names])
    low = [f"{int(part.sum()):,} of {name}" for name, part in zip(names, parts, strict=True) if bool(part.any())]
    if not low:
        return []
    return [
        f"parameters at the edge of their domain have no standard error ({', '.join(low)}): those of the others hold "
        "them where they are"
    ]


def _vectors(point: Parameters, vector: Tensor) -> Parameters:
    """The parameters that lie in a vector one after the other, as they lie in `point`."""
    parts = vector.split([value.numel() for value in point.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(point.items(), parts, strict=True)}


def _jacobian(function: Callable[[Parameters], Tensor], point: Parameters) -> Tensor:
    """Derivatives of a function of the parameters that gives a vector, (outputs, P)."""
    start = torch.cat([value.flatten() for value in point.values()]).requires_grad_()
    found = function(_vectors(point, start))
    if not (len(found) and found.requires_grad):
        return start.new_zeros(len(found), len(start)).detach()
    rows = [torch.autograd.grad(each, start, retain_graph=True)[0] for each in found]
    return torch.stack(rows)


def _basis(model: LatentVariableModel, point: Parameters, held: Tensor) -> Tensor:
    """N, (P, q): an orthonormal basis of the free changes, none of an entry that is held."""
    rows, free = _jacobian(model.constraints, point), ~held
    identity = torch.eye(len(held), dtype=torch.float64)[:, free]
    rows = rows[:, free]
    rows = rows[rows.norm(dim=1) > 0]
    if not len(rows):
        return identity
    rows = rows / rows.norm(dim=1, keepdim=True)
    left = torch.linalg.svd(rows.T, full_matrices=True)
    rank = int((1e-10 * left.S[0] < left.S).sum())
    return identity @ left.U[:, rank:]


def _information(model: LatentVariableModel, point: Parameters, basis: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient N^T dl/dx, (q,), and minus the second derivatives, (q, q), one product with the Hessian for each
    free direction, a part of the data at a time."""
    start = torch.cat([value.flatten() for value in point.values()]).requires_grad_()
    gradient, product = torch.zeros(len(start), dtype=torch.float64), torch.zeros_like(basis)

    def add(value: Tensor) -> None:
        (slope,) = torch.autograd.grad(value, start, create_graph=True)
        gradient.add_(slope.detach())
        if slope.requires_grad:
            for place in range(0, basis.shape[1], TOGETHER):
                directions = basis[:, place : place + TOGETHER].T
                (found,) = torch.autograd.grad(slope, start, directions, retain_graph=True, is_grads_batched=True)
                product[:, place : place + TOGETHER] += found.T

    for part in exact_parts(model.observations.chunks, model.dim):
        inside = _vectors(point, start)
        add(model.log_likelihood(inside, part, model.posterior(inside, part)).sum())
    if (prior := model.log_prior(_vectors(point, start))) is not None:
        add(prior)
    information = -basis.T @ product
    return basis.T @ gradient, (information + information.T) / 2
