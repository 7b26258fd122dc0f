"""A run that was stopped, however, goes on as if it had not been; what cannot go on is refused in one line."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lgm_cli.command import choices, rules
from lgm_cli.command.cli import main
from lgm_cli.command.folders import claimed
from lgm_cli.methods.method import Method
from lgm_cli.results import checkpoint, run_folder
from lgm_cli.run import runner

ROOT = Path(__file__).parents[2]
TINY = [
    *("data=simulated", "data.num_points=80", "data.num_dimensions=6", "data.latent_dim=2"),
    *("device=cpu", "device.threads=1", "tolerance=0"),
]
UNROLL = [
    *("method=unroll", "method.batch_size=30", "method.num_samples=2", "method.refresh_every=3"),
    *("solver.warm_start=true", "solver.max_iterations=5"),
]
METHODS = {"em": ["method=em"], "unroll": UNROLL}
STEPS = 40
CLOCK = ("fit_seconds", "peak_memory_mib")
WRITTEN = ("parameters.safetensors", "posterior.safetensors", "predictions.csv", "loadings.csv")


pytestmark = pytest.mark.usefixtures("quiet")


def rows_of(folder: Path) -> list[dict[str, str]]:
    """metrics.csv as text, to the last digit, without what depends on the clock."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: cell for name, cell in row.items() if name not in CLOCK} for row in rows]


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def require_equal(folder: Path, whole: Path) -> None:
    """Everything that a run leaves, to the last bit, but its times and memory."""
    assert rows_of(folder) == rows_of(whole)
    for name in WRITTEN:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    found, expected = summary_of(folder), summary_of(whole)
    for summary in (found, expected):
        assert summary.pop("total_seconds") >= summary["last_row"]["fit_seconds"]
        for name in CLOCK:
            del summary["last_row"][name]
    assert found == expected
    for name in ("config.yaml", "overrides.yaml"):
        assert yaml.safe_load((folder / ".hydra" / name).read_text()) == yaml.safe_load(
            (whole / ".hydra" / name).read_text()
        )
    assert not [path for path in folder.rglob("*") if ".partial" in path.name]


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that were never stopped, by method."""
    folders = {}
    for method, chosen in METHODS.items():
        folders[method] = tmp_path_factory.mktemp("whole") / "run"
        assert main([*TINY, *chosen, f"max_steps={STEPS}", f"hydra.run.dir={folders[method]}"]) == 0
    return folders


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Have the process get SIGINT in the middle of a step."""
    whole_step = Method.step

    def interrupted(method: Method) -> Any:
        if method.steps == step - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return whole_step(method)

    monkeypatch.setattr(Method, "step", interrupted)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("step", [1, 27])  # 27: between two evaluations
