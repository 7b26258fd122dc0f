"""What compare.py's runs say: when each reaches which test log-likelihood, as a table and a picture."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.load import load
from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.observations.blocks import observe
from lgm_cli.observations.units import standardisation
from lgm_cli.plots import COLOURS, QUIET, STYLE

GAIN = 0.95  # of the best gain of gradient EM over predicting the mean
NEAR = 0.02  # nats below the best of gradient EM
GOALS = {"seconds_to_gain": f"{GAIN:.0%} of the gain", "seconds_to_near": f"within {NEAR} nats"}


@dataclass(frozen=True)
class Run:
    """One run of the command: what it is called, and how its configuration differs from the others'."""

    kind: str
    setting: str
    overrides: tuple[str, ...]

    @property
    def folder(self) -> str:
        return re.sub(r"[^\w.]+", "-", f"{self.kind} {self.setting}")


@dataclass(frozen=True)
class Curve:
    """Test log-likelihoods of a run's evaluations on the way, all of the same data points."""

    seconds: np.ndarray
    values: np.ndarray

    @classmethod
    def read(cls, folder: Path) -> Curve:
        metrics = pd.read_csv(folder / "metrics.csv")
        seconds, values = (metrics[name].to_numpy(float) for name in ("fit_seconds", "test_log_likelihood"))
        subset = metrics["log_likelihood_se"].notna().to_numpy()
        kept = np.isfinite(values)
        if subset.any():  # the last row, of all data points, cannot be compared with the others
            kept &= subset
        return cls(seconds[kept], values[kept])

    def reach(self, level: float) -> float:
        """When `level` is first reached, linearly between two evaluations; NaN if it never is."""
        there = np.flatnonzero(self.values >= level)
        if not there.size:
            return float("nan")
        around = slice(max(there[0] - 1, 0), there[0] + 1)
        return float(np.interp(level, self.values[around], self.seconds[around]))


def predict_the_mean(data: Data) -> float:
    """Test log-likelihood when N(mean, variance) of each column's visible entries predicts its hidden ones."""
    center, scale = standardisation(data)
    z = (data.test_values - center[data.test_columns]) / scale[data.test_columns]
    return float(np.mean(-0.5 * (z**2 + np.log(2 * np.pi)) - np.log(scale[data.test_columns])))


def mean_as_evaluated(model: FactorAnalysis, data: Data, seed: int) -> float:
    """The same, over the data points that evaluations on the way use: a factor analysis whose loadings are zero."""
    model = model.bind(observe(data, seed, torch.float32, torch.device("cpu")))
    zero = {name: torch.zeros_like(value) for name, value in model.start(seed).items()}
    scores = Evaluator(model, data, seed).score(zero | {"noise_variance": torch.ones(data.shape[1])})
    assert scores.test_log_likelihood is not None
    return scores.test_log_likelihood


def assess(options: dict[str, Any], seed: int, runs: list[Run], folder: Path) -> pd.DataFrame:
    """A row for predicting the mean, then one per run. options: the data group of the configuration."""
    model = FactorAnalysis(latent_dim=options["latent_dim"], offset=False, noise_floor=1e-3)
    data = load(options, seed, model.simulate)
    mean = mean_as_evaluated(model, data, seed)
    curves = {run: Curve.read(folder / run.folder) for run in runs}
    target = max(curve.values.max() for run, curve in curves.items() if run.kind == "gradient_em")
    levels = (mean + GAIN * (target - mean), target - NEAR)
    rows: list[dict[str, Any]] = [{"kind": "predicting the mean", "best": mean, "all_points": predict_the_mean(data)}]
    for run, curve in curves.items():
        summary = json.loads((folder / run.folder / "summary.json").read_text(encoding="utf-8"))
        best = curve.values.argmax()
        rows.append(
            {
                "kind": run.kind,
                "setting": run.setting,
                "status": summary["status"],
                "steps": summary["last_row"]["step"],
                "evaluations": len(curve.values),
                "best": curve.values[best],
                "best_at": curve.seconds[best],
                "still_gaining": best == len(curve.values) - 1,
                **{goal: curve.reach(level) for goal, level in zip(GOALS, levels, strict=True)},
                "all_points": summary["last_row"]["test_log_likelihood"],
                "processor": summary["host"]["processor"],
            }
        )
    table = pd.DataFrame(rows)
    table.insert(0, "share", options["factor_share"])
    return table


