"""scores.csv and the scores of summary.json and summary.txt, recomputed from predictions.csv and the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lgm_cli.command import cli

NAMES = ["small", "large", "count"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """A series of three channels in units of their own, a tenth hidden at random and the last 20 steps."""
    random = np.random.default_rng(2)
    level = random.normal(size=(240, 2)).cumsum(0)
    values = level @ random.normal(size=(2, 3)) * [0.01, 100, 3] + random.normal(size=(240, 3)) * [0.01, 100, 3]
    frame = pd.DataFrame(values, columns=pd.Index(NAMES))
    folder = tmp_path_factory.mktemp("scores")
    frame.to_csv(folder / "series.csv", index=False)
    cli.in_python(
        ["model=state_space", "model.latent_dim=2", "data=series", f"data.path={folder / 'series.csv'}", "method=em",
         "data.horizon=20", "max_steps=20", "device=cpu", f"hydra.run.dir={folder / 'run'}"]
    )  # fmt: skip
    return folder / "run", frame


def test_scores_by_column_are_those_of_the_predictions(finished: tuple[Path, pd.DataFrame]) -> None:
    folder, frame = finished
    scores: Any = pd.read_csv(folder / "scores.csv").set_index(["kind", "column"])
    assert list(scores) == ["number", "rmse", "rmse_in_standard_deviations", "mean_rmse", "gain", "coverage_90"]
    predictions: Any = pd.read_csv(folder / "predictions.csv")
    predictions["kind"] = np.where(predictions["row"] >= 220, "forecast", "gap")
    learned = frame.copy()
    for row, column in zip(predictions["row"], predictions["column"], strict=True):
        learned.loc[row, column] = np.nan
    assert len(scores) == 6
    for (kind, column), number in scores["number"].items():
        part: Any = predictions[(predictions["kind"] == kind) & (predictions["column"] == column)]
        assert number == len(part)
        error, deviation = part["true"] - part["mean"], part["standard_deviation"]
        base = part["true"] - learned[column].mean()
        rmse = np.sqrt((error**2).mean())
        expected = [
            len(part), rmse, rmse / learned[column].std(ddof=0), np.sqrt((base**2).mean()),
            1 - (error**2).mean() / (base**2).mean(), (error.abs() <= 1.6448536269514722 * deviation).mean(),
        ]  # fmt: skip
        np.testing.assert_allclose(scores.loc[(kind, column)].to_numpy(float), expected, rtol=1e-6)


def test_all_columns_together_are_in_one_unit_everywhere(finished: tuple[Path, pd.DataFrame]) -> None:
    folder, _ = finished
    scores: Any = pd.read_csv(folder / "scores.csv")
    found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["scores"]
    text = " ".join((folder / "summary.txt").read_text(encoding="utf-8").split())
    for kind, word in (("gap", "test"), ("forecast", "forecast")):
        part = scores[scores["kind"] == kind]
        expected = np.sqrt(np.average(part["rmse_in_standard_deviations"] ** 2, weights=part["number"]))
        assert found[kind]["rmse"] == pytest.approx(expected, rel=1e-6)
        assert found[kind]["number"] == part["number"].sum()
        assert found[kind]["unit"] == "standard deviations of the column"
        assert f"{word} rmse {expected:.4g}" in text


def test_lines_are_whole_and_few(finished: tuple[Path, pd.DataFrame]) -> None:
    folder, _ = finished
    lines = (folder / "summary.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 25 and lines[-1] == f"files and pictures: {folder}"
    assert all(len(line) <= 80 for line in lines if str(folder) not in line)
    assert not any("train" in line and "test" in line for line in lines)  # which are of different kinds
