"""Is `converged` true? Every model, method and several seeds on small problems, then ten times as many steps.

    python experiments/convergence/run.py [--only TEXT] [--seeds 3] [--processes 2] [--table]

Each run is `lgm-run` at its defaults, for at most a minute of learning by the processor's clock; the same run then goes
on by `resume=` with a tolerance that stops nothing, until it has taken eleven times the steps, or for a minute more.
results.csv has a row per run, README.md the table that is made from it.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import logging
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments.in_process import processor_clock, write_page

HERE = Path(__file__).parent
METHODS = ("em", "gradient_em", "unroll")  # on every problem for which they have a meaning
VARIANTS = ("ecm", "ecme", "generalised_em", "incremental_em", "online_em", "monte_carlo_em", "stochastic_em",
            "annealed_em")  # fmt: skip
MOST_SECONDS = 60  # of learning, and again of going on
ALLOWED = 1e-3  # nats per entry: what more steps, or another seed, may bring
PROBLEMS = {
    "factor_analysis, bfi": "model=factor_analysis data=bfi",
    "factor_analysis, 200 x 10": "model=factor_analysis data=simulated data.num_points=200 data.num_dimensions=10 "
    "data.latent_dim=2",
    "ppca, gene_expression": "model=ppca",
    "ppca, 200 x 12": "model=ppca data=simulated data.num_points=200 data.num_dimensions=12 data.latent_dim=3 "
    "model.latent_dim=3",
    "linear_regression, concrete": "model=linear_regression",
    "linear_regression, 200 x 30": "model=linear_regression data=simulated data.num_points=200 data.num_dimensions=30",
    "sparse_bayes, cosine 512": "model=sparse_bayes data.unknowns=512 data.measurements=128 data.nonzeros=24",
    "sparse_bayes, 4 signals": "model=sparse_bayes data.unknowns=256 data.measurements=96 data.nonzeros=16 "
    "data.tasks=4",
    "state_space, 150 x 6": "model=state_space data=simulated data.num_points=150 data.num_dimensions=6 "
    "data.latent_dim=2 model.latent_dim=2",
    "state_space, chicago": "model=state_space data.last=150 data.horizon=0 model.latent_dim=2",
    "autoregressive, sunspots": "model=autoregressive data.horizon=0 model.order=2",
    "autoregressive, 60 steps": "model=autoregressive data=simulated data.num_points=60 data.seed=1",
    "autoregressive, 200 steps": "model=autoregressive data=simulated data.num_points=200 model.order=2",
    "gaussian_mixture, penguins": "model=gaussian_mixture",
    "gaussian_mixture, 200 x 4": "model=gaussian_mixture data=simulated data.num_points=200 data.num_dimensions=4",
    "hidden_markov, geyser": "model=hidden_markov data.horizon=0",
    "hidden_markov, discoveries": "model=hidden_markov data=discoveries model.emission=poisson model.num_components=2",
    "bernoulli_mixture, lsat6": "model=bernoulli_mixture",
    "multinoulli_mixture, biopsy": "model=multinoulli_mixture",
    "poisson_mixture, visits": "model=poisson_mixture",
}
ALL_METHODS = ("factor_analysis, 200 x 10", "ppca, 200 x 12", "state_space, 150 x 6", "gaussian_mixture, penguins",
               "hidden_markov, geyser", "bernoulli_mixture, lsat6", "poisson_mixture, visits")  # fmt: skip
COMPONENTS = ("_mixture, ", "hidden_markov, ")  # of problems whose likelihood has local maxima
PARTS = ("problem", "method", "seed", "status", "steps", "fit_seconds", "train_log_likelihood", "further_steps", "gain")


def runs(only: str, seeds: int) -> Iterator[tuple[str, str, int]]:
    for seed in range(seeds):
        for problem in PROBLEMS:
            for method in (*METHODS, *(VARIANTS if problem in ALL_METHODS else ())):
                if only in f"{problem} {method}":
                    yield problem, method, seed


class Refused(Exception):
    """The command was refused: the method has no meaning for the model."""


def learned(folder: Path, arguments: list[str]) -> dict[str, Any]:
    """The summary of one command, on the processor's clock. Its parameters are written, and no pictures."""
    from lgm_cli.command.cli import main
    from lgm_cli.results import write

    drawing, write._draw = write._draw, lambda *_: None
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()) as said,
            processor_clock(),
        ):
            code = main(arguments)
    finally:
        write._draw = drawing
        logging.getLogger().handlers.clear()
    if code == 2:
        raise Refused(said.getvalue().strip())
    if code:
        raise RuntimeError(f"lgm-run {' '.join(arguments)} ended with {code}: {said.getvalue()}")
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def study(run: tuple[str, str, int]) -> dict[str, Any]:
    """One run, and the same run with ten times as many steps more."""
    problem, method, seed = run
    row: dict[str, Any] = {"problem": problem, "method": method, "seed": seed}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        common = [*PROBLEMS[problem].split(), "data.test_fraction=0", "save_posterior=false", "device.threads=1"]
        common += [f"method={method}", f"seed={seed}", f"max_seconds={MOST_SECONDS}", f"hydra.run.dir={folder}"]
        try:
            summary = learned(folder, common)
        except Refused as error:
            return row | {"status": "refused", "reason": str(error)}
        last = summary["last_row"]
        row |= {"status": summary["status"], "steps": last["step"]}
        row |= {name: last[name] for name in ("fit_seconds", "train_log_likelihood")}
        if summary["status"] == "converged":
            seconds = last["fit_seconds"] + MOST_SECONDS
            further = [f"resume={folder}", "tolerance=0", f"max_steps={11 * last['step']}", f"max_seconds={seconds}"]
            more = learned(folder, further)["last_row"]
            row |= {"further_steps": more["step"] - last["step"]}
            row |= {"gain": more["train_log_likelihood"] - last["train_log_likelihood"]}
        return row


