"""Many latent variables: how soon do gradient EM, searched over a grid, and unroll predict hidden entries well?

    python experiments/large_latent/compare.py --max-seconds 100 [--shares 0.5 0.9] [--threads 1] [--gradients 4]
        [--grid 32:0.002 128:0.004 ...]

Simulated factor analysis, N = 4000, M = 800, D = 400, half of the entries never seen, a tenth of the others hidden for
testing; --shares are the shares of the variance that the factors carry. The grid of batch sizes and learning rates of
gradient EM is that of GRID: larger batches are given larger steps, and a larger share bears them. Each run is the
command itself, for --max-seconds of learning (`fit_seconds`: evaluation is not counted), on --threads threads. A run
that is there already is not run again, so an interrupted comparison is gone on with by the same command. Then
README.md's table, results.csv and times.png are made from the metrics.csv of the runs, in --report.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from report import Run, assess, draw, write

from experiments.whole_process import on_threads, run_in

SEED = 0
GRID = {  # share of the variance: batch sizes, and for each its learning rates
    0.5: {32: (0.001, 0.002, 0.004), 128: (0.001, 0.002, 0.004), 512: (0.002, 0.004, 0.008)},
    0.9: {32: (0.002, 0.004, 0.008), 128: (0.002, 0.004, 0.008), 512: (0.004, 0.008, 0.016)},
}
DECIDED_BY_STEPS = 1e-6  # a solver.tolerance so small that solver.max_iterations decides


def plan(arguments: argparse.Namespace, share: float) -> list[Run]:
    """The runs of one share: unroll at its defaults, the grid, and the gradients if they were asked for."""
    runs = [Run("unroll", "defaults", ("method=unroll",))]
    searched = (f"{batch}:{rate}" for batch, rates in GRID.get(share, {}).items() for rate in rates)
    for point in arguments.grid or searched:
        batch, rate = point.split(":")
        chosen = (f"method.batch_size={batch}", f"method.learning_rate={rate}")
        runs.append(Run("gradient_em", f"batch {batch}, rate {rate}", ("method=gradient_em", *chosen)))
    if (steps := arguments.gradients) is not None:
        for gradient, iterations in (("network", steps), *(("output", times * steps) for times in (1, 2, 3))):
            chosen = (f"method.gradient={gradient}", f"solver.max_iterations={iterations}")
            fixed = ("method=unroll", f"solver.tolerance={DECIDED_BY_STEPS}", *chosen)
            runs.append(Run("unroll, fixed solver steps", f"{gradient}, I = {iterations}", fixed))
    return runs


def problem(arguments: argparse.Namespace, share: float) -> dict[str, Any]:
    """The data group of the configuration."""
    return {
        "name": "simulated",
        "num_points": arguments.num_points,
        "num_dimensions": arguments.num_dimensions,
        "latent_dim": arguments.latent_dim,
        "factor_share": share,
        "offset_share": 0.0,
        "hidden_share": 0.5,
        "seed": SEED,
        "test_fraction": 0.1,
    }


def execute(run: Run, share: float, arguments: argparse.Namespace, folder: Path) -> None:
    """Run the command in `folder`, unless it has been: what was cut short there starts anew."""
    summary = folder / "summary.json"
    if summary.exists():
        status = json.loads(summary.read_text(encoding="utf-8"))["status"]
        if status not in ("interrupted", "failed"):
            return
    shutil.rmtree(folder, ignore_errors=True)
    latent = (f"model.latent_dim={arguments.latent_dim}", "model.offset=false")
    data = [f"data.{key}={value}" for key, value in problem(arguments, share).items() if key != "name"]
    limits = (f"max_seconds={arguments.max_seconds:g}", f"eval_every={arguments.eval_every}", "save_posterior=false")
    where = (f"seed={SEED}", f"device.threads={arguments.threads}")
    command = ["model=factor_analysis", *latent, "data=simulated", *data, *run.overrides, *limits, *where]
    print(f"\nfactor_share={share:g}: {run.kind}, {run.setting}", flush=True)
    if run_in(folder, *command, environment=on_threads(arguments.threads))["status"] == "interrupted":
        raise SystemExit(f"the run in {folder} was interrupted")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--max-seconds", type=float, required=True, help="of learning, for each run")
    add("--shares", type=float, nargs="+", default=[0.5, 0.9], help="data.factor_share (0.5 0.9)")
    add(
        "--grid",
        nargs="+",
        metavar="BATCH:RATE",
        help="of gradient EM, instead of that of GRID (auto:auto is one, too)",
    )
    add("--gradients", type=int, metavar="I", help="also network at I and output at I, 2 I, 3 I solver steps")
    add("--threads", type=int, default=1, help="processor threads of each run (1)")
    add("--eval-every", default="auto", help="steps between evaluations; auto: every step, then every 5%% more steps")
    add("--num-points", type=int, default=4000, help="N (4000)")
    add("--num-dimensions", type=int, default=800, help="M (800)")
    add("--latent-dim", type=int, default=400, help="D (400)")
    add("--folder", type=Path, default=Path("outputs/large_latent"), help="of the runs (outputs/large_latent)")
    add("--report", type=Path, default=Path(__file__).parent, help="where README.md, results.csv and times.png go")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    size = f"{arguments.num_points}x{arguments.num_dimensions}-D{arguments.latent_dim}"
    limits = f"{arguments.max_seconds:g}s-{arguments.threads}threads-eval-{arguments.eval_every}"
    tables, plans = {}, {}
    for share in arguments.shares:
        runs = plan(arguments, share)
        folder = arguments.folder.resolve() / f"{size}-{limits}" / f"share-{share:g}"
        for run in runs:
            execute(run, share, arguments, folder / run.folder)
        tables[folder] = assess(problem(arguments, share), SEED, runs, folder)
        plans[folder] = runs
    write(
        tables, f"{arguments.max_seconds:g} s of learning for each run, threads: {arguments.threads}", arguments.report
    )
    draw(tables, plans, arguments.report / "times.png")


if __name__ == "__main__":
    main()
