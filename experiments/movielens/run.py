"""MovieLens ratings: factor analysis by em and by unroll beside bias-only and matrix factorisation, on the same splits.

    pip install scikit-surprise
    python experiments/movielens/run.py [--seeds 0 1 2] [--threads 1] [--folder outputs/movielens] [--report DIR]

Every seed hides its own tenth of the ratings. `lgm-run` learns from the others at its defaults; so do bias-only and
matrix factorisation of scikit-surprise, at that library's defaults and with what is best on a tenth of the learning
ratings, held out for the choice. Each run keeps its folder. The tables of README.md, the picture and results.csv are
written to --report.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.whole_process import on_threads, run_in
from lgm_cli.data.base.baselines import baseline_rmse
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.load import load
from lgm_cli.plots import COLOURS, QUIET, STYLE

HERE = Path(__file__).parent
TEST_FRACTION = 0.1
METHODS = ("em", "unroll")
RATINGS = (0.5, 5.0)
GRIDS: dict[str, tuple[str, dict[str, tuple]]] = {  # name: class of scikit-surprise, options to choose from
    "bias-only": ("BaselineOnly", {"reg_u": (2, 5, 10, 15), "reg_i": (2, 5, 10)}),
    "matrix factorisation": (
        "SVD",
        {"n_factors": (5, 20, 100), "n_epochs": (20, 40), "reg_all": (0.02, 0.05, 0.1), "lr_all": (0.005, 0.01)},
    ),
}


def learn(method: str, seed: int, threads: int, folder: Path) -> dict[str, Any]:
    """Run the command; what its files say."""
    overrides = (
        f"method={method}",
        "data=movielens",
        "device=cpu",
        f"data.test_fraction={TEST_FRACTION}",
        f"seed={seed}",
    )
    summary = run_in(folder, *overrides, f"device.threads={threads}", environment=on_threads(threads))
    predictions = pd.read_csv(folder / "predictions.csv")
    error = predictions["true"] - predictions["mean"]
    width = NormalDist().inv_cdf(0.95) * predictions["standard_deviation"]
    return {
        "method": method,
        "seed": seed,
        "rmse": float(np.sqrt(np.mean(error**2))),
        "test log-likelihood": summary["last_row"]["test_log_likelihood"],
        "coverage of 90% intervals": float(np.mean(np.abs(error) < width)),
        "seconds of learning": summary["last_row"]["fit_seconds"],
        "steps": summary["last_row"]["step"],
        "status": summary["status"],
    }


def baselines(data: Data, seed: int) -> Iterator[dict[str, Any]]:
    """Bias-only and matrix factorisation, as they come and as chosen on ratings held out of the learning ones."""
    yield {"method": "mean of each user", "seed": seed, "rmse": baseline_rmse(data)}
    surprise = importlib.import_module("surprise")
    known = pd.DataFrame({"user": data.train_columns, "film": data.train_rows, "rating": data.train_values})
    hidden = pd.DataFrame({"user": data.test_columns, "film": data.test_rows, "rating": data.test_values})
    held_out = np.random.default_rng([seed, 1]).random(len(known)) < TEST_FRACTION
    parts = (known.drop(np.flatnonzero(held_out)), known.take(np.flatnonzero(held_out)))

    def fitted_rmse(make: Callable[..., Any], options: Mapping[str, Any], fit: pd.DataFrame, score: pd.DataFrame):
        if make is surprise.BaselineOnly:
            algorithm = make({"method": "als", **options}, verbose=False)
        else:
            algorithm = make(**options, random_state=seed)
        reader = surprise.Reader(rating_scale=RATINGS)
        algorithm.fit(surprise.Dataset.load_from_df(fit, reader).build_full_trainset())
        predicted = [algorithm.predict(user, film).est for user, film in zip(score["user"], score["film"], strict=True)]
        return float(np.sqrt(np.mean((score["rating"] - predicted) ** 2)))

    for name, (class_name, grid) in GRIDS.items():
        make = getattr(surprise, class_name)
        candidates = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        tried = [fitted_rmse(make, options, *parts) for options in candidates]
        best = candidates[int(np.argmin(tried))]
        for label, options in (("defaults", {}), ("chosen", best)):
            begun = time.perf_counter()
            rmse = fitted_rmse(make, options, known, hidden)
            yield {
                "method": f"{name}, {label}",
                "seed": seed,
                "rmse": rmse,
                "seconds of learning": time.perf_counter() - begun,
                "options": ", ".join(f"{key}={value}" for key, value in options.items()),
            }


def rmse_table(results: pd.DataFrame) -> str:
    """Every method's rmse by seed, best mean first."""
    by_seed = results.pivot(index="method", columns="seed", values="rmse").sort_index(axis="columns")
    mean = by_seed.mean(axis="columns").sort_values()
    lines = [
        f"| test rmse | {' | '.join(f'seed {seed}' for seed in by_seed)} | mean |",
        "|---" * (len(by_seed.T) + 2) + "|",
    ]
    for method, average in mean.items():
        cells = " | ".join(f"{value:.4f}" for value in by_seed.loc[method])
        lines.append(f"| {method} | {cells} | **{average:.4f}** |")
    return "\n".join(lines)


