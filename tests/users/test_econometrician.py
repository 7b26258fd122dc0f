"""An econometrician: a monthly series with gaps, an autoregression with standard errors, forecasts with intervals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file
from statsmodels.tsa.statespace.sarimax import SARIMAX

from tests.users.conftest import Command


def monthly(count: int = 240) -> pd.DataFrame:
    """An index of prices that grows and swings about its growth, with months that nobody recorded."""
    generator = np.random.default_rng(5)
    value = np.zeros(count)
    for step in range(2, count):
        value[step] = 1.2 * value[step - 1] - 0.5 * value[step - 2] + generator.normal(scale=0.8)
    months = pd.date_range("2004-01-01", periods=count, freq="MS").strftime("%Y-%m")
    frame = pd.DataFrame({"month": months, "price": np.round(50 + value, 4)})
    frame.loc[generator.choice(count - 12, 15, replace=False), "price"] = np.nan
    return frame


def test_an_autoregression_as_statsmodels_has_it(lgm_run: Command, tmp_path: Path) -> None:
    frame = monthly()
    frame.to_csv(tmp_path / "prices.csv", index=False)
    ended = lgm_run(
        *("model=autoregressive", "model.order=2", "data=series", "data.path=prices.csv", "data.index=month"),
        *("data.test_fraction=0", "data.forecast=6", "method=em", "tolerance=1e-9", "max_steps=5000"),
        *("standard_errors=true", "hydra.run.dir=run"),
    )
    assert ended.returncode == 0, ended.stderr
    found = pd.read_csv(tmp_path / "run" / "parameters.csv").set_index(["name", "row"])
    theta = load_file(tmp_path / "run" / "parameters.safetensors")

    # The likelihood that statsmodels gives to the same parameters is the run's own, and its forecasts are, too.
    peer = SARIMAX(frame["price"], order=(2, 0, 0), trend="c", measurement_error=True)
    constant = float(theta["mean"] * (1 - theta["coefficients"].sum()))
    order = [constant, *theta["coefficients"], theta["noise_variance"], theta["innovation_variance"]]
    filtered = peer.smooth([float(value) for value in order])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    np.testing.assert_allclose(summary["total_log_likelihood"], filtered.llf, rtol=1e-6)
    forecast = pd.read_csv(tmp_path / "run" / "forecast.csv")
    ahead = filtered.get_forecast(6)
    np.testing.assert_allclose(forecast["mean"], ahead.predicted_mean, rtol=1e-5)
    np.testing.assert_allclose(forecast["standard_deviation"], ahead.se_mean, rtol=1e-4)
    assert list(forecast.iloc[:, 0]) == ["2024-01", "2024-02", "2024-03", "2024-04", "2024-05", "2024-06"]

    # Standard errors and intervals, and the lines that say so.
    errors = found["standard_error"].loc["coefficients"].to_numpy()
    assert ((errors > 0.02) & (errors < 0.3)).all()
    np.testing.assert_allclose(found["upper_90"] - found["value"], 1.6448536 * found["standard_error"], rtol=1e-6)
    for value in theta["coefficients"]:
        assert f"{value:.3f}" in ended.stdout
    assert "period" in ended.stdout  # the roots, as a cycle
    assert "2024-01" in ended.stdout


def test_a_growing_series_by_its_logarithms_and_differences(lgm_run: Command, tmp_path: Path) -> None:
    """A random walk with drift of logarithms: the forecast is its lognormal continuation, by hand."""
    generator = np.random.default_rng(2)
    level = np.exp(np.cumsum(0.02 + 0.05 * generator.standard_normal(150)))
    pd.DataFrame({"month": pd.date_range("2012-01-01", periods=150, freq="MS"), "gdp": 100 * level}).to_csv(
        tmp_path / "gdp.csv", index=False
    )
    ended = lgm_run(
        *("model=autoregressive", "model.order=1", "data=series", "data.path=gdp.csv", "data.index=month"),
        *("data.log=true", "data.difference=1", "data.test_fraction=0", "data.horizon=12", "data.forecast=3"),
        *("method=em", "hydra.run.dir=run"),
    )
    assert ended.returncode == 0, ended.stderr
    hidden = pd.read_csv(tmp_path / "run" / "predictions.csv")
    np.testing.assert_allclose(hidden["true"], 100 * level[-12:], rtol=1e-9)
    error = float(np.sqrt(np.mean((hidden["mean"] - hidden["true"]) ** 2)))
    line = next(line for line in ended.stdout.splitlines() if line.startswith("forecast rmse"))
    assert abs(float(line.split()[2]) - error) < 1e-3 * error
    drift = 100 * level[-13] * (level[-13] / level[0]) ** (np.arange(1, 13) / 136)
    naive = float(np.sqrt(np.mean((drift - hidden["true"]) ** 2)))
    assert error < 1.3 * naive  # nothing is to be gained over the drift here, and little lost
    forecast = pd.read_csv(tmp_path / "run" / "forecast.csv")
    assert (forecast["lower_90"] > 0).all()
    center = np.sqrt(forecast["lower_90"] * forecast["upper_90"])  # the median of a lognormal distribution
    assert (forecast["mean"] > center).all()
