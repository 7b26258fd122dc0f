"""method=auto: em where exact posteriors are cheaper, otherwise unroll; a run goes on with what was chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from lgm_cli.command import help
from lgm_cli.command.cli import main
from lgm_cli.run import cheaper

pytestmark = pytest.mark.usefixtures("quiet")

CPU = ["device=cpu", "device.threads=1", "method=auto", "tolerance=0"]
SMALL = ["data=simulated", "data.num_points=300", "data.num_dimensions=8", "data.latent_dim=2", "model.latent_dim=2"]
LARGE = [
    "data=simulated", "data.num_points=500", "data.num_dimensions=100", "data.latent_dim=3", "model.latent_dim=80",
    "data.hidden_share=0", "model.offset=false",
]  # fmt: skip
CLOCK = ["fit_seconds", "peak_memory_mib"]


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    assert main([*CPU, *arguments, f"hydra.run.dir={folder}"]) == 0
    return json.loads((folder / "summary.json").read_text())


def recorded(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / ".hydra" / "config.yaml").read_text())


@pytest.mark.parametrize(
    ("arguments", "method", "solver", "reason"),
    [
        (SMALL, "em", "cholesky", "exact posteriors take "),
        (LARGE, "unroll", "conjugate_gradient", "unrolled posteriors take "),
        ([*LARGE, "solver=nesterov", "solver.max_iterations=5"], "unroll", "nesterov", "5.0 iterations of nesterov"),
        ([*LARGE, "solver=cholesky"], "em", "cholesky", "solver=cholesky takes exact solutions"),
        (["model=gaussian_mixture"], "em", "cholesky", "model=gaussian_mixture has no linear system"),
        (["model=hidden_markov"], "em", "cholesky", "model=hidden_markov has no linear system"),
    ],
)
def test_the_cheaper_method_is_chosen_recorded_and_said(
    arguments: list[str], method: str, solver: str, reason: str, tmp_path: Path
) -> None:
    summary, config = run(tmp_path / "run", *arguments, "max_steps=1"), recorded(tmp_path / "run")
    assert (config["method"]["name"], config["solver"]["name"]) == (method, solver)
    assert summary["chosen"]["method"] == method and reason in summary["chosen"]["reason"]
    assert ("learning_rate" in summary["chosen"]) == (method == "unroll")
    lines = (tmp_path / "run" / "run.log").read_text().splitlines()
    verdict = next(number for number, line in enumerate(lines) if "as asked; not converged" in line)
    assert f"method={method} was chosen: " in lines[verdict + 1]


@pytest.mark.parametrize("method", ["em", "unroll"])
def test_an_auto_run_is_the_run_of_the_method_that_it_chose(method: str, tmp_path: Path) -> None:
    arguments = [*(SMALL if method == "em" else LARGE), "max_steps=3"]
    run(tmp_path / "auto", *arguments)
    run(tmp_path / "plain", *arguments, f"method={method}")
    one, other = (pd.read_csv(tmp_path / name / "metrics.csv").drop(columns=CLOCK) for name in ("auto", "plain"))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_run_goes_on_with_what_was_chosen_without_a_new_judgement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", *SMALL, "max_steps=6")
    run(tmp_path / "part", *SMALL, "max_steps=4")
    with monkeypatch.context() as patch:
        patch.setattr(cheaper, "decided", lambda *_: pytest.fail("it was judged again"))
        assert main([f"resume={tmp_path / 'part'}", "max_steps=6"]) == 0
    part = json.loads((tmp_path / "part" / "summary.json").read_text())
    assert part["chosen"] == whole["chosen"]
    for name in ("parameters", "posterior"):
        file = f"{name}.safetensors"
        assert (tmp_path / "part" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_an_auto_run_is_applied(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [1.0, 2, 3, 5, 4, 7], "b": [2.0, 3, 5, 9, 8, 13], "c": [1.0, 0, 1, 0, 2, 1]})
    table.to_csv(tmp_path / "table.csv", index=False)
    path = f"data.path={tmp_path / 'table.csv'}"
    run(tmp_path / "run", "data=csv", path, "model.latent_dim=1", "model.offset=false", "max_steps=3")
    assert main([f"apply={tmp_path / 'run'}", path, f"hydra.run.dir={tmp_path / 'applied'}"]) == 0
    assert json.loads((tmp_path / "applied" / "summary.json").read_text())["status"] == "applied"


def test_a_sweep_takes_it_beside_others(tmp_path: Path) -> None:
    arguments = [*CPU[:2], *SMALL, "max_steps=2", "method=em,auto", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    assert main(["--multirun", *arguments]) == 0
    found = sorted((tmp_path / "sweep").glob("*/metrics.csv"))
    one, other = (pd.read_csv(path).drop(columns=CLOCK) for path in found)
    pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.mark.parametrize("key", ["num_samples=3", "acceleration=none", "learning_rate=0.1"])
def test_keys_of_the_methods_that_it_chooses_among_are_refused(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*CPU, *SMALL, f"method.{key}", f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "method." in line and ("unroll" in line or "method=em" in line)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("quiet")
def test_a_model_without_a_system_has_em_by_default_and_refuses_unroll_by_name_of_what_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    given = ["device=cpu", "model=gaussian_mixture", "max_steps=2", f"hydra.run.dir={folder}"]
    assert main([*given, "method=unroll"]) == 2
    assert "method=auto" in capsys.readouterr().err.strip().splitlines()[-1]
    assert main(given) == 0
    config = yaml.safe_load((folder / ".hydra" / "config.yaml").read_text())
    assert config["method"]["name"] == "em"


def test_help_knows_it() -> None:
    assert "em where exact posteriors take fewer operations" in " ".join(help.text(["all"]).split())
