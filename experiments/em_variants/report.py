"""What the runs of run.py say: how far each ended below the best, when it was near, as a table and a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lgm_cli.plots import COLOURS, QUIET, STYLE

NEAR = 1e-3  # nats per entry below the best: as good as there
LEAST = 1e-6  # gaps below are drawn there
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h", "*", "p")
Table = Any  # a pandas.DataFrame or Series; their stubs would need a cast in every other line
Curve = list[dict[str, Any]]
Curves = dict[tuple[str, str, int], Curve]


def judged(rows: list[dict[str, Any]], curves: Curves) -> Table:
    """The rows with the gap to the best likelihood of their problem, and the seconds and passes to within NEAR of it,
    at the first evaluation that is (and none where no evaluation is)."""
    best: dict[str, float] = {}
    for (problem, _, _), curve in curves.items():
        best[problem] = max(best.get(problem, -math.inf), *(each["log_likelihood"] for each in curve), -math.inf)
    found = []
    for row in rows:
        curve = curves[row["problem"], row["method"], row["seed"]]
        level = best[row["problem"]] - NEAR
        there = next((each for each in curve if each["log_likelihood"] >= level), None)
        gap = {"gap": best[row["problem"]] - row["log_likelihood"]} if curve else {}
        when = {f"{name}_to_near": there[name] for name in ("seconds", "passes")} if there else {}
        found.append(row | gap | when)
    names = ["problem", "method", "seed", "status", "steps", "passes", "seconds", "log_likelihood", "gap"]
    return pd.DataFrame(found).reindex(columns=[*names, "seconds_to_near", "passes_to_near", "reason"])


def median_run(runs: Table) -> Table:
    """The run in the middle by its seconds to within NEAR; those that never are come last, by their gaps."""
    order = runs.assign(late=runs["seconds_to_near"].fillna(math.inf)).sort_values(["late", "gap"], kind="stable")
    return order.iloc[(len(order) - 1) // 2]


def median_ways(results: Table, curves: Curves) -> Table:
    """The evaluations of the median run of each pair, each with its gap."""
    parts = []
    for (problem, method), runs in results[results["gap"].notna()].groupby(["problem", "method"], sort=False):
        chosen = median_run(runs)
        way = pd.DataFrame(curves[str(problem), str(method), int(chosen["seed"])])
        level = chosen["log_likelihood"] + chosen["gap"]
        way["gap"] = level - way.pop("log_likelihood")
        parts.append(way.assign(problem=problem, method=method, seed=chosen["seed"]))
    return pd.concat(parts)[["problem", "method", "seed", "step", "passes", "seconds", "gap"]]


def cell(runs: Table) -> str:
    """Median seconds and passes to within NEAR; the median gap where the median run never is."""
    if runs.empty:
        return ""
    if (runs["status"] == "refused").all():
        return "refused"
    chosen = median_run(runs)
    verdicts = set(runs["status"]) - {"converged"}
    ended = f", {', '.join(sorted(verdicts))}" if verdicts else ""
    if math.isnan(chosen["seconds_to_near"]):
        return f"not: {runs['gap'].median():.1e}{ended}"
    return f"{_short(chosen['seconds_to_near'])} ({_short(chosen['passes_to_near'])}){ended}"


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def table(results: Table, problems: list[str], methods: list[str]) -> str:
    """A row for each method, a column for each problem, and why pairs were refused."""
    best = results.assign(best=results["log_likelihood"] + results["gap"]).groupby("problem")["best"].max()
    highest = (f"{best.get(problem, math.nan):.5f}" for problem in problems)
    lines = [f"| method | {' | '.join(problems)} |", "|---|" + "---|" * len(problems)]
    for method in methods:
        some = results[results["method"] == method]
        cells = (cell(some[some["problem"] == problem]) for problem in problems)
        lines.append(f"| {method} | {' | '.join(cells)} |")
    lines.append(f"| best log-likelihood | {' | '.join(highest)} |")
    refused = results[results["status"] == "refused"].drop_duplicates(["problem", "method"])
    reasons = (f"- {row.method} on {row.problem}: {row.reason}" for row in refused.itertuples())
    return "\n".join([*lines, "", "Refused:", "", *reasons])


def draw(ways: Table, problems: list[str], methods: list[str], path: Path) -> Figure:
    """One panel for each problem: the gap to the best likelihood against the seconds of learning, a mark at the end."""
    looks = {
        name: {
            "color": COLOURS[i % 7],
            "marker": SHAPES[i],
            "linestyle": "-" if i < 7 else (0, (4, 1.5)),
            "markersize": 14 if SHAPES[i] == "*" else 8,
        }
        for i, name in enumerate(methods)
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure((16, 9))
        grid = figure.subplots(2, math.ceil(len(problems) / 2), squeeze=False)
        for axes, problem in zip(grid.ravel(), problems, strict=False):
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.axhline(NEAR, color=QUIET, linewidth=0.9, linestyle=":")
            for name in methods:
                way = ways[(ways["problem"] == problem) & (ways["method"] == name) & (ways["step"] > 0)]
                gap = np.maximum(way["gap"].to_numpy(float), LEAST)
                axes.plot(way["seconds"], gap, linewidth=1.3, alpha=0.85, **(looks[name] | {"marker": ""}))
                axes.plot(
                    way["seconds"].iloc[-1:], gap[-1:], markeredgecolor="white", zorder=5, clip_on=False,
                    **looks[name],
                )  # fmt: skip
            axes.set_ylim(LEAST, 0.6)
            axes.set_title(problem, fontsize=11)
        for axes in grid[-1]:
            axes.set_xlabel("seconds of learning")
        for axes in grid[:, 0]:
            axes.set_ylabel("nats per entry below the best")
        handles = [Line2D([], [], label=name, **look) for name, look in looks.items()]
        figure.legend(handles=handles, loc="lower center", ncols=6, fontsize=11, handlelength=3.2)
        said = f"Median run of each method, a mark where it ended. Dotted: {NEAR:g} nats below the best, near enough. "
        said += f"At the bottom: {LEAST:g} and less."
        figure.suptitle(said, fontsize=11, x=0.045, y=0.985, ha="left", color=QUIET)
        figure.subplots_adjust(left=0.045, right=0.99, top=0.925, bottom=0.135, wspace=0.16, hspace=0.24)
        figure.savefig(path, dpi=110)
    return figure
