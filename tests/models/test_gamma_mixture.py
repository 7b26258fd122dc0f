"""The gamma mixture, against SciPy's densities and maxima."""

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

from lgm_cli.command.cli import main
from lgm_cli.errors import UserError
from lgm_cli.models.composed import Composed
from lgm_cli.models.gamma_mixture import GammaMixture
from tests import cases


def table(rows: int = 80, seed: int = 0, gaps: float = 0.25) -> np.ndarray:
    random = np.random.default_rng(seed)
    kind = random.integers(2, size=rows)
    means = np.array([[1e-3, 40, 7, 2e5], [4e-3, 10, 7, 1e5]])[kind]
    values = means * random.gamma(3.0, 1 / 3.0, means.shape)
    values[random.random(values.shape) < gaps] = np.nan
    values[-1] = np.nan
    return values


def densities(values: np.ndarray, exported: dict[str, np.ndarray]) -> np.ndarray:
    """log p(observed entries, k), (N, K)."""
    found = np.tile(np.log(exported["weights"]), (len(values), 1))
    for k, (means, shapes) in enumerate(zip(exported["means"], exported["shapes"], strict=True)):
        found[:, k] += np.nansum(stats.gamma.logpdf(values, shapes, scale=means / shapes), 1)
    return found


@pytest.mark.parametrize("layout", ["masked", "gathered"])
def test_likelihood_and_predictions_are_those_of_scipy(layout: str) -> None:
    values = table()
    model = cases.bind(GammaMixture(2, 1e-3), values)
    if layout == "gathered":
        model = GammaMixture(2, 1e-3).bind(cases.regathered(model.observations))
    parameters = cases.moved(model, model.start(0))
    exported = cases.numpy_of(model.export(parameters))
    joint = densities(values, exported)
    for chunk in model.observations.chunks:
        own, posterior = chunk.points.numpy(), model.posterior(parameters, chunk)
        likelihood = model.log_likelihood(parameters, chunk, posterior).numpy()
        np.testing.assert_allclose(likelihood, logsumexp(joint[own], 1), rtol=1e-10, atol=1e-10)
        share = np.exp(joint[own] - logsumexp(joint[own], 1, keepdims=True))
        index = torch.arange(4).expand(len(own), -1)
        predicted = model.predict(parameters, posterior, index)
        np.testing.assert_allclose(predicted.mean, share @ exported["means"], rtol=1e-9)
        second = share @ (exported["means"] ** 2 * (1 + 1 / exported["shapes"]))
        np.testing.assert_allclose(predicted.variance, second - (share @ exported["means"]) ** 2, rtol=1e-8)
        at = np.array([2e-3, 30, 5, 1e5])
        given = predicted.log_density(torch.as_tensor(at).expand(len(own), -1)).numpy()
        each = stats.gamma.logpdf(at, exported["shapes"], scale=exported["means"] / exported["shapes"])
        np.testing.assert_allclose(given, logsumexp(np.log(share)[:, :, None] + each, 1), rtol=1e-8)
        assert torch.isneginf(predicted.log_density(torch.zeros(len(own), 4, dtype=torch.float64))).all()


def test_the_maximum_of_one_component_is_that_of_scipy() -> None:
    values = np.random.default_rng(1).gamma(2.3, 4.0, 300)
    model = cases.bind(GammaMixture(1, 1e-6), values[:, None])
    parameters, total = model.start(0), {}
    for chunk in model.observations.chunks:
        total = model.add_statistics(total, chunk, model.posterior(parameters, chunk))
    found = cases.numpy_of(model.export(model.maximise(parameters, total)))
    shape, _, scale = stats.gamma.fit(values, floc=0)
    assert found["shapes"][0, 0] == pytest.approx(shape, rel=1e-6)
    assert found["means"][0, 0] == pytest.approx(shape * scale, rel=1e-6)


def test_the_step_of_em_is_a_maximum_and_its_gradient_is_that_of_the_likelihood() -> None:
    model = cases.bind(GammaMixture(2, 1e-3), table())
    cases.check_step_of_em(model, cases.moved(model, model.start(0)))