def test_an_interrupted_run_goes_on_bit_for_bit(
    method: str, step: int, wholes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        assert main([*TINY, *METHODS[method], f"max_steps={STEPS}", f"hydra.run.dir={tmp_path}/run"]) == 130
    assert summary_of(tmp_path / "run")["status"] == "interrupted"
    assert rows_of(tmp_path / "run")[-1]["step"] == str(step)
    assert main([f"resume={tmp_path}/run"]) == 0
    require_equal(tmp_path / "run", wholes[method])


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_met_its_limits_goes_on_with_larger_ones(
    method: str, wholes: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    arguments = ["max_steps=33", "max_seconds=1e-6"]
    assert main([*TINY, *METHODS[method], *arguments, f"hydra.run.dir={folder}"]) == 0
    assert summary_of(folder)["status"] == "max_seconds"
    assert main([f"resume={folder}", "max_seconds=none"]) == 0
    assert (summary_of(folder)["status"], summary_of(folder)["last_row"]["step"]) == ("max_steps", 33)
    assert main([f"resume={folder}", f"max_steps={STEPS}", "device.threads=1"]) == 0
    assert rows_of(folder) == rows_of(wholes[method])
    for name in WRITTEN:
        assert (folder / name).read_bytes() == (wholes[method] / name).read_bytes(), name
    recorded = yaml.safe_load((folder / ".hydra" / "config.yaml").read_text())
    assert (recorded["max_steps"], recorded["max_seconds"]) == (STEPS, None)
    given = [*TINY, *METHODS[method], "max_seconds=none", f"max_steps={STEPS}", "device.threads=1"]
    assert sorted(summary_of(folder)["overrides"]) == sorted(set(given))
    assert yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text()) == summary_of(folder)["overrides"]
    log = (folder / "run.log").read_text()
    assert log.count("going on after step") == 2 and log.index("reading data") < log.index("going on after step 33")


def test_a_last_row_that_was_not_the_last_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at an evaluation, a run that samples has two rows of that step, one of them of all data points."""
    sample(monkeypatch)
    arguments = [*TINY, "method=em"]
    assert main([*arguments, "max_steps=9", f"hydra.run.dir={tmp_path}/whole"]) == 0
    assert main([*arguments, "max_steps=5", f"hydra.run.dir={tmp_path}/run"]) == 0
    assert [row["step"] for row in rows_of(tmp_path / "run")][-2:] == ["5", "5"]
    assert main([f"resume={tmp_path}/run", "max_steps=9"]) == 0
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")


def test_a_run_that_is_killed_at_any_file_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose: Any
) -> None:
    """Before each file takes its place, checkpoints after every step among them; no step but the last is evaluated."""

    class Killed(BaseException):
        """Nothing is written after it."""

    settings = ["max_steps=3", "eval_every=2", "checkpoint_seconds=1e-9", "save_posterior=false"]
    chosen = rules.check(compose(*TINY, *UNROLL, *settings))
    replace, left = Path.replace, [10**6]

    def counted(path: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", counted)
    (tmp_path / "whole").mkdir()
    runner.run(chosen, tmp_path / "whole", [])
    files = 10**6 - left[0]
    assert files >= 10
    for number in range(2, files):  # after the first checkpoint, which is after metrics.csv and the first step
        folder = tmp_path / f"{number}"
        (folder / ".hydra").mkdir(parents=True)
        left[0] = number
        with pytest.raises(Killed):
            runner.run(chosen, folder, [])
        left[0] = 10**6
        runner.run(chosen, folder, [], resumed=True)
        assert rows_of(folder) == rows_of(tmp_path / "whole"), number
        for name in ("parameters.safetensors", "predictions.csv"):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), (name, number)


def test_a_converged_run_goes_on_with_a_smaller_tolerance_as_if_it_had_had_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    arguments = [*TINY, "method=em", "max_steps=400"]
    assert main([*arguments, "tolerance=1e-3", f"hydra.run.dir={whole}"]) == 0
    assert main([*arguments, "tolerance=1", f"hydra.run.dir={folder}"]) == 0
    assert [summary_of(each)["status"] for each in (whole, folder)] == ["converged", "converged"]
    assert summary_of(folder)["last_row"]["step"] < summary_of(whole)["last_row"]["step"]
    for more, answer in {
        "tolerance=1": "has converged (nothing is left to learn; it goes on with a smaller tolerance, e.g. toler",
        "max_steps=900": "has converged (",
        "tolerance=2": "tolerance=2 is more than the run's own tolerance=1.0 (a tolerance may only be lowered)",
    }.items():
        assert main([f"resume={folder}", more]) == 2
        assert answer in capsys.readouterr().err
    assert main([f"resume={folder}", "tolerance=1e-3"]) == 0
    assert rows_of(folder) == rows_of(whole)
    for name in WRITTEN:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert main([f"resume={folder}", "tolerance=0.999e-3"]) == 0  # which is met, too
    assert summary_of(folder)["status"] == "converged" and rows_of(folder) == rows_of(whole)


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from lgm_cli.command.cli import main

replace, checkpoints = Path.replace, []

def killed(path, target):
    checkpoints.extend([target] if Path(target).name == "state.pt" else [])
    if len(checkpoints) == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)

Path.replace = killed
main(sys.argv[1:])
"""


def test_a_run_that_was_killed_while_it_wrote_goes_on_bit_for_bit(wholes: dict[str, Path], tmp_path: Path) -> None:
    """Through the real command: SIGKILL with a checkpoint half way, a row torn; the lock is the dead process's."""
    folder = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    arguments = [*TINY, *UNROLL, f"max_steps={STEPS}", "checkpoint_seconds=1e-9", f"hydra.run.dir={folder}"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, *arguments],
        cwd=tmp_path, env=environment, capture_output=True, timeout=120,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    assert [path for path in folder.rglob("*") if ".partial" in path.name]
    assert not (folder / "summary.json").exists()
    assert torch.load(folder / "checkpoint" / "state.pt")["method"]["steps"] == 11
    with (folder / "metrics.csv").open("a") as file:
        file.write("12,0.5,-1.")
    resumed = subprocess.run(
        [sys.executable, "-m", "lgm_cli", "resume=run"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert rows_of(folder) == rows_of(wholes["unroll"])
    for name in WRITTEN:
        assert (folder / name).read_bytes() == (wholes["unroll"] / name).read_bytes(), name
    assert (folder / "plots" / "convergence.png").exists()
    assert summary_of(folder)["status"] == "max_steps"
    assert not [path for path in folder.rglob("*") if ".partial" in path.name]


def sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have evaluations use a subset of the data points, but for the last, as they do when they are expensive."""
    monkeypatch.setattr("lgm_cli.evaluation.evaluator.SUBSET_POINTS", 20)
    monkeypatch.setattr("lgm_cli.evaluation.evaluator.SUBSET_OPERATIONS", 1.0)


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("end", ["max_steps", "converged"])
def test_a_run_that_was_killed_before_its_last_files_writes_them(
    end: str, sampled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sampled:
        sample(monkeypatch)
    whole, folder = tmp_path / "whole", tmp_path / "run"
    limits = ["tolerance=0", "max_steps=20"] if end == "max_steps" else ["tolerance=1", "max_steps=100"]
    assert main([*TINY, "method=em", *limits, f"hydra.run.dir={whole}"]) == 0
    assert summary_of(whole)["status"] == end
    shutil.copytree(whole, folder)
    for name in ("summary.json", "parameters.safetensors", "loadings.csv"):
        (folder / name).unlink()
    assert main([f"resume={folder}"]) == 0
    require_equal(folder, whole)


# What is refused -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, a run of four steps on it, and a sweep."""
    base = tmp_path_factory.mktemp("stopped")
    (base / "table.csv").write_text("a,b,c\n" + "".join(f"{k % 7},{k * k % 11},{k * 3 % 5}\n" for k in range(40)))
    before = Path.cwd()
    os.chdir(base)
    try:
        run = ["data=csv", "data.path=table.csv", "method=em", "max_steps=4", "device=cpu", "device.threads=1"]
        assert main([*run, "model.latent_dim=1", "hydra.run.dir=run"]) == 0
    finally:
        os.chdir(before)
    (base / "sweep").mkdir()
    shutil.copytree(base / "run", base / "sweep" / "0-run")
    return base


Spoil = Callable[[Path], object]  # what is done to the folder of a run


def status(name: str) -> Spoil:
    return lambda run: (run / "summary.json").write_text(json.dumps({"status": name}))


def edit(name: str, old: str, new: str) -> Spoil:
    def edited(run: Path) -> None:
        text = (run / name).read_text()
        assert old in text
        (run / name).write_text(text.replace(old, new))

    return edited


def damage(change: Callable[[bytes], bytes]) -> Spoil:
    def damaged(run: Path) -> None:
        state = run / "checkpoint" / "state.pt"
        state.write_bytes(change(state.read_bytes()))

    return damaged


def flip(content: bytes) -> bytes:
    """One bit of a parameter or so."""
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def other_format(run: Path) -> None:
    torch.save(checkpoint.read_checkpoint(run / "checkpoint") | {"format": -1}, run / "checkpoint" / "state.pt")


def in_state(*path: str, value: Any) -> Spoil:
    """Another value in the checkpoint."""

    def edited(run: Path) -> None:
        state = part = checkpoint.read_checkpoint(run / "checkpoint")
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        torch.save(state, run / "checkpoint" / "state.pt")

    return edited


LOADINGS = ("update", "parameters", "loadings")
LOGS = ("run.log", "lock")

# What is asked for, what was done to the folder before, and what the answer must contain.
REFUSED: dict[str, tuple[str, Spoil | None, str]] = {
    "nowhere": ("resume=nowhere", None, "resume=nowhere does not exist (give the folder of a run)"),
    "near": ("resume=runn", None, "did you mean resume=run?"),
    "file": ("resume=table.csv", None, "resume=table.csv is a file"),
    "nothing": ("resume=", None, "resume= names no folder"),
    "sweep": ("resume=sweep", None, "it holds runs: 0-run"),
    "twice": ("resume=run resume=sweep/0-run", None, "given twice"),
    "keys": ("resume=run seed=3 model=ppca max_steps=9", None, "resume= cannot be joined by seed=3, model=ppca (a run"),
    "option": ("resume=run --multirun", None, "resume= cannot be joined by --multirun"),
    "no integer": ("resume=run max_steps=2.5", None, "max_steps=2.5 is not an integer >= 1, or auto"),
    "lower": ("resume=run max_steps=3", None, "max_steps=3 is less than the run's own max_steps=4"),
    "finished": ("resume=run", None, "has taken its 4 steps (raise the limit, e.g. max_steps=8)"),
    "shorter": ("resume=run max_seconds=5", None, "max_seconds=5 is less than the run's own max_seconds=none"),
    "converged": ("resume=run max_steps=9", status("converged"), "run has converged"),
    "diverged": ("resume=run max_steps=9", status("diverged"), "smaller method.learning_rate"),
    "no record": ("resume=run", lambda run: shutil.rmtree(run / ".hydra"), "run is not the folder of a run"),
    "torn record": ("resume=run", edit(".hydra/config.yaml", "seed:", "seed: ["), "run is not the folder of a run"),
    "no checkpoint": (
        *("resume=run max_steps=9", lambda run: (run / "checkpoint" / "state.pt").unlink()),
        "run holds no checkpoint",
    ),
    "cut": ("resume=run max_steps=9", damage(lambda content: content[:-900]), "state.pt is damaged"),
    "empty": ("resume=run max_steps=9", damage(lambda content: b""), "state.pt is damaged"),
    "flipped": ("resume=run max_steps=9", damage(flip), "state.pt is damaged"),
    "format": ("resume=run max_steps=9", other_format, "written by another version of lgm-run"),
    "configuration": (
        *("resume=run max_steps=9", edit(".hydra/config.yaml", "latent_dim: 1", "latent_dim: 2")),
        "does not fit .hydra/config.yaml: model.latent_dim (",
    ),
    "data": ("resume=run max_steps=9", edit("../table.csv", "1,1,3", "1,1,4"), "the data are not those"),
    "no data": ("resume=run max_steps=9", lambda run: (run / "../table.csv").unlink(), "table.csv does not exist"),
    "wrong value": (
        *("resume=run max_steps=9", edit(".hydra/config.yaml", "seed: 0", "seed: abc")),
        "run/.hydra/config.yaml is not as a run has written it: seed=abc is not an integer >= 0",
    ),
    "no key": (
        *("resume=run max_steps=9", edit(".hydra/config.yaml", "seed: 0", "")),
        "another version of lgm-run knew other keys: seed",
    ),
    "damaged summary": (
        *("resume=run max_steps=9", lambda run: (run / "summary.json").write_text("[1]")),
        "run/summary.json is damaged (remove it, and lgm-run resume=",
    ),
    "text for a row": ("resume=run max_steps=9", in_state("row", value="x"), "state.row is not as it was saved"),
    "not a number": (
        *("resume=run max_steps=9", in_state("method", *LOADINGS, value=torch.full((3, 1), torch.nan))),
        "run is not what this run would have saved: update.parameters.loadings",
    ),
    "shape": (
        *("resume=run max_steps=9", in_state("good", "parameters", "mean", value=torch.zeros(4))),
        "run is not what this run would have saved: good.parameters.mean",
    ),
    "negative variance": (
        *("resume=run max_steps=9", in_state("good", "parameters", "noise_variance", value=-torch.ones(3))),
        "run is not what this run would have saved: parameters",
    ),
    "history": (
        *("resume=run max_steps=9", in_state("convergence", "steps", value=[0, 2, 1, 3, 4])),
        "run is not what this run would have saved: convergence",
    ),
    "row of metrics": ("resume=run max_steps=9", edit("metrics.csv", "\n1,", "\nabc,"), "is not a run's metrics"),
    "no metrics": ("resume=run max_steps=9", lambda run: (run / "metrics.csv").unlink(), "not a run's metrics"),
}  # fmt: skip


def test_a_run_of_an_earlier_version_goes_on_with_the_keys_that_came_since() -> None:
    """Both its configuration and that in its checkpoint lack them."""
    before = {"seed": 0, "solver": {"name": "nesterov", "tolerance": 0.1}}
    after = run_folder.with_later_keys(before)
    assert after.pop("plots") == {"format": "png"}
    assert after.pop("standard_errors") is False
    assert after == {"seed": 0, "starts": 1, "solver": {"name": "nesterov", "tolerance": 0.1, "rank": "auto"}}
    assert run_folder.with_later_keys(after | {"starts": 20})["starts"] == 20
    for key, value in choices.flat(run_folder.LATER_TOP_KEYS).items():
        rules.check_value(key, "config", value, rules.Rule.parse(choices.keys("config")[key].rule))
    assert run_folder.with_later_keys(after | {"solver": after["solver"] | {"rank": 7}})["solver"]["rank"] == 7
    for (group, name), keys in run_folder.LATER_KEYS.items():
        for key, value in keys.items():
            rules.check_value(
                key, f"{group}/{name}", value, rules.Rule.parse(choices.keys(f"{group}/{name}")[key].rule)
            )


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_go_on_is_refused_in_one_line_and_left_as_it_is(
    case: str, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line, spoil, answer = REFUSED[case]
    base = tmp_path / "base"
    shutil.copytree(stopped, base)
    edit("run/.hydra/config.yaml", str(stopped), str(base))(base)
    state = checkpoint.read_checkpoint(base / "run" / "checkpoint")
    state["identity"]["config"]["data"]["path"] = str(base / "table.csv")
    checkpoint.save_checkpoint(base / "run" / "checkpoint", state)
    if spoil:
        spoil(base / "run")
    monkeypatch.chdir(base)
    before = {path: path.read_bytes() for path in base.rglob("*") if path.is_file() and path.name not in LOGS}
    assert main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("lgm-run: error: ") and error.count("\n") == 1
    assert answer in error
    assert before == {path: path.read_bytes() for path in base.rglob("*") if path.is_file() and path.name not in LOGS}


def test_a_folder_in_use_is_refused(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with claimed(stopped / "run"):
        assert main([f"resume={stopped}/run", "max_steps=9"]) == 2
    assert f"run is in use by process {os.getpid()} (" in capsys.readouterr().err


def test_a_run_goes_on_in_another_working_directory(
    stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its data.path was given relative to the first one."""
    shutil.copytree(stopped / "run", tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert main(["resume=moved", "max_steps=6"]) == 0
    assert summary_of(tmp_path / "moved")["last_row"]["step"] == 6


def test_an_interrupt_before_learning_leaves_the_record_of_the_first_part(
    stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(stopped / "run", tmp_path / "run")
    summary = (tmp_path / "run" / "summary.json").read_bytes()
    monkeypatch.setattr("lgm_cli.run.runner.load_data", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    assert main([f"resume={tmp_path}/run", "max_steps=6"]) == 130
    assert f"lgm-run resume={tmp_path}/run max_steps=6 goes on" in capsys.readouterr().err  # without, it is refused
    assert (tmp_path / "run" / "summary.json").read_bytes() == summary


def test_help_and_suggestions_know_resume(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "lgm-run resume=RUN_DIR" in capsys.readouterr().out
    assert main(["resum=run"]) == 2
    assert "did you mean resume?" in capsys.readouterr().err
