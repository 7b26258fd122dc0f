"""Variances whose best value is none: EM creeps towards it like 1 / steps, so their floors are tried.

A variance s that the data do not show falls by s^2 c in a step of EM, so s ~ 1 / (c steps): after any number of steps
something is left of it, and of the likelihood's gain. One evaluation with s at its floor decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.linalg import LinAlgError  # pyright: ignore[reportAttributeAccessIssue]

from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.methods.saved_state import require
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.observations.chunk import Chunk

FIRST = 20  # steps after which variances are looked at, and then each time that the steps have doubled
FALL = 1.2  # factor by which a variance that goes to none falls meanwhile, at least: by two like 1 / steps
SMALL = 0.2  # in standardised units: what is larger is not taken for none
SINGLY = 4  # variances that are tried one by one, at most
STEPS = 10  # of EM that the other parameters are given, at either place, where all data are one data point
FEW_STEPS = 3  # elsewhere: a column's noise trades with its own loadings alone
MOST_LATENT = 64  # dimensions with which these steps are taken: their statistics are (M, D, D)
BETWEEN = (0.001, 0.01, 0.1, 0.3)  # of a variance: none of these may be better than its floor
ENOUGH = 0.01  # tolerances that the likelihood must gain

Entry = tuple[str, int]  # name of a parameter and the place in it


class Boundary:
    """Tries variances at their floors (`floors` of a model): those that fell by FALL while the steps doubled and, when
    a run has settled, those that are small. A floor is taken if the train log-likelihood is higher there than at the
    present value, and not lower than between the two: what is small but real stays.

    Both places are judged after a few steps of EM, whatever the method: the other parameters have to take over what the
    variance explained. (Not where evaluations are of a subset of the data points, or many of these have many latents.)
    """

    def __init__(self, model: LatentVariableModel, evaluator: Evaluator, tolerance: float) -> None:
        self.model, self.evaluator, self.gain = model, evaluator, ENOUGH * tolerance
        joint = model.observations.shape[0] == 1
        large = not joint and model.dim > MOST_LATENT
        self.steps = 0 if evaluator.sampled or large else STEPS if joint else FEW_STEPS
        self._earlier: tuple[int, Parameters] | None = None  # step, and variances at the time

    def attempt(self, parameters: Parameters, step: int, settled: bool) -> tuple[Parameters, list[Entry]] | None:
        """Better parameters with variances at their floors, and which; None where there are none. settled: whether the
        run is about to end."""
        if self.evaluator.iterative:  # its likelihoods are estimates, and costly
            return None
        entries = self._small(parameters) if settled else self._falling(parameters, step)
        if not entries or (first := self._objective(parameters)) is None:
            return None
        best, taken = (parameters, first), []
        for group in _groups(entries):
            found = self._better(*best, group)
            if found is not None:
                best, taken = found, taken + group
                if len(group) > 1:
                    break
        left = dict(self._above(self._variances(best[0]), math.inf))  # the floor again in these few steps
        kept = [entry for entry in taken if entry not in left]
        return (best[0], kept) if kept else None

    def _variances(self, parameters: Parameters) -> Parameters:
        return {name: _variance(name, parameters[name]).detach().clone() for name in self.model.floors()}

    def _small(self, parameters: Parameters) -> list[Entry]:
        """Small variances above their floors, the nearest to them first, SINGLY at most."""
        return [entry for entry, _ in self._above(self._variances(parameters))][:SINGLY]

    def _falling(self, parameters: Parameters, step: int) -> list[Entry]:
        """Those of them that fell while the steps doubled, when that is so."""
        if step < FIRST or (self._earlier is not None and step < 2 * self._earlier[0]):
            return []
        now, earlier = self._variances(parameters), self._earlier
        self._earlier = (step, now)
        if earlier is None:
            return []
        before = earlier[1]
        return [
            (name, place)
            for (name, place), value in self._above(now)
            if float(before[name].reshape(-1)[place]) >= FALL * value
        ]

    def _above(self, variances: Parameters, below: float = SMALL) -> list[tuple[Entry, float]]:
        """Variances above their floors, and how large they are, the nearest to its floor first."""
        found = []
        for name, floor in self.model.floors().items():
            values, floors = (
                x.reshape(-1).cpu().double().tolist() for x in torch.broadcast_tensors(variances[name], floor)
            )
            rows = enumerate(zip(values, floors, strict=True))
            found += [((name, i), v, v / f) for i, (v, f) in rows if 1.05 * f < v < below]
        return [(entry, value) for entry, value, _ in sorted(found, key=lambda each: each[2])]

    def _better(self, parameters: Parameters, value: float, group: list[Entry]) -> tuple[Parameters, float] | None:
        """The parameters with these variances at their floors, and their objective, where it is better. value: of
        the present ones."""
        lowest = self._judged(self._lowered(parameters, group, 0.0))
        if lowest is None or lowest[1] <= value + self.gain:
            return None
        present = self._judged(parameters)
        if present and lowest[1] <= present[1] + self.gain:
            return None
        for share in BETWEEN:
            between = self._judged(self._lowered(parameters, group, share))
            if between and between[1] > lowest[1] + 0.1 * self.gain:
                return None
        return lowest

    def _lowered(self, parameters: Parameters, group: list[Entry], share: float) -> Parameters:
        """The parameters with these variances at a share of what they are, or at their floors."""
        floors, lowered = self.model.floors(), dict(parameters)
        for name in {name for name, _ in group}:
            places = [place for other, place in group if other == name]
            variance = _variance(name, parameters[name].detach())
            flat, floor = variance.reshape(-1).clone(), floors[name].expand_as(variance).reshape(-1)
            flat[places] = torch.maximum(share * flat[places], floor[places].to(flat))
            lowered[name] = _variance(name, flat.view_as(variance))
        return lowered

    @cached_property
    def _chunks(self) -> list[Chunk]:
        """The data points that evaluations use; all of them as steps of EM work on them."""
        model = self.model
        if self.evaluator.sampled:
            return self.evaluator.chunks
        return [chunk for block in range(len(model.observations.blocks)) for chunk in model.layout(block)]

    @torch.no_grad()
    def _judged(self, parameters: Parameters) -> tuple[Parameters, float] | None:
        """The parameters after a few steps of EM, and their objective."""
        try:
            for _ in range(self.steps):
                total = {}
                for part, posterior in self.evaluator.posteriors(parameters, self._chunks):
                    total = self.model.add_statistics(total, part, posterior)
                parameters = self.model.maximise(parameters, self.model.with_prior(total))
        except (LinAlgError, np.linalg.LinAlgError):
            return None
        value = self._objective(parameters)
        return None if value is None else (parameters, value)

    @torch.no_grad()
    def _objective(self, parameters: Parameters) -> float | None:
        """The log-likelihood and the log prior, in nats per observed entry; None where there is none."""
        total = count = 0.0
        try:
            for part, posterior in self.evaluator.posteriors(parameters, self._chunks):
                total += float(self.model.log_likelihood(parameters, part, posterior).cpu().double().sum())
                count += part.observed
        except (LinAlgError, np.linalg.LinAlgError):
            return None
        value = total / count + self.model.prior_nats(parameters) / self.model.observations.observed
        return value if math.isfinite(value) else None

    def state(self) -> Any:
        return self._earlier

    def load_state(self, state: Any, parameters: Parameters) -> None:
        """Go on from what `state` gave; ValueError, or TypeError, when it is not of such parameters."""
        if state is not None:
            step, variances = state
            require(step, int, "boundary")
            require(variances, {name: parameters[name] for name in self.model.floors()}, "boundary")
        self._earlier = state


def _groups(entries: list[Entry]) -> Iterator[list[Entry]]:
    """All of them together, then one by one."""
    if len(entries) > 1:
        yield entries
    for entry in entries[:SINGLY]:
        yield [entry]


def _variance(name: str, value: Tensor) -> Tensor:
    """A parameter as a variance, or back: a precision is the inverse of one."""
    return value.reciprocal() if name.endswith("precision") else value