def markdown(table: pd.DataFrame) -> str:
    """One share's table, the runs of each kind in the order in which they reach the first goal."""
    mean, unroll = table.iloc[0], table.iloc[1]
    grid = table.set_index("kind").loc[["gradient_em"]]
    best = grid.iloc[int(grid["best"].to_numpy().argmax())]
    lines = [
        f"### Factors carry {mean['share']:g} of the variance",
        "",
        f"Test log-likelihood in nats per hidden entry: predicting the mean {mean['best']:.4f}, best of gradient EM "
        f"{best['best']:.4f} ({best['setting']}), best of unroll {unroll['best']:.4f}.",
        *(
            f"Fastest gradient EM over unroll, {name}: **{grid[goal].min() / unroll[goal]:.1f}**."
            for goal, name in GOALS.items()
        ),
    ]
    if best["still_gaining"]:
        lines.append("That run of gradient EM was still gaining when its time was up.")
    times = " | ".join(f"{name} [s]" for name in GOALS.values())
    lines += [
        "",
        f"| method | setting | steps | best test log-likelihood | at [s] | {times} | status |",
        "|---" * 8 + "|",
    ]
    runs = table.iloc[1:].sort_values("seconds_to_gain", kind="stable")
    for kind in dict.fromkeys(table["kind"].iloc[1:]):
        for _, run in runs[runs["kind"] == kind].iterrows():
            reached = ("-" if np.isnan(run[goal]) else f"{run[goal]:.1f}" for goal in GOALS)
            cells = (
                kind,
                run["setting"],
                f"{run['steps']:.0f}",
                f"{run['best']:.4f}",
                f"{run['best_at']:.1f}",
                *reached,
            )
            lines.append(f"| {' | '.join(cells)} | {run['status']} |")
    return "\n".join(lines)


def write(tables: Mapping[Path, pd.DataFrame], conditions: str, report: Path) -> None:
    """results.csv, and the tables between the marks of README.md."""
    report.mkdir(parents=True, exist_ok=True)
    together = pd.concat(tables.values())
    together.to_csv(report / "results.csv", index=False, float_format="%.6g")
    text = "\n\n".join([*map(markdown, tables.values()), f"{conditions}; {together['processor'].iloc[1]}."])
    readme = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    before, rest = readme.split("<!-- table -->")
    _, after = rest.split("<!-- /table -->")
    (report / "README.md").write_text(f"{before}<!-- table -->\n{text}\n<!-- /table -->{after}", encoding="utf-8")
    print(f"\n{text}")


def draw(tables: Mapping[Path, pd.DataFrame], runs: Mapping[Path, list[Run]], path: Path) -> None:
    """Test log-likelihood against the time spent learning, a panel for each share."""
    with matplotlib.rc_context(STYLE):
        figure = Figure((4.4 * len(tables) + 0.6, 3.6), layout="constrained")
        panels = figure.subplots(1, len(tables), squeeze=False)[0]
        for axes, (folder, table) in zip(panels, tables.items(), strict=True):
            _panel(axes, table, {run: Curve.read(folder / run.folder) for run in runs[folder]})
        panels[0].set_ylabel("test log-likelihood [nats per hidden entry]")
        figure.savefig(path, dpi=110)


def _panel(axes: Axes, table: pd.DataFrame, curves: Mapping[Run, Curve]) -> None:
    """The grid in thin lines, unroll in a thick one."""
    strokes: dict[str, dict[str, Any]] = {
        "unroll": {"color": COLOURS[1], "linewidth": 2.4, "zorder": 3},
        "gradient_em": {"color": COLOURS[0], "linewidth": 0.8},
    }
    for kind, stroke in strokes.items():
        for run, curve in curves.items():
            if run.kind == kind:
                axes.plot(
                    curve.seconds[1:], curve.values[1:], **stroke
                )  # from the first step on: the axis is logarithmic
        axes.plot([], [], label=kind, **stroke)
    mean, top = table["best"].iloc[0], table["best"].max()
    axes.axhline(mean, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
    name = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "color": QUIET, "fontsize": 8}
    axes.annotate("predicting the mean", (0.99, mean), xytext=(0, -2), ha="right", va="top", **name)
    axes.set_xscale("log")
    axes.set_ylim(mean - 0.25 * (top - mean), top + 0.08 * (top - mean))
    axes.set_title(f"factors carry {table['share'].iloc[0]:g} of the variance")
    axes.set_xlabel("time spent learning [s]")
    axes.legend(loc="upper left")
