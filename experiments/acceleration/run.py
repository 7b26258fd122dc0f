"""Is accelerated EM as good as EM, and faster? Every model's default data set and a few more, with each acceleration.

    python experiments/acceleration/run.py [--only TEXT] [--repeats 1] [--table]

One process, one thread. Each run is `lgm-run method=em method.acceleration=..` at its defaults; what is reported is of
its files. The clock of learning is that of the processor here, which depends less on what else a machine does; runs of
a problem take turns, and the fastest of the repeats counts. results.csv has a row for each problem and acceleration,
README.md the table that is made from it.
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments.in_process import FIXED, composed, processor_clock

HERE = Path(__file__).parent
ACCELERATIONS = ("none", "squarem", "anderson")
ALLOWED = 1e-6  # nats per entry, by which a likelihood may be lower
PROBLEMS = {
    "factor_analysis, movielens": "model=factor_analysis",
    "factor_analysis, bfi": "model=factor_analysis data=bfi",
    "factor_analysis, bfi, 5 factors": "model=factor_analysis data=bfi model.latent_dim=5 model.offset=false",
    "ppca, gene_expression": "model=ppca",
    "linear_regression, concrete": "model=linear_regression",
    "linear_regression, meats": "model=linear_regression data=meats",
    "sparse_bayes, cosine": "model=sparse_bayes",
    "state_space, chicago": "model=state_space",
    "autoregressive, sunspots": "model=autoregressive",
    "hidden_markov, geyser": "model=hidden_markov",
}
FIELDS = ("problem", "acceleration", "status", "steps", "refused", "seconds", "log_likelihood", "test_log_likelihood")


def learn(problem: str, acceleration: str) -> dict[str, Any]:
    """One run, and what its files say."""
    from lgm_cli.results.checkpoint import read_checkpoint
    from lgm_cli.run.runner import run

    overrides = [*PROBLEMS[problem].split(), "method=em", f"method.acceleration={acceleration}", *FIXED]
    with tempfile.TemporaryDirectory() as scratch, processor_clock():
        folder = Path(scratch)
        summary = run(composed(overrides), folder, overrides, bar=False)
        state = read_checkpoint(folder / "checkpoint")
    last = summary["last_row"]
    refused = state["method"]["update"].get("refusals", 0)
    values = (summary["status"], last["step"], refused, last["fit_seconds"])
    scores = (last["train_log_likelihood"], last["test_log_likelihood"])
    return dict(zip(FIELDS, (problem, acceleration, *values, *scores), strict=True))


def study(problem: str, repeats: int) -> list[dict[str, Any]]:
    """The fastest of the runs of each acceleration, which otherwise are the same."""
    found: dict[str, dict[str, Any]] = {}
    for _ in range(repeats):
        for acceleration in ACCELERATIONS:
            row = learn(problem, acceleration)
            before = found.setdefault(acceleration, row)
            assert before["steps"] == row["steps"], "a run depends on more than its configuration"
            before["seconds"] = min(before["seconds"], row["seconds"])
    return list(found.values())


def report(rows: list[dict[str, Any]]) -> str:
    """A row for each problem, and the sums."""
    lines = [
        "| problem | steps | seconds of learning | train log-likelihood, beside EM's |",
        "|---|---|---|---|",
    ]
    names = [name for name in PROBLEMS if any(row["problem"] == name for row in rows)]
    total: dict[str, tuple[int, float]] = dict.fromkeys(ACCELERATIONS, (0, 0.0))
    for name in names:
        each = {row["acceleration"]: row for row in rows if row["problem"] == name}
        steps, seconds, values = [], [], []
        for acceleration, row in each.items():
            steps.append(f"{int(row['steps'])}" + f" ({int(row['refused'])})" * (acceleration != "none"))
            seconds.append(f"{float(row['seconds']):.2f}")
            plain = float(each["none"]["log_likelihood"])
            beside = float(row["log_likelihood"]) - plain
            low = "**" if beside < -ALLOWED else ""
            values.append(f"{plain:.6f}" if acceleration == "none" else f"{low}{beside:+.1e}{low}")
            before = total[acceleration]
            total[acceleration] = (before[0] + int(row["steps"]), before[1] + float(row["seconds"]))
        lines.append(f"| {name} | {' / '.join(steps)} | {' / '.join(seconds)} | {' / '.join(values)} |")
    steps = " / ".join(f"{taken}" for taken, _ in total.values())
    seconds = " / ".join(f"{taken:.2f}" for _, taken in total.values())
    lines.append(f"| all | {steps} | {seconds} | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="problems whose name has this text")
    parser.add_argument("--repeats", type=int, default=1, help="timed repetitions, the fastest counts (1)")
    parser.add_argument("--table", action="store_true", help="only print the table of results.csv")
    arguments = parser.parse_args()
    path = HERE / "results.csv"
    if not arguments.table:
        logging.disable(logging.WARNING)
        rows = []
        for problem in PROBLEMS:
            if arguments.only not in problem:
                continue
            begun = time.monotonic()
            for row in study(problem, arguments.repeats):
                rows.append(row)
                print(*row.values(), sep=", ", flush=True)
            print(f"({time.monotonic() - begun:.0f} seconds)", flush=True)
        if not arguments.only:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, FIELDS)
                writer.writeheader()
                writer.writerows(rows)
    else:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    print(report(rows))


if __name__ == "__main__":
    main()
