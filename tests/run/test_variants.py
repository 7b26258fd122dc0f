"""Variants of EM as runs: what is judged at a temperature, more samples, what is refused, what `auto` means."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.in_process import counted_run
from lgm_cli.command.cli import main
from lgm_cli.data.base.data import Data
from lgm_cli.errors import UserError
from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.methods.e_steps.drawn import Drawn
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.methods.m_steps.base.m_step import MStep
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.m_steps.conditional import Conditional
from lgm_cli.methods.method import Method
from lgm_cli.methods.statistics.replaced import Replaced
from lgm_cli.methods.statistics.running import Running
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.observations.chunk import Chunk
from lgm_cli.observations.sparse_rows import SparseRows
from lgm_cli.results.metrics import Recorder
from lgm_cli.run import auto, meaning
from lgm_cli.run.loop import Learner, Limits
from lgm_cli.run.progress import Progress
from lgm_cli.run.stopping import Convergence
from lgm_cli.solvers.cholesky import Cholesky
from tests import cases

SIMULATED = [
    "data=simulated", "data.num_points=300", "data.num_dimensions=8", "data.latent_dim=2", "model.latent_dim=2",
    "model.offset=false", "device=cpu", "device.dtype=float64", "device.threads=1",
]  # fmt: skip


def table(points: int = 90) -> Data:
    random = np.random.default_rng(0)
    y = random.normal(size=(points, 2)) @ random.normal(size=(2, 8)) + random.normal(size=(points, 8))
    return cases.as_data(cases.with_gaps(y, "masked"), random.random(y.shape) < 0.1)


def factor_analysis(block_size: int = 30) -> Any:
    return cases.bind(FactorAnalysis(2, False, 1e-3), table(), block_size=block_size)


def learner(folder: Path, method: Method, max_steps: int, tolerance: float) -> Learner:
    folder.mkdir(exist_ok=True)
    return Learner(
        method, Evaluator(method.model, table(), 0), Recorder(folder), Convergence(tolerance),
        Limits(max_steps, None, 1, 1e9), folder / "checkpoint", lambda: False,
    )  # fmt: skip


def learn(each: Learner) -> Any:
    with Progress(each.limits.max_steps, bar=False) as progress:
        return each.learn(progress)


# At a temperature ----------------------------------------------------------------------------------------------


class Astray(Exact):
    """For 25 steps, whatever was learned is replaced by means three deviations off."""

    steps = 0

    @property
    def tempered(self) -> bool:
        return self.steps < 25

    def finish(self, m_step: MStep) -> None:
        if self.tempered:
            m_step.move(m_step.parameters | {"mean": torch.full_like(m_step.parameters["mean"], 3.0)})
        self.steps += 1


def test_nothing_is_judged_at_a_temperature(tmp_path: Path) -> None:
    """Neither as diverged, although the likelihood falls by more than half a nat, nor as converged, although it rests;
    what is judged after it begins with its end."""
    model = factor_analysis()
    run = learner(tmp_path, Method(model, Astray(model), ClosedForm(model, model.start(0)), 3, 0), 400, 1e-3)
    outcome = learn(run)
    values = [row["train_log_likelihood"] for row in run.recorder.rows]
    assert min(values[1:25]) < values[0] - 0.5
    assert outcome.status == "converged"
    assert run.method.steps >= 24 + 20
    assert outcome.scores.train_log_likelihood > values[0]


def test_a_likelihood_that_is_not_finite_is_divergence_at_any_temperature() -> None:
    rule = Convergence(1e-4)
    rule.add(0, -1.0)
    rule.add(1, -3.0)
    assert rule.diverged(-3.0) and not rule.diverged(-3.0, judged=False)
    assert rule.diverged(math.nan, judged=False)
    rule.restart(-3.0)
    assert not rule.diverged(-3.4) and rule.diverged(-3.6)


# Samples -------------------------------------------------------------------------------------------------------


def test_a_run_takes_more_samples_when_their_noise_hides_the_gain(tmp_path: Path) -> None:
    """At a fixed number of samples, it goes round and round; the number is a part of the checkpoint."""
    numbers = {}
    for growth in (1.0, 2.0):
        model = factor_analysis()
        e_step = MonteCarlo(model, Cholesky(), 1, 1, 0, False, growth)
        run = learner(tmp_path / str(growth), Method(model, e_step, ClosedForm(model, model.start(0)), 3, 0), 60, 1e-9)
        learn(run)
        numbers[growth] = e_step.num_samples
        again = MonteCarlo(model, Cholesky(), 1, 1, 0, False, growth)
        again.load_state(run.method.state()["expectation"])
        assert again.num_samples == e_step.num_samples
    assert numbers[1.0] == 1 and numbers[2.0] >= 4


@pytest.mark.parametrize("warm_start", [False, True])
def test_monte_carlo_em_goes_on_bit_for_bit_after_it_has_grown(warm_start: bool) -> None:
    def build() -> Method:
        model = factor_analysis()
        e_step = MonteCarlo(model, Cholesky(warm_start=warm_start), 1, 2, 0, False, 3.0)
        return Method(model, e_step, ClosedForm(model, model.start(0)), 3, 0)

    whole = build()
    for step in range(9):
        if step == 5:
            assert whole.quieter()
        if step == 6:
            state = whole.state()
        whole.step()
    resumed = build()
    resumed.load_state(state)
    assert resumed.expectation.num_samples == 3  # pyright: ignore[reportAttributeAccessIssue]
    for _ in range(3):
        resumed.step()
    for name, value in whole.parameters.items():
        assert torch.equal(value, resumed.parameters[name])


def test_em_with_very_many_samples_is_em() -> None:
    """K = 20,000: a step to five standard errors of a loading, 0.3 / sqrt(20,000 * 90)."""
    model = factor_analysis()
    start = model.start(0)
    sampled = Method(model, MonteCarlo(model, Cholesky(), 20_000, 1, 0, False), ClosedForm(model, start), 3, 0)
    exact = Method(model, Exact(model), ClosedForm(model, start), 3, 0)
    sampled.step()
    exact.step()
    for name, value in exact.parameters.items():
        assert 0 < float((value - sampled.parameters[name]).abs().max()) < 2e-3


# Factor analysis with gaps ---------------------------------------------------------------------------------------


def energies(method: Method, steps: int) -> Iterator[float]:
    method.update.measured = True
    for _ in range(steps):
        method.step()
        assert method.update.free_energy is not None
        yield float(method.update.free_energy)


def evidence(model: Any, parameters: Parameters) -> float:
    """log p(y), standardised."""
    scale = sum(float((chunk.weight * chunk.take(model.observations.scale.log())).sum()) for chunk in chunks_of(model))
    return float(cases.log_likelihood(model, parameters)) + scale


def chunks_of(model: Any) -> list[Chunk]:
    return [chunk.gathered for chunk in model.observations.chunks]


def test_incremental_em_of_a_table_with_gaps_never_lowers_its_free_energy() -> None:
    model = factor_analysis(block_size=16)
    method = Method(model, Exact(model), ClosedForm(model, model.start(0), Replaced(model, 1)), 1, 0)
    found = np.array(list(energies(method, 240)))
    assert np.all(np.diff(found) > -1e-9)
    now = evidence(model, method.parameters)
    assert found[-1] <= now + 1e-9
    em = Method(model, Exact(model), ClosedForm(model, model.start(0)), len(model.observations.blocks), 0)
    for _ in range(40):
        em.step()
    assert now > evidence(model, em.parameters) - 1e-2


def test_online_em_of_a_table_with_gaps_nears_the_maximum_and_keeps_its_statistics_whole() -> None:
    """They count all data points, but for the last block, whose share of the blocks is not that of its rows."""
    model = factor_analysis(block_size=16)
    method = Method(model, Exact(model), ClosedForm(model, model.start(0), Running(model, 0.6, first_update=3)), 1, 0)
    for _ in range(300):
        method.step()
    em = Method(model, Exact(model), ClosedForm(model, model.start(0)), len(model.observations.blocks), 0)
    for _ in range(200):
        em.step()
    assert 0 < evidence(model, em.parameters) - evidence(model, method.parameters) < 1.0  # nats, of 90 rows in all
    points = method.update.state()["statistics"]["running"]["points"]
    assert float(points) == pytest.approx(90, rel=0.02)


def test_a_step_of_ecme_of_a_table_with_gaps_is_a_block_of_em_and_a_climb() -> None:
    """Loadings and means as a step of EM has them; then noise variances whose likelihood is higher, and which the
    gradient leaves nearly alone."""
    model = factor_analysis(block_size=16)
    every, start = len(model.observations.blocks), model.start(0)
    em = Method(model, Exact(model), ClosedForm(model, start), every, 0)
    m_step = Conditional(model, start, None, either=("noise_variance",), inner_steps=60)
    ecme = Method(model, Exact(model), m_step, every, 0)
    em.step()
    ecme.step()
    for name in ("loadings", "mean"):
        torch.testing.assert_close(ecme.parameters[name], em.parameters[name], rtol=1e-12, atol=1e-12)
    before = evidence(model, em.parameters | {"noise_variance": start["noise_variance"]})
    assert evidence(model, ecme.parameters) > max(evidence(model, em.parameters), before) + 1e-3
    gradients = (cases.exact_gradient(model, each.parameters)["noise_variance"] for each in (ecme, em))
    left, first = (float(gradient.abs().max()) for gradient in gradients)
    assert left < 1e-2 * first


@pytest.mark.parametrize("sparse", [False, True])
def test_what_ecme_climbs_is_the_likelihood_and_its_gradient(sparse: bool) -> None:
    """Against automatic differentiation through the factorisation, far from the maximum; ratings as sparse rows too."""
    random = np.random.default_rng(5)
    y = random.normal(size=(400, 60))
    data = cases.as_data(cases.with_gaps(y, "gathered" if sparse else "masked"))
    model = cases.bind(FactorAnalysis(2, True, 1e-3), data, block_size=200)
    assert {isinstance(part, SparseRows) for block in (0, 1) for part in model.layout(block)} == {sparse}
    parameters = cases.leaves(model.start(0))
    terms = list(Conditional(model, model.start(0), None, either=("noise_variance",))._evidence(parameters))
    expected = -float(cases.log_likelihood(model, parameters).detach())
    assert float(sum(terms).detach()) == pytest.approx(expected, rel=1e-12)
    sum(terms).backward()
    for name, gradient in cases.exact_gradient(model, parameters).items():
        torch.testing.assert_close(parameters[name].grad, -gradient, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
def test_one_pass_of_online_em_is_near_the_maximum_that_em_takes_four_for() -> None:
    """100,000 data points in batches of 1,000: within 0.001 nats per entry. Averages of parameters are no better."""
    size = ["data.num_points=100000", "data.num_dimensions=50", "data.latent_dim=5", "data.test_fraction=0"]
    model = ["model=factor_analysis", "model.latent_dim=5", "model.offset=false", "data=simulated", *size]
    _, em = counted_run([*model, "method=em", "max_steps=10"])
    best = max(row["train_log_likelihood"] for row in em)
    gaps = {}
    for average in ("statistics", "parameters"):
        batch = ["method.batch_size=1000", f"method.average={average}", "max_steps=100", "eval_every=100"]
        _, rows = counted_run([*model, "method=online_em", *batch])
        assert rows[-1]["passes"] == pytest.approx(1.0)
        gaps[average] = best - rows[-1]["train_log_likelihood"]
    assert gaps["statistics"] < 1e-3
    assert gaps["statistics"] < gaps["parameters"]
    passes = next(row["passes"] for row in em if row["train_log_likelihood"] > best - 1e-3)
    assert passes >= 4


# From the command line -------------------------------------------------------------------------------------------


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    assert main([*SIMULATED, *arguments, f"hydra.run.dir={folder}"]) == 0
    return json.loads((folder / "summary.json").read_text())


METHODS = {
    "online_em": ["method.batch_size=30"],
    "incremental_em": [],
    "monte_carlo_em": ["method.num_samples=2"],
    "stochastic_em": ["method.full_steps=5"],
    "generalised_em": ["method.inner_steps=4"],
}


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in METHODS if name != "stochastic_em"]


@pytest.mark.parametrize("method", ["stochastic_em", *SLOW])
def test_a_variant_runs_stops_and_goes_on_as_if_it_had_not(method: str, tmp_path: Path) -> None:
    arguments = [f"method={method}", *METHODS[method], "tolerance=0", "eval_every=4"]
    whole = run(tmp_path / "whole", *arguments, "max_steps=12")
    run(tmp_path / "part", *arguments, "max_steps=8")
    assert main([f"resume={tmp_path / 'part'}", "max_steps=12"]) == 0
    one, other = (pd.read_csv(tmp_path / name / "metrics.csv") for name in ("whole", "part"))
    times = ["fit_seconds", "peak_memory_mib"]
    pd.testing.assert_frame_equal(one.drop(columns=times), other.drop(columns=times), check_exact=True)
    first, *_, last = one["train_log_likelihood"]
    assert last > first
    assert whole["status"] == "max_steps"


def test_what_was_left_open_is_said(tmp_path: Path) -> None:
    chosen = run(tmp_path / "online", "method=online_em", "max_steps=3")["chosen"]
    assert chosen["batch_size"] == 15  # a twentieth of 300 rows
    assert chosen["first_update"] == math.ceil(5 * 32 / (15 * 8 * 0.9)) - 1 or chosen["first_update"] >= 1
    chosen = run(tmp_path / "stochastic", "method=stochastic_em", "max_steps=3")["chosen"]
    assert chosen["posterior"] == "monte_carlo" and chosen["num_samples"] == 1


@pytest.mark.parametrize(
    ("arguments", "what", "mend"),
    [
        (["model=sparse_bayes", "data=cosine", "method=online_em"], "model=sparse_bayes has no use for", "method=em"),
        (["model=state_space", "data=weather", "method=stochastic_em"], "one data point", "method=em"),
        (["method=generalised_em", "solver=nesterov"], "solver=nesterov only nears", "leave solver out"),
        (["method=annealed_em", "solver=nesterov"], "solver=nesterov only nears", "leave solver out"),
    ],
)
def test_what_has_no_meaning_is_refused_in_one_line(
    arguments: list[str], what: str, mend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [] if "model=" in arguments[0] else SIMULATED
    assert main([*own, "device=cpu", *arguments, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert what in error and mend in error


class Plain(FactorAnalysis):
    """Without blocks, a linear system or posteriors at a temperature."""

    blocks = ()
    has_system = False

    def posterior(self, parameters: Parameters, chunk: Chunk) -> Any:
        return super().posterior(parameters, chunk)


@pytest.mark.parametrize(
    ("options", "what", "mend"),
    [
        ({"posterior": "exact", "update": "conditional"}, "are one block", "method=em"),
        ({"posterior": "tempered", "update": "closed_form"}, "posteriors at a temperature", "method=em"),
        ({"posterior": "monte_carlo", "update": "closed_form"}, "no linear system", "leave method.posterior out"),
        (
            {"posterior": "monte_carlo", "update": "gradient"},
            "no linear system",
            "method=em, method=auto or method=gradient_em",
        ),
    ],
)
def test_what_a_model_lacks_is_named(options: dict[str, str], what: str, mend: str) -> None:
    model = cases.bind(Plain(2, False, 1e-3), table())
    with pytest.raises(UserError) as raised:
        meaning.refuse_what_has_no_meaning(options | {"name": "this"}, model, "plain")
    assert what in raised.value.what and "model=plain" in raised.value.what and mend in raised.value.mend
    fine = {"name": "this", "posterior": "exact", "update": "closed_form", "statistics": "running"}
    meaning.refuse_what_has_no_meaning(fine, model, "plain")


def test_a_posterior_that_gives_no_draws_is_refused_before_the_run() -> None:
    class Undrawn:
        mean = None

    model = factor_analysis()
    e_step = Drawn(model, 1, 1, 0)
    e_step.posterior = lambda parameters, part: Undrawn()  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(UserError, match="method=this has no meaning for model=plain: .*drawn"):
        meaning.rehearse({"name": "this"}, model, "plain", e_step, model.start(0), 0)


def test_parameters_are_named_as_the_model_has_them() -> None:
    parameters = factor_analysis().start(0)
    assert meaning.named_parameters("auto", "hold", ("mean", "offset_variance"), parameters) == ("mean",)
    assert meaning.named_parameters(["loadings"], "hold", (), parameters) == ("loadings",)
    assert meaning.named_parameters(None, "hold", ("mean",), parameters) == ()
    with pytest.raises(UserError, match="method.hold=loading is no parameter"):
        meaning.named_parameters(["loading"], "hold", (), parameters)


def test_stored_statistics_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = factor_analysis()
    monkeypatch.setattr(meaning, "available_memory", lambda device: 1000.0)
    with pytest.raises(UserError, match="keeps 11 sets of statistics") as raised:
        meaning.rehearse({"name": "incremental_em"}, model, "factor_analysis", Exact(model), model.start(0), 11)
    assert "method.batch_size" in raised.value.mend


def test_a_block_is_a_batch_where_statistics_are_put_together() -> None:
    config: dict[str, Any] = {"method": {"statistics": "running", "batch_size": "auto", "update": "closed_form"}}
    assert auto.block_size(config, 290) == 15
    config["method"]["batch_size"] = 7
    assert auto.block_size(config, 290) == 7
    assert auto.block_size({"method": {"batch_size": "auto", "update": "gradient"}}, 290) is None
    assert auto.block_size({"method": {"update": "closed_form"}}, 290) is None
