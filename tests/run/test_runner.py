"""Runs that something befalls: signals, full disks, lost folders, no memory, errors of the program's own."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lgm_cli.command.cli import main
from lgm_cli.methods.method import Method
from lgm_cli.results import write

resource = pytest.importorskip("resource", reason="limits on the size of files are POSIX's")

TINY = [
    *("data=simulated", "data.num_points=80", "data.num_dimensions=6", "data.latent_dim=2", "method=em"),
    *("device=cpu", "device.threads=1", "tolerance=0", "max_steps=20"),
]
FILES = ("metrics.csv", "parameters.safetensors", "posterior.safetensors", "predictions.csv", "loadings.csv",
         "plots/convergence.png", "plots/loadings.png", "plots/predictions.png", "checkpoint/state.pt")  # fmt: skip
Action = Callable[[], object]


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the number of threads as it was."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def run(folder: Path, *arguments: str) -> int:
    """Run the command; a limit that was set on the way ends with it, or it would hold for pytest's own output."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        return main([*TINY, *arguments, f"hydra.run.dir={folder}"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def in_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Action) -> None:
    """Have something happen in the middle of a step."""
    whole_step = Method.step

    def stepped(method: Method) -> Any:
        if method.steps == step - 1:
            action()
        return whole_step(method)

    monkeypatch.setattr(Method, "step", stepped)


def before_writing(monkeypatch: pytest.MonkeyPatch, action: Action) -> None:
    """Have something happen after learning, before the first file is written."""
    original = write.write

    def written(*arguments: Any) -> Any:
        action()
        return original(*arguments)

    monkeypatch.setattr("lgm_cli.results.write.write", written)


def send(*signals: signal.Signals) -> Action:
    return lambda: [os.kill(os.getpid(), number) for number in signals]


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.startswith("lgm-run: ") and error.count("\n") == 1
    return error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_learning_ends_the_step_and_writes_everything(
    number: signal.Signals, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    in_step(monkeypatch, 7, send(number))
    assert run(folder) == 130
    assert one_line(capsys) == (
        f"lgm-run: interrupted: {folder} has what was learned; lgm-run resume={folder} goes on\n"
    )
    summary = summary_of(folder)
    assert (summary["status"], summary["error"], summary["last_row"]["step"]) == ("interrupted", None, 7)
    for name in FILES:
        assert (folder / name).stat().st_size > 0, name
    assert len({(folder / name).stat().st_mode for name in FILES}) == 1  # whoever may read one may read all
    assert signal.getsignal(number) == before


def test_a_second_signal_ends_a_run_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_step(monkeypatch, 7, send(signal.SIGINT, signal.SIGTERM))
    assert run(folder, "checkpoint_seconds=1e-9") == 130
    assert f"lgm-run resume={folder} goes on" in one_line(capsys)
    summary = summary_of(folder)
    assert (summary["status"], summary["last_row"]["step"]) == ("interrupted", 6)
    assert not (folder / "parameters.safetensors").exists()
    assert torch.load(folder / "checkpoint" / "state.pt")["method"]["steps"] == 6


def test_a_signal_while_data_are_read_ends_the_run_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lgm_cli.run.runner.load_data", lambda *_: send(signal.SIGTERM)())
    assert run(folder) == 130
    assert "goes on" not in one_line(capsys)
    assert summary_of(folder)["status"] == "interrupted"
    assert not (folder / "checkpoint" / "state.pt").exists()


def test_a_signal_while_files_are_written_waits_for_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It came after the last step, so the run has ended as it was to, and nothing is left to go on with."""
    before_writing(monkeypatch, send(signal.SIGINT))
    assert run(folder) == 0
    assert capsys.readouterr().err == ""
    assert (summary_of(folder)["status"], summary_of(folder)["last_row"]["step"]) == ("max_steps", 20)
    for name in FILES:
        assert (folder / name).stat().st_size > 0, name


def files_up_to(size: int) -> None:
    """Let no file grow beyond `size` bytes: writing fails as it does on a full disk, in the middle of a file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_disk_that_is_full_at_a_checkpoint_leaves_the_one_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        in_step(patch, 9, lambda: files_up_to(3000))
        assert run(folder, "checkpoint_seconds=1e-9") == 1
    assert f"then lgm-run resume={folder} goes on)" in one_line(capsys)
    assert torch.load(folder / "checkpoint" / "state.pt")["method"]["steps"] == 8
    summary = summary_of(folder)
    assert (summary["status"], summary["last_row"]["step"]) == ("failed", 9)
    assert "File too large" in summary["error"]["what"] and summary["error"]["mend"].startswith("make room")
    assert not [path for path in folder.rglob("*") if ".partial" in path.name]
    assert main([f"resume={folder}"]) == 0
    assert (summary_of(folder)["status"], summary_of(folder)["error"]) == ("max_steps", None)


def test_a_disk_that_is_full_at_a_row_leaves_whole_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_step(monkeypatch, 9, lambda: files_up_to((folder / "metrics.csv").stat().st_size + 40))
    assert run(folder) == 1
    one_line(capsys)
    rows = pd.read_csv(folder / "metrics.csv")
    assert rows["step"].tolist() == list(range(9))
    assert np.isfinite(rows["parameter_error"]).all()
    assert (folder / "metrics.csv").read_text().endswith("\n")


@pytest.mark.parametrize("size", [100, 700, 3000])
def test_a_disk_that_is_full_at_the_end_leaves_what_was_learned(
    size: int, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        before_writing(patch, lambda: files_up_to(size))
        assert run(folder) == 1
    assert "goes on)" in one_line(capsys)
    assert not [path for path in folder.rglob("*") if ".partial" in path.name]
    assert main([f"resume={folder}"]) == 0
    for name in FILES:
        assert (folder / name).stat().st_size > 0, name
    assert summary_of(folder)["status"] == "max_steps"


@pytest.mark.parametrize("befalls", [in_step, before_writing])
def test_a_folder_that_is_gone_is_not_made_again(
    befalls: Callable[..., None], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = () if befalls is before_writing else (9,)
    befalls(monkeypatch, *step, lambda: shutil.rmtree(folder))
    assert run(folder) == 1
    assert one_line(capsys).startswith(f"lgm-run: error: {folder} is gone (")
    assert not folder.exists()


@pytest.mark.parametrize("allocate", [lambda: torch.empty(1 << 50), lambda: np.empty(1 << 50)], ids=["torch", "numpy"])
def test_memory_that_is_used_up_is_said_with_a_remedy(
    allocate: Action, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_step(monkeypatch, 9, allocate)
    assert run(folder) == 1
    line = one_line(capsys)
    assert line.startswith("lgm-run: error: out of memory: ") and "use a smaller model.latent_dim, or less data" in line
    summary = summary_of(folder)
    assert (summary["status"], summary["last_row"]["step"]) == ("failed", 8)
    assert summary["error"]["what"].startswith("out of memory")


def test_an_error_of_the_program_is_one_line_and_its_traceback_in_the_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_step(monkeypatch, 9, lambda: {}["a defect"])
    assert run(folder) == 1
    assert one_line(capsys).startswith("lgm-run: error: KeyError: 'a defect' (")
    log = (folder / "run.log").read_text()
    assert "Traceback (most recent call last)" in log and log.rstrip().endswith("KeyError: 'a defect'")
    summary = summary_of(folder)
    assert (summary["status"], summary["last_row"]["step"]) == ("failed", 8)
    assert summary["error"]["what"] == "KeyError: 'a defect'"
    assert {"seed", "overrides", "versions", "host", "data", "warnings", "total_seconds"} <= summary.keys()
