"""What is said of a finished run, recomputed from its files and its data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import r2_score

from lgm_cli.command import cli
from lgm_cli.report.results.components import telling
from lgm_cli.report.results.dynamics import oscillations
from lgm_cli.report.results.loadings import strongest
from lgm_cli.report.text import ruled, shortened
from lgm_cli.results.closing import _warnings


def run(folder: Path, *arguments: str) -> list[str]:
    cli.in_python([*arguments, "device=cpu", f"hydra.run.dir={folder}"])
    return (folder / "summary.txt").read_text(encoding="utf-8").splitlines()


def test_the_coefficients_of_a_regression(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(150, 3)) * [1, 10, 0.1]
    y = 5 + x @ [2, -0.3, 7] + random.normal(size=150)
    frame = pd.DataFrame(x, columns=pd.Index(["first", "second", "third"]))
    frame["answer"] = y
    frame.to_csv(tmp_path / "table.csv", index=False)
    lines = run(tmp_path / "run", "model=linear_regression", "data=csv", f"data.path={tmp_path / 'table.csv'}",
                "data.target=answer", "data.test_fraction=0", "method=em")  # fmt: skip
    found = load_file(tmp_path / "run" / "parameters.safetensors")
    alpha, psi = found["weight_precision"], 1 / found["noise_variance"]
    centred = x - x.mean(0)
    covariance = np.linalg.inv(alpha * np.eye(3) + psi * centred.T @ centred)
    weights = psi * covariance @ centred.T @ (y - found["intercept"])
    deviation = np.sqrt(covariance.diagonal())
    assert lines[0] == "coefficients of answer, per unit of each column:"
    for name, weight, spread in zip(frame.columns[:3], weights, deviation, strict=True):
        (line,) = [line for line in lines if line.split()[0] == name]
        low, high = weight - 1.6448536269514722 * spread, weight + 1.6448536269514722 * spread
        np.testing.assert_allclose(
            [float(line.split()[k]) for k in (1, 2, 3, 5)], [weight, spread, low, high], rtol=1e-3
        )
    share = r2_score(y, found["intercept"] + centred @ weights)
    assert any(line.startswith(f"R^2 {share:.4f} of what was learned from") for line in lines)
    size = psi * np.linalg.eigvalsh(centred.T @ centred)
    assert (
        f"{(size / (size + alpha)).sum():.2f} of 3 coefficients are determined by the data, the rest by their prior"
        in lines
    )


def test_standard_errors_stand_beside_the_coefficients_of_an_autoregression(tmp_path: Path) -> None:
    random, series = np.random.default_rng(1), [0.0]
    for noise in random.normal(size=300):
        series.append(0.7 * series[-1] + noise)
    pd.DataFrame({"x": series}).to_csv(tmp_path / "series.csv", index=False)
    keys = ["model=autoregressive", "model.order=2", "method=em", "data=series", f"data.path={tmp_path / 'series.csv'}"]
    lines = run(tmp_path / "run", *keys, "data.test_fraction=0", "standard_errors=true")
    table = pd.read_csv(tmp_path / "run" / "parameters.csv")
    found = table[table["name"] == "coefficients"]
    pairs = zip(found["value"], found["standard_error"], strict=True)
    shown = ", ".join(f"{lag}: {value:.3f} ± {error:.3f}" for lag, (value, error) in enumerate(pairs, 1))
    text = " ".join(" ".join(lines).split())
    assert f"coefficients by lag, ± standard error: {shown}" in text
    assert "standard errors and 90% intervals of all parameters are in parameters.csv" in text


def test_an_oscillation_is_named_by_its_period_and_damping() -> None:
    """(1 - 2 r cos w B + r^2 B^2)(1 - 0.5 B)(1 + 0.3 B), with r = 0.9 and a period of 12."""
    r, w = 0.9, 2 * np.pi / 12
    product = np.polymul(np.polymul([1, -2 * r * np.cos(w), r**2], [1, -0.5]), [1, 0.3])
    assert oscillations(np.roots(product)) == [
        "oscillation of period 12 steps, x 0.900 in each step",
        "decay, x 0.500 in each step",
        "decay, x 0.300 in each step, of alternating sign",
    ]


def test_how_states_move_is_said_with_and_without_a_forecast(tmp_path: Path) -> None:
    random, steps = np.random.default_rng(2), np.arange(200)
    wave = np.c_[np.sin(2 * np.pi * steps / 9), np.cos(2 * np.pi * steps / 9)] + 0.1 * random.normal(size=(200, 2))
    pd.DataFrame(wave, columns=["a", "b"]).to_csv(tmp_path / "series.csv", index=False)
    keys = ["model=state_space", "model.latent_dim=2", "data=series", f"data.path={tmp_path / 'series.csv'}"]
    lines = run(tmp_path / "run", *keys, "method=em", "max_steps=60")
    values = np.linalg.eigvals(load_file(tmp_path / "run" / "parameters.safetensors")["transition"])
    (pair,) = values[values.imag > 0]
    assert lines[:2] == [
        "how the states move:",
        f"  oscillation of period {2 * np.pi / np.angle(pair):.4g} steps, x {abs(pair):.3f} in each step",
    ]
    assert abs(2 * np.pi / np.angle(pair) - 9) < 0.1


@pytest.mark.parametrize("model", ["gaussian_mixture", "hidden_markov"])
def test_components_and_states(model: str, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    state = np.repeat([0, 1, 0, 1, 0, 1], 50)
    frame = pd.DataFrame({"a": 10 * state + random.normal(size=300), "b": random.normal(size=300) - 5 * state})
    frame.to_csv(tmp_path / "table.csv", index=False)
    data = "series" if model == "hidden_markov" else "csv"
    lines = run(tmp_path / "run", f"model={model}", f"data={data}", f"data.path={tmp_path / 'table.csv'}", "method=em",
                "data.test_fraction=0", "model.num_components=2",
                *(["data.horizon=0"] if data == "series" else []))  # fmt: skip
    found = load_file(tmp_path / "run" / "parameters.safetensors")
    head, *rows = lines[1].split(), lines[2].split(), lines[3].split()
    for row in rows:
        k = int(row[0]) - 1
        named = dict(zip(reversed(head), reversed(row), strict=False))
        assert float(named["a"]) == pytest.approx(found["means"][k, 0], rel=1e-3)
        assert float(named["b"]) == pytest.approx(found["means"][k, 1], rel=1e-3)
        if model == "hidden_markov":
            assert float(row[2]) == pytest.approx(1 / (1 - found["transition"][k, k]), rel=1e-3)
        else:
            assert row[1] == f"{found['weights'][k]:.1%}"


def test_the_strongest_columns_are_of_every_factor() -> None:
    loadings = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.0], [0.1, 0.3], [0.0, -0.4]])
    assert strongest(loadings, 4) == [0, 1, 4, 3]


def test_columns_that_tell_components_apart_come_first() -> None:
    assert list(telling(np.array([[1.0, 5.0, 9.0], [1.1, 50.0, 12.0]]), np.array([0.5, 0.5]))) == [1, 2, 0]


def test_tables_fit_80_columns_and_words_stay_whole() -> None:
    lines = ruled(
        [["", *["factor 1"] * 5, "communality"], ["the feelings of other people matter", *["0.12"] * 5, "0.3"]]
    )
    assert all(len(line) <= 80 for line in lines) and lines[1].startswith("  the feelings…")
    assert shortened("the feelings of others", 12) == "the…" and shortened("short", 12) == "short"


@pytest.mark.parametrize("room", [-3, 1, 2, 3, 5])
def test_warnings_without_room_are_cut_and_say_where_they_are(room: int) -> None:
    warnings = ["a word and another " * 12, "short", "third " * 30]
    lines = _warnings(warnings, room)
    assert 1 <= len(lines) <= max(room, 1) and all(len(line) <= 80 for line in lines)
    assert lines[0].startswith("warning: a word")
    assert lines[-1].endswith(f"({2 if room == 5 else 3} warnings in summary.json)")
    (alone,) = _warnings(warnings[:1], 1)
    assert alone.endswith("… (in full in summary.json)") and len(alone) > 70
    assert _warnings(["short"], 1) == ["warning: short"]