def test_a_component_of_one_value_ends_at_the_floor_and_is_told() -> None:
    values = np.r_[np.full(30, 5.0), np.random.default_rng(0).gamma(2.0, 30.0, 60)][:, None]
    model = cases.bind(GammaMixture(2, 1e-4), values)
    parameters = model.start(0)
    for _ in range(200):
        total: dict[str, torch.Tensor] = {}
        for chunk in model.observations.chunks:
            total = model.add_statistics(total, chunk, model.posterior(parameters, chunk))
        parameters = model.maximise(parameters, total)
    exported = cases.numpy_of(model.export(parameters))
    tight = exported["shapes"][:, 0].argmax()
    assert exported["shapes"][tight, 0] == pytest.approx(1e4) and exported["means"][tight, 0] == pytest.approx(
        5, rel=0.01
    )
    (told,) = model.warnings(parameters, ["price"])
    assert f"the spread of component {tight + 1} in 'price' ended at its floor, 0.0001 of the mean squared" in told


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_other_numbers_are_refused(value: float) -> None:
    values = table()
    values[5, 1] = value
    with pytest.raises(UserError, match=f"has {value:g} in 'y1', and this model learns from positive numbers"):
        GammaMixture(2, 1e-3).check(cases.as_data(values))


def test_the_covariance_is_that_of_draws() -> None:
    model = cases.bind(GammaMixture(2, 1e-3), table())
    exported = cases.numpy_of(model.export(model.start(0)))
    random, size = np.random.default_rng(0), 400_000
    kind = random.choice(2, size, p=exported["weights"])
    shapes, means = exported["shapes"][kind], exported["means"][kind]
    drawn = np.cov((random.gamma(shapes) * means / shapes).T)
    implied = model.implied_covariance(model.export(model.start(0))).numpy()
    unit = np.sqrt(np.outer(implied.diagonal(), implied.diagonal()))
    np.testing.assert_allclose(drawn / unit, implied / unit, atol=0.02)


def test_blocks_of_positive_columns_stand_beside_normal_ones() -> None:
    values = table()
    blocks = [{"family": "normal", "columns": ["y2"]}, {"family": "gamma"}]
    model = cases.bind(Composed(2, blocks, "full", 1e-3, 1e-6), values)
    parameters = cases.moved(model, model.start(0))
    exported = cases.numpy_of(model.export(parameters))
    assert list(exported) == ["weights", "means", "covariances", "means_2", "shapes"]
    own = {"weights": exported["weights"], "means": exported["means_2"], "shapes": exported["shapes"]}
    joint = densities(values[:, [0, 1, 3]], own)
    for k in range(2):
        spread = exported["covariances"][k, 0, 0] ** 0.5
        joint[:, k] += np.nan_to_num(stats.norm.logpdf(values[:, 2], exported["means"][k, 0], spread))
    for chunk in model.observations.chunks:
        likelihood = model.log_likelihood(parameters, chunk, model.posterior(parameters, chunk)).numpy()
        np.testing.assert_allclose(likelihood, logsumexp(joint[chunk.points.numpy()], 1), rtol=1e-9)


def test_a_run_says_what_components_are_like(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame(table(120), columns=["a", "b", "c", "d"]).to_csv(tmp_path / "x.csv", index=False)
    keys = ["model=gamma_mixture", "data=csv", f"data.path={tmp_path / 'x.csv'}", "data.test_fraction=0"]
    assert main([*keys, "device.dtype=float64", f"hydra.run.dir={tmp_path / 'run'}"]) in (0, None)
    assert "components, with the mean of each column" in capsys.readouterr().out
    exported = load_file(tmp_path / "run" / "parameters.safetensors")
    values = pd.read_csv(tmp_path / "x.csv").to_numpy()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    total = logsumexp(densities(values, dict(exported)), 1).sum()
    reported = summary["last_row"]["train_log_likelihood"]
    assert reported == pytest.approx(total / np.isfinite(values).sum(), rel=1e-9)
    for name, columns in (("one", "[a]"), ("two", "[b,c]")):
        run = tmp_path / name
        assert main([*keys, f"data.columns={columns}", f"hydra.run.dir={run}", "max_steps=20"]) in (0, None)
        assert (run / "plots" / "components.png").stat().st_size > 5000
