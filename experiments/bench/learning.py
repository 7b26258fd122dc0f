"""Whole runs by unrolling beside EM: seconds of learning, where they end, and whether what was aimed at is met.

    python experiments/bench/learning.py [--seconds 30]

One thread; each run is a process of `lgm-run`, both methods in turn, stopped after so many
seconds of learning. The seconds are those of the learning clock, which other work on the machine lengthens: compare
rows of one table. What limits the rows that are not met stands beside them.
"""

from __future__ import annotations

import argparse

from experiments.whole_process import summary_of

# Data set: overrides, the seconds that were aimed at by unroll and by em (None: no aim), and what limits the first.
RUNS: dict[str, tuple[str, float, float | None, str]] = {
    "movielens": ("model=factor_analysis", 3.0, 0.6, ""),
    "chicago": (
        "model=state_space",
        2.0,
        None,
        "half of it evaluations, floors that are tried and the look around, each by exact posteriors in time",
    ),
    "meats": (
        "model=linear_regression data=meats",
        2.0,
        None,
        "steps of EM without acceleration: 723, 407 and 1,420 for seeds 0, 1 and 2, which stays long on a plateau",
    ),
    "sunspots": (
        "model=autoregressive",
        3.0,
        None,
        "292 gradient steps of 88 solver iterations each, on so few numbers that calls cost more than arithmetic",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    print(f"{'data':10} {'method':7} {'steps':>6} {'seconds':>8} {'aim':>5}  {'train':>9} {'below em':>9}  status")
    for name, (overrides, by_unroll, by_em, limit) in RUNS.items():
        best = None
        for method, aim in (("em", by_em), ("unroll", by_unroll)):
            given = (*overrides.split(), f"method={method}", "device=cpu", f"max_seconds={options.seconds}")
            summary = summary_of(*given, OMP_NUM_THREADS="1")
            row = summary["last_row"]
            best = row["train_log_likelihood"] if best is None else best
            in_time = summary["status"] == "converged" and row["fit_seconds"] <= (aim or 0.0)
            met = "" if aim is None else "met" if in_time else f"not met: {limit}"
            print(
                f"{name:10} {method:7} {row['step']:6} {row['fit_seconds']:8.2f} {aim or '':>5}  "
                f"{row['train_log_likelihood']:9.5f} {best - row['train_log_likelihood']:9.1e}  "
                f"{summary['status']} {met}",
                flush=True,
            )


if __name__ == "__main__":
    main()
