"""outputs/latest and outputs/index.csv, and the names of the folders in outputs/."""

from __future__ import annotations

import csv
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lgm_cli.command import outputs
from lgm_cli.command.cli import main
from lgm_cli.errors import coloured

RUN = ["model=ppca", "model.latent_dim=1", "data=csv", "data.path=table.csv", "method=em"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lgm_cli.results.write._draw", lambda *_: None)
    rows = "\n".join(f"{i % 7},{(i * i) % 11},{i % 3}" for i in range(60))
    Path("table.csv").write_text(f"a,b,c\n{rows}\n")
    return tmp_path / "outputs"


def rows(place: Path) -> list[dict[str, str]]:
    with (place / "index.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_latest_is_the_newest_run_and_the_index_has_every_end(here: Path) -> None:
    assert main([*RUN, "max_steps=2"]) == 0
    first = (here / "latest").resolve()
    assert first.parent == here / "runs"
    assert first.name.endswith("-ppca-csv-em")
    assert main([*RUN, "max_steps=3", "seed=1"]) == 0  # within the same second or not
    second = (here / "latest").resolve()
    assert second != first
    assert main(["resume=outputs/latest", "max_steps=4"]) == 0
    assert (here / "latest").resolve() == second
    found = rows(here)
    assert [(row["status"], row["step"], row["seed"]) for row in found] == [
        ("max_steps", "2", "0"),
        ("max_steps", "3", "1"),
        ("max_steps", "4", "1"),
    ]
    assert [here / row["folder"] for row in found] == [first, second, second]
    assert found[0]["overrides"] == " ".join([*RUN, "max_steps=2"])


def test_a_sweep_is_latest_as_a_whole_and_its_runs_are_named_by_what_varies(here: Path) -> None:
    assert main(["--multirun", *RUN, "max_steps=2", "seed=0,1", "eval_every=1,2"]) == 0
    sweep = (here / "latest").resolve()
    assert sweep.parent == here / "sweeps"
    names = ["0-eval_every_1-seed_0", "1-eval_every_2-seed_0", "2-eval_every_1-seed_1", "3-eval_every_2-seed_1"]
    assert sorted(path.name for path in sweep.iterdir() if path.is_dir()) == names
    assert [row["folder"] for row in rows(here)] == [f"sweeps/{sweep.name}/{name}" for name in names]
    assert main([f"resume=outputs/latest/{names[2]}", "max_steps=3"]) == 0
    assert (here / "latest").resolve() == sweep / names[2]


def test_a_refused_run_leaves_latest_as_it_was(here: Path) -> None:
    Path("bad.csv").write_text("a,b\n1,x\n")
    bad = [*RUN[:3], "data.path=bad.csv", "method=em"]
    assert main(bad) == 2
    assert not here.exists()
    assert main([*RUN, "max_steps=2"]) == 0
    before = (here / "latest").resolve()
    assert main(bad) == 2
    assert (here / "latest").resolve() == before
    assert len(rows(here)) == 1


def test_what_the_user_has_put_there_is_left_alone(here: Path) -> None:
    (here / "latest").mkdir(parents=True)
    (here / "index.csv").symlink_to(here.parent / "elsewhere.csv")
    assert main([*RUN, "max_steps=2"]) == 0
    assert (here / "latest").is_dir()
    assert not (here / "latest").is_symlink()
    assert not (here.parent / "elsewhere.csv").exists()


def test_a_run_elsewhere_is_not_noted(here: Path) -> None:
    assert main([*RUN, "max_steps=2", "hydra.run.dir=mine"]) == 0
    assert not here.exists()
    assert not (here.parent / "index.csv").exists()


def test_no_two_processes_get_the_same_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: outputs.new_folder(f"{tmp_path}/runs/a"), range(40)))
    assert len(set(names)) == 40
    assert {os.path.basename(name) for name in names} == {"a", *(f"a-{number}" for number in range(2, 41))}


def test_a_shell_completes_the_folders_of_runs(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RUN, "max_steps=2"]) == 0
    name = (here / "latest").resolve().name

    def offered(line: str) -> list[str]:
        capsys.readouterr()
        monkeypatch.setenv("COMP_LINE", line)
        assert main(["-sc", "query=bash"]) == 0
        return capsys.readouterr().out.split()

    for key in ("resume", "apply", "report"):
        assert offered(f"lgm-run {key}=") == [f"{key}=outputs/latest", f"{key}=outputs/runs/{name}"]
    assert offered("lgm-run seed=1 resume=out") == ["resume=outputs/"]
    assert offered("lgm-run resume=outputs/") == ["resume=outputs/latest", "resume=outputs/runs/"]
    assert offered(f"lgm-run resume={here}/runs/20") == [f"resume={here}/runs/{name}"]
    assert "method=unroll" in offered("lgm-run method=un")  # Hydra's own


def test_colours_are_for_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        def __init__(self, terminal: bool) -> None:
            self.isatty = lambda: terminal

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert coloured("a", "red", Stream(True)) == "\x1b[31ma\x1b[0m"  # pyright: ignore
    assert coloured("a", "red", Stream(False)) == "a"  # pyright: ignore
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured("a", "red", Stream(True)) == "a"  # pyright: ignore
