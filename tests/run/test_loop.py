"""The loop: when it looks, when it ends, what it keeps, and that it goes on as if it had never stopped."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lgm_cli.data.base.data import Data
from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.m_steps.gradient import Gradient
from lgm_cli.methods.method import Method
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.results import checkpoint
from lgm_cli.results.metrics import Recorder
from lgm_cli.run import loop
from lgm_cli.run.loop import Learner, Limits
from lgm_cli.run.progress import Progress
from lgm_cli.run.stopping import Convergence
from lgm_cli.solvers.conjugate_gradient import ConjugateGradient
from tests import cases

TIMES = ("fit_seconds", "peak_memory_mib")


def data() -> Data:
    random = np.random.default_rng(0)
    y = random.normal(size=(90, 2)) @ random.normal(size=(2, 8)) + random.normal(size=(90, 8))
    return cases.as_data(cases.with_gaps(y, "masked"), random.random(y.shape) < 0.1)


def method_of(kind: str, learning_rate: float = 0.05) -> Method:
    model = cases.bind(FactorAnalysis(2, True, 1e-3), data(), block_size=30)
    start = model.start(0)
    if kind == "em":
        return Method(model, Exact(model), ClosedForm(model, start), 3, 0)
    solver = ConjugateGradient(20, 1e-2, "jacobi", warm_start=True)
    expectation = MonteCarlo(model, solver, 3, 4, 0, kind == "network")
    return Method(model, expectation, Gradient(model, start, "adam", learning_rate), 2, 0)


def learner(
    folder: Path,
    method: Method,
    max_steps: int = 30,
    max_seconds: float | None = None,
    eval_every: int | None = None,
    checkpoint_seconds: float = 1e9,
    tolerance: float = 0.0,
    stop: Callable[[], bool] = lambda: False,
    recorder: Recorder | None = None,
    seed: int = 0,
) -> Learner:
    """With tolerance=0 nothing counts as converged."""
    folder.mkdir(exist_ok=True)
    limits = Limits(max_steps, max_seconds, eval_every, checkpoint_seconds)
    return Learner(
        method, Evaluator(method.model, data(), seed), recorder or Recorder(folder),
        Convergence(tolerance), limits, folder / "checkpoint", stop,
    )  # fmt: skip


def learn(each: Learner) -> Any:
    with Progress(each.limits.max_steps, bar=False) as progress:
        return each.learn(progress)


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def test_the_start_is_the_first_row_and_evaluations_grow_rarer(tmp_path: Path) -> None:
    run = learner(tmp_path, method_of("em"), max_steps=200)
    assert learn(run).status == "max_steps"
    steps = [row["step"] for row in run.recorder.rows]
    assert steps[:21] == list(range(21))
    assert steps[-1] == 200
    assert len(steps) < 80
    gaps = np.diff(steps)[:-1]
    assert np.all(np.diff(gaps) >= 0)


def test_evaluations_come_as_often_as_asked(tmp_path: Path) -> None:
    run = learner(tmp_path, method_of("em"), max_steps=25, eval_every=10)
    learn(run)
    assert [row["step"] for row in run.recorder.rows] == [0, 10, 20, 25]


def test_each_column_says_what_it_says(tmp_path: Path) -> None:
    run = learner(tmp_path, method_of("output"), max_steps=3, eval_every=1)
    outcome = learn(run)
    first, *rest = run.recorder.rows
    assert first["gradient_norm"] is None and first["matvecs"] is None and first["fit_seconds"] == 0
    seconds = [row["fit_seconds"] for row in run.recorder.rows]
    products = [row["matvecs"] for row in rest]
    assert seconds == sorted(seconds)
    assert products == sorted(set(products))  # cumulative
    for row in rest:
        assert row["gradient_norm"] > 0 and 0 < row["solver_residual"] <= 1e-2 and row["solver_iterations"] > 0
        assert row["log_likelihood_se"] is None
    assert outcome.num_samples == 3
    assert outcome.mean_iterations == pytest.approx(np.mean([row["solver_iterations"] for row in rest]))
    scores = run.evaluator.score(outcome.parameters)
    assert scores == outcome.scores
    assert rest[-1]["train_log_likelihood"] == scores.train_log_likelihood
    assert rest[-1]["test_log_likelihood"] == scores.test_log_likelihood
    assert rest[-1]["test_rmse"] == scores.test_rmse


def test_learning_ends_when_it_has_converged(tmp_path: Path) -> None:
    run = learner(tmp_path, method_of("em"), max_steps=3000, tolerance=1e-4)
    outcome = learn(run)
    assert outcome.status == "converged"
    assert outcome.warnings == []
    end = run.method.steps
    assert run.recorder.last["step"] == end < 3000
    for _ in range(2 * end):
        run.method.step()
    left = run.evaluator.score(run.method.parameters).train_log_likelihood - outcome.scores.train_log_likelihood
    assert 0 <= left < 2e-4


def test_learning_ends_after_its_seconds_evaluation_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def clock() -> float:
        return now

    run = learner(tmp_path, method_of("em"), max_steps=10**6, max_seconds=10.0, eval_every=1)
    step, score = run.method.step, run.evaluator.score

    def slow_step() -> Any:
        nonlocal now
        now += 1.0
        return step()

    def slow_score(*arguments: Any, **options: Any) -> Any:
        nonlocal now
        now += 100.0
        return score(*arguments, **options)

    monkeypatch.setattr(loop.time, "perf_counter", clock)
    monkeypatch.setattr(run.method, "step", slow_step)
    monkeypatch.setattr(run.evaluator, "score", slow_score)
    assert learn(run).status == "max_seconds"
    assert run.method.steps == 10
    assert [row["fit_seconds"] for row in run.recorder.rows] == list(range(11))


def test_an_interrupted_run_ends_with_a_row_and_a_checkpoint(tmp_path: Path) -> None:
    run = learner(tmp_path, method_of("output"), eval_every=100, stop=lambda: run.method.steps >= 7)
    outcome = learn(run)
    assert outcome.status == "interrupted"
    assert [row["step"] for row in run.recorder.rows] == [0, 7]
    assert (tmp_path / "checkpoint" / "state.pt").exists()
    assert outcome.scores.train_log_likelihood == run.recorder.last["train_log_likelihood"]


@pytest.mark.parametrize("ending", ["at an evaluation", "at the last step", "not finite", "not positive definite"])
def test_a_run_that_diverged_keeps_the_last_good_parameters(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five good steps, then one that leads astray."""
    every, last = (100, 6) if ending == "at the last step" else (1, 30)
    run = learner(tmp_path, method_of("output"), max_steps=last, eval_every=every)
    step, good = run.method.step, {}

    def astray() -> Any:
        info = step()
        if run.method.steps == (0 if every > 1 else 5):
            good.update(run.method.parameters)
        if run.method.steps == 6:
            if ending == "not positive definite":
                raise torch.linalg.LinAlgError("a matrix that is not")
            factor = math.nan if ending == "not finite" else 1e4
            for value in run.method.update.parameters.values():
                value.data.mul_(factor)
        return info

    if every > 1:
        good.update(run.method.parameters)
    monkeypatch.setattr(run.method, "step", astray)
    outcome = learn(run)
    assert outcome.status == "diverged"
    kept = 0 if every > 1 else 5
    assert f"at step 6: the parameters of step {kept} were kept" in outcome.warnings[0]
    assert outcome.parameters.keys() == good.keys()
    for name, value in outcome.parameters.items():
        assert torch.equal(value, good[name])
    assert outcome.scores == run.evaluator.score(good)
    assert outcome.scores.train_log_likelihood in [row["train_log_likelihood"] for row in run.recorder.rows]
    assert not (tmp_path / "checkpoint").exists()  # of what cannot go on


