"""Mixtures of factor analyses, against dense normals, scikit-learn, and the posterior of the factors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from scipy import stats
from scipy.special import logsumexp
from sklearn.decomposition import FactorAnalysis

from lgm_cli.command.cli import main
from lgm_cli.errors import UserError
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.mixture_of_factor_analysers import MixtureOfFactorAnalysers
from tests import cases

OPTIONS = {"num_points": 90, "num_dimensions": 5, "latent_dim": 2, "factor_share": 0.5, "hidden_share": 0.2, "seed": 4}


def model_of(components: int = 2, factors: int = 2, floor: float = 1e-6) -> MixtureOfFactorAnalysers:
    return MixtureOfFactorAnalysers(components, factors, floor)


def table() -> np.ndarray:
    values = 3 + 10 * model_of().simulate(OPTIONS)["values"]
    values[-1] = np.nan
    return values


def densities(values: np.ndarray, exported: dict[str, np.ndarray]) -> np.ndarray:
    """log p(observed entries, k), (N, K)."""
    found = np.tile(np.log(exported["weights"]), (len(values), 1))
    for k, (mean, loadings, noise) in enumerate(
        zip(exported["means"], exported["loadings"], exported["noise_variance"], strict=True)
    ):
        covariance = loadings @ loadings.T + np.diag(noise)
        for n, row in enumerate(values):
            if (seen := ~np.isnan(row)).any():
                found[n, k] += stats.multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)]).logpdf(row[seen])
    return found


def statistics_of(model: MixtureOfFactorAnalysers, parameters: Parameters) -> dict[str, torch.Tensor]:
    total: dict[str, torch.Tensor] = {}
    for chunk in model.observations.chunks:
        total = model.add_statistics(total, chunk, model.posterior(parameters, chunk))
    return total


@pytest.mark.parametrize("layout", ["masked", "gathered"])
def test_likelihood_and_factors_are_those_of_dense_normals(layout: str) -> None:
    values = table()
    model = cases.bind(model_of(), values)
    if layout == "gathered":
        model = model_of().bind(cases.regathered(model.observations))
    parameters = model.canonical(cases.moved(model, model.start(0)))
    exported = cases.numpy_of(model.export(parameters))
    joint = densities(values, exported)
    for chunk in model.observations.chunks:
        own, posterior = chunk.points.numpy(), model.posterior(parameters, chunk)
        likelihood = model.log_likelihood(parameters, chunk, posterior).numpy()
        np.testing.assert_allclose(likelihood, logsumexp(joint[own], 1), rtol=1e-9, atol=1e-9)
        inferred = model.inferred(parameters, posterior)
        share = np.exp(joint[own] - logsumexp(joint[own], 1, keepdims=True))
        np.testing.assert_allclose(inferred["responsibilities"], share, rtol=1e-7, atol=1e-10)
        for row, n in enumerate(own):
            seen = ~np.isnan(values[n])
            for k in range(2):
                loadings, noise = exported["loadings"][k][seen], exported["noise_variance"][k][seen]
                precision = np.eye(2) + loadings.T @ (loadings / noise[:, None])
                apart = (values[n] - exported["means"][k])[seen]
                expected = np.linalg.solve(precision, loadings.T @ (apart / noise))
                np.testing.assert_allclose(inferred["latent_mean"][row, k], expected, rtol=1e-7, atol=1e-8)


def test_the_step_of_em_is_a_maximum_and_its_gradient_is_that_of_the_likelihood() -> None:
    model = cases.bind(model_of(), table())
    cases.check_step_of_em(model, cases.moved(model, model.start(0)))


def test_one_component_is_the_factor_analysis_of_scikit_learn() -> None:
    values = 2 + 5 * model_of(1).simulate(OPTIONS | {"hidden_share": 0.0, "num_points": 300})["values"]
    model = cases.bind(model_of(1, floor=1e-9), values)
    assert isinstance(model, MixtureOfFactorAnalysers)
    parameters = model.start(0)
    for _ in range(3):
        parameters = model.maximise(parameters, statistics_of(model, parameters))
    known = FactorAnalysis(2, tol=1e-12, max_iter=20_000, svd_method="lapack").fit(values)
    found = float(cases.log_likelihood(model, parameters))
    assert found == pytest.approx(known.score(values) * len(values), rel=1e-9)
    exported = cases.numpy_of(model.export(parameters))
    np.testing.assert_allclose(exported["noise_variance"][0], known.noise_variance_, rtol=2e-3)
    covariance = exported["loadings"][0] @ exported["loadings"][0].T + np.diag(exported["noise_variance"][0])
    np.testing.assert_allclose(covariance, known.get_covariance(), atol=1e-3 * covariance.max())


def test_axes_are_canonical_and_do_not_count_as_free() -> None:
    model = cases.bind(model_of(), table())
    assert isinstance(model, MixtureOfFactorAnalysers)
    parameters = cases.moved(model, model.start(0))
    same = model.canonical(parameters)
    before, after = (float(cases.log_likelihood(model, each)) for each in (parameters, same))
    assert after == pytest.approx(before, rel=1e-10)
    for loadings, noise in zip(same["loadings"], same["noise_variance"], strict=True):
        square = loadings.T @ (loadings / noise[:, None])
        assert abs(float(square[0, 1])) < 1e-9 and square[0, 0] >= square[1, 1]
    assert model.free_parameters(same) == 1 + 2 * (5 + 5 + 10 - 1)


def test_a_run_is_recomputed_goes_on_and_is_applied(tmp_path: Path) -> None:
    frame = pd.DataFrame(table(), columns=list("abcde"))
    frame.to_csv(tmp_path / "x.csv", index=False)
    keys = ["model=mixture_of_factor_analysers", "model.num_components=2", "data=csv", "device.dtype=float64",
            f"data.path={tmp_path / 'x.csv'}", "data.test_fraction=0"]  # fmt: skip
    run, short, new = (tmp_path / name for name in ("run", "short", "new"))
    assert main([*keys, f"hydra.run.dir={run}"]) in (0, None)
    exported = dict(load_file(run / "parameters.safetensors"))
    total = logsumexp(densities(frame.to_numpy(), exported), 1).sum()
    summary = json.loads((run / "summary.json").read_text())
    entries = int(frame.notna().sum().sum())
    assert summary["last_row"]["train_log_likelihood"] == pytest.approx(total / entries, rel=1e-9)
    assert summary["free_parameters"] == 1 + 2 * (5 + 5 + 10 - 1)
    written = pd.read_csv(run / "parameters.csv").set_index(["name", "row", "column"])["value"]
    assert written["loadings[component_2]", "d", "factor_1"] == exported["loadings"][1, 3, 0]
    assert main([*keys, "max_steps=3", f"hydra.run.dir={short}"]) in (0, None)
    assert main([f"resume={short}", "max_steps=2000"]) in (0, None)
    for name, value in load_file(short / "parameters.safetensors").items():
        np.testing.assert_array_equal(value, exported[name])
    frame.tail(20)[list("ecbad")].to_csv(tmp_path / "new.csv", index=False)
    assert main([f"apply={run}", f"data.path={tmp_path / 'new.csv'}", f"hydra.run.dir={new}"]) in (0, None)
    own = logsumexp(densities(frame.tail(20).to_numpy(), exported), 1).sum()
    entries = int(frame.tail(20).notna().sum().sum())
    found = json.loads((new / "summary.json").read_text())["last_row"]["train_log_likelihood"]
    assert found == pytest.approx(own / entries, rel=1e-9)


def test_as_many_factors_as_columns_are_refused() -> None:
    with pytest.raises(UserError, match=r"model.latent_dim=5 factors of 5 columns .*\(at most model.latent_dim=4\)"):
        model_of(2, 5).check(cases.as_data(table()))


def test_a_column_without_noise_is_told_by_name() -> None:
    values = table()
    values[:, 1] = 2 * values[:, 0]
    model = cases.bind(model_of(1, 2, 1e-3), values)
    assert isinstance(model, MixtureOfFactorAnalysers)
    parameters = model.start(0)
    for _ in range(60):
        parameters = model.maximise(parameters, statistics_of(model, parameters))
    (told,) = model.warnings(parameters, list("abcde"))
    assert told.startswith("the noise variance of component 1 in 'a', 'b', ")
    assert "ended at its floor, 0.001 of the column's, or just above: a Heywood case" in told