def report(rows: list[dict[str, Any]]) -> str:
    """The counts of all runs, and a row for each problem and method."""
    best: dict[str, float] = {}
    for row in rows:
        best[row["problem"]] = max(best.get(row["problem"], -math.inf), row["train_log_likelihood"])
    converged = [row for row in rows if row["status"] == "converged"]
    moved = [abs(row["gain"]) for row in converged]
    seeds: dict[tuple[str, str], float] = {}
    for row in rows:
        key = row["problem"], row["method"]
        seeds[key] = max(seeds.get(key, -math.inf), row["train_log_likelihood"])
    among = [row for row in converged if seeds[row["problem"], row["method"]] - row["train_log_likelihood"] >= ALLOWED]
    below = [best[row["problem"]] - row["train_log_likelihood"] for row in converged]
    cut = [row for row in converged if row["further_steps"] < 10 * row["steps"]]
    local = [row for row in among if any(part in row["problem"] for part in COMPONENTS)]
    lines = [
        f"{len(rows)} runs: {len(converged)} ({len(converged) / len(rows):.1%}) say converged. Of these,",
        "",
        f"- ten times as many steps change the train log-likelihood by less than {ALLOWED:g} nats per entry in "
        f"{_share(moved):.1%}; the largest change is {max(moved):.1g} ({len(cut)} were ended by the minute "
        "before they had taken as many);",
        f"- {len(among)} end more than {ALLOWED:g} below the best seed of their problem and method, {len(local)} "
        "of them of mixtures and hidden Markov models, whose likelihoods have local maxima: to which one a start "
        "leads, no verdict can tell, and `starts=R` is for that;",
        f"- {1 - _share(below):.1%} end more than {ALLOWED:g} below the best run of their problem, whatever its "
        "method and seed.",
        "",
        "| problem | method | converged | steps | train log-likelihood | change by 10 x steps | below the best |",
        "|---|---|---|---|---|---|---|",
    ]
    for problem in best:
        for method in (*METHODS, *VARIANTS):
            some = [row for row in rows if (row["problem"], row["method"]) == (problem, method)]
            if not some:
                continue
            ended = [row for row in some if row["status"] == "converged"]
            steps, values = [row["steps"] for row in some], [row["train_log_likelihood"] for row in some]
            low, high = f"{min(values):.4f}", f"{max(values):.4f}"
            change = f"{max(abs(row['gain']) for row in ended):.1e}" if ended else ""
            lines.append(
                f"| {problem} | {method} | {len(ended)} of {len(some)} | {min(steps)} to {max(steps)} "
                f"| {low if low == high else f'{low} to {high}'} | {change} | {best[problem] - min(values):.1e} |"
            )
    return "\n".join(lines)


def _share(values: list[float]) -> float:
    return sum(value < ALLOWED for value in values) / len(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of a problem and method, e.g. 'bfi em'")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="make the table again of results.csv")
    given = parser.parse_args()
    if given.table:
        write_page(HERE / "README.md", report(read()))
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    begun, rows = time.monotonic(), []
    context = multiprocessing.get_context("spawn")
    with context.Pool(given.processes, maxtasksperchild=40) as pool:
        for row in pool.imap_unordered(study, runs(given.only, given.seeds)):
            rows += [row] if row["status"] != "refused" else []
            shown = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
            print(*(f"{name}={value}" for name, value in shown.items()), flush=True)
    problems = list(PROBLEMS)
    rows.sort(key=lambda row: (problems.index(row["problem"]), (*METHODS, *VARIANTS).index(row["method"]), row["seed"]))
    text = report(rows)
    print(text, f"\n{(time.monotonic() - begun) / 60:.0f} minutes", sep="\n")
    if not given.only:
        with (HERE / "results.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, PARTS, lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
        write_page(HERE / "README.md", text)


def read() -> list[dict[str, Any]]:
    """The rows of results.csv."""
    numbers = {"seed": int, "steps": int, "fit_seconds": float, "train_log_likelihood": float}
    numbers |= {"further_steps": int, "gain": float}
    with (HERE / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: numbers.get(name, str)(cell) for name, cell in row.items() if cell} for row in rows]


if __name__ == "__main__":
    main()
