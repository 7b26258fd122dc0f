"""The bound that a step of EM maximises, and the log-likelihood above it, along the line of the step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.linalg import LinAlgError  # pyright: ignore[reportAttributeAccessIssue]

from lgm_cli.evaluation.memory import available_memory
from lgm_cli.evaluation.subset import select_points
from lgm_cli.models.base.latent_variable_model import LatentVariableModel, Posterior
from lgm_cli.models.base.parameters import Parameters, Statistics, sound
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.costs import exact_parts

PLACES = np.arange(-8, 49) / 16  # t, from -0.5 to 3
OPERATIONS = 2e9  # multiplications at all places; a random subset of the data points is taken when all cost more
ENTRY = 100.0  # of each observed entry, beside those of its posterior
LEAST_POINTS = 50  # of a subset: with fewer there is no picture
BEYOND = 1.5  # t up to which a line has to reach, to show the maximum of the bound from both sides
NEAR = 0.01  # relative difference that free coordinates may make of parameters at their floors, which they avoid
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Line:
    """The log-likelihood and its bound along theta(t) = theta_old + t (theta_new - theta_old), in nats per observed
    entry, in the data's own units. Places at which theta(t) is inadmissible are left out; 0 and 1 are in."""

    places: np.ndarray  # (n,) t
    log_likelihood: np.ndarray  # (n,)
    bound: np.ndarray  # (n,)
    points: int  # data points behind it
    of: int  # data points in all
    prior: bool  # whether the log prior is added to both, up to its constant
    free: bool  # whether the line is straight in free coordinates, instead of the parameters themselves


def bound_along_a_step(model: LatentVariableModel, start: Parameters, seed: int) -> Line | None:
    """The first step of EM from `start`, in float64: along its line, the log-likelihood l(theta) and the bound

        b(theta) = E_q log p(y, z | theta) + H(q),   q = p(z | y, theta_old),

    with b <= l, equality and equal slope at theta_old (Neal & Hinton, in Jordan (ed.), Learning in Graphical Models,
    1998, 355-368). theta_new is what `maximise` gives for the statistics of q, where b has its maximum. A log prior,
    where there is one, is added to both, and to what is maximised. The line is straight in the parameters of the model;
    where it leaves their domain before t = BEYOND, in free coordinates, which have no end.

    None where there is nothing to draw: posteriors without an entropy, one data point that costs more than OPERATIONS
    allow, a step that cannot be taken. seed: of the subset.
    """
    chosen = _affordable(model, seed)
    if chosen is None:
        return None
    old = {name: value.detach().to(CPU, torch.float64) for name, value in start.items()}
    try:
        bound = model.bind(_in_float64(model.observations, chosen))
        return _along(bound, old, int(chosen.sum()), len(chosen))
    except (LinAlgError, np.linalg.LinAlgError):
        return None


def _affordable(model: LatentVariableModel, seed: int) -> np.ndarray | None:
    """Which data points are taken, (N,) bool; None where too few of them, or their memory, can be afforded."""
    total = model.observations.shape[0]
    lengths = np.zeros(total)
    for chunk in model.observations.chunks:
        lengths[chunk.points.cpu().numpy()] = chunk.weight.sum(1).cpu().numpy()
    if 2 * model.exact_bytes() > available_memory(CPU):  # float64 takes twice as much as float32
        return None
    cost = float((model.exact_operations(lengths) + ENTRY * lengths).sum()) * len(PLACES)
    if cost <= OPERATIONS:
        return np.ones(total, bool)
    points = int(total * OPERATIONS / cost)
    if points < LEAST_POINTS:
        return None
    chosen = np.zeros(total, bool)
    chosen[np.random.default_rng([seed, 0xB07D]).permutation(total)[:points]] = True
    return chosen


def _in_float64(observations: Observations, chosen: np.ndarray) -> Observations:
    """Some of the data points, in float64 on the CPU, as one block."""
    parts = [part for chunk in observations.chunks if (part := select_points(chunk, chosen)) is not None]
    block = [_chunk_in_float64(part) for part in parts]
    return replace(
        observations, blocks=[block], center=observations.center.cpu(), scale=observations.scale.cpu(),
        observed=sum(chunk.observed for chunk in block), dtype=torch.float64, device=CPU,
    )  # fmt: skip


