"""The README and docs/: what they tell people to paste composes, what they name exists, what they show is printed."""

from __future__ import annotations

import itertools
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
DOCS = tuple(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", *DOCS)
SHORT = (
    "README.md",
    *(f"docs/{name}.md" for name in ("tables", "series", "regression", "method", "output")),
)  # pages whose commands take seconds
WRITTEN_BY_A_RUN = ("summary.txt", "comparison.md", "plots/", "checkpoint/", ".hydra/")


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text(page), flags=re.MULTILINE | re.DOTALL)


def lines(start: str) -> list[str]:
    """Every line of the shell blocks of all pages that starts with a word, and every command within a line."""
    shown = (line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines())
    inline = (line for page in ("README.md", *DOCS) for line in re.findall(r"`(lgm-run [^`]*=[^`]*)`", text(page)))
    return list(dict.fromkeys(line for line in (*shown, *inline) if line.split()[0] == start and "DIR" not in line))


def parts(line: str) -> tuple[list[str], list[str]]:
    """Options and overrides of an lgm-run line."""
    arguments = shlex.split(line)[1:]
    return [a for a in arguments if a.startswith("-")], [a for a in arguments if not a.startswith("-")]


def between_commas(text: str) -> list[str]:
    """The parts between commas that are in no brackets."""
    depths = list(itertools.accumulate((char in "[{") - (char in "]}") for char in text))
    marked = "".join("\n" if char == "," and depth == 0 else char for char, depth in zip(text, depths, strict=True))
    return marked.split("\n")


def choices_of(overrides: list[str]) -> list[tuple[str, ...]]:
    """One override of each run of a sweep: the combinations of the values between commas."""
    keys = [override.partition("=")[::2] for override in overrides]
    return list(itertools.product(*([f"{key}={value}" for value in between_commas(values)] for key, values in keys)))


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
    made = {value for other in lines("lgm-run") for value in re.findall(r"hydra\.(?:run|sweep)\.dir=(\S+)", other)}
    made |= {"outputs/latest", "outputs/seeds", "outputs/seeds/3"}
    if options == ["--help"]:
        assert overrides == [] or overrides[0].partition("=")[2] in choices.choices(overrides[0].partition("=")[0])
    elif overrides[0].startswith("report="):
        assert set(overrides[0].removeprefix("report=").split(",")) <= made
    elif resume.asked(overrides):
        (folder,) = [value for key, value in (item.split("=") for item in overrides) if key == "resume"]
        assert folder in made
        assert {item.split("=")[0] for item in overrides} - {"resume"} <= run_folder.OPEN.keys()
    elif resume.asked(overrides, "apply"):
        given = dict(item.split("=", 1) for item in overrides)
        assert given["apply"] in made
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
    shown = any(f"]({picture.name})" in text(page) or f'src="{picture.name}"' in text(page) for page in pages)
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
    """What the pages say of limits and defaults, number by number."""
    page = " ".join((text("docs/method.md") + text("docs/output.md")).split())
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


def printed_as_shown(shown: str, printed: str) -> None:
    """Each part of a block, between lines of dots, stands in what was printed: words alike, numbers within 2%."""
    said = printed.split()
    for part in re.split(r"^\.\.\.$", shown, flags=re.MULTILINE):
        expected = part.split()
        starts = range(len(said) - len(expected) + 1)
        assert any(all(map(alike, expected, said[start:])) for start in starts), f"not printed: {part}"


def alike(expected: str, found: str) -> bool:
    """Whether two words are alike but for their numbers, which differ by at most 2% or six thousandths."""
    number = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")
    if expected == found:
        return True
    if number.sub("#", expected) != number.sub("#", found):
        return False
    pairs = zip(number.findall(expected), number.findall(found), strict=True)
    values = [(float(a.replace(",", "")), float(b.replace(",", ""))) for a, b in pairs]
    return all(abs(a - b) <= 0.02 * max(abs(a), abs(b)) + 0.006 for a, b in values)


