"""The comparison of variants of EM counts, judges and draws as it says."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from experiments.em_variants import report, starts
from experiments.em_variants.run import METHODS, PROBLEMS, study
from experiments.in_process import write_page
from lgm_cli.command import choices

LSAT = "bernoulli_mixture, lsat6"
FEW = ("max_steps=4", "tolerance=0")


def test_every_method_of_the_program_takes_part() -> None:
    named = {name.removeprefix("method=") for options in METHODS.values() for name in options.split()[:1]}
    assert named == {path.stem for path in (choices.conf_folder() / "method").glob("*.yaml")} - {"auto"}


@pytest.mark.parametrize(
    "method, passes",
    [
        ("em plain", [0, 1, 2, 3, 4]),  # posteriors of evaluations, which there are after each step, do not count
        ("online_em", [0, 0.05, 0.1, 0.15, 0.2]),
        ("incremental_em", [0, 1, 1.1, 1.2, 1.3]),  # the first step takes all blocks
        ("monte_carlo_em", [0, 1, 2, 3, 4]),  # several draws from one posterior
    ],
)
def test_passes_are_the_posteriors_that_steps_compute(method: str, passes: list[float]) -> None:
    row, curve = study((LSAT, method, 0, FEW))
    assert [each["passes"] for each in curve] == pytest.approx(passes, abs=1e-12)
    assert (row["status"], row["steps"]) == ("max_steps", 4)


def test_passes_of_a_solver_and_of_a_climbed_likelihood() -> None:
    solved = study(("state_space, chicago", "unroll", 0, FEW))[1]
    assert [each["passes"] for each in solved] == [0, 1, 2, 3, 4]
    climbed = study((LSAT, "ecme", 0, FEW))[1]
    assert climbed[-1]["passes"] >= 8  # an E-step and a likelihood at least, each step


def test_a_pair_without_meaning_is_refused_with_the_reason() -> None:
    row, curve = study((LSAT, "unroll", 0, FEW))
    assert (row["status"], curve) == ("refused", [])
    assert "no linear system" in row["reason"]


def _ended(method: str, seed: int, *values: float) -> tuple[dict, list[dict]]:
    curve = [
        {"step": i, "passes": 2.0 * i, "seconds": 0.1 * i, "log_likelihood": value} for i, value in enumerate(values)
    ]
    row = {"problem": LSAT, "method": method, "seed": seed, "status": "converged", "reason": "", "steps": len(values)}
    return row | {name: curve[-1][name] for name in ("passes", "seconds", "log_likelihood")}, curve


def test_runs_are_judged_by_the_best_of_their_problem_and_drawn(tmp_path: Path) -> None:
    runs = [
        _ended("em", 0, -2.0, -1.5, -1.0),
        _ended("em", 1, -2.0, -1.0005, -1.0004),
        _ended("em", 2, -2.0, -1.9, -1.8),
        _ended("ecm", 0, -2.0, -1.9, -1.1),
    ]
    refused = {"problem": LSAT, "method": "unroll", "seed": 0, "status": "refused", "reason": "it is none"}
    curves = {(row["problem"], row["method"], row["seed"]): curve for row, curve in runs}
    results = report.judged([row for row, _ in runs] + [refused], curves | {(LSAT, "unroll", 0): []})
    assert results["gap"].tolist() == pytest.approx([0, 0.0004, 0.8, 0.1, math.nan], nan_ok=True)
    assert results["seconds_to_near"].tolist() == pytest.approx([0.2, 0.1, *[math.nan] * 3], nan_ok=True)
    lines = report.table(results, [LSAT], ["em", "ecm", "unroll"]).splitlines()
    assert lines[2:6] == [
        "| em | 0.2 (4) |",
        "| ecm | not: 1.0e-01 |",
        "| unroll | refused |",
        "| best log-likelihood | -1.00000 |",
    ]
    assert lines[-1] == f"- unroll on {LSAT}: it is none"
    ways = report.median_ways(results, curves)
    assert ways[ways["method"] == "em"]["gap"].tolist() == pytest.approx([1.0, 0.5, 0.0])  # the second best of three
    report.draw(ways, [LSAT], ["em", "ecm", "unroll"], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_starts_of_em_cost_no_more_than_the_annealed_run() -> None:
    rows = starts.pair(("bernoulli_mixture, lsat6, K=3", 0, ("max_steps=25",)))
    assert [row["kind"] for row in rows] == ["one start of em", "best of R starts of em", "annealed_em"]
    assert rows[1]["runs"] == 1 or rows[1]["seconds"] <= rows[2]["seconds"]
    assert rows[1]["log_likelihood"] >= rows[0]["log_likelihood"]
    text = starts.table(pd.DataFrame(rows))
    assert "| bernoulli_mixture, lsat6, K=3 | annealed_em | 1 | 1 |" in text


def test_a_table_is_put_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- table -->\nold\n<!-- /table -->\nafter\n")
    write_page(page, "new")
    assert page.read_text() == "before\n<!-- table -->\nnew\n<!-- /table -->\nafter\n"


def test_the_recorded_runs_are_all_there() -> None:
    results = pd.read_csv(Path(report.__file__).parent / "results.csv")
    counts = results.groupby(["problem", "method"])["seed"].nunique()
    assert set(counts.index) == {(problem, method) for problem in PROBLEMS for method in METHODS}
    assert not results["gap"].lt(0).any()
    assert counts.min() >= 3