def _chunk_in_float64(chunk: Chunk) -> Chunk:
    place, classes = chunk.index, chunk.classes
    return Chunk(
        chunk.points.cpu(), None if place is None else place.cpu(), chunk.weight.to(CPU, torch.float64),
        chunk.values.to(CPU, torch.float64), classes=None if classes is None else classes.cpu(),
    )  # fmt: skip


@torch.no_grad()
def _along(model: LatentVariableModel, old: Parameters, points: int, of: int) -> Line | None:
    statistics = {}
    for part, posterior in _posteriors(model, old):
        statistics = model.add_statistics(statistics, part, posterior)
    if model.free_energy(old, statistics) is None:
        return None
    new = model.maximise(old, model.with_prior(statistics))
    free = False
    found = _values_along(model, old, new, statistics, free)
    if len(found) and found[-1, 0] < BEYOND:
        free = True
        found = _values_along(model, old, new, statistics, free)
    if not {0.0, 1.0} <= set(found[:, 0].tolist()):
        return None
    scales = sum(float(model.log_scales(chunk).sum()) for chunk in model.observations.chunks)
    places, likelihood, bound = found.T
    observed = model.observations.observed
    return Line(
        places, likelihood / observed, (bound - scales) / observed, points, of, bool(model.prior_statistics()), free
    )


def _values_along(
    model: LatentVariableModel, old: Parameters, new: Parameters, statistics: Statistics, free: bool
) -> np.ndarray:
    """Rows (t, log-likelihood, bound), (n, 3), of the places where they have values."""
    first, last = (model.free(old), model.free(new)) if free else (old, new)
    found = []
    for place in PLACES.tolist():
        parameters = {name: value + place * (last[name] - value) for name, value in first.items()}
        if place in (0, 1):
            parameters = new if place else old
        elif free:
            parameters = model.constrain(parameters)
        if place not in (0, 1) and not (sound(model.export(parameters)) if free else admissible(model, parameters)):
            continue
        if (values := _values(model, parameters, statistics)) is not None:
            found.append((place, *values))
    return np.array(found).reshape(-1, 3)


def _values(model: LatentVariableModel, parameters: Parameters, statistics: Statistics) -> tuple[float, float] | None:
    """The log-likelihood, in the data's own units, and the bound, in those of standardised data, with the log prior in
    both where there is one; None where they have no value."""
    try:
        likelihood = sum(
            float(model.log_likelihood(parameters, part, posterior).sum())
            for part, posterior in _posteriors(model, parameters)
        )
        bound, prior = model.free_energy(parameters, statistics), model.prior_nats(parameters)
    except (LinAlgError, np.linalg.LinAlgError):
        return None
    if bound is None:
        return None
    values = np.array([float(likelihood), float(bound)]) + prior
    return (values[0], values[1]) if np.isfinite(values).all() else None


def admissible(model: LatentVariableModel, parameters: Parameters) -> bool:
    """Whether parameters are within the domain of the model: they are sound, and come back from free coordinates, which
    any parameters within it have."""
    try:
        if not sound(model.export(parameters)):
            return False
        back = model.constrain(model.free(parameters))
    except (LinAlgError, np.linalg.LinAlgError):
        return False
    return all(_near(value, back[name]) for name, value in parameters.items())


def _near(value: Tensor, back: Tensor) -> bool:
    """Whether they are alike but for what free coordinates keep of a floor; a share below zero is none."""
    if not value.numel():  # such as the entries below the diagonal of a single state's covariance
        return True
    apart, size = (back - value).abs(), value.abs().max()
    return bool((apart <= NEAR * size).all()) and not bool(((value < 0) & (back > 0) & (apart > 1e-9 * size)).any())


def _posteriors(model: LatentVariableModel, parameters: Parameters) -> Iterator[tuple[Chunk, Posterior]]:
    for part in exact_parts(model.layout(0), model.dim):
        yield part, model.posterior(parameters, part)
