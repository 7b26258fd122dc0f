"""The learning loop: steps on the clock; evaluation, checkpoints and the verdict off it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # pyright: ignore[reportAttributeAccessIssue]

from lgm_cli.errors import ANEW, UserError
from lgm_cli.evaluation.evaluator import Evaluator, Scores
from lgm_cli.evaluation.memory import available_memory
from lgm_cli.methods.e_steps.base.solver_record import SolverRecord
from lgm_cli.methods.method import Method, StepInfo
from lgm_cli.methods.saved_state import require
from lgm_cli.models.base.parameters import Parameters, sound
from lgm_cli.results.checkpoint import read_checkpoint, save_checkpoint
from lgm_cli.results.host import peak_memory_mib
from lgm_cli.results.metrics import FREE_ENERGY, Recorder
from lgm_cli.results.outcome import Outcome, Steps
from lgm_cli.run.boundary import Boundary
from lgm_cli.run.curvature import higher_nearby
from lgm_cli.run.progress import Progress
from lgm_cli.run.stopping import Convergence

EVALUATIONS = 20  # eval_every=auto: the next evaluation comes after a further 1/20 of the steps so far

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """When a run ends at the latest, and how often it looks up."""

    max_steps: int
    max_seconds: float | None
    eval_every: int | None  # None: ever more rarely, in proportion to the steps so far
    checkpoint_seconds: float


class Learner:
    """Runs a method until it has converged, met a limit, diverged or was told to stop.

    stop: asked before every step; True ends the run as interrupted, with everything written.
    identity: kept in the checkpoint, to tell by it whether a checkpoint belongs to a run.
    """

    def __init__(
        self,
        method: Method,
        evaluator: Evaluator,
        recorder: Recorder,
        convergence: Convergence,
        limits: Limits,
        checkpoint: Path,
        stop: Callable[[], bool],
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.evaluator, self.recorder, self.convergence = evaluator, recorder, convergence
        self.limits, self.checkpoint, self.stop = limits, checkpoint, stop
        self.identity = dict(identity or {})
        self.use(method)
        self.seconds, self.products = method.prepared_seconds, 0
        self.boundary = Boundary(evaluator.model, evaluator, convergence.tolerance)
        self.earlier_seconds = 0.0  # of earlier processes, in all
        self._begun = time.monotonic()
        self._due = 0  # step of the next evaluation
        self._row = 0  # step of the newest row that a run without a stop would have too
        self._scores: Scores | None = None
        self._solved, self._iterations = 0, 0.0  # steps with a solver, and the sum of their mean iterations

    def use(self, method: Method, info: StepInfo | None = None) -> None:
        """Go on with this method, before anything was evaluated. info: of its newest step."""
        method.update.measured = method.update.measured or FREE_ENERGY in self.recorder.columns
        self.method, self.info = method, info
        self._good: tuple[int, Parameters, Scores | None] = (method.steps, method.parameters, None)

    def learn(self, progress: Progress) -> Outcome:
        saved = time.monotonic()
        info, status = self.info, None
        if not self.convergence.steps:
            status = self._look(info, progress)
        elif self._row < self.method.steps == self.convergence.steps[-1]:
            self._forget(self._row)  # the run had converged here, perhaps by a larger tolerance: its row was dropped
            status = self._look(info, progress)
        while status is None:
            if status := self.limit():
                status = self._finish(status, info, progress)
                break
            try:
                info = self.step()
            except LinAlgError:
                status = "diverged"
                if self._retreat():
                    status = None
                    continue
                break
            progress.stepped(self.method.steps, self.seconds)
            if info.gradient_norm is not None and not math.isfinite(info.gradient_norm):
                status = "diverged"
            elif self.method.steps >= self._due:
                status = self._look(info, progress)
            if status == "diverged" and self._retreat():
                status = None
            if status is None and time.monotonic() - saved > self.limits.checkpoint_seconds:
                self.save()
                saved = time.monotonic()
        return self._outcome(status)

    def _retreat(self) -> bool:
        """Back to the last good parameters with shorter steps, if the method may."""
        step, parameters, _ = self._good
        if not self.method.update.retreat(parameters):
            return False
        self._forget(step)
        self._due, self._row = self.method.steps + 1, self.recorder.last["step"]
        log.info("step %d led astray: back to the parameters of step %d, with shorter steps", self.method.steps, step)
        return True

    def _forget(self, step: int) -> None:
        """Drop the evaluations after a step."""
        while self.convergence.steps and self.convergence.steps[-1] > step:
            self.convergence.means.pop(self.convergence.steps.pop(), None)
            self.convergence.values.pop()

    def _outcome(self, status: str) -> Outcome:
        warnings = []
        parameters, scores = self.method.parameters, self._scores
        if status == "diverged":
            step, parameters, scores = self._good
            warnings.append(
                "the likelihood fell below its start, or something was not finite or not positive definite, at step "
                f"{self.method.steps}: the parameters of step {step} were kept (a smaller "
                "method.learning_rate, or leaving it out, would help)"
            )
        else:
            self.save()
        if scores is None:  # a run that went on from a checkpoint and was not evaluated since
            scores = self.evaluator.score(parameters, final=True)
        iterations = self._iterations / self._solved if self._solved else None
        samples = getattr(self.method.expectation, "num_samples", None)
        steps = Steps(*self.method.passes, self.method.update.bounds) if self.method.has_free_energy else None
        return Outcome(status, parameters, scores, warnings, iterations, samples, steps)

    def limit(self) -> str | None:
        if self.stop():
            return "interrupted"
        if self.method.steps >= self.limits.max_steps:
            return "max_steps"
        if self.limits.max_seconds is not None and self.seconds >= self.limits.max_seconds:
            return "max_seconds"
        return None

    def step(self) -> StepInfo:
        """Take a step of the method, on the clock."""
        begun = time.perf_counter()
        info = self.info = self.method.step()
        if self.method.model.observations.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - begun
        self.products += info.solver.products
        if (iterations := info.solver.mean_iterations) is not None:
            self._solved += 1
            self._iterations += iterations
        return info

    def _look(self, info: StepInfo | None, progress: Progress) -> str | None:
        """Evaluate, record, and judge: the status if the run is over."""
        step = self.method.steps
        every = self.limits.eval_every
        self._due = step + (max(self.evaluator.spacing, step // EVALUATIONS) if every is None else every)
        try:
            scores = self.evaluator.score(self.method.parameters)
        except LinAlgError:
            return "diverged"
        self.convergence.add(step, scores.objective, scores.settling)
        if self.convergence.diverged(scores.objective, judged=not self.method.tempered):
            self._record(scores, info, progress)
            return "diverged"
        self._good = (step, self.method.parameters, scores)
        if self.method.tempered:  # steps climb another likelihood: what is judged begins after them
            self.convergence.restart(scores.objective, scores.settling)
            self._record(scores, info, progress)
            self._row = step
            return None
        scores = self._try_boundary(scores)
        if self.convergence.converged():
            if (better := self._look_around()) is None:
                return self._finish("converged", info, progress, scores)
            scores = better
        if self.convergence.should_anneal() and self.method.quieter():
            self.convergence.anneal()
        self._record(scores, info, progress)
        self._row = step
        return None

    def _look_around(self) -> Scores | None:
        """Once steps gain nothing any more: better parameters near by, from which the method goes on, and their scores.
        None if there are none, looking costs too much, or steps led back from the last. Its seconds are of learning."""
        model, tolerance = self.evaluator.model, self.convergence.tolerance
        if self.evaluator.sampled or self.evaluator.iterative or self.convergence.fell_back():
            return None
        if model.exact_bytes(gradient=True) > available_memory(model.observations.device):
            return None
        begun = time.perf_counter()
        found = higher_nearby(model, self.method.parameters, tolerance, self.evaluator.seed, self.method.steps)
        self.seconds += time.perf_counter() - begun
        return None if found is None else self._go_on_from(found, "parameters near by")

    def _try_boundary(self, scores: Scores) -> Scores:
        """Variances that the data may not show are tried at their floors, which is a part of learning and on its clock;
        where one is taken, the method goes on from there. The scores of the parameters, which were `scores`."""
        begun, step = time.perf_counter(), self.method.steps
        if step == 0:
            return scores
        found = self.boundary.attempt(self.method.parameters, step, self.convergence.converged())
        self.seconds += time.perf_counter() - begun
        if found is None:
            return scores
        parameters, taken = found
        named = ", ".join(f"{name}[{place}]" for name, place in taken)
        return self._go_on_from(parameters, f"{named} at the floor")

    def _go_on_from(self, parameters: Parameters, what: str) -> Scores:
        """Let the method go on from better parameters, at which what is judged begins anew. Their scores."""
        step, before = self.method.steps, self.convergence.values[-1]
        self.method.update.move(parameters)
        scores = self.evaluator.score(self.method.parameters)
        self.convergence.restart(scores.objective, scores.settling)
        self._good = (step, self.method.parameters, scores)
        if self.limits.eval_every is None:
            self._due = step + 1
        gain = scores.objective - before
        log.info("step %d: going on from %s, %.2g nats per entry better", step, what, gain)
        return scores

    def _finish(self, status: str, info: StepInfo | None, progress: Progress, scores: Scores | None = None) -> str:
        """The last row, of all data points where that can be afforded, whatever was used on the way; the status, which
        is `diverged` if steps since the last evaluation have led astray: judged by the data points that the start was.
        scores: of these parameters, if they are known and were found good."""
        if self.recorder.last.get("step") == self.method.steps and not self.evaluator.sampled:
            return status
        try:
            if scores is None:
                scores = self.evaluator.score(self.method.parameters)
                if self.convergence.diverged(scores.objective, judged=not self.method.tempered):
                    status = "diverged"
            if self.evaluator.sampled:
                scores = self.evaluator.score(self.method.parameters, final=True)
        except LinAlgError:
            return "diverged"
        self._record(scores, info, progress)
        return status if math.isfinite(scores.objective) else "diverged"

    def _record(self, scores: Scores, info: StepInfo | None, progress: Progress) -> None:
        self._scores = scores
        device = self.method.model.observations.device
        on_device = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0
        solver = info.solver if info is not None and info.solver.systems else None
        row: dict[str, Any] = {
            "step": self.method.steps,
            "fit_seconds": self.seconds,
            "train_log_likelihood": scores.train_log_likelihood,
            "test_log_likelihood": scores.test_log_likelihood,
            "log_likelihood_se": scores.standard_error,
            "test_rmse": scores.test_rmse,
            "gradient_norm": None if info is None else info.gradient_norm,
            "solver_iterations": solver and solver.mean_iterations,
            "solver_residual": solver and solver.residual,
            "matvecs": self.products if solver else None,
            "peak_memory_mib": peak_memory_mib(on_device),
        }
        if FREE_ENERGY in self.recorder.columns:
            row[FREE_ENERGY] = self.evaluator.per_entry(self.method.free_energy)
        row |= scores.own
        self.recorder.row(**row)
        progress.evaluated(row)

    def save(self) -> None:
        """Everything that going on needs, in place of what was there."""
        step, parameters, scores = self._good
        state = {
            "identity": self.identity,
            "method": self.method.state(),
            "convergence": {name: value for name, value in asdict(self.convergence).items() if name != "tolerance"},
            "good": {
                "step": step,
                "parameters": parameters,
                "scores": scores and asdict(replace(scores, settling=None)),
            },
            "info": self.info and asdict(self.info),
            "free_energy": self.method.free_energy,
            "seconds": self.seconds,
            "earlier_seconds": self.earlier_seconds + time.monotonic() - self._begun,
            "products": self.products,
            "solved": self._solved,
            "iterations": self._iterations,
            "boundary": self.boundary.state(),
            "due": self._due,
            "row": self._row,
        }
        save_checkpoint(self.checkpoint, state)

    def load(self) -> None:
        """Go on where `save` left off; UserError when the state, which is checked wholly, is not one of this run."""
        state = read_checkpoint(self.checkpoint)
        try:
            self._load(state)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, LinAlgError) as error:
            what = f"the checkpoint in {self.checkpoint.parent} is not what this run would have saved: {error}"
            raise UserError(what, ANEW) from error

    def _load(self, state: dict[str, Any]) -> None:
        """Take over a state; ValueError, or what else stumbles over it, when it is not one of this run."""
        history = get_type_hints(type(self.convergence))
        del history["tolerance"]  # the configuration may have a smaller one now
        require(energy := state.get(FREE_ENERGY), float | None, FREE_ENERGY)
        good, method, found, info = (state[name] for name in ("good", "method", "convergence", "info"))
        require(found, history, "convergence")
        require(info, StepInfo | None, "info")
        require(good["scores"], Scores | None, "good.scores")
        require(good["parameters"], self.method.parameters, "good.parameters")
        device = self.method.model.observations.device
        for tensors in (good["parameters"], method["update"].get("parameters", {}), method["expectation"]):
            here = {name: value.to(device) for name, value in tensors.items() if isinstance(value, Tensor)}
            tensors.update(here)
        self.method.load_state(method)
        self.method.update.free_energy = None if energy is None else torch.tensor(energy, dtype=torch.float64)
        steps, clock = found["steps"], [state["seconds"], state["earlier_seconds"], *found["values"]]
        if not steps or steps != sorted(set(steps)) or len(steps) != len(found["values"]):
            raise ValueError("convergence")
        if max(steps[-1], good["step"], state["row"]) > self.method.steps or not all(map(math.isfinite, clock)):
            raise ValueError("steps")
        if not all(sound(self.method.model.export(each)) for each in (self.method.parameters, good["parameters"])):
            raise ValueError("parameters")
        for name, value in found.items():
            setattr(self.convergence, name, value)
        self._good = (good["step"], good["parameters"], good["scores"] and Scores(**good["scores"]))
        self.info = info and StepInfo(info["gradient_norm"], SolverRecord(**info["solver"]))
        self.seconds, self.earlier_seconds = state["seconds"], state["earlier_seconds"]
        self.products, self._solved, self._iterations = state["products"], state["solved"], state["iterations"]
        self.boundary.load_state(state.get("boundary"), self.method.parameters)
        self._due, self._row = state["due"], state["row"]
