"""Which variant of EM is worth choosing? Every method, eight problems, some seeds: the likelihood, passes and seconds.

    python experiments/em_variants/run.py [--only TEXT] [--seeds 3] [--seconds 20] [--processes 2] [--table]

Each run is `lgm-run` at its defaults, on one thread, for at most 20 seconds of learning by the processor's clock.
results.csv has a row for each run, curves.csv the way of the median run of each pair, starts.csv what annealed_em and
several starts of em reach at equal cost; README.md and variants.png are made from them (alone with --table).
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments.em_variants import report, starts
from experiments.in_process import counted_run, write_page

HERE = Path(__file__).parent
PROBLEMS = {
    "factor_analysis, bfi": "model=factor_analysis data=bfi model.latent_dim=5 model.offset=false",
    "factor_analysis, movielens": "model=factor_analysis",
    "ppca, gene_expression": "model=ppca",
    "state_space, chicago": "model=state_space data.last=150 data.horizon=0 data.forecast=0 model.latent_dim=2",
    "gaussian_mixture, penguins": "model=gaussian_mixture",
    "hidden_markov, geyser": "model=hidden_markov data.horizon=0",
    "bernoulli_mixture, lsat6": "model=bernoulli_mixture",
    "poisson_mixture, visits": "model=poisson_mixture",
}
METHODS = {
    "em": "method=em",
    "em plain": "method=em method.acceleration=none",
    **{
        name: f"method={name}"
        for name in ("ecm", "ecme", "generalised_em", "incremental_em", "online_em", "monte_carlo_em",
                     "stochastic_em", "annealed_em", "gradient_em", "unroll")
    },
}  # fmt: skip
Run = tuple[str, str, int, tuple[str, ...]]  # problem, method, seed, further overrides


def study(run: Run) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a run ended with, and its evaluations: step, passes, seconds, log_likelihood."""
    from lgm_cli.errors import RunFailed, UserError

    problem, method, seed, further = run
    row: dict[str, Any] = {"problem": problem, "method": method, "seed": seed}
    common = [*PROBLEMS[problem].split(), "data.test_fraction=0", *METHODS[method].split(), f"seed={seed}", *further]
    try:
        summary, found = counted_run(common)
    except UserError as error:
        status = "failed" if isinstance(error, RunFailed) else "refused"
        return row | {"status": status, "reason": error.what}, []
    curve = [
        {
            "step": each["step"],
            "passes": each["passes"],
            "seconds": each["fit_seconds"],
            "log_likelihood": each["train_log_likelihood"],
        }
        for each in found
    ]
    return row | {"status": summary["status"], "reason": ""} | {"steps": curve[-1]["step"]} | _last(curve), curve


def _last(curve: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: curve[-1][name] for name in ("passes", "seconds", "log_likelihood")}


def warm_up() -> None:
    """The first run of a process bears what a first use costs: here, one that does not count."""
    logging.disable(logging.WARNING)
    counted_run(["model=bernoulli_mixture", "method=em", "max_steps=2"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of a problem and method, e.g. 'bfi em'")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20, help="of learning, at most (20)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="make the picture and the tables again of the files")
    given = parser.parse_args()
    if not given.table:
        begun, further = time.monotonic(), (f"max_seconds={given.seconds:g}",)
        pairs = [(p, m) for p in PROBLEMS for m in METHODS if given.only in f"{p} {m}"]
        runs: list[Run] = [(*pair, seed, further) for seed in range(given.seeds) for pair in pairs]
        rows, curves = [], {}
        with multiprocessing.get_context("spawn").Pool(given.processes, warm_up) as pool:
            for row, curve in pool.imap_unordered(study, runs):
                rows.append(row)
                curves[row["problem"], row["method"], row["seed"]] = curve
                shown = (f"{value:.6g}" if isinstance(value, float) else str(value) for value in row.values())
                print(*shown, sep=", ", flush=True)
            rows.sort(key=lambda row: (*map(list.index, (list(PROBLEMS), list(METHODS)), _names(row)), row["seed"]))
            results = report.judged(rows, curves)
            compared = pd.DataFrame() if given.only else starts.compare(pool)
        print(f"{(time.monotonic() - begun) / 60:.0f} minutes")
        if given.only:
            print(results.to_string())
            return
        results.to_csv(HERE / "results.csv", index=False, float_format="%.7g", lineterminator="\n")
        ways = report.median_ways(results, curves)
        ways.to_csv(HERE / "curves.csv", index=False, float_format="%.7g", lineterminator="\n")
        compared.to_csv(HERE / "starts.csv", index=False, float_format="%.7g", lineterminator="\n")
    results, ways, compared = (pd.read_csv(HERE / f"{name}.csv") for name in ("results", "curves", "starts"))
    report.draw(ways, list(PROBLEMS), list(METHODS), HERE / "variants.png")
    text = report.table(results, list(PROBLEMS), list(METHODS)) + "\n\n" + starts.table(compared)
    write_page(HERE / "README.md", text)
    print(text)


def _names(row: dict[str, Any]) -> tuple[str, str]:
    return row["problem"], row["method"]


if __name__ == "__main__":
    main()
