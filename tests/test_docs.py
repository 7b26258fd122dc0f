"""The README and CONTRIBUTING: what they tell people to paste composes, what they name exists."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lgm_cli.command import apply, choices, resume
from lgm_cli.command.cli import main
from lgm_cli.command.rules import check
from lgm_cli.evaluation import evaluator
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.m_steps.gradient import Gradient
from lgm_cli.models.base.tuning import ACCURATE
from lgm_cli.results import run_folder
from lgm_cli.run import auto, stopping
from lgm_cli.solvers.base import solver

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/images.md")
RECIPE = "hydra.run.dir=outputs/air"  # the recipe whose files the page goes on to read
WRITTEN_BY_A_RUN = ("summary.txt", "plots/", "checkpoint/", ".hydra/")


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text(page), flags=re.MULTILINE | re.DOTALL)


def lines(start: str) -> list[str]:
    """Every line of the shell blocks of all pages that starts with a word."""
    shown = (line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines())
    return [line for line in shown if line.split()[0] == start]


def parts(line: str) -> tuple[list[str], list[str]]:
    """Options and overrides of an lgm-run line."""
    arguments = shlex.split(line)[1:]
    return [a for a in arguments if a.startswith("-")], [a for a in arguments if not a.startswith("-")]


def choices_of(overrides: list[str]) -> list[tuple[str, ...]]:
    """One override of each run of a sweep: the combinations of the values between commas."""
    keys = [override.partition("=")[::2] for override in overrides]
    return list(
        itertools.product(*([f"{key}={value}" for value in re.split(r",(?![^\[]*\])", values)] for key, values in keys))
    )


def test_there_are_commands_to_check() -> None:
    assert len(lines("lgm-run")) > 10
    assert len(lines("make")) > 3
    assert {line.split()[0] for line in itertools.chain(*(b.splitlines() for p in PAGES for b in blocks(p, "sh")))} == {
        *("make", "lgm-run", "python", "head", ".", ".venv/bin/python")
    }


@pytest.mark.parametrize("line", lines("lgm-run"))
def test_a_command_composes_and_is_allowed(
    line: str, compose: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options, overrides = parts(line)
    if options == ["--help"]:
        assert overrides == []
    elif resume.asked(overrides):
        (folder,) = [value for key, value in (item.split("=") for item in overrides) if key == "resume"]
        assert any(f"hydra.run.dir={folder}" in other for other in lines("lgm-run"))
        assert {item.split("=")[0] for item in overrides} - {"resume"} <= run_folder.OPEN.keys()
    elif resume.asked(overrides, "apply"):
        given = dict(item.split("=", 1) for item in overrides)
        assert any(f"hydra.run.dir={given['apply']}" in other for other in lines("lgm-run"))
        assert given.keys() <= {"apply", *apply.OPEN}
    else:
        assert options in ([], ["--multirun"])
        runs = choices_of([item for item in overrides if not item.startswith("hydra")])
        assert (len(runs) > 1) == (options == ["--multirun"])
        for run in runs:
            for item in run:
                if item.startswith(("data.path=", "data.measurements=", "data.mask_file=")):
                    (tmp_path / item.partition("=")[2]).touch()
            check(compose(*run))


@pytest.mark.parametrize("line", lines("make"))
def test_a_make_target_exists(line: str) -> None:
    assert re.search(rf"^{line.split()[1]}:.*##", text("Makefile"), flags=re.MULTILINE)


@pytest.mark.parametrize("line", [line for line in lines("python") if "-c" in line])
def test_a_line_of_python_compiles(line: str) -> None:
    compile(shlex.split(line)[2], line, "exec")


@pytest.mark.parametrize("page", PAGES)
def test_links_and_files_exist(page: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", text(page))
    for target in filter(None, itertools.chain(*targets)):
        assert target.startswith("https://") or (ROOT / page).parent.joinpath(target).exists(), target
    for name in re.findall(r"`([\w./-]+(?:\.(?:py|yaml|txt|md)|/))`", text(page)):
        places = (ROOT, ROOT / "lgm_cli")
        assert name in WRITTEN_BY_A_RUN or any((place / name).exists() for place in places), name


@pytest.mark.parametrize("picture", sorted((ROOT / "docs").glob("*")), ids=lambda path: path.name)
def test_a_picture_is_small_and_shown(picture: Path) -> None:
    """In the README or, by its name alone, in a page of docs/, which the README names."""
    assert picture.stat().st_size < 200_000
    pages = [f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")]
    shown = any(f"]({picture.name})" in text(page) for page in pages)
    assert shown or f"docs/{picture.name}" in text("README.md")


@pytest.mark.parametrize("group", choices.GROUPS)
def test_the_table_of_choices_is_complete(group: str) -> None:
    row = re.search(rf"^\| `{group}` \|(.*)\|$", text("README.md"), flags=re.MULTILINE)
    assert row is not None
    named = re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", row[1]))
    assert sorted(named) == sorted(choices.choices(group))
    if (default := choices.defaults()[group]) is not None:
        assert named[0] == default


def test_the_numbers_are_those_of_the_program() -> None:
    """What the README says of limits and defaults, number by number."""
    page = " ".join(text("README.md").split())
    operations = (evaluator.SUBSET_OPERATIONS, evaluator.EXACT_OPERATIONS)
    subset, exact = (f"{number:.0e}".replace("+", "") for number in operations)
    for said in (
        f"`tolerance` ({choices.keys('config')['tolerance'].default:g} nats per entry)",
        f"after at least {stopping.MINIMUM_STEPS} steps and with at least {stopping.MINIMUM_POINTS} evaluations",
        f"more than {stopping.WORSE} nats per entry below the start",
        f"({ClosedForm.most_steps} for `em` and its variants, {auto.MAX_BATCH_STEPS} where these take minibatches, "
        f"{Gradient.most_steps} for `gradient_em` and `unroll`)",
        f"`model.noise_floor` ({choices.keys('model/factor_analysis')['noise_floor'].default})",
        f"more than {subset} operations",
        f"up to {exact} operations",
        f"at least {evaluator.SUBSET_POINTS} data points",
        f"{auto.LEARNING_RATE['adam']} · (latent dimensions)^−0.95 for Adam",
        f"between 1 and {auto.MOST_SAMPLES} per data point",
        f"`solver.tolerance`: {solver.AUTO_TOLERANCE}, and `solver.max_iterations`: {solver.AUTO_MAX_ITERATIONS},",
        f"{ACCURATE['tolerance']:g} and {ACCURATE['max_iterations']}".replace("e-0", "e-"),
    ):
        assert said in page, said


def test_the_recipe_with_gaps_leaves_what_the_page_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines about a table of one's own, and the block of Python that reads the files, as they are pasted."""
    monkeypatch.chdir(tmp_path)
    (make_table,) = [line for line in lines("python") if "air.csv" in line]
    subprocess.run([sys.executable, *shlex.split(make_table)[1:]], check=True)
    (recipe,) = [line for line in lines("lgm-run") if RECIPE in line]
    assert main([*parts(recipe)[1], "device.threads=1"]) == 0
    (reading,) = [block for block in blocks("README.md", "python") if "load_file" in block]
    found: dict[str, Any] = {}
    exec(compile(reading, "README.md", "exec"), found)
    assert found["summary"]["status"] == "converged"
    assert found["latent"]["latent_mean"].shape == (153, 1)
    assert found["covariance"].shape == (6, 6)
    assert (tmp_path / "outputs" / "air" / "imputed_standard_deviation.csv").is_file()
    assert json.loads((tmp_path / "outputs" / "air" / "summary.json").read_text())["last_row"]["step"] >= 20