@pytest.mark.parametrize("max_steps", [5, 100])
def test_the_last_word_on_all_data_points_is_not_compared_with_a_subset_at_the_start(
    max_steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In mixed units the likelihood of a subset may be far from that of the whole."""
    monkeypatch.setattr("lgm_cli.evaluation.evaluator.SUBSET_POINTS", 20)
    monkeypatch.setattr("lgm_cli.evaluation.evaluator.SUBSET_OPERATIONS", 1.0)
    run = learner(tmp_path, method_of("em"), max_steps=max_steps, tolerance=1e-2)
    score = run.evaluator.score

    def shifted(parameters: Any, final: bool = False) -> Any:
        scores = score(parameters, final)
        return replace(scores, train_log_likelihood=scores.train_log_likelihood - 10) if final else scores

    monkeypatch.setattr(run.evaluator, "score", shifted)
    assert learn(run).status == ("max_steps" if max_steps == 5 else "converged")


def test_a_step_size_that_was_left_open_is_shortened_before_a_run_gives_up(tmp_path: Path) -> None:
    """Far too large by a factor of 64: back to the start three times, each with a quarter of the step, then upwards."""
    reached = {}
    for retreats in (0, 2, 4):
        method = method_of("output", 64 * 0.5)
        assert isinstance(method.update, Gradient)
        method.update.retreats = retreats
        run = learner(tmp_path / f"{retreats}", method, max_steps=40, eval_every=1)
        outcome = learn(run)
        reached[retreats] = outcome.status
        values = [row["train_log_likelihood"] for row in run.recorder.rows]
        if retreats == 4:
            assert method.update.retreats < 4
            assert outcome.scores.train_log_likelihood > values[0]
            assert method.update.optimizer.param_groups[0]["lr"] < 16
            state = method.update.state()
            assert state["retreats"] == method.update.retreats
    assert reached[0] == "diverged"
    assert reached[4] == "max_steps"


def test_a_run_that_was_stopped_after_it_was_led_astray_keeps_its_rows(tmp_path: Path) -> None:
    def astray(name: str, **options: Any) -> Learner:
        method = method_of("output", 64 * 0.5)
        assert isinstance(method.update, Gradient)
        method.update.retreats = 4
        return learner(tmp_path / name, method, max_steps=12, eval_every=5, **options)

    whole = astray("whole")
    learn(whole)
    steps = [row["step"] for row in whole.recorder.rows]
    assert [step for step in steps if step % 5 == 1]  # after a retreat it looks at the next step
    for stop in (4, 5, 6, 11):
        first = astray("part", stop=lambda: first.method.steps >= stop)  # noqa: B023
        if learn(first).status == "diverged":  # it was stopped astray, and there is nothing to go on with
            continue
        state = checkpoint.read_checkpoint(first.checkpoint)
        second = astray("part", recorder=Recorder.resume(tmp_path / "part", state["row"]))
        second.load()
        second.recorder.rewind()
        learn(second)
        assert without_times(second.recorder.rows) == without_times(whole.recorder.rows), stop


def test_a_learning_rate_far_too_large_is_divergence_not_an_error(tmp_path: Path) -> None:
    for rate in (30.0, 1e3, 1e6):
        run = learner(tmp_path / f"{rate}", method_of("output", rate), max_steps=20)
        outcome = learn(run)
        assert outcome.status == "diverged"
        assert math.isfinite(outcome.scores.train_log_likelihood)
        assert all(bool(value.isfinite().all()) for value in outcome.parameters.values())


@pytest.mark.parametrize("kind", ["em", "output", "network"])
@pytest.mark.parametrize("stop", [1, 7, 26, 52])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(kind: str, stop: int, tmp_path: Path) -> None:
    """Parameters, rows, verdicts and step sizes: all but the clock."""
    whole = learner(tmp_path / "whole", method_of(kind, 0.5), max_steps=60, tolerance=1e-9)
    whole_outcome = learn(whole)
    assert kind == "em" or whole.convergence.annealed > 0  # which step it was depends on the processor
    first = learner(
        tmp_path / "parts", method_of(kind, 0.5), max_steps=60, tolerance=1e-9, stop=lambda: first.method.steps >= stop
    )
    assert learn(first).status == "interrupted"

    recorder = Recorder.resume(tmp_path / "parts", stop)
    second = learner(tmp_path / "parts", method_of(kind, 0.5), max_steps=60, tolerance=1e-9, recorder=recorder)
    second.load()
    assert second.seconds == first.seconds and second.products == first.products
    outcome = learn(second)
    assert outcome.status == whole_outcome.status == "max_steps"
    for name, value in whole_outcome.parameters.items():
        assert torch.equal(value, outcome.parameters[name])
    assert second.convergence == whole.convergence
    rows = {row["step"]: row for row in without_times(recorder.rows)}
    for row in without_times(whole.recorder.rows):  # the first part may have one more, at its end
        assert rows[row["step"]] == row
    assert len(rows) - len(whole.recorder.rows) in (0, 1)


def test_a_finished_run_can_be_loaded_and_has_nothing_left_to_do(tmp_path: Path) -> None:
    first = learner(tmp_path, method_of("em"), max_steps=10)
    outcome = learn(first)
    again = learner(tmp_path, method_of("em"), max_steps=10, recorder=Recorder.resume(tmp_path, 10))
    again.load()
    second = learn(again)
    assert second.status == "max_steps"
    assert second.scores == outcome.scores
    assert len(again.recorder.rows) == len(first.recorder.rows)


def test_checkpoints_are_written_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    run = learner(tmp_path, method_of("em"), max_steps=5, checkpoint_seconds=0.0)
    save = run.save
    monkeypatch.setattr(run, "save", lambda: (saved.append(run.method.steps), save()))
    learn(run)
    assert saved == [1, 2, 3, 4, 5, 5]
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["state.pt"]


def test_the_last_row_is_of_all_data_points_where_the_others_were_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lgm_cli.evaluation.evaluator.SUBSET_POINTS", 20)
    monkeypatch.setattr("lgm_cli.evaluation.evaluator.SUBSET_OPERATIONS", 1.0)
    run = learner(tmp_path, method_of("em"), max_steps=5)
    outcome = learn(run)
    monkeypatch.setattr("lgm_cli.evaluation.evaluator.SUBSET_OPERATIONS", 1e12)
    assert outcome.scores == Evaluator(run.method.model, data(), 0).score(outcome.parameters)
    errors = [row["log_likelihood_se"] for row in run.recorder.rows]
    assert errors[-1] is None and all(error > 0 for error in errors[:-1])
    assert run.recorder.last["train_log_likelihood"] == outcome.scores.train_log_likelihood
