"""Is annealed_em worth its cost on mixtures? The best of several starts of em, in the same seconds, beside it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.in_process import counted_run
from lgm_cli.run import auto

SEEDS = 20
NEAR = 1e-3  # nats per entry below the best: the same maximum
SIMULATED = "model=gaussian_mixture data=simulated data.num_dimensions=4 data.latent_dim=2 data.hidden_share=0.1"
SPHERICAL = "model=gaussian_mixture model.covariance=spherical data=csv"
RING, GRID = "gaussian_mixture, ring, K=8, spherical", "gaussian_mixture, grid, K=9, spherical"
PROBLEMS = {
    RING: f"{SPHERICAL} model.num_components=8",
    GRID: f"{SPHERICAL} model.num_components=9",
    "gaussian_mixture, penguins, K=6": "model=gaussian_mixture model.num_components=6 model.covariance=tied",
    "gaussian_mixture, simulated, K=8": f"{SIMULATED} model.num_components=8",
    "gaussian_mixture, simulated, K=12, diagonal": f"{SIMULATED} model.num_components=12 model.covariance=diagonal",
    "bernoulli_mixture, lsat6, K=3": "model=bernoulli_mixture model.num_components=3",
    "poisson_mixture, visits, K=5": "model=poisson_mixture model.num_components=5",
}


def clusters(problem: str) -> np.ndarray:
    """Equal spherical clusters of about 100 rows each, (N, 2): eight on a ring, 6.4 standard deviations from one to the
    next, or nine on a grid, 4 apart."""
    random = np.random.default_rng(0)
    if problem == RING:
        number = random.integers(8, size=800)
        return _directions(number) + 0.12 * random.normal(size=(800, 2))
    number = random.integers(9, size=900)
    return np.stack([number // 3, number % 3], 1) + 0.25 * random.normal(size=(900, 2))


def _directions(number: np.ndarray) -> np.ndarray:
    angle = 2 * np.pi * number / 8
    return np.stack([np.cos(angle), np.sin(angle)], 1)


@contextmanager
def arguments(problem: str) -> Iterator[list[str]]:
    """Of `lgm-run`; data that are made for this are in a file meanwhile."""
    common = [*PROBLEMS[problem].split(), "data.test_fraction=0"]
    if problem not in (RING, GRID):
        yield common
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clusters.csv"
        pd.DataFrame(clusters(problem), columns=["x", "y"]).to_csv(path, index=False)
        yield [*common, f"data.path={path}"]


@contextmanager
def timed_split() -> Iterator[list[float]]:
    """Seconds of the processor that the search for the first temperature takes, before the clock of a run starts."""
    before, seconds = auto.first_split, []

    def timed(*given: Any) -> float:
        begun = time.process_time()
        found = before(*given)
        seconds.append(time.process_time() - begun)
        return found

    auto.first_split = timed
    try:
        yield seconds
    finally:
        auto.first_split = before


def pair(given: tuple[str, int, tuple[str, ...]]) -> list[dict[str, Any]]:
    """One run of annealed_em, and as many of em, from other starts, as take its seconds and end before it (one at
    least)."""
    problem, seed, further = given
    with arguments(problem) as common:
        return _pair(problem, seed, [*common, *further])


def _pair(problem: str, seed: int, common: list[str]) -> list[dict[str, Any]]:
    rows, spent, runs, highest = [], 0.0, 0, None
    with timed_split() as split:
        _, annealed = counted_run([*common, "method=annealed_em", f"seed={seed}"])
    cost = annealed[-1]["fit_seconds"] + sum(split)
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
        "| problem | of each seed | seeds | runs | seconds | within 0.001 of the best | median below | most below |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for problem in PROBLEMS:
        some = rows[rows["problem"] == problem]
        best = some["log_likelihood"].max()
        for kind in ("one start of em", "best of R starts of em", "annealed_em"):
            these = some[some["kind"] == kind]
            gap = best - these["log_likelihood"]
            lines.append(
                f"| {problem} | {kind} | {len(these)} | {these['runs'].median():.0f} | {these['seconds'].median():.2g} "
                f"| {int((gap < NEAR).sum())} | {gap.median():.1e} | {gap.max():.1e} |"
            )
    return "\n".join(lines)