def test_what_is_not_alike() -> None:
    printed_as_shown("a 1.00 b\n...\nrmse 9,062", "x a 1.01 b y rmse 9,063")
    for shown in ("a 1.05 b", "a b", "b\n...\nc", "a1.00"):
        with pytest.raises(AssertionError):
            printed_as_shown(shown, "x a 1.00 b y")


def follow(page: str, capsys: pytest.CaptureFixture[str]) -> int:
    """Run the commands of a page that name a folder, one after the other; compare what the page says that they print.

    Returns how many blocks were compared.
    """
    compared, printed = 0, ""
    for language, block in re.findall(r"^```(sh|text)\n(.*?)^```$", text(page), flags=re.MULTILINE | re.DOTALL):
        if language == "text":
            printed_as_shown(block, printed)
            compared += 1
            continue
        for line in block.splitlines():
            if line.startswith("python "):
                subprocess.run([sys.executable, *shlex.split(line)[1:]], check=True)
            elif "hydra.run.dir=" in line or "hydra.sweep.dir=" in line:
                capsys.readouterr()
                assert main(shlex.split(line)[1:]) in (0, None), line
                printed = "".join(capsys.readouterr())
            elif line.startswith("head "):
                _, number, path = shlex.split(line)
                shown = Path(path).read_text(encoding="utf-8").splitlines()[: -int(number)]
                printed += "\n" + "\n".join(shown)
    return compared


@pytest.mark.parametrize("page", SHORT)
def test_a_page_prints_what_it_shows(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lgm_cli.results.write._draw", lambda *_: None)
    assert follow(page, capsys) == len(blocks(page, "text")) > 0


@pytest.mark.slow
def test_the_page_on_images_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lgm_cli.results.write._draw", lambda *_: None)
    script, decibels = blocks("docs/images.md", "python")
    Path("kspace.py").write_text(script, encoding="utf-8")
    assert follow("docs/images.md", capsys) == 2
    exec(compile(decibels, "docs/images.md", "exec"), {})
    assert [f"{float(each):.1f}" for each in capsys.readouterr().out.split()] == ["37.5", "32.3"]


@pytest.mark.slow
def test_the_page_on_comparing_says_what_the_program_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """But for seconds, which are those of one machine."""
    monkeypatch.chdir(tmp_path)
    table, chosen = blocks("docs/comparing.md", "text")
    methods, factors = [line for line in lines("lgm-run") if "hydra.sweep.dir=" in line]
    assert main(shlex.split(methods)[1:]) in (0, None)
    printed = "".join(capsys.readouterr())
    for line in table.splitlines()[1:]:
        printed_as_shown(" ".join(line.split()[:12]), printed)
    assert main(shlex.split(factors)[1:]) in (0, None)
    printed_as_shown(chosen, "".join(capsys.readouterr()))
    (reading,) = [block for block in blocks("docs/comparing.md", "python") if "comparison.csv" in block]
    exec(compile(reading, "docs/comparing.md", "exec"), {})
    assert "gradient_em" in capsys.readouterr().out


@pytest.mark.parametrize("page", DOCS)
def test_scripts_of_a_page_can_be_read(page: str) -> None:
    for block in blocks(page, "python"):
        compile(block, page, "exec")
    for block in blocks(page, "bash"):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_the_page_on_python_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first block as it is pasted, and the block that reads the files of the run that the page makes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lgm_cli.results.write._draw", lambda *_: None)
    fitting, loading, reading = blocks("docs/python.md", "python")
    exec(compile(fitting, "docs/python.md", "exec"), {})
    printed_as_shown(blocks("docs/python.md", "text")[0], capsys.readouterr().out)
    (recipe,) = blocks("docs/python.md", "sh")[0].splitlines()
    assert main(shlex.split(recipe)[1:]) in (0, None)
    found: dict[str, Any] = {}
    exec(compile(reading, "docs/python.md", "exec"), found)
    assert found["summary"]["status"] == "converged"
    assert found["covariance"].shape == (25, 25)
    assert found["latent"]["latent_mean"].shape == (2800, 6)
    exec(compile(loading, "docs/python.md", "exec"), found)
    assert found["run"].status == "converged"


def test_the_readme_is_short() -> None:
    assert len(text("README.md").splitlines()) <= 150
