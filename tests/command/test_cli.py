"""The command line: what it answers by itself, and how it hands a run over and reports its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from lgm_cli import __version__, errors
from lgm_cli.command import choices
from lgm_cli.command.cli import main
from lgm_cli.command.error_messages import explain, unknown_choice, unknown_key
from lgm_cli.command.rules import Rule

ROOT = Path(__file__).parents[2]
RUN = ["data=simulated"]


def command(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real program, from a folder that is not the checkout."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "lgm_cli", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[dict[str, Any], Path, list[str]]]:
    """Work in an empty folder, with a runner that notes what it is asked and ends as ENDS says."""
    asked: list[tuple[dict[str, Any], Path, list[str]]] = []

    def run(config: dict[str, Any], folder: Path, overrides: list[str], *, bar: bool) -> dict[str, Any]:
        assert bar  # runs that do not share the terminal may have one
        asked.append((config, folder, overrides))
        end = ENDS.get(config["seed"], "converged")
        if isinstance(end, BaseException):
            raise end
        return {"status": end}

    runner = ModuleType("lgm_cli.run.runner")
    runner.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lgm_cli.run.runner", runner)
    monkeypatch.setattr("lgm_cli.run.runner", runner, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    return asked


# How the noting runner ends, by seed.
ENDS: dict[int, str | BaseException] = {
    1: "max_steps",
    2: "diverged",
    3: "failed",
    4: errors.UserError("the table is empty", "give one with rows"),
    5: errors.RunFailed("the disk is full", "make room"),
    6: errors.Interrupted("what was learned is in a folder"),
    7: ZeroDivisionError("a defect"),
    8: KeyboardInterrupt(),
    9: errors.Interrupted("what was learned is in a folder", {"status": "max_steps"}),
    10: errors.Interrupted("what was learned is in a folder", {"status": "diverged"}),
}


@pytest.mark.parametrize(
    ("seed", "code", "line"),
    [
        (0, 0, ""),
        (1, 0, ""),
        (2, 1, "lgm-run: error: the run diverged (what is known of it is in {folder})\n"),
        (3, 1, "lgm-run: error: the run failed (what is known of it is in {folder})\n"),
        (4, 2, "lgm-run: error: the table is empty (give one with rows)\n"),
        (5, 1, "lgm-run: error: the disk is full (make room)\n"),
        (6, 130, "lgm-run: interrupted: what was learned is in a folder\n"),
        (8, 130, "lgm-run: interrupted\n"),
        (9, 0, ""),
        (10, 1, "lgm-run: error: the run diverged (what is known of it is in {folder})\n"),
    ],
)
def test_a_run_ends_with_its_code_and_at_most_one_line(
    seed: int, code: int, line: str, runs: list, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*RUN, f"seed={seed}", "hydra.run.dir=here"]) == code
    assert capsys.readouterr().err == line.format(folder=tmp_path / "here")
    assert [folder for _, folder, _ in runs] == [tmp_path / "here"]


def test_a_defect_shows_its_traceback(runs: list, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "seed=7"]) == 1
    assert "ZeroDivisionError: a defect" in capsys.readouterr().err


def test_the_traceback_of_an_error_is_shown_on_request(
    runs: list, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert main([*RUN, "seed=4"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert shown.endswith("lgm-run: error: the table is empty (give one with rows)\n")
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_a_run_is_given_its_checked_configuration_and_a_folder_that_records_it(runs: list, tmp_path: Path) -> None:
    assert main([*RUN, "method=em", "model.latent_dim=3", "tolerance=1"]) == 0
    ((config, folder, overrides),) = runs
    assert config["solver"] == {"name": "cholesky"}
    assert config["model"]["latent_dim"] == 3
    assert isinstance(config["tolerance"], float)
    assert overrides == [*RUN, "method=em", "model.latent_dim=3", "tolerance=1"]
    assert folder.parent == tmp_path / "outputs" / "runs"
    assert folder.name.endswith("-factor_analysis-simulated-em")
    assert yaml.safe_load((folder / ".hydra" / "config.yaml").read_text()) == config
    assert yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text()) == overrides
    assert "sweep" in yaml.safe_load((folder / ".hydra" / "hydra.yaml").read_text())["hydra"]
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_runs_that_start_in_the_same_second_have_folders_of_their_own(runs: list) -> None:
    for _ in range(3):
        main(RUN)
    assert len({folder for _, folder, _ in runs}) == 3


def test_a_folder_that_holds_a_run_is_left_as_it_is(runs: list, capsys: pytest.CaptureFixture[str]) -> None:
    main([*RUN, "hydra.run.dir=here"])
    before = {path: path.read_bytes() for path in Path("here").rglob("*") if path.is_file()}
    assert main([*RUN, "seed=1", "hydra.run.dir=here"]) == 2
    assert "here holds a run already, .hydra at least (choose another" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path("here").rglob("*") if path.is_file()} == before
    assert len(runs) == 1


@pytest.mark.parametrize("arguments", [["hydra.run.dir=here/inside"], ["-m", "hydra.sweep.dir=here/inside"]])
def test_no_run_is_written_inside_another(
    arguments: list[str], runs: list, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in (".hydra", "checkpoint"):
        (tmp_path / "here" / name).mkdir(parents=True)
    assert main([*RUN, *arguments]) == 2
    assert f"is inside the folder of another run, {tmp_path / 'here'} (choose another" in capsys.readouterr().err
    assert not runs


@pytest.mark.parametrize("name", ["metrics.csv", "predictions.csv", "checkpoint"])
def test_a_file_that_a_run_would_replace_is_not_lost(name: str, runs: list) -> None:
    Path("here").mkdir()
    Path("here", name).write_text("precious")
    assert main([*RUN, "hydra.run.dir=here"]) == 2
    assert Path("here", name).read_text() == "precious"
    assert not runs


def test_a_refused_configuration_leaves_nothing_behind(runs: list, tmp_path: Path) -> None:
    assert main([*RUN, "tolerance=-1"]) == 2
    assert list(tmp_path.iterdir()) == []
    assert not runs


def test_a_sweep_goes_on_after_a_failure_and_says_each_once(
    runs: list, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["--multirun", *RUN, "method=em,unroll", "seed=2,4,0"]) == 1
    assert len(runs) == 6
    assert {config["solver"]["name"] for config, _, _ in runs} == {"cholesky", "conjugate_gradient"}
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert sorted(folder.name for _, folder, _ in runs)[:2] == [
        "0-method_em-seed_2",
        "1-method_em-seed_4",
    ]
    assert {folder.parent for _, folder, _ in runs} == {sweep}
    assert capsys.readouterr().err.splitlines() == [
        "lgm-run: error: 2 runs 0-method_em-seed_2, 3-method_unroll-seed_2: "
        "the run diverged (what is known of it is in its folder)",
        "lgm-run: error: 2 runs 1-method_em-seed_4, 4-method_unroll-seed_4: the table is empty (give one with rows)",
    ]


def test_a_sweep_of_which_every_run_is_refused_is_bad_configuration(
    runs: list, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--multirun", *RUN, "max_steps=0", "seed=range(4)", "hydra.sweep.dir=s"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lgm-run: error: 4 runs 0-seed_0, 1-seed_1, 2-seed_2")
    assert line.endswith(" and 1 more: max_steps=0 is not an integer >= 1, or auto (e.g. max_steps=auto)")


def test_a_run_of_a_sweep_that_cannot_begin_leaves_a_summary(runs: list, tmp_path: Path) -> None:
    assert main(["-m", *RUN, "tolerance=-1,1", "hydra.sweep.dir=sweep"]) == 1
    assert len(runs) == 1
    summary = json.loads((tmp_path / "sweep" / "0-tolerance_-1" / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert summary["error"]["what"] == "tolerance=-1 is not a number >= 0"
    assert summary["overrides"] == ["data=simulated", "tolerance=-1"]
    assert summary["last_row"] == {} and summary["warnings"] == []


@pytest.mark.parametrize("seed", [6, 9])
def test_an_interrupt_ends_a_sweep(seed: int, runs: list) -> None:
    assert main(["--multirun", *RUN, f"seed=0,{seed},1"]) == 130
    assert len(runs) == 2


def test_sigterm_interrupts_a_run(runs: list, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **options: bool) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)  # the signal ends it at once

    monkeypatch.setattr(sys.modules["lgm_cli.run.runner"], "run", run)
    before = signal.getsignal(signal.SIGTERM)
    assert main(RUN) == 130
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_after_the_end_of_a_command_changes_no_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(sys, "argv", ["lgm-run", "--version"])
    try:
        assert main() == 0
        assert {signal.getsignal(number) for number in before} == {signal.SIG_IGN}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_help_lists_every_choice_and_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help", "all"]) == 0
    shown = capsys.readouterr().out
    words = shown.replace("=", " ").split()
    assert all(choice in words for group in choices.GROUPS for choice in choices.choices(group))
    assert all(f"  {key}=" in shown for key in choices.all_keys())
    assert str(Rule.parse("integer >= 1, or auto")) in shown
    assert max(map(len, shown.splitlines())) <= 110


def test_the_short_help_fits_a_screen_and_names_every_choice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert main(["-h"]) == 0
    assert capsys.readouterr().out == shown
    assert len(shown.splitlines()) <= 45
    assert max(map(len, shown.splitlines())) <= 90
    assert sum(line.startswith("  lgm-run") for line in shown.split("examples:")[1].splitlines()) == 10
    words = shown.replace("=", " ").split()
    assert all(choice in words for group in choices.GROUPS for choice in choices.choices(group))


def test_help_on_a_choice_has_its_own_keys(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help", "model=ppca"], ["--help", "ppca"], ["model=ppca", "-h"]):
        assert main(words) == 0
        shown = capsys.readouterr().out
        assert shown.startswith("model=ppca: y = loadings z")
        assert "data=gene_expression" in shown
        for key in choices.keys("model/ppca"):
            assert (f"  model.{key}=" in shown) == (key != "name")
        assert "model.order" not in shown
    assert main(["--help", "experiment=mri"]) == 0
    assert "--cfg job" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("model=pca", "there is no model=pca (did you mean model=ppca?"),
        ("nothing", "there is no help on nothing (give all, or GROUP=CHOICE such as model=ppca)"),
        ("seed=1", "there is no help on seed=1"),
        ("model=", "there is no help on model="),
    ],
)
def test_help_on_what_is_not_there(word: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help", word]) == 2
    assert said in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lgm-run {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]])
def test_a_reader_that_goes_away_is_no_error(arguments: list[str], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        ended = subprocess.run(
            [sys.executable, "-m", "lgm_cli", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_configuration_can_be_shown_from_any_folder(tmp_path: Path) -> None:
    shown = command("method=em", "--cfg", "job", "seed=3", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    config = yaml.safe_load(shown.stdout)
    assert (config["seed"], config["solver"]["name"], config["data"]["name"]) == (3, "cholesky", "movielens")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_own_yaml_files_takes_part(runs: list, tmp_path: Path) -> None:
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    (tmp_path / "mine" / "data" / "table.yaml").write_text("defaults: [csv, _self_]\npath: table.csv\n")
    assert main(["--config-dir", "mine", "data=table"]) == 0
    defaults = {key: entry.default for key, entry in choices.keys("data/csv").items()}
    assert runs[0][0]["data"] == defaults | {"name": "csv", "path": str(tmp_path / "table.csv")}


def test_a_name_for_what_is_not_there() -> None:
    assert str(unknown_choice("method", "grdient_em")) == (
        "there is no method=grdient_em (did you mean method=gradient_em? "
        f"choices: {', '.join(choices.choices('method'))})"
    )
    assert str(unknown_choice("data", "zzz")).startswith("there is no data=zzz (choices: movielens, ")
    assert str(unknown_key("modle")) == "there is no key modle (did you mean model?)"
    assert str(unknown_key("solver.max_iteration")).endswith("(did you mean solver.max_iterations?)")
    having = ", ".join(choices.owners("data", "path"))
    assert str(unknown_key("data.path")) == f"data.path is not a key of the chosen data (it belongs to data={having})"
    assert str(unknown_key("qqq")) == "there is no key qqq (lgm-run --help lists what there is)"


def test_an_error_nobody_foresaw_is_passed_on_by_its_first_sentence() -> None:
    error = explain(RuntimeError("it allows\n  anything.\nfull_key: a\nobject_type=dict"), [])
    assert str(error) == "RuntimeError: it allows anything. (lgm-run --help lists what there is)"
