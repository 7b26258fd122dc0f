"""Forecasts of five series by EM, at the noise floors of two versions of the program: writes results.csv.

    python experiments/forecasts/run.py [NAME=LGM_RUN ...]

NAME=LGM_RUN: a version's name in the table and its program; by default new=, the one that is installed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from statsmodels.datasets import co2, macrodata

from experiments.whole_process import run_in

HERE = Path(__file__).parent
INTERVAL = 1.6448536  # standard deviations either side of 90%


def write_series(folder: Path) -> None:
    """Two series that statsmodels ships: cpi and realint by quarters, CO2 at Mauna Loa by months."""
    frame = pd.DataFrame(macrodata.load_pandas().data)
    labels = [
        f"{year:.0f}-{3 * quarter - 2:02.0f}-01" for year, quarter in zip(frame["year"], frame["quarter"], strict=True)
    ]
    frame[["cpi", "realint"]].set_index(pd.Index(labels, name="date")).to_csv(folder / "macro.csv")
    monthly = pd.DataFrame(co2.load_pandas().data)["co2"].resample("MS").mean()
    monthly.rename_axis("date").to_frame().to_csv(folder / "co2.csv")


def cases(folder: Path) -> dict[str, list[str]]:
    """Arguments by the name of the series, steps ahead among them."""
    macro = ["data=series", f"data.path={folder / 'macro.csv'}", "data.index=date"]
    carbon = ["data=series", f"data.path={folder / 'co2.csv'}", "data.index=date", "data.season=12", "data.horizon=12"]
    found = {
        "chicago, 8 states": ["model=state_space", "data=chicago"],
        "weather, 8 states": ["model=state_space", "data=weather"],
    }
    for horizon in (8, 12):
        for states in (1, 2):
            name = f"macro, {states} state{'s' * (states > 1)}, {horizon} quarters"
            found[name] = ["model=state_space", f"model.latent_dim={states}", *macro, f"data.horizon={horizon}"]
    found |= {f"co2, {d} state{'s' * (d > 1)}": ["model=state_space", f"model.latent_dim={d}", *carbon] for d in (1, 2)}
    return found | {"co2, order 2": ["model=autoregressive", "model.order=2", *carbon]}


def measured(program: str, arguments: list[str], folder: Path) -> dict[str, object]:
    """Train log-likelihood, and forecasts of the steps that were hidden at the end."""
    last = run_in(folder, *arguments, "method=em", "data.test_fraction=0", program=(program,), quiet=True)
    given = pd.read_csv(folder / "predictions.csv")
    error = (given["true"] - given["mean"]).abs()
    return {
        "status": last["status"],
        "steps": last["last_row"]["step"],
        "train": last["last_row"]["train_log_likelihood"],
        "forecast": last["last_row"]["forecast_log_likelihood"],
        "rmse": last["last_row"]["forecast_rmse"],
        "coverage": float(np.mean(error <= INTERVAL * given["standard_deviation"])),
    }


def main() -> None:
    versions = dict(item.split("=", 1) for item in sys.argv[1:]) or {"new": shutil.which("lgm-run") or "lgm-run"}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_series(Path(folder))
        for name, arguments in cases(Path(folder)).items():
            for version, program in versions.items():
                run = Path(folder) / f"run{len(rows)}"
                rows.append({"series": name, "version": version} | measured(program, arguments, run))
                print(*rows[-1].values(), flush=True)
    pd.DataFrame(rows).to_csv(HERE / "results.csv", index=False, float_format="%.4f")


if __name__ == "__main__":
    main()
