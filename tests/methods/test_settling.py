"""method=unroll in closed form: its step beside that of EM, averages of noisy statistics, going on, what auto takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lgm_cli.command.cli import main
from lgm_cli.errors import UserError
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.method import Method
from lgm_cli.methods.statistics.settling import Settling
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.posteriors.samples import SamplePosterior
from lgm_cli.results import run_folder
from lgm_cli.run import updates
from lgm_cli.solvers.conjugate_gradient import ConjugateGradient
from tests import cases

SIMULATED = [
    "data=simulated", "data.num_points=200", "data.num_dimensions=8", "data.latent_dim=2", "model.latent_dim=2",
    "device=cpu", "device.threads=1", "tolerance=0",
]  # fmt: skip


def bound() -> Any:
    random = np.random.default_rng(0)
    y = random.normal(size=(60, 2)) @ random.normal(size=(2, 6)) + random.normal(size=(60, 6))
    return cases.bind(FactorAnalysis(2, False, 1e-3), cases.with_gaps(y, "masked"))


def unrolled(model: Any, start: Parameters, samples: int) -> Method:
    e_step = MonteCarlo(model, ConjugateGradient(max_iterations=50, tolerance=1e-12), samples, 1, 0, False)
    return Method(model, e_step, ClosedForm(model, start, Settling(model)), 10**6, 0)


def test_a_step_is_that_of_em_to_the_error_of_the_samples() -> None:
    """Errors of 1/sqrt(K): a hundred times the samples, a tenth of the error."""
    model = bound()
    start = model.start(0)
    em = Method(model, Exact(model), ClosedForm(model, start), 10**6, 0)
    em.step()

    def error(samples: int) -> float:
        method = unrolled(model, start, samples)
        method.step()
        return float((cases.flat(method.parameters) - cases.flat(em.parameters)).norm())

    few, many = error(100), error(10_000)
    assert many < 0.02 * float(cases.flat(em.parameters).norm())
    assert few / 40 < many < few / 3


def test_with_exact_moments_a_step_is_that_of_em() -> None:
    """Samples along the axes of the covariance, sqrt(D lambda_k) u_k, have it as their second moments."""
    model = bound()
    start = model.start(0)
    sums, em = Settling(model), ClosedForm(model, start)
    for chunk in model.observations.chunks:
        posterior = model.posterior(start, chunk)
        em.add(0, chunk, posterior, None)
        eigenvalues, axes = torch.linalg.eigh(posterior.covariance)
        samples = axes.mT * (model.dim * eigenvalues).sqrt()[..., None]
        sums.add(0, chunk, SamplePosterior(posterior.mean, samples, model.frame(start)))
    em.apply(1.0)
    found = model.maximise(start, sums.close())
    for name, value in em.parameters.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-10)


def test_the_weight_halves_each_time_that_noise_hides_the_gain() -> None:
    model = bound()
    start, sums = model.start(0), Settling(model)
    given = []
    for step in range(4):
        for chunk in model.observations.chunks:
            posterior = model.posterior(start, chunk)
            mean = posterior.mean + step
            sums.add(0, chunk, SamplePosterior(mean, mean[:, None], model.frame(start)))
            given.append(float(model.statistics(chunk, SamplePosterior(mean, mean[:, None]))["latent_square"]))
        closed = float(sums.close()["latent_square"])
        assert sums.quieter()
    count = len(given) // 4
    fresh = np.array(given).reshape(4, count).sum(1)
    expected = fresh[0]
    for step, value in enumerate(fresh[1:], 1):
        expected += 0.5**step * (value - expected)
    assert closed == pytest.approx(expected, rel=1e-12)


def test_averages_go_on_where_they_were_left() -> None:
    model = bound()
    start = model.start(0)

    def steps(method: Method, count: int) -> None:
        for _ in range(count):
            method.step()

    whole, part, later = (unrolled(model, start, 2) for _ in range(3))
    for method in (whole, part):
        steps(method, 3)
        method.quieter()
        steps(method, 2)
    state = part.state()
    later.load_state(state)
    for method in (whole, later):
        steps(method, 4)
    for name, value in whole.parameters.items():
        assert torch.equal(value, later.parameters[name])
    with pytest.raises(ValueError, match=r"statistics\.halvings"):
        Settling(model).load_state(state["update"]["statistics"] | {"halvings": -1})


@pytest.mark.usefixtures("quiet")
def test_a_run_says_what_was_chosen_and_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    arguments = [*SIMULATED, "method=unroll", "eval_every=1"]
    assert main([*arguments, "max_steps=45", f"hydra.run.dir={tmp_path / 'whole'}"]) == 0
    assert main([*arguments, "max_steps=30", f"hydra.run.dir={tmp_path / 'part'}"]) == 0
    chosen = json.loads((tmp_path / "part" / "summary.json").read_text())["chosen"]
    assert (chosen["update"], chosen["statistics"]) == ("closed_form", "settling") and "learning_rate" not in chosen
    assert main([f"resume={tmp_path / 'part'}", "max_steps=45"]) == 0
    clock = ["fit_seconds", "peak_memory_mib"]
    whole, part = (pd.read_csv(tmp_path / name / "metrics.csv").drop(columns=clock) for name in ("whole", "part"))
    pd.testing.assert_frame_equal(whole, part, check_exact=True)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("extra", "update"),
    [
        (["method.learning_rate=0.1"], "gradient"),
        (["model.latent_dim=80"], "gradient"),
        (["method.statistics=fresh"], "closed_form"),
    ],
)
def test_what_auto_takes(extra: list[str], update: str, tmp_path: Path) -> None:
    arguments = [*SIMULATED, "data.num_dimensions=100", "method=unroll", "max_steps=1", *extra]
    assert main([*arguments, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["chosen"]["update"] == update


@pytest.mark.usefixtures("quiet")
def test_statistics_about_a_level_are_not_averaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["model=autoregressive", "method=unroll", "method.statistics=settling", f"hydra.run.dir={tmp_path / 'run'}"]
    assert main([*line, "device=cpu"]) == 2
    assert "those of model=autoregressive are about a level of their own" in capsys.readouterr().err


def test_an_earlier_run_goes_on_by_gradients() -> None:
    before = {"method": {"name": "unroll", "update": "gradient", "gradient": "output", "optimizer": "adam"}}
    assert updates.asked(run_folder.with_later_keys(before)["method"]) == "gradient"
    with pytest.raises(UserError, match="has no meaning with"):
        updates.asked(run_folder.with_later_keys({"method": before["method"] | {"update": "closed_form"}})["method"] | {
            "learning_rate": 0.1, "batch_size": "auto",
        })  # fmt: skip
