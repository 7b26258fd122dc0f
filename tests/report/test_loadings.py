"""loadings.csv: standardised, rotated, with communalities; the same factors in files, pictures and lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from sklearn.decomposition import FactorAnalysis

from lgm_cli.command import cli

NAMES = ["one", "two", "three", "four", "five", "six", "seven"]


def run(folder: Path, *arguments: str) -> Path:
    cli.in_python([*arguments, "device=cpu", "device.dtype=float64", f"hydra.run.dir={folder}"])
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    random = np.random.default_rng(0)
    loadings = np.array([[2.0, 0], [3, 0.5], [1, 0], [0, 1], [0.3, 4], [0, 2], [1, 1]])
    values = random.normal(size=(400, 2)) @ loadings.T + random.normal(size=(400, 7)) * [1, 2, 1, 1, 2, 1, 1]
    path = tmp_path_factory.mktemp("table") / "table.csv"
    pd.DataFrame(values, columns=pd.Index(NAMES)).to_csv(path, index=False)
    return path, values


LEARN = ("data=csv", "data.test_fraction=0", "method=em", "model.latent_dim=2", "tolerance=1e-11", "max_steps=3000")


@pytest.mark.parametrize("rotation", ["varimax", "promax", "none"])
def test_communalities_are_those_of_scikit_learn(rotation: str, table: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, values = table
    folder = run(tmp_path / "run", "model=factor_analysis", *LEARN, f"data.path={path}", "model.offset=false",
                 f"model.rotation={rotation}")  # fmt: skip
    frame = pd.read_csv(folder / "loadings.csv", index_col=0)
    assert list(frame.index) == NAMES
    assert list(frame) == ["factor_1", "factor_2", "communality", "uniqueness"]
    standard = (values - values.mean(0)) / values.std(0)
    peer = FactorAnalysis(2, tol=1e-14, max_iter=20000, svd_method="lapack").fit(standard)
    np.testing.assert_allclose(frame["uniqueness"], peer.noise_variance_, atol=1e-6)
    np.testing.assert_allclose(frame["communality"], (peer.components_**2).sum(0), atol=1e-6)
    shown = frame[["factor_1", "factor_2"]].to_numpy()
    correlations = np.eye(2)
    if rotation == "promax":
        correlations = pd.read_csv(folder / "factor_correlations.csv", index_col=0).to_numpy()
        assert abs(correlations[0, 1]) > 0.01
    np.testing.assert_allclose(shown @ correlations @ shown.T, peer.components_.T @ peer.components_, atol=1e-6)
    assert (folder / "factor_correlations.csv").exists() == (rotation == "promax")
    if rotation == "varimax":
        peer = FactorAnalysis(2, tol=1e-14, max_iter=20000, svd_method="lapack", rotation="varimax").fit(standard)
        assert np.abs(np.abs(shown) - np.abs(peer.components_.T)).max() < 0.05  # which leaves Kaiser's weights out


def test_components_of_ppca_are_not_rotated(table: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, _ = table
    folder = run(tmp_path / "run", "model=ppca", *LEARN, f"data.path={path}")
    frame = pd.read_csv(folder / "loadings.csv", index_col=0)
    assert list(frame) == ["component_1", "component_2", "communality", "uniqueness"]
    found = load_file(folder / "parameters.safetensors")
    variance = (found["loadings"] ** 2).sum(1) + found["noise_variance"]
    expected = found["loadings"] / np.sqrt(variance)[:, None]
    np.testing.assert_allclose(frame[["component_1", "component_2"]], expected, rtol=1e-12)
    np.testing.assert_allclose(frame["uniqueness"], found["noise_variance"] / variance, rtol=1e-9)


def test_an_offset_is_part_of_the_communality(table: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, _ = table
    folder = run(tmp_path / "run", "model=factor_analysis", *LEARN[:-2], "max_steps=20", f"data.path={path}",
                 "model.offset=true")  # fmt: skip
    frame = pd.read_csv(folder / "loadings.csv", index_col=0)
    assert list(frame) == ["factor_1", "factor_2", "offset", "communality", "uniqueness"]
    np.testing.assert_allclose(
        (frame[["factor_1", "factor_2", "offset"]] ** 2).sum(axis=1), frame["communality"], rtol=1e-9
    )
    found = load_file(folder / "parameters.safetensors")
    variance = (found["loadings"] ** 2).sum(1) + found["noise_variance"] + found["offset_variance"]
    np.testing.assert_allclose(frame["offset"], np.sqrt(found["offset_variance"] / variance), rtol=1e-9)
