"""Forecasts of the rides at 20 stations from eight days, 45 days apart, beside naive ones: writes results.csv."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lgm_cli.data.base import packaged
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.intervals import INTERVAL
from lgm_cli.data.base.make_table import rectangle
from lgm_cli.data.base.naive_forecasts import naive_forecasts
from lgm_cli.data.base.split import hide
from lgm_cli.data.chicago import STATIONS
from lgm_cli.data.series import arrange
from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.method import Method
from lgm_cli.models.state_space import StateSpace
from lgm_cli.observations.blocks import observe

STEPS = 60  # of EM


def forecast(frame: pd.DataFrame, end: int, horizon: int, states: int) -> dict[str, float]:
    """The last `horizon` of the 1,000 days before row `end`."""
    rides = frame.loc[:, STATIONS]
    days = pd.Index(frame["date"].astype(str), dtype="str")[:end]
    table = rectangle("chicago", rides.to_numpy(np.float64)[:end], days, rides.columns)
    table = arrange(table, {"last": 1000, "season": 7, "horizon": horizon})
    data = Data(table, hide(table, 0.1, 0))
    model = StateSpace(states, 1e-3)
    model = model.bind(observe(data, 0, torch.float64, torch.device("cpu")))
    method = Method(model, Exact(model), ClosedForm(model, model.start(0)), 1, 0)
    for _ in range(STEPS):
        method.step()
    mean, deviation = Evaluator(model, data, 0).predict(method.parameters, data.test_rows, data.test_columns)
    error, spread = (data.test_values - mean)[data.ahead], deviation[data.ahead]
    naive = naive_forecasts(data)
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "week_before": naive["the value one season before"],
        "last_value": naive["the last value"],
        "coverage": float(np.mean(np.abs(error) <= INTERVAL * spread)),
    }


def main() -> None:
    frame = packaged.frame("modeldata", "Chicago")
    rows = []
    for horizon in (14, 28):
        for window in range(8):
            end = len(frame) - 45 * window
            last = str(frame["date"].iloc[end - 1])
            rows.append({"horizon": horizon, "last_day": last} | forecast(frame, end, horizon, states=8))
    table = pd.DataFrame(rows)
    table.to_csv(Path(__file__).with_name("results.csv"), index=False, float_format="%.4f")
    print(table.to_string(float_format="%.3f"))
    means = pd.DataFrame(table.groupby("horizon").mean(numeric_only=True))
    print(means.to_string(float_format="%.3f"))


if __name__ == "__main__":
    main()
