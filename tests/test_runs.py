"""Whole runs: their files against an independent computation, the same again for the same seed, every combination."""

from __future__ import annotations

import copy
import csv
import functools
import inspect
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.fft
import torch
import yaml
from safetensors.numpy import load_file

from lgm_cli import plots
from lgm_cli.command import choices, rules
from lgm_cli.command.cli import main
from lgm_cli.data.base.packaged import frame as rdatasets_frame
from lgm_cli.data.cosine import load as load_cosine
from lgm_cli.errors import UserError
from lgm_cli.results.metrics import COLUMNS
from lgm_cli.run import device as devices
from lgm_cli.run import runner

ROOT = Path(__file__).parents[1]
SIMULATED = [
    *("data=simulated", "data.num_points=150", "data.num_dimensions=12", "data.latent_dim=2"),
    *("device=cpu", "device.threads=1"),
]
TIMES = ("fit_seconds", "peak_memory_mib")


def blank(*arguments: Any, **_: Any) -> None:
    """A picture without anything on it."""
    for path in arguments:
        if isinstance(path, Path) and path.suffix == ".png":
            path.touch()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs in this process draw no pictures, which take longer than they do, and leave its threads as they were."""
    for name, function in inspect.getmembers(plots, inspect.isfunction):
        if function.__module__.startswith(plots.__name__):
            monkeypatch.setattr(plots, name, blank)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def last_of(folder: Path) -> dict[str, float]:
    return {name: float(value) for name, value in rows_of(folder)[-1].items() if value}


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


@functools.cache
def composed(*chosen: str) -> dict[str, Any]:
    """conf/ with these choices of its groups, as the command line composes it."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(choices.conf_folder()), version_base="1.3"):
        plain = OmegaConf.to_container(compose("config", list(chosen)), resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def run(folder: Path, *arguments: str, status: str | None = None) -> Path:
    """One run in this process, without the half second that the command line takes."""
    groups = [argument for argument in arguments if argument.partition("=")[0] in choices.GROUPS]
    chosen = copy.deepcopy(composed(*groups))
    for argument in arguments:
        if argument not in groups:
            key, _, value = argument.partition("=")
            group, _, name = key.rpartition(".")
            (chosen[group] if group else chosen)[name] = yaml.safe_load(value)
    folder.mkdir()
    summary = runner.run(rules.check(chosen), folder, list(arguments))
    assert summary["status"] in ([status] if status else ["converged", "max_steps"])
    return folder


# The files, recomputed -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 120 days and 7 instruments, in units and at levels of their own, a quarter of it missing."""
    random = np.random.default_rng(0)
    y = random.normal(size=(120, 2)) @ random.normal(size=(2, 7)) + 0.6 * random.normal(size=(120, 7))
    y = 50 * np.arange(7) + (y + random.normal(size=(120, 1))) * np.geomspace(0.01, 100, 7)
    y[random.random(y.shape) < 0.25] = np.nan
    y[5] = np.nan  # a day without any value
    frame = pd.DataFrame(y, columns=pd.Index([f"gauge {k}" for k in range(7)]))
    frame.insert(2, "day", [f"2020-{1 + day // 28:02d}-{1 + day % 28:02d}" for day in range(120)])
    path = tmp_path_factory.mktemp("table") / "gauges.csv"
    frame.to_csv(path, index=False)
    return path


RECORDED = [
    *("em", "unroll model.offset=false", "gradient_em data.test_fraction=0"),
    *("em model=ppca model.latent_dim=2", "unroll model=ppca model.latent_dim=2"),
]


@pytest.fixture(scope="module", params=RECORDED)
def recorded(request: pytest.FixtureRequest, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run in double precision, through the real command."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    method, *others = request.param.split()
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    ended = subprocess.run(
        [sys.executable, "-m", "lgm_cli", "data=csv", f"data.path={table}", "data.index=day", f"method={method}",
         *others, "max_steps=40", "device=cpu", "device.dtype=float64", "device.threads=1", f"hydra.run.dir={folder}"],
        cwd=table.parent, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return folder


def recomputed(folder: Path, y: np.ndarray, test: np.ndarray) -> dict[str, Any]:
    """All that a run reports, from its parameters, the values y (N, M) and which of them were hidden."""
    p = load_file(folder / "parameters.safetensors")
    loadings, prior = p["loadings"], np.ones(p["loadings"].shape[1])
    if "offset_variance" in p:
        loadings, prior = np.c_[loadings, np.ones(len(loadings))], np.r_[prior, p["offset_variance"]]
    scaled, seen = loadings * prior, np.isfinite(y) & ~test
    total = scaled @ loadings.T + p["noise_variance"] * np.eye(len(loadings))  # one for each column, or one for all
    likelihood, mean, variance, latent_mean, latent_variance = 0.0, [], [], [], []
    for row, o in zip(y, seen, strict=True):
        error, inverse = (row - p["mean"])[o], np.linalg.inv(total[np.ix_(o, o)])
        likelihood += (np.linalg.slogdet(inverse)[1] - error @ inverse @ error - o.sum() * np.log(2 * np.pi)) / 2
        mean.append(p["mean"] + total[:, o] @ inverse @ error)
        variance.append(np.diag(total - total[:, o] @ inverse @ total[o]))
        latent_mean.append(scaled[o].T @ inverse @ error)
        latent_variance.append(np.diag(np.diag(prior) - scaled[o].T @ inverse @ scaled[o]))
    mean, variance = np.array(mean), np.where(seen, 0, variance)
    error, found = (y - mean)[test], {"train_log_likelihood": likelihood / seen.sum()}
    if test.any():
        density = -0.5 * (error**2 / variance[test] + np.log(2 * np.pi * variance[test]))
        found |= {"test_log_likelihood": density.mean(), "test_rmse": np.sqrt(np.mean(error**2))}
    found |= {"mean": mean, "deviation": np.sqrt(variance)}
    return found | {"latent_mean": np.array(latent_mean), "latent_deviation": np.sqrt(latent_variance)}


def users_table(folder: Path, table: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """The user's CSV and, by its own labels, which values were hidden."""
    frame, hidden = pd.read_csv(table, index_col="day"), pd.read_csv(folder / "predictions.csv")
    test = np.zeros(frame.shape, bool)
    test[frame.index.get_indexer(hidden["row"]), frame.columns.get_indexer(hidden["column"])] = True
    return frame, test


def same_scores(folder: Path, expected: dict[str, Any]) -> None:
    """The last row of metrics.csv, to 1e-8."""
    found = last_of(folder)
    for name in ("train_log_likelihood", "test_log_likelihood", "test_rmse"):
        if name in expected:
            assert found[name] == pytest.approx(expected[name], abs=1e-8, rel=1e-8), name
        else:
            assert name not in found


def test_the_scores_can_be_recomputed_from_the_parameters_and_the_users_file(recorded: Path, table: Path) -> None:
    frame, test = users_table(recorded, table)
    same_scores(recorded, recomputed(recorded, frame.to_numpy(), test))
    summary = summary_of(recorded)
    assert {name: value for name, value in summary["last_row"].items() if value is not None} == last_of(recorded)
    assert summary["evaluation"]["log_likelihood"] == "exact"


def test_predictions_can_be_recomputed(recorded: Path, table: Path) -> None:
    frame, test = users_table(recorded, table)
    expected = recomputed(recorded, frame.to_numpy(), test)
    found = pd.read_csv(recorded / "predictions.csv")
    assert list(found.columns) == ["row", "column", "true", "mean", "standard_deviation"]
    share = 0 if "data.test_fraction=0" in summary_of(recorded)["overrides"] else 0.1
    assert len(found) == test.sum() == round(share * frame.count().sum())
    at = frame.index.get_indexer(found["row"]), frame.columns.get_indexer(found["column"])
    true, mean, deviation = found.iloc[:, 2:].to_numpy(float).T
    np.testing.assert_array_equal(true, frame.to_numpy()[at])
    np.testing.assert_allclose(mean, expected["mean"][at], rtol=1e-8)
    np.testing.assert_allclose(deviation, expected["deviation"][at], rtol=1e-8)


def test_small_data_are_given_one_thread_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [*(item for item in SIMULATED if "threads" not in item), "method=em", "max_steps=1"]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert summary_of(run(tmp_path / "small", *arguments))["host"]["threads"] == 1
    monkeypatch.setattr(devices, "SMALL_WORK", 0.0)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert summary_of(run(tmp_path / "large", *arguments))["host"]["threads"] == cores
    monkeypatch.setattr(devices, "SMALL_WORK", 1e9)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert summary_of(run(tmp_path / "asked", *arguments))["host"]["threads"] == 2


@pytest.mark.parametrize("method", ["em", "unroll"])
def test_a_regression_can_be_recomputed_from_its_files(method: str, tmp_path: Path) -> None:
    """Evidence, weights, predictions and the missing responses, by plain NumPy."""
    random = np.random.default_rng(1)
    x = random.normal(size=(60, 4)) * [1, 5, 0.2, 3] + [0, 100, 1, -7]
    y = 300 + 10 * (x @ [1.0, -0.3, 4.0, 0.0] + random.normal(size=60))
    y[[3, 17, 40]] = np.nan
    frame = pd.DataFrame(
        x, columns=pd.Index(list("abcd")), index=pd.Index([f"site {i}" for i in range(60)], name="site")
    )
    frame.insert(1, "yield", y)
    frame.to_csv(tmp_path / "sites.csv")
    own = ["model=linear_regression", "data=csv", f"data.path={tmp_path / 'sites.csv'}", "data.index=site"]
    folder = run(tmp_path / "run", *own, "data.target=yield", f"method={method}", "device.threads=1")
    p, hidden = load_file(folder / "parameters.safetensors"), pd.read_csv(folder / "predictions.csv")
    assert set(hidden["column"]) == {"yield"}
    seen = np.isfinite(y) & ~frame.index.isin(hidden["row"])
    np.testing.assert_allclose(p["feature_mean"], x[seen].mean(0), rtol=1e-12)
    centred, alpha, noise = x - p["feature_mean"], p["weight_precision"], p["noise_variance"]
    covariance = np.linalg.inv(alpha * np.eye(4) + centred[seen].T @ centred[seen] / noise)
    weights = covariance @ centred[seen].T @ (y[seen] - p["intercept"]) / noise
    mean = p["intercept"] + centred @ weights
    deviation = np.sqrt(noise + np.einsum("ni,ij,nj->n", centred, covariance, centred))
    total = centred[seen] @ centred[seen].T / alpha + noise * np.eye(seen.sum())
    error = y[seen] - p["intercept"]
    evidence = -0.5 * (error @ np.linalg.solve(total, error) + np.linalg.slogdet(2 * np.pi * total)[1])
    at = frame.index.get_indexer(hidden["row"])
    z = (y[at] - mean[at]) / deviation[at]
    same_scores(folder, {
        "train_log_likelihood": evidence / seen.sum(),
        "test_log_likelihood": np.mean(-0.5 * (z**2 + np.log(2 * np.pi)) - np.log(deviation[at])),
        "test_rmse": np.sqrt(np.mean((y[at] - mean[at]) ** 2)),
    })  # fmt: skip
    np.testing.assert_allclose(hidden["mean"], mean[at], rtol=1e-8)
    np.testing.assert_allclose(hidden["standard_deviation"], deviation[at], rtol=1e-8)
    latent = load_file(folder / "posterior.safetensors")
    np.testing.assert_allclose(latent["latent_mean"], weights[None], rtol=1e-7)
    np.testing.assert_allclose(latent["latent_standard_deviation"], np.sqrt(np.diag(covariance))[None], rtol=1e-7)
    filled = pd.read_csv(folder / "imputed.csv", index_col="site")
    assert list(filled.columns) == ["a", "yield", "b", "c", "d"]
    np.testing.assert_allclose(filled["yield"][np.isnan(y)], mean[np.isnan(y)], rtol=1e-8)
    np.testing.assert_array_equal(filled["yield"][~np.isnan(y)], y[~np.isnan(y)])


@pytest.mark.parametrize(("order", "states"), [(1, 2), (2, 3)])
def test_the_defaults_learn_a_series_that_wanders(order: int, states: int, tmp_path: Path) -> None:
    """A random walk, once and twice summed, whose first automatic steps would lead astray."""
    walk = np.random.default_rng(0).normal(size=120)
    for _ in range(order):
        walk = walk.cumsum()
    pd.DataFrame({"x": walk}).to_csv(tmp_path / "walk.csv", index=False)
    own = [f"data.path={tmp_path / 'walk.csv'}", f"model.latent_dim={states}", "max_steps=60", "device.threads=1"]
    folder = run(tmp_path / "run", "model=state_space", "data=series", *own)
    assert last_of(folder)["train_log_likelihood"] > float(rows_of(folder)[0]["train_log_likelihood"]) + 0.5


@pytest.mark.parametrize("method", ["em", "unroll"])
def test_a_signal_can_be_recomputed_from_its_files(method: str, tmp_path: Path) -> None:
    """Likelihood, predictions, coefficients and signal of two tasks with hidden measurements, by the inverse of the
    D x D precision in plain NumPy."""
    sizes = {"unknowns": 60, "measurements": 30, "nonzeros": 8, "noise": 0.05, "tasks": 2, "test_fraction": 0.2}
    own = ["model=sparse_bayes", f"method={method}", "max_steps=15", "device.threads=1", "device.dtype=float64"]
    folder = run(tmp_path / "run", *own, *(f"data.{key}={value}" for key, value in sizes.items()))
    p, hidden = load_file(folder / "parameters.safetensors"), pd.read_csv(folder / "predictions.csv")
    assert {name: value.shape for name, value in p.items()} == {"precisions": (60,), "noise_variance": ()}
    assert p["noise_variance"] == pytest.approx(0.05**2)
    table = load_cosine({**sizes, "seed": 0})
    y = table.values.reshape(2, 30)
    seen = np.ones(y.shape, bool)
    seen[hidden["row"], hidden["column"]] = False
    dictionary = scipy.fft.idct(np.eye(60), norm="ortho", axis=0)
    matrix = dictionary[table.dictionary.kept]
    total, found = 0.0, load_file(folder / "posterior.safetensors")
    mean, deviation = np.empty_like(y), np.empty_like(y)
    for task in range(2):
        rows = matrix[seen[task]]
        covariance = np.linalg.inv(np.diag(p["precisions"]) + rows.T @ rows / p["noise_variance"])
        w = covariance @ rows.T @ y[task][seen[task]] / p["noise_variance"]
        marginal = rows / p["precisions"] @ rows.T + p["noise_variance"] * np.eye(len(rows))
        error = y[task][seen[task]]
        total -= 0.5 * (error @ np.linalg.solve(marginal, error) + np.linalg.slogdet(2 * np.pi * marginal)[1])
        mean[task] = matrix @ w
        deviation[task] = np.sqrt(np.einsum("ij,ij->i", matrix @ covariance, matrix) + p["noise_variance"])
        np.testing.assert_allclose(found["latent_mean"][task], w, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(found["signal_mean"][task], dictionary @ w, rtol=1e-7, atol=1e-9)
        spread = np.sqrt(np.einsum("ij,ij->i", dictionary @ covariance, dictionary))
        np.testing.assert_allclose(found["signal_standard_deviation"][task], spread, rtol=1e-7)
    z = ((y - mean) / deviation)[~seen]
    same_scores(folder, {
        "train_log_likelihood": total / seen.sum(),
        "test_log_likelihood": (-0.5 * (z**2 + np.log(2 * np.pi)) - np.log(deviation[~seen])).mean(),
        "test_rmse": np.sqrt(np.mean((y - mean)[~seen] ** 2)),
    })  # fmt: skip
    np.testing.assert_allclose(hidden["mean"], mean[~seen], rtol=1e-8)
    np.testing.assert_allclose(hidden["standard_deviation"], deviation[~seen], rtol=1e-8)
    truth = table.truth["signal"]
    last = rows_of(folder)[-1]
    missed = np.linalg.norm(found["signal_mean"] - truth)
    assert float(last["relative_error"]) == pytest.approx(missed / np.linalg.norm(truth), rel=1e-8)
    ratio = np.abs(truth).max() ** 2 * truth.size / missed**2
    assert float(last["psnr_db"]) == pytest.approx(10 * np.log10(ratio), rel=1e-8)


@pytest.mark.parametrize("method", ["em", "unroll"])
def test_an_autoregression_can_be_recomputed_from_its_files(method: str, tmp_path: Path) -> None:
    """Likelihood, predictions, forecast and states, by the dense covariance of the series in plain NumPy."""
    own = ["model=autoregressive", "model.order=3", f"method={method}", "max_steps=15", "device.threads=1"]
    folder = run(tmp_path / "run", *own)
    p, hidden = load_file(folder / "parameters.safetensors"), pd.read_csv(folder / "predictions.csv")
    y = pd.Series(rdatasets_frame("datasets", "sunspot.year")["value"].to_numpy(), index=range(1700, 1989))
    assert {name: value.shape for name, value in p.items()} == {
        "coefficients": (3,), "innovation_variance": (), "mean": (), "noise_variance": (),
    }  # fmt: skip
    assert list(hidden["row"][-11:]) == list(range(1978, 1989)) and len(hidden) == 11 + 28
    companion, drive = np.eye(3, k=-1), np.zeros((3, 3))
    companion[0], drive[0, 0] = p["coefficients"], p["innovation_variance"]
    state = np.linalg.solve(np.eye(9) - np.kron(companion, companion), drive.ravel()).reshape(3, 3)
    gamma = np.array([(np.linalg.matrix_power(companion, lag) @ state)[0, 0] for lag in range(289)])
    prior = gamma[np.abs(np.subtract.outer(np.arange(289), np.arange(289)))]
    seen = ~y.index.isin(hidden["row"])
    total = prior[np.ix_(seen, seen)] + p["noise_variance"] * np.eye(seen.sum())
    error = y[seen].to_numpy() - p["mean"]
    gain = np.linalg.solve(total, prior[seen]).T
    latent, covariance = gain @ error, prior - gain @ prior[seen]
    mean, deviation = p["mean"] + latent, np.sqrt(np.diag(covariance) + p["noise_variance"])
    z = (y - mean) / deviation
    density = (-0.5 * (z**2 + np.log(2 * np.pi)) - np.log(deviation))[~seen]
    missed = (y - mean)[~seen] ** 2
    same_scores(folder, {
        "train_log_likelihood": -0.5 * (error @ np.linalg.solve(total, error)
                                        + np.linalg.slogdet(2 * np.pi * total)[1]) / seen.sum(),
        "test_log_likelihood": density.loc[:1977].mean(), "test_rmse": np.sqrt(missed.loc[:1977].mean()),
    })  # fmt: skip
    last = rows_of(folder)[-1]
    assert float(last["forecast_log_likelihood"]) == pytest.approx(density.loc[1978:].mean(), rel=1e-8)
    assert float(last["forecast_rmse"]) == pytest.approx(np.sqrt(missed.loc[1978:].mean()), rel=1e-8)
    np.testing.assert_allclose(hidden["mean"], mean[~seen], rtol=1e-8)
    np.testing.assert_allclose(hidden["standard_deviation"], deviation[~seen], rtol=1e-8)
    found = load_file(folder / "posterior.safetensors")
    np.testing.assert_allclose(found["latent_mean"], latent[:, None], rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(found["latent_standard_deviation"] ** 2, np.diag(covariance)[:, None], rtol=1e-6)


@pytest.mark.parametrize("method", ["em", "unroll"])
def test_a_series_can_be_recomputed_from_its_files(method: str, tmp_path: Path) -> None:
    """Likelihood, gaps, the horizon and what follows, with a season: by the joint Gaussian of all values, in NumPy. Of
    one method the newest rows come first, which the summary warns of."""
    random, steps, channels = np.random.default_rng(2), 70, 3
    z = np.zeros((steps, 2))
    for t in range(1, steps):
        z[t] = [0.9, 0.5] * z[t - 1] + random.normal(size=2)
    wave = np.outer(np.sin(2 * np.pi * np.arange(steps) / 7), [30, 0.2, 1])
    y = [100, 1, -5] + wave + [20, 0.1, 3] * (z @ random.normal(size=(2, 3)) + 0.5 * random.normal(size=(steps, 3)))
    y[random.random(y.shape) < 0.15] = np.nan
    y[20:23] = np.nan
    names, days = ["north", "south", "east"], pd.date_range("2024-02-01", periods=steps + 4).strftime("%Y-%m-%d")
    frame = pd.DataFrame(y, columns=pd.Index(names), index=pd.Index(days[:steps], name="day"))
    written = frame[::-1] if method == "unroll" else frame
    written.to_csv(tmp_path / "rain.csv")
    own = ["model=state_space", "data=series", f"data.path={tmp_path / 'rain.csv'}", "data.index=day", "data.season=7"]
    own += ["data.horizon=5", "data.forecast=4", f"method={method}", "max_steps=30", "device.threads=1"]
    folder = run(tmp_path / "run", *own, "model.latent_dim=2", "device.dtype=float64")
    p, hidden = load_file(folder / "parameters.safetensors"), pd.read_csv(folder / "predictions.csv")
    season = pd.read_csv(folder / "season.csv", index_col="phase")[names].to_numpy()
    at = frame.index.get_indexer(hidden["row"]), frame.columns.get_indexer(hidden["column"])
    np.testing.assert_array_equal(hidden["true"], y[at])
    ahead = at[0] >= steps - 5
    assert ahead.sum() == np.isfinite(y[-5:]).sum() and (~ahead).sum() == round(0.1 * np.isfinite(y[:-5]).sum())

    total = steps + 4
    g, q, c = p["transition"], p["transition_covariance"], p["observation"]
    shift, spread = np.zeros((total, 2)), np.zeros((total, 2, total, 2))
    shift[0], spread[0, :, 0] = p["initial_mean"], p["initial_covariance"]
    for t in range(1, total):
        shift[t], spread[t, :, t] = g @ shift[t - 1], g @ spread[t - 1, :, t - 1] @ g.T + q
        for s in range(t):
            spread[t, :, s] = g @ spread[t - 1, :, s]
            spread[s, :, t] = spread[t, :, s].T
    prior = (p["mean"] + season[np.arange(total) % 7] + shift @ c.T).ravel()
    signal = np.einsum("mi,tisj,nj->tmsn", c, spread, c).reshape(total * channels, -1)
    everything = signal + np.diag(np.tile(p["noise_variance"], total))
    values = np.r_[y, np.full((4, channels), np.nan)]
    values[at] = np.nan
    seen = np.isfinite(values).ravel()
    error, inverse = (values.ravel() - prior)[seen], np.linalg.inv(everything[np.ix_(seen, seen)])
    likelihood = 0.5 * (np.linalg.slogdet(inverse)[1] - error @ inverse @ error - seen.sum() * np.log(2 * np.pi))
    mean = (prior + everything[:, seen] @ inverse @ error).reshape(total, channels)
    variance = np.diag(everything - everything[:, seen] @ inverse @ everything[seen])
    deviation = np.sqrt(np.maximum(variance, 0)).reshape(mean.shape)

    z = (y[at] - mean[at]) / deviation[at]
    density = -0.5 * (z**2 + np.log(2 * np.pi)) - np.log(deviation[at])
    rmse = {among: np.sqrt(np.mean((y[at] - mean[at])[chosen] ** 2)) for among, chosen in ((0, ~ahead), (1, ahead))}
    found = last_of(folder)
    same_scores(folder, {
        "train_log_likelihood": likelihood / seen.sum(),
        "test_log_likelihood": density[~ahead].mean(),
        "test_rmse": rmse[0],
    })  # fmt: skip
    assert found["forecast_log_likelihood"] == pytest.approx(density[ahead].mean(), abs=1e-8)
    assert found["forecast_rmse"] == pytest.approx(rmse[1], rel=1e-8)
    np.testing.assert_allclose(hidden["mean"], mean[at], rtol=1e-7)
    np.testing.assert_allclose(hidden["standard_deviation"], deviation[at], rtol=1e-7)
    filled, missing = pd.read_csv(folder / "imputed.csv", index_col="day"), np.isnan(y)
    assert list(filled.index) == list(written.index)
    filled = filled.loc[frame.index]
    assert any("goes back in time" in each for each in summary_of(folder)["warnings"]) == (method == "unroll")
    assert filled.shape == y.shape
    np.testing.assert_allclose(filled.to_numpy()[missing], mean[:steps][missing], rtol=1e-7)
    np.testing.assert_array_equal(filled.to_numpy()[~missing], y[~missing])
    forecast = pd.read_csv(folder / "forecast.csv")
    assert list(forecast["row"]) == list(np.repeat(days[steps:], 3)) and list(forecast["column"]) == names * 4
    np.testing.assert_allclose(forecast["mean"], mean[steps:].ravel(), rtol=1e-7)
    np.testing.assert_allclose(forecast["standard_deviation"], deviation[steps:].ravel(), rtol=1e-7)
    inside = (forecast[["upper_90", "lower_90"]].to_numpy() - forecast[["mean"]].to_numpy()) / 1.6448536269514722
    np.testing.assert_allclose(inside, forecast[["standard_deviation"]].to_numpy() * [1, -1], rtol=1e-9)
    latent = load_file(folder / "posterior.safetensors")
    assert latent["latent_mean"].shape == latent["latent_standard_deviation"].shape == (total, 2)


SMALL_SERIES = ["model=state_space", "data=chicago", "data.last=120", "model.latent_dim=2", "device.threads=1"]


def test_the_closing_words_compare_forecasts_with_naive_ones(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", *SMALL_SERIES, "method=em", "max_steps=5")
    line = " ".join((folder / "summary.txt").read_text(encoding="utf-8").split())
    forecast = summary_of(folder)["scores"]["forecast"]
    assert f"forecast rmse {forecast['rmse']:.4g} over the last 14 steps" in line
    assert "the last value" in line and "the value one season before" in line and "90% intervals hold" in line
    assert (folder / "plots" / "channels.png").exists() and (folder / "plots" / "states.png").exists()


@pytest.mark.parametrize("gradient", ["output", "network"])
@pytest.mark.parametrize("solver", [name for name in choices.choices("solver") if name != "cholesky"])
def test_every_solver_learns_a_series(solver: str, gradient: str, tmp_path: Path) -> None:
    own = ["method=unroll", f"method.gradient={gradient}", f"solver={solver}", "max_steps=12", "eval_every=4"]
    folder = run(tmp_path / "run", *SMALL_SERIES, *own, "save_posterior=false")
    assert last_of(folder)["train_log_likelihood"] > float(rows_of(folder)[0]["train_log_likelihood"]) + 0.1


def test_the_users_gaps_are_filled_and_nothing_else(recorded: Path, table: Path) -> None:
    frame, test = users_table(recorded, table)
    expected = recomputed(recorded, frame.to_numpy(), test)
    filled, uncertain = (
        pd.read_csv(recorded / name, index_col="day") for name in ("imputed.csv", "imputed_standard_deviation.csv")
    )
    gaps = frame.isna().to_numpy()
    for each in (filled, uncertain):
        assert list(each.index) == list(frame.index)
        assert list(each.columns) == list(frame.columns)
    np.testing.assert_array_equal(filled.to_numpy()[~gaps], frame.to_numpy()[~gaps])
    np.testing.assert_allclose(filled.to_numpy()[gaps], expected["mean"][gaps], rtol=1e-8)
    np.testing.assert_allclose(uncertain.to_numpy()[gaps], expected["deviation"][gaps], rtol=1e-8)
    assert np.isnan(uncertain.to_numpy()[~gaps]).all()


def test_latent_variables_can_be_recomputed(recorded: Path, table: Path) -> None:
    frame, test = users_table(recorded, table)
    expected = recomputed(recorded, frame.to_numpy(), test)
    found = load_file(recorded / "posterior.safetensors")
    assert found.keys() == {"latent_mean", "latent_standard_deviation"}
    np.testing.assert_allclose(found["latent_mean"], expected["latent_mean"], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found["latent_standard_deviation"], expected["latent_deviation"], rtol=1e-6)


def test_a_run_leaves_the_files_of_the_contract(recorded: Path) -> None:
    summary = summary_of(recorded)
    ppca = "model=ppca" in summary["overrides"]
    offset = not ppca and "model.offset=false" not in summary["overrides"]
    parameters = load_file(recorded / "parameters.safetensors")
    shapes = {"loadings": (7, 2), "mean": (7,), "noise_variance": () if ppca else (7,)}
    shapes |= {"offset_variance": ()} if offset else {}
    assert {name: value.shape for name, value in parameters.items()} == shapes
    assert all(value.dtype == np.float64 for value in parameters.values())
    assert summary["parameter_counts"] == {name: math.prod(shape) for name, shape in shapes.items()}
    loadings = pd.read_csv(recorded / "loadings.csv", index_col=0)
    assert list(loadings.index) == [f"gauge {k}" for k in range(7)]
    assert list(loadings)[:2] == (["component_1", "component_2"] if ppca else ["factor_1", "factor_2"])
    np.testing.assert_allclose(loadings["communality"] + loadings["uniqueness"], 1, rtol=1e-12)
    bound = ("free_energy",) * ("method=em" in summary["overrides"])
    assert tuple(rows_of(recorded)[0]) == COLUMNS + bound
    for name in ("run.log", ".hydra/config.yaml", "checkpoint/state.pt", "plots/convergence.png", "plots/loadings.png"):
        assert (recorded / name).stat().st_size > 0, name
    assert summary["status"] == "max_steps" and summary["error"] is None
    assert summary["data"]["shape"] == [120, 7] and len(summary["data"]["fingerprint"]) == 64
    assert summary["host"]["threads"] == 1 and summary["host"]["device"] == "cpu"
    assert summary["host"]["dtype"] == "float64"
    assert summary["total_seconds"] > 0 and "torch" in summary["versions"]
    assert not [path for path in recorded.rglob("*") if ".partial" in path.name]


@pytest.mark.parametrize("points", ["items", "users"])
@pytest.mark.parametrize("method", ["em", "unroll"])
def test_ratings_can_be_recomputed(points: str, method: str, tmp_path: Path) -> None:
    """The sparse layout: 80 users, 60 films, 400 ratings; identifiers that are no positions."""
    random = np.random.default_rng(1)
    cells = np.sort(random.choice(80 * 60, 400, replace=False))
    user, film = np.divmod(cells, 60)
    value = np.clip(np.round(2 * (3.5 + random.normal(size=80)[user] + 0.5 * random.normal(size=400))) / 2, 0.5, 5)
    file = tmp_path / "ratings.csv"
    pd.DataFrame({"userId": 7 * user + 1, "movieId": 11 * film + 3, "rating": value}).to_csv(file, index=False)
    arguments = ["data=ratings", f"data.path={file}", f"data.points={points}", f"method={method}", "max_steps=15"]
    folder = run(tmp_path / "run", *arguments, "device=cpu", "device.dtype=float64", "device.threads=1")

    ratings, hidden = pd.read_csv(file), pd.read_csv(folder / "predictions.csv")
    row, column = ("movieId", "userId") if points == "items" else ("userId", "movieId")
    frame = ratings.pivot(index=row, columns=column, values="rating")
    at = frame.index.get_indexer(hidden["row"]), frame.columns.get_indexer(hidden["column"])
    test = np.zeros(frame.shape, bool)
    test[at] = True
    assert test.sum() == len(hidden) == 40
    expected = recomputed(folder, frame.to_numpy(), test)
    same_scores(folder, expected)
    np.testing.assert_array_equal(hidden["true"], frame.to_numpy()[at])
    np.testing.assert_allclose(hidden["mean"], expected["mean"][at], rtol=1e-8)
    np.testing.assert_allclose(hidden["standard_deviation"], expected["deviation"][at], rtol=1e-8)
    assert not (folder / "imputed.csv").exists()


def test_the_posterior_can_be_left_out(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", *SIMULATED, "method=em", "max_steps=2", "save_posterior=false")
    assert not (folder / "posterior.safetensors").exists()
    assert (folder / "parameters.safetensors").exists()


# The same again ------------------------------------------------------------------------------------------------

SPARSE = ["data.num_points=300", "data.num_dimensions=60", "data.hidden_share=0.9"]
SOLVING = ("unroll", "monte_carlo_em", "stochastic_em")  # methods that any solver serves
QUICK = {"annealed_em": ["method.inverse_temperature=0.9"], "online_em": ["method.batch_size=50"]}  # to be so in SHORT
SHORT = ["max_steps=12", "eval_every=4"]
CHOICES = {
    "em": ["method=em"],
    "gradient_em": ["method=gradient_em", "method.batch_size=40"],
    "unroll": ["method=unroll", "method.refresh_every=3"],
    "unroll, network": ["method=unroll", "method.gradient=network", "method.batch_size=40"],
    "unroll, sparse": ["method=unroll", *SPARSE],
    "unroll, float64": ["method=unroll", "device.dtype=float64"],
}


def numbers(folder: Path) -> list[dict[str, str]]:
    """metrics.csv, digit by digit, without the clock and the memory."""
    return [{name: cell for name, cell in row.items() if name not in TIMES} for row in rows_of(folder)]


@pytest.mark.parametrize(("choice", "threads"), [*((choice, 1) for choice in CHOICES), ("em", 2), ("unroll", 2)])
def test_the_same_seed_gives_the_same_numbers_bit_for_bit(choice: str, threads: int, tmp_path: Path) -> None:
    arguments = [*SIMULATED, *CHOICES[choice], *SHORT, f"device.threads={threads}"]
    folders = [
        run(tmp_path / name, *arguments, f"seed={seed}") for name, seed in (("first", 0), ("again", 0), ("other", 1))
    ]
    first, again, other = (numbers(folder) for folder in folders)
    assert first == again
    assert first != other
    parameters = [(folder / "parameters.safetensors").read_bytes() for folder in folders]
    assert parameters[0] == parameters[1] != parameters[2]
    assert (folders[0] / "predictions.csv").read_bytes() == (folders[1] / "predictions.csv").read_bytes()


def close(one: Path, other: Path, tolerance: float) -> None:
    """Every log-likelihood (in nats) and rmse of two runs is within the tolerance."""
    for first, second in zip(rows_of(one), rows_of(other), strict=True):
        for name in ("train_log_likelihood", "test_log_likelihood", "test_rmse"):
            assert float(first[name]) == pytest.approx(float(second[name]), abs=tolerance), (first["step"], name)


@pytest.mark.parametrize("method", choices.choices("method"))
def test_one_thread_and_two_agree(method: str, tmp_path: Path) -> None:
    """To 1e-9 in double precision, to 1e-4 in single."""
    for dtype, tolerance in (("float64", 1e-9), ("float32", 1e-4)):
        arguments = [*SIMULATED, *SHORT, f"method={method}", f"device.dtype={dtype}"]
        close(
            *(run(tmp_path / f"{dtype}{threads}", *arguments, f"device.threads={threads}") for threads in (1, 2)),
            tolerance,
        )


@pytest.mark.parametrize("sparse", [[], SPARSE], ids=["table", "sparse"])
@pytest.mark.parametrize("method", [name for name in choices.choices("method") if name not in SOLVING])
def test_single_and_double_precision_agree_to_1e_3(method: str, sparse: list[str], tmp_path: Path) -> None:
    """All along the path. (Monte Carlo methods draw their random numbers in the precision they use them in.)"""
    arguments = [*SIMULATED, *sparse, *SHORT, f"method={method}"]
    close(*(run(tmp_path / dtype, *arguments, f"device.dtype={dtype}") for dtype in ("float32", "float64")), 1e-3)


def test_the_split_depends_on_the_seed_alone(tmp_path: Path) -> None:
    """Not on the method, the precision or the threads: methods are compared on the same hidden entries."""
    folders = [
        run(tmp_path / "em", *SIMULATED, "method=em", "max_steps=1"),
        run(tmp_path / "unroll", *SIMULATED, "method=unroll", "max_steps=1", "device.dtype=float64"),
    ]
    entries = [pd.read_csv(folder / "predictions.csv")[["row", "column", "true"]] for folder in folders]
    pd.testing.assert_frame_equal(*entries)
    fingerprints = {summary_of(folder)["data"]["fingerprint"] for folder in folders}
    assert len(fingerprints) == 1


# Every combination ---------------------------------------------------------------------------------------------

COMBINATIONS = [(method, solver) for method in choices.choices("method") for solver in choices.choices("solver")]


@pytest.mark.parametrize(("method", "solver"), COMBINATIONS)
def test_every_combination_learns_or_says_why_it_has_no_meaning(method: str, solver: str, tmp_path: Path) -> None:
    """Every method of conf/method with every solver of conf/solver."""
    try:
        run(tmp_path / "run", *SIMULATED, f"method={method}", f"solver={solver}", *SHORT, *QUICK.get(method, []))
    except UserError as error:
        assert (method in SOLVING) == (solver == "cholesky"), "this one has a meaning"
        assert f"method={method}" in error.what and f"solver={solver}" in error.what
        assert "method=" in error.mend
        return
    first, last = rows_of(tmp_path / "run")[0], last_of(tmp_path / "run")
    assert last["train_log_likelihood"] > float(first["train_log_likelihood"]) + 0.01
    assert last["parameter_error"] < 0.6  # about that of the maximum: the start is shrunk, and nearer


@pytest.mark.parametrize("gradient", ["output", pytest.param("network", marks=pytest.mark.slow)])
def test_unrolling_at_its_defaults_ends_where_em_does(gradient: str, tmp_path: Path) -> None:
    em = last_of(run(tmp_path / "em", *SIMULATED, "method=em"))
    arguments = [*SIMULATED, "method=unroll", f"method.gradient={gradient}", "max_steps=400"]
    unroll = last_of(run(tmp_path / "unroll", *arguments))
    assert unroll["train_log_likelihood"] == pytest.approx(em["train_log_likelihood"], abs=0.005)
    assert unroll["test_log_likelihood"] == pytest.approx(em["test_log_likelihood"], abs=0.01)
    assert unroll["parameter_error"] == pytest.approx(em["parameter_error"], abs=0.05)


def test_an_interrupted_run_writes_what_it_learned(tmp_path: Path) -> None:
    """SIGINT in the middle of learning: exit code 130, one line, every file."""
    folder = tmp_path / "run"
    started = subprocess.Popen(
        [sys.executable, "-m", "lgm_cli", *SIMULATED, "method=em", "max_steps=1000000", "tolerance=0",
         "model.latent_dim=5", f"hydra.run.dir={folder}"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (folder / "metrics.csv").exists() or len(rows_of(folder)) < 5:
        assert time.monotonic() < deadline and started.poll() is None
        time.sleep(0.05)
    started.send_signal(signal.SIGINT)
    _, error = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "lgm-run: interrupted" in error.splitlines()[-1]
    assert "Traceback" not in error
    summary = summary_of(folder)
    assert summary["status"] == "interrupted"
    assert summary["last_row"]["step"] == int(rows_of(folder)[-1]["step"]) > 0
    for name in ("parameters.safetensors", "predictions.csv", "checkpoint/state.pt", "plots/convergence.png"):
        assert (folder / name).exists()


def test_a_run_that_diverges_says_so_and_keeps_its_last_good_parameters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    arguments = ["method=gradient_em", "method.optimizer=sgd", "method.learning_rate=1e6", "max_steps=20"]
    assert main([*SIMULATED, *arguments, f"hydra.run.dir={folder}"]) == 1
    assert "the run diverged" in capsys.readouterr().err
    summary = summary_of(folder)
    assert summary["status"] == "diverged"
    assert any("the parameters of step 0 were kept" in warning for warning in summary["warnings"])
    assert all(np.isfinite(value).all() for value in load_file(folder / "parameters.safetensors").values())


def test_a_heywood_case_is_said_in_the_summary_by_name(tmp_path: Path) -> None:
    correlation = np.array([[1, 0.85, 0.85, 0.5], [0.85, 1, 0.6, 0.4], [0.85, 0.6, 1, 0.4], [0.5, 0.4, 0.4, 1]])
    z = np.random.default_rng(0).normal(size=(200, 4))
    z = np.linalg.solve(np.linalg.cholesky(np.cov(z.T, bias=True)), (z - z.mean(0)).T).T
    columns = pd.Index(["income", "age", "height", "weight"])
    frame = pd.DataFrame(z @ np.linalg.cholesky(correlation).T, columns=columns)
    frame.to_csv(tmp_path / "table.csv", index=False)
    arguments = ["data=csv", f"data.path={tmp_path / 'table.csv'}", "data.test_fraction=0", "method=em"]
    arguments += ["device=cpu", "device.threads=1"]
    folder = run(tmp_path / "run", *arguments, "model.latent_dim=1", "model.offset=false", "model.noise_floor=0.02")
    (warning,) = summary_of(folder)["warnings"]
    assert "the noise variance of income ended at its floor" in warning
    assert math.isfinite(last_of(folder)["train_log_likelihood"])


def test_the_closing_words_are_few_and_name_what_is_cheaper(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run(tmp_path / "run", *SIMULATED, "method=unroll", "max_steps=5")
    verdict = next(line for line in caplog.messages if ", as asked; not converged" in line)
    closing = (tmp_path / "run" / "summary.txt").read_text(encoding="utf-8").splitlines()
    assert len(closing) <= 25 and caplog.messages[-len(closing) :] == closing
    assert verdict in closing and closing[-1] == f"files and pictures: {tmp_path / 'run'}"
    last, text = last_of(tmp_path / "run"), " ".join(" ".join(closing).split())
    gap = summary_of(tmp_path / "run")["scores"]["gap"]
    assert f"train {last['train_log_likelihood']:.4f}" in text and f"test rmse {gap['rmse']:.4g}" in text
    assert f"predicting each column's mean {gap['mean_rmse']:.4g} (" in text
    assert "lgm-run data=simulated" in text and "method=em" in text  # two factors: exact posteriors are cheaper
    assert str(tmp_path / "run") in text
