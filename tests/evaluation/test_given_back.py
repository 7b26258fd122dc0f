"""Runs on logarithms and differences of a series: what is written is in the units of the user's file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from scipy.stats import lognorm, multivariate_normal

from lgm_cli.command.cli import main
from lgm_cli.data.base.load import load
from lgm_cli.data.base.transform import Transform
from lgm_cli.models.parts.autoregressive_chain import companion
from lgm_cli.numerics.durbin_levinson import autocovariances
from tests.numerics.test_cumulated import dense


def run(folder: Path, path: Path, *arguments: str, index: str = "null") -> dict:
    keys = ["data=series", f"data.path={path}", f"data.index={index}", "method=em", "device.dtype=float64"]
    assert main([*keys, "device.threads=1", f"hydra.run.dir={folder}", *arguments]) in (0, None)
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def growing(folder: Path, steps: int = 60) -> tuple[Path, np.ndarray]:
    random = np.random.default_rng(1)
    values = np.exp(0.02 * np.arange(steps) + 0.1 * random.normal(size=steps).cumsum())
    path = folder / "growing.csv"
    pd.DataFrame({"y": values}).to_csv(path, index=False)
    return path, pd.read_csv(path)["y"].to_numpy()


@pytest.mark.parametrize("difference", [0, 1, 2])
def test_everything_written_is_that_of_a_dense_computation(tmp_path: Path, difference: int) -> None:
    path, y = growing(tmp_path)
    keys = [
        "data.log=true",
        f"data.difference={difference}",
        "data.horizon=5",
        "data.forecast=4",
        "data.test_fraction=0.1",
    ]
    summary = run(tmp_path / "run", path, "model=autoregressive", "model.order=2", "max_steps=20", *keys)
    found = load_file(tmp_path / "run" / "parameters.safetensors")
    a, q, mean, noise = (found[name] for name in ("coefficients", "innovation_variance", "mean", "noise_variance"))
    predictions = pd.read_csv(tmp_path / "run" / "predictions.csv")
    forecast = pd.read_csv(tmp_path / "run" / "forecast.csv")
    x, transform = np.concatenate([np.log(y), np.full(4, np.nan)]), Transform(log=True, difference=difference)
    hidden = predictions["row"].to_numpy()
    x[hidden] = np.nan
    d = transform.differences(x[:, None])[:, 0]
    lags = np.abs(np.subtract.outer(np.arange(len(x)), np.arange(len(x))))
    covariance = autocovariances(a, float(q), len(x))[lags] + float(noise) * np.eye(len(x))
    seen = ~np.isnan(d)

    density = multivariate_normal(np.full(seen.sum(), float(mean)), covariance[np.ix_(seen, seen)]).logpdf(d[seen])
    expected = (density - x[seen].sum()) / seen.sum()  # the logarithm's derivative is 1 / y
    assert summary["last_row"]["train_log_likelihood"] == pytest.approx(expected, rel=1e-6)

    unknown = np.isnan(x)
    if difference:
        chain = companion(a, q, noise)
        middle, spread = dense(chain, np.full((len(x), 1), float(mean)), x[:, None], transform)
    else:
        gain = np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[np.ix_(seen, unknown)])
        middle = float(mean) + gain.T @ (x[seen] - float(mean))
        spread = np.diag(covariance)[unknown] - np.einsum("ij,ij->j", gain, covariance[np.ix_(seen, unknown)])
    exact = lognorm(np.sqrt(spread), scale=np.exp(middle))
    written = pd.concat([predictions, forecast])
    tolerance = {"rtol": 1e-4 if x[:difference].size and np.isnan(x[:difference]).any() else 1e-6}
    np.testing.assert_allclose(written["mean"], exact.mean(), **tolerance)
    np.testing.assert_allclose(written["standard_deviation"], exact.std(), **tolerance)
    np.testing.assert_allclose(forecast["lower_90"], exact.ppf(0.05)[-4:], **tolerance)
    np.testing.assert_allclose(forecast["upper_90"], exact.ppf(0.95)[-4:], **tolerance)
    true = predictions["true"].to_numpy()
    np.testing.assert_allclose(true, y[hidden])
    log_density = exact.logpdf(np.concatenate([true, np.ones(4)]))[: len(true)]
    assert summary["last_row"]["test_log_likelihood"] == pytest.approx(log_density[hidden < 55].mean(), rel=1e-4)
    assert summary["last_row"]["forecast_log_likelihood"] == pytest.approx(log_density[hidden >= 55].mean(), rel=1e-4)


def test_the_growth_of_carbon_dioxide_is_forecast_as_well_as_by_a_seasonal_arima(tmp_path: Path) -> None:
    from statsmodels.datasets import co2
    from statsmodels.tsa.statespace.sarimax import SARIMAX

    series = co2.load_pandas().data["co2"].resample("MS").mean().ffill()
    series.index = pd.Index(series.index.strftime("%Y-%m"))
    series.to_csv(tmp_path / "co2.csv", index_label="month")
    before, after = series.to_numpy()[:-24], series.to_numpy()[-24:]
    peer = SARIMAX(before, order=(1, 1, 1), seasonal_order=(0, 1, 1, 12)).fit(disp=0).forecast(24)
    keys = ["model=autoregressive", "model.order=13", "data.horizon=24", "data.test_fraction=0"]
    keys += ["data.difference=1", "data.season=12"]
    summary = run(tmp_path / "run", tmp_path / "co2.csv", *keys, index="month")
    assert summary["last_row"]["forecast_rmse"] <= 1.5 * np.sqrt(np.mean((peer - after) ** 2))
    predictions = pd.read_csv(tmp_path / "run" / "predictions.csv")
    own = np.sqrt(np.mean((predictions["mean"] - after) ** 2))
    assert summary["last_row"]["forecast_rmse"] == pytest.approx(own)
    assert (np.diff(predictions["standard_deviation"]) > 0).mean() > 0.7  # uncertainty accumulates


def test_states_and_several_channels_go_on_with_new_data(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(90, 2)).cumsum(0) + 20, columns=["a", "b"])
    frame.loc[[5, 40, 41], "a"] = np.nan
    frame.to_csv(tmp_path / "two.csv", index=False)
    keys = ["model=state_space", "model.latent_dim=1", "data.difference=1", "data.seasonal_difference=7", "max_steps=5"]
    run(tmp_path / "run", tmp_path / "two.csv", *keys, "data.forecast=3", "data.test_fraction=0")
    applied = tmp_path / "applied"
    again = [f"apply={tmp_path / 'run'}", f"data.path={tmp_path / 'two.csv'}", "data.forecast=3"]
    assert main([*again, f"hydra.run.dir={applied}"]) in (
        0,
        None,
    )
    for name in ("imputed.csv", "imputed_standard_deviation.csv", "forecast.csv"):
        first, second = (pd.read_csv(folder / name) for folder in (tmp_path / "run", applied))
        pd.testing.assert_frame_equal(first, second, rtol=1e-5)
    filled = pd.read_csv(applied / "imputed.csv")
    assert filled.notna().all(axis=None) and (filled["a"].diff().abs() < 5)[1:].all()


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"log": True}, "has -1 in 'y', row '3'"),
        ({"difference": 1, "seasonal_difference": 12, "season": 6}, "takes off whatever has a period of data.season=6"),
        ({"seasonal_difference": 50}, "leave nothing of 30 steps"),
    ],
)  # fmt: skip
def test_what_cannot_be_transformed_is_refused(tmp_path: Path, keys: dict, what: str) -> None:
    from lgm_cli.errors import UserError

    values = np.random.default_rng(0).uniform(1, 2, 30)
    values[3] = -1
    pd.DataFrame({"y": values}).to_csv(tmp_path / "y.csv", index=False)
    with pytest.raises(UserError, match=what):
        load({"name": "series", "path": tmp_path / "y.csv", "test_fraction": 0.0} | keys, 0, lambda _: {})


def test_a_model_that_is_not_linear_does_not_take_differences(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path, _ = growing(tmp_path)
    keys = ["data=series", f"data.path={path}", "model=hidden_markov", "data.difference=1"]
    assert main([*keys, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert "given back by linear models" in capsys.readouterr().err
