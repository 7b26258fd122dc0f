"""Is annealed_em worth its cost on mixtures? The best of several starts of em, in the same seconds, beside it."""

from __future__ import annotations

from multiprocessing.pool import Pool
from typing import Any

import pandas as pd

from experiments.in_process import counted_run

SEEDS = 20
NEAR = 1e-3  # nats per entry below the best: the same maximum
SIMULATED = "model=gaussian_mixture data=simulated data.num_dimensions=4 data.latent_dim=2 data.hidden_share=0.1"
PROBLEMS = {
    "gaussian_mixture, penguins, K=6": "model=gaussian_mixture model.num_components=6 model.covariance=tied",
    "gaussian_mixture, simulated, K=8": f"{SIMULATED} model.num_components=8",
    "gaussian_mixture, simulated, K=12, diagonal": f"{SIMULATED} model.num_components=12 model.covariance=diagonal",
    "bernoulli_mixture, lsat6, K=3": "model=bernoulli_mixture model.num_components=3",
    "poisson_mixture, visits, K=5": "model=poisson_mixture model.num_components=5",
}


def pair(given: tuple[str, int, tuple[str, ...]]) -> list[dict[str, Any]]:
    """One run of annealed_em, and as many of em, from other starts, as take its seconds and end before it (one at
    least)."""
    problem, seed, further = given
    common = [*PROBLEMS[problem].split(), "data.test_fraction=0", *further]
    rows, spent, runs, highest = [], 0.0, 0, None
    _, annealed = counted_run([*common, "method=annealed_em", f"seed={seed}"])
    cost = annealed[-1]["fit_seconds"]
    while runs == 0 or spent * (runs + 1) / runs <= cost:
        _, plain = counted_run([*common, "method=em", f"seed={1000 * (seed + 1) + runs}"])
        runs, spent = runs + 1, spent + plain[-1]["fit_seconds"]
        reached = plain[-1]["train_log_likelihood"]
        if runs == 1:
            rows.append(_row(problem, "one start of em", seed, 1, spent, reached))
        highest = reached if highest is None else max(highest, reached)
    rows.append(_row(problem, "best of R starts of em", seed, runs, spent, highest))
    return [*rows, _row(problem, "annealed_em", seed, 1, cost, annealed[-1]["train_log_likelihood"])]


def _row(problem: str, kind: str, seed: int, runs: int, seconds: float, reached: float | None) -> dict[str, Any]:
    values = {"runs": runs, "seconds": seconds, "log_likelihood": reached}
    return {"problem": problem, "kind": kind, "seed": seed} | values


def compare(pool: Pool, seeds: int = SEEDS) -> pd.DataFrame:
    """All rows, printed problem by problem."""
    runs = [(problem, seed, ()) for seed in range(seeds) for problem in PROBLEMS]
    rows = [row for rows in pool.imap_unordered(pair, runs) for row in rows]
    return pd.DataFrame(rows).sort_values(["problem", "kind", "seed"], kind="stable")


def table(rows: Any) -> str:
    """For each problem and kind: how often within NEAR of the best, and the median gap."""
    lines = [
        "| problem | of 20 seeds | runs | seconds | within 0.001 of the best | median below the best | most |",
        "|---|---|---|---|---|---|---|",
    ]
    for problem in PROBLEMS:
        some = rows[rows["problem"] == problem]
        best = some["log_likelihood"].max()
        for kind in ("one start of em", "best of R starts of em", "annealed_em"):
            these = some[some["kind"] == kind]
            gap = best - these["log_likelihood"]
            lines.append(
                f"| {problem} | {kind} | {these['runs'].median():.0f} | {these['seconds'].median():.2g} "
                f"| {int((gap < NEAR).sum())} | {gap.median():.1e} | {gap.max():.1e} |"
            )
    return "\n".join(lines)
