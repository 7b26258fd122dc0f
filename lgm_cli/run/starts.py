"""Short runs from several random starts, the best of which goes on."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.linalg import LinAlgError  # pyright: ignore[reportAttributeAccessIssue]

from lgm_cli.errors import ANEW, UserError
from lgm_cli.methods.m_steps.gradient import Gradient
from lgm_cli.methods.method import Method
from lgm_cli.methods.saved_state import require
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.randomness import generator
from lgm_cli.run import auto
from lgm_cli.run.loop import Learner
from lgm_cli.run.progress import Progress

STEPS = 20  # of each short run
GRADIENT_STEPS = 100  # the same, of updates by the gradient

log = logging.getLogger(__name__)


def seed_of(seed: int, number: int) -> int:
    """The seed that start `number` is drawn by. Start 0 has the seed of the run; another start depends on the seed and
    its own number alone, not on how many starts there are."""
    if number == 0:
        return seed
    return int(torch.randint(2**32, (), generator=generator(seed, "another start", number)))


def short_steps(method: Method) -> int:
    """Steps of each short run: at least as many as an epoch has."""
    epoch = math.ceil(len(method.model.observations.blocks) / method.blocks_per_step)
    return max(GRADIENT_STEPS if isinstance(method.update, Gradient) else STEPS, epoch)


@dataclass
class Tried:
    """What is known of the short runs, as a checkpoint and summary.json keep it.

    values: the train log-likelihood (nats per entry) at the end of each short run so far; None for a start that could
    not be followed so far. seconds, products: of the learning clock, and of matrices and vectors, that these took.
    """

    number: int
    steps: int
    values: list[float | None] = field(default_factory=list)
    seconds: float = 0.0
    products: int = 0

    @classmethod
    def load(cls, state: Mapping[str, Any], number: int, steps: int) -> Tried:
        """What a checkpoint has kept; ValueError when it is not of so many starts and steps."""
        require(state, cls, "starts")
        known = [value for value in state["values"] if value is not None]
        if (state["number"], state["steps"]) != (number, steps) or len(state["values"]) > number:
            raise ValueError("starts")
        if not all(map(math.isfinite, [*known, state["seconds"]])):
            raise ValueError("starts")
        return cls(**state)

    @property
    def complete(self) -> bool:
        return len(self.values) == self.number

    @property
    def best(self) -> int | None:
        """The start that goes on: the first of the highest. None where no start could be followed yet."""
        known = [number for number, value in enumerate(self.values) if value is not None]
        return max(known, key=lambda number: self.values[number] or 0.0, default=None)

    def summary(self) -> dict[str, Any]:
        kept = {"number": self.number, "steps": self.steps, "best": self.best, "values": self.values}
        return kept | {"seconds": self.seconds}

    def __str__(self) -> str:
        done = f"{len(self.values)} of {self.number} starts" if not self.complete else f"{self.number} starts"
        known = sorted(value for value in self.values if value is not None)
        if not known:
            return f"none of {done} could be followed for {self.steps} steps"
        return (
            f"start {self.best} goes on, the best of {done}: train {known[-1]:.4f} nats per entry after {self.steps} "
            f"steps, median {float(np.median(known)):.4f}, worst {known[0]:.4f} ({self.seconds:.1f} s of learning)"
        )


class Starts:
    """Takes `tried.steps` steps from each of `tried.number` starts and lets the learner go on with the best of them.

    Start 0 is that of a run without other starts. The short runs, the judgement of each by its train log-likelihood,
    and the drawing of the other starts are a part of learning and on its clock. The best method goes on with its whole
    state, so its parameters at each later step are those of a run that began at its start alone. (What the evaluations
    of such a run do to its step size or number of samples before then, they do here from then on.)

    make: a method that begins at these parameters. A run that was stopped goes on with the starts that are left.
    """

    def __init__(
        self, model: LatentVariableModel, seed: int, make: Callable[[Parameters], Method], first: Method, tried: Tried
    ) -> None:
        self.model, self.seed, self.make, self.first, self.tried = model, seed, make, first, tried

    def refuse(self, max_steps: int) -> None:
        """UserError where several starts have no use. Called before any work."""
        tried = self.tried
        asked = f"starts={tried.number}"
        if self.first.tempered:
            raise UserError(
                f"{asked} compares likelihoods after a few steps, and those at a temperature say nothing of the end",
                "starts=1, or method=em",
            )
        if max_steps < tried.steps:
            raise UserError(
                f"{asked} takes {tried.steps} steps from each start, and max_steps={max_steps} is fewer",
                f"max_steps={tried.steps} or more, or starts=1",
            )

    @property
    def alike(self) -> bool:
        """Whether all starts are the same: nothing is drawn for them, as with a single component."""
        start = self.first.parameters
        others = (self.model.start(seed_of(self.seed, number)) for number in range(1, self.tried.number))
        return all(_equal(start, other) for other in others)

    def run(self, learner: Learner, bar: bool = True) -> None:
        """Try the starts that were not tried yet, and let the learner go on with the best of all."""
        tried, best, saved = self.tried, None, time.monotonic()
        learner.seconds, learner.products = tried.seconds, tried.products
        self._record(learner)
        with Progress(
            tried.number * tried.steps, learner.limits.max_seconds,
            step=len(tried.values) * tried.steps, fit_seconds=learner.seconds, bar=bar,
        ) as progress:  # fmt: skip
            while not tried.complete:
                if tried.values and time.monotonic() - saved > learner.limits.checkpoint_seconds:
                    learner.save()
                    saved = time.monotonic()
                if not self._follow(learner, len(tried.values), progress):
                    break
                tried.seconds, tried.products = learner.seconds, learner.products
                if tried.best == len(tried.values) - 1:
                    best = (tried.best, learner.method, learner.info)
                self._record(learner)
        number, now = tried.best, (learner.seconds, learner.products)
        if number is None:
            if tried.complete:
                learner.use(self._method(0))
        elif best is None or best[0] != number:  # it was tried before the run was stopped, on the clock of that time
            self._follow(learner, number, None)
            learner.seconds, learner.products = now
        else:
            learner.use(*best[1:])
        learner.convergence.restarted = learner.method.steps
        log.info("%s", tried)

    def _method(self, number: int) -> Method:
        return self.make(self.model.start(seed_of(self.seed, number)))

    def _follow(self, learner: Learner, number: int, progress: Progress | None) -> bool:
        """Let the learner take the steps of a start; False where it was stopped on the way. progress: None for a start
        whose value is known, which nothing stops."""
        begun, stepping, steps = time.perf_counter(), learner.seconds, self.tried.steps
        learner.use(self._method(number))
        good, value = True, None
        try:
            while good and learner.method.steps < steps:
                if progress is not None and learner.limit():
                    return False
                norm = learner.step().gradient_norm
                good = norm is None or math.isfinite(norm)
                if progress is not None:
                    progress.stepped(number * steps + learner.method.steps, learner.seconds)
            if good and progress is not None:
                value = learner.evaluator.score(learner.method.parameters).objective
        except (LinAlgError, np.linalg.LinAlgError):
            value = None
        finally:  # drawing the start and judging it are on the clock, as steps are
            learner.seconds = stepping + time.perf_counter() - begun
        if progress is not None:
            self.tried.values.append(value if value is not None and math.isfinite(value) else None)
        return True

    def _record(self, learner: Learner) -> None:
        """Have the next checkpoint say what is known."""
        learner.identity["starts"] = asdict(self.tried)


def _equal(one: Parameters, other: Parameters) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def starts_of(
    config: Mapping[str, Any], model: LatentVariableModel, first: Method, state: Mapping[str, Any] | None, folder: Path
) -> Starts | None:
    """The starts of a configuration; None where all are the same, so that one is enough.

    UserError where several have no use, or where `state`, what a checkpoint of the run in `folder` has kept, is not of
    these. first: the method at start 0.
    """
    number, steps = config["starts"], short_steps(first)

    def make(parameters: Parameters) -> Method:
        return auto.method(config, model, parameters)[0]

    starts = Starts(model, config["seed"], make, first, Tried(number, steps))
    if state and "starts" in state["identity"]:
        try:
            starts.tried = Tried.load(state["identity"]["starts"], number, steps)
        except (LookupError, ValueError) as error:
            what = f"the checkpoint in {folder} is not what this run would have saved: starts"
            raise UserError(what, ANEW) from error
    if starts.tried.complete:
        return starts
    starts.refuse(auto.max_steps(config))
    return None if starts.alike else starts