def run_table(results: pd.DataFrame) -> str:
    """What the runs of `lgm-run` reached, by seed and on average."""
    formats = {
        "test log-likelihood": ".4f",
        "coverage of 90% intervals": ".1%",
        "seconds of learning": ".1f",
        "steps": ".0f",
    }
    lines = [f"| method | seed | {' | '.join(formats)} | status |", "|---" * (len(formats) + 3) + "|"]
    for method in METHODS:
        runs = results[results["method"] == method]
        for _, run in runs.iterrows():
            cells = " | ".join(f"{run[column]:{form}}" for column, form in formats.items())
            lines.append(f"| {method} | {run['seed']} | {cells} | {run['status']} |")
        cells = " | ".join(f"**{runs[column].mean():{form}}**" for column, form in formats.items())
        lines.append(f"| {method} | **mean** | {cells} | |")
    return "\n".join(lines)


def choice_list(results: pd.DataFrame) -> str:
    """Which options were chosen for the baselines."""
    chosen = results[results["method"].str.endswith(", chosen")]
    lines = (f"- {run['method']}, seed {run['seed']}: {run['options']}" for _, run in chosen.iterrows())
    return "\n".join(lines)


def draw(results: pd.DataFrame, folder: Path, path: Path) -> None:
    """Test rmse against the time spent learning, the baselines as levels."""
    with matplotlib.rc_context(STYLE):
        figure = Figure((7, 3.6), layout="constrained")
        axes = figure.subplots()
        for colour, method in zip(COLOURS, METHODS, strict=False):
            for seed in results["seed"].unique():
                metrics = pd.read_csv(folder / f"{method}-{seed}" / "metrics.csv").iloc[1:]
                label = method if seed == results["seed"].iloc[0] else None
                axes.plot(metrics["fit_seconds"], metrics["test_rmse"], color=colour, linewidth=1.2, label=label)
        for name in GRIDS:
            level = results.loc[results["method"] == f"{name}, chosen", "rmse"].mean()
            axes.axhline(level, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                f"{name}, mean of the seeds",
                (0.995, level),
                xycoords=("axes fraction", "data"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="right",
                va="bottom",
                color=QUIET,
            )
        axes.set_xscale("log")
        axes.set_xlabel("time spent learning [s]")
        axes.set_ylabel("test rmse [stars]")
        axes.set_title(
            f"MovieLens, a tenth of the ratings hidden, seeds {', '.join(map(str, results['seed'].unique()))}"
        )
        axes.legend(loc="upper right")
        figure.savefig(path)


def replace_between(text: str, name: str, content: str) -> str:
    """`content` in place of what stood between <!-- name --> and <!-- /name -->."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    return re.sub(pattern, lambda found: f"{found[1]}{content}\n{found[2]}", text, flags=re.DOTALL)


def write_report(results: pd.DataFrame, folder: Path, report: Path) -> None:
    """README.md's tables, results.csv and the picture."""
    results.to_csv(report / "results.csv", index=False, float_format="%.6g")
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    for name, content in (("rmse", rmse_table), ("runs", run_table), ("choices", choice_list)):
        readme = replace_between(readme, name, content(results))
    (report / "README.md").write_text(readme, encoding="utf-8")
    draw(results, folder, report / "rmse.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of splits and runs (0 1 2)")
    parser.add_argument("--threads", type=int, default=1, help="processor threads of each run (1)")
    parser.add_argument(
        "--folder", type=Path, default=Path("outputs/movielens"), help="of the runs (outputs/movielens)"
    )
    parser.add_argument("--report", type=Path, default=HERE, help="where README.md, results.csv and the picture go")
    arguments = parser.parse_args()
    if importlib.util.find_spec("surprise") is None:
        parser.error("the baselines need scikit-surprise, which is not installed (pip install scikit-surprise)")
    folder = (arguments.folder / time.strftime("%Y-%m-%d_%H-%M-%S")).resolve()
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        rows += [learn(method, seed, arguments.threads, folder / f"{method}-{seed}") for method in METHODS]
        options = {"name": "movielens", "points": "items", "test_fraction": TEST_FRACTION}
        rows += baselines(load(options, seed, lambda _: {}), seed)
    results = pd.DataFrame(rows)
    arguments.report.mkdir(parents=True, exist_ok=True)
    write_report(results, folder, arguments.report)
    print(rmse_table(results), run_table(results), sep="\n\n")


if __name__ == "__main__":
    main()
