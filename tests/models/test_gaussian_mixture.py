"""The Gaussian mixture, against scikit-learn, dense marginal normals, and what must hold of any EM."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture as Peer
from torch import Tensor

from lgm_cli.command.cli import main
from lgm_cli.data.base import packaged
from lgm_cli.errors import UserError
from lgm_cli.models.base.parameters import Parameters, Statistics
from lgm_cli.models.families.normal import COVARIANCES
from lgm_cli.models.gaussian_mixture import GaussianMixture
from lgm_cli.randomness import generator
from tests import cases

PEERS = {"full": "full", "tied": "tied", "diagonal": "diag", "spherical": "spherical"}


def faithful() -> np.ndarray:
    return packaged.frame("datasets", "faithful").iloc[:, 1:].to_numpy(float)


def iris_with_gaps(share: float = 0.2) -> np.ndarray:
    values = load_iris().data.copy()
    values[np.random.default_rng(0).random(values.shape) < share] = np.nan
    values[7] = np.nan  # a row without any value
    return values


def mixture(values: np.ndarray, components: int, covariance: str = "full", floor: float = 1e-6) -> GaussianMixture:
    model = cases.bind(GaussianMixture(components, covariance, floor), values)
    assert isinstance(model, GaussianMixture)
    return model


def expected(model: GaussianMixture, parameters: Parameters, beta: float = 1.0) -> Statistics:
    total: Statistics = {}
    for chunk in model.observations.chunks:
        found = model.statistics(chunk, model.posterior(parameters, chunk, beta))
        total = {name: value + total.get(name, 0.0) for name, value in found.items()}
    return total


def evidence(model: GaussianMixture, parameters: Parameters) -> Tensor:
    """Of all rows in standardised units; differentiable."""
    found = []
    for chunk in model.observations.chunks:
        log_evidence = model.posterior(parameters, chunk).log_evidence
        assert log_evidence is not None
        found.append(log_evidence.sum())
    return torch.stack(found).sum()


def log_likelihood(model: GaussianMixture, parameters: Parameters) -> float:
    """In the data's own units."""
    columns, log_scale = model.observations.shape[1], model.observations.scale.log()
    scale = sum(float(chunk.scattered(columns)[0].sum(0) @ log_scale) for chunk in model.observations.chunks)
    return float(evidence(model, parameters)) - scale


def learn(model: GaussianMixture, parameters: Parameters, steps: int) -> Parameters:
    for _ in range(steps):
        parameters = model.maximise(parameters, expected(model, parameters))
    return parameters


def dense_rows(values: np.ndarray, exported: Parameters) -> np.ndarray:
    """log weight_k + log N(observed entries of y_n; mean_k, covariance_k), (N, K), by pattern of gaps."""
    weights, means, covariances = (exported[name].numpy() for name in ("weights", "means", "covariances"))
    joint = np.tile(np.log(weights), (len(values), 1))
    patterns, pattern = np.unique(~np.isnan(values), axis=0, return_inverse=True)
    for p, seen in enumerate(patterns):
        o, rows = np.flatnonzero(seen), np.flatnonzero(pattern.ravel() == p)
        for k in range(len(weights)) if len(o) else ():
            normal = multivariate_normal(means[k][o], covariances[k][np.ix_(o, o)])
            joint[rows, k] += normal.logpdf(values[np.ix_(rows, o)].reshape(-1, len(o)))
    return joint


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_forty_steps_reach_the_likelihood_of_scikit_learn(covariance: str) -> None:
    """From the same start, in the data's own units."""
    values = load_iris().data
    model = mixture(values, 3, covariance, floor=1e-9)
    start = model.start(0)
    exported = {name: value.numpy() for name, value in model.export(start).items()}
    covariances = exported["covariances"]
    precisions = {
        "full": lambda: np.linalg.inv(covariances),
        "tied": lambda: np.linalg.inv(covariances[0]),
        "diagonal": lambda: 1 / covariances.diagonal(axis1=1, axis2=2),
        "spherical": lambda: 1 / covariances[:, 0, 0],
    }[covariance]()
    peer = Peer(3, covariance_type=PEERS[covariance], reg_covar=0, tol=0, max_iter=40, precisions_init=precisions,
                weights_init=exported["weights"], means_init=exported["means"])  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it was told not to converge
        peer.fit(values)
    parameters = learn(model, start, 40)
    assert log_likelihood(model, parameters) == pytest.approx(peer.score(values) * len(values), abs=1e-8)
    np.testing.assert_allclose(model.export(parameters)["weights"].numpy(), peer.weights_, atol=1e-8)
    responsibilities = torch.zeros(len(values), 3, dtype=torch.float64)
    for chunk in model.observations.chunks:
        responsibilities[chunk.points] = model.posterior(parameters, chunk).responsibilities
    np.testing.assert_allclose(responsibilities.numpy(), peer.predict_proba(values), atol=1e-7)


def test_old_faithful_has_its_known_maximum() -> None:
    model = mixture(faithful(), 2)
    parameters = model.canonical(learn(model, model.start(0), 60))
    assert log_likelihood(model, parameters) == pytest.approx(-1130.2640, abs=1e-4)
    exported = model.export(parameters)
    np.testing.assert_allclose(exported["weights"].numpy(), [0.6441, 0.3559], atol=1e-4)
    np.testing.assert_allclose(exported["means"].numpy(), [[4.290, 79.968], [2.036, 54.479]], atol=1e-3)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_likelihood_with_gaps_is_that_of_marginal_normals(covariance: str, layout: str) -> None:
    size = (60, 40) if layout == "gathered" else (60, 4)
    values = cases.with_gaps(np.random.default_rng(1).standard_normal(size) * 3 + 5, layout)
    model = mixture(values, 3, covariance, floor=1e-3)
    parameters = model.start(0)
    joint = dense_rows(values, model.export(parameters))
    assert layout in cases.layouts(model.observations)
    assert log_likelihood(model, parameters) == pytest.approx(logsumexp(joint, axis=1).sum(), rel=1e-11)
    for chunk in model.observations.chunks:
        found = model.inferred(parameters, model.posterior(parameters, chunk))["responsibilities"]
        own = joint[chunk.points.numpy()]
        np.testing.assert_allclose(found.numpy(), np.exp(own - logsumexp(own, axis=1)[:, None]), atol=1e-10)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_free_energy_and_divergence_make_up_the_evidence(covariance: str) -> None:
    """F + KL = l for a random distribution of the component, whose hidden entries have their own posterior."""
    model = mixture(iris_with_gaps(), 3, covariance)
    parameters, total, divergence = model.start(0), {}, 0.0
    for chunk in model.observations.chunks:
        posterior = model.posterior(parameters, chunk)
        true = posterior.responsibilities
        draw = torch.randn(true.shape, dtype=torch.float64, generator=generator(int(chunk.points[0]), "test"))
        posterior.responsibilities = torch.softmax(draw, 1)
        divergence += float((posterior.responsibilities * (posterior.responsibilities / true).log()).sum())
        for name, value in model.statistics(chunk, posterior).items():
            total[name] = value + total.get(name, 0.0)
    free_energy = float(total["entropy"] - model.expected_loss(parameters, total))
    assert divergence > 1
    assert free_energy + divergence == pytest.approx(float(evidence(model, parameters)), abs=1e-9)


@pytest.mark.parametrize("floor", [1e-6, 0.2])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_em_never_lowers_the_likelihood_with_gaps(covariance: str, floor: float) -> None:
    """Nor with a floor that binds; F = l after every E-step."""
    model = mixture(iris_with_gaps(), 3, covariance, floor)
    parameters, before = model.start(3), -math.inf
    for _ in range(30):
        total = expected(model, parameters)
        reached = float(total["entropy"] - model.expected_loss(parameters, total))
        assert reached == pytest.approx(float(evidence(model, parameters)), abs=1e-9)
        assert reached > before - 1e-10
        before, parameters = reached, model.maximise(parameters, total)
    if floor == 0.2:
        assert float(model.family.smallest(parameters["covariances"]).min()) == pytest.approx(0.2, rel=1e-9)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_gradient_is_that_of_finite_differences_and_of_the_expected_loss(covariance: str) -> None:
    model = mixture(iris_with_gaps(), 3, covariance, floor=1e-3)
    parameters = model.start(0)
    free = cases.leaves(model.free(parameters))
    value = evidence(model, model.constrain(free))
    found = dict(zip(free, torch.autograd.grad(value, list(free.values())), strict=True))
    statistics = expected(model, parameters)
    again = model.expected_loss(model.constrain(free), statistics)
    for name, gradient in zip(free, torch.autograd.grad(again, list(free.values())), strict=True):
        torch.testing.assert_close(-gradient, found[name], atol=1e-7, rtol=1e-7)  # Fisher's identity
    draw = generator(0, "test direction")
    with torch.no_grad():
        for name, at in free.items():
            direction = torch.randn(at.shape, dtype=torch.float64, generator=draw)
            low, high = (
                evidence(model, model.constrain(free | {name: at + step * direction})) for step in (-1e-5, 1e-5)
            )
            slope = float((found[name] * direction).sum())
            assert slope == pytest.approx(float(high - low) / 2e-5, rel=1e-6, abs=1e-4)


def test_one_component_with_gaps() -> None:
    """Diagonal: means and variances of what was seen, after one step. Full: a stationary point of the likelihood by
    patterns of gaps, where a complete pair of columns would have its own maximum."""
    values = iris_with_gaps()
    model = mixture(values, 1, "diagonal")
    exported = model.export(learn(model, model.start(0), 1))
    np.testing.assert_allclose(exported["means"][0].numpy(), np.nanmean(values, 0), rtol=1e-12)
    np.testing.assert_allclose(exported["covariances"][0].diagonal().numpy(), np.nanvar(values, 0), rtol=1e-12)
    model = mixture(values, 1)
    parameters = learn(model, model.start(0), 120)
    free = cases.leaves(model.free(parameters))
    gradients = torch.autograd.grad(evidence(model, model.constrain(free)), list(free.values()))
    assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-6
    whole = values[~np.isnan(values).any(1)]
    model = mixture(whole, 1)
    exported = model.export(learn(model, model.start(0), 1))
    np.testing.assert_allclose(exported["covariances"][0].numpy(), np.cov(whole.T, bias=True), rtol=1e-10)


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_at_a_temperature_the_tempered_free_energy_rises(beta: float) -> None:
    """F_beta = (1 / beta) sum_n logsumexp beta a_nk at its optimum; only the component is tempered."""
    values = iris_with_gaps()
    model = mixture(values, 3)
    parameters, before = model.start(0), -math.inf
    for step in range(15):
        total = expected(model, parameters, beta)
        reached = float(total["entropy"] - model.expected_loss(parameters, total))
        if step == 5:
            joint = dense_rows(values, model.export(parameters))
            of_scale = log_likelihood(model, parameters) - float(evidence(model, parameters))
            assert reached + of_scale == pytest.approx(logsumexp(beta * joint, axis=1).sum() / beta, rel=1e-11)
        assert reached > before - 1e-10
        before, parameters = reached, model.maximise(parameters, total)
    chunk = next(iter(model.observations.chunks))
    assert (model.posterior(parameters, chunk, beta).log_evidence is None) == (beta != 1.0)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_blocks_are_maximised_alone(covariance: str) -> None:
    model = mixture(iris_with_gaps(), 3, covariance)
    parameters = model.start(0)
    statistics = expected(model, parameters)
    loss = float(model.expected_loss(parameters, statistics))
    for block in model.blocks:
        new = model.maximise(parameters, statistics, block)
        assert all(torch.equal(new[name], parameters[name]) == (name not in block) for name in new)
        assert float(model.expected_loss(new, statistics)) < loss
    one_after_another = parameters
    for block in model.blocks:
        one_after_another = model.maximise(one_after_another, statistics, block)
    for name, value in model.maximise(parameters, statistics).items():
        torch.testing.assert_close(one_after_another[name], value, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_parameters_leave_and_come_back(covariance: str) -> None:
    model = mixture(iris_with_gaps() * 7 + 100, 3, covariance)
    parameters = learn(model, model.start(0), 3)
    exported = model.export(model.canonical(parameters))
    table = cases.as_data(iris_with_gaps()).table
    assert {name: tuple(value.shape) for name, value in exported.items()} == model.exported_shapes(table)
    assert bool((exported["weights"].diff() <= 0).all())
    back = model.restore(exported)
    assert float(evidence(model, back)) == pytest.approx(float(evidence(model, parameters)), abs=1e-8)
    free = model.constrain(model.free(back))
    for name, value in back.items():
        torch.testing.assert_close(free[name], value, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_hidden_entries_are_predicted_by_a_mixture_of_conditionals(covariance: str) -> None:
    values = iris_with_gaps()
    model = mixture(values, 3, covariance)
    parameters = learn(model, model.start(0), 5)
    exported = model.export(parameters)
    joint = dense_rows(values, exported)
    checked = 0
    for chunk in model.observations.chunks:
        index = torch.arange(4).repeat(len(chunk.points), 1)
        predicted = model.predict(parameters, model.posterior(parameters, chunk), index)
        at = torch.linspace(-1, 9, 4, dtype=torch.float64).expand(len(index), -1)
        density = predicted.log_density(at)
        for place, n in enumerate(chunk.points.tolist()):
            for m in np.flatnonzero(np.isnan(values[n])):  # p(y_m, observed) / p(observed), and moments by quadrature
                filled = values[[n]].copy()
                filled[0, m] = at[place, m]
                whole = logsumexp(dense_rows(filled, exported)[0])
                assert float(density[place, m]) == pytest.approx(whole - logsumexp(joint[n]), abs=1e-8)
                if checked % 10 == 0:
                    grid = np.linspace(-25, 35, 1201)
                    many = np.repeat(values[[n]], len(grid), 0)
                    many[:, m] = grid
                    mass = np.exp(logsumexp(dense_rows(many, exported), axis=1) - logsumexp(joint[n]))
                    mean = np.trapezoid(grid * mass, grid)
                    assert float(predicted.mean[place, m]) == pytest.approx(mean, abs=1e-4)
                    variance = np.trapezoid((grid - mean) ** 2 * mass, grid)
                    assert float(predicted.variance[place, m]) == pytest.approx(variance, rel=1e-2)
                checked += 1
    assert checked > 100


def test_a_component_without_data_points_keeps_its_parameters() -> None:
    model = mixture(faithful(), 3)
    parameters = model.start(0)
    parameters["means"][2] = 1e3  # far from every data point
    parameters = learn(model, parameters, 3)
    assert float(parameters["weights"][2]) < 1e-100
    assert torch.equal(parameters["means"][2], torch.full((2,), 1e3, dtype=torch.float64))
    assert math.isfinite(log_likelihood(model, parameters))
    assert "component 3 has fewer than 3 data points" in model.warnings(parameters, ["a", "b"])[-1]


def test_a_component_at_its_floor_is_named() -> None:
    values = np.concatenate([faithful(), np.repeat([[9.0, 9.0]], 8, 0)])
    model = mixture(values, 3, floor=1e-3)
    parameters = model.canonical(learn(model, model.start(1), 30))
    found = model.warnings(parameters, ["a", "b"])
    assert len(found) == 1
    assert found[0].startswith("the covariance of component 3 ended at its floor, 0.001 of the variance")
    assert model.warnings(learn(model, model.start(0), 0) | {"covariances": torch.eye(2).expand(3, 2, 2)}, []) == []


def test_the_start_is_keyed_to_the_seed_alone() -> None:
    values = iris_with_gaps()
    model, other = mixture(values, 3), cases.bind(GaussianMixture(3, "full", 1e-6), values, block_size=32)
    for name, value in model.start(4).items():
        torch.testing.assert_close(other.start(4)[name], value, atol=1e-12, rtol=1e-12)
    assert not torch.equal(model.start(4)["means"], model.start(5)["means"])
    with pytest.raises(UserError, match="num_components=151"):
        GaussianMixture(151, "full", 1e-6).check(cases.as_data(values))


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_data_drawn_from_the_model_give_it_back(covariance: str) -> None:
    options = {"num_points": 4000, "num_dimensions": 3, "latent_dim": 2, "factor_share": 0.9, "offset_share": 0.0}
    drawn = GaussianMixture(3, covariance, 1e-3).simulate(options | {"hidden_share": 0.1, "seed": 2})
    truth, values = drawn["truth"], drawn["values"]
    assert 0.08 < np.isnan(values).mean() < 0.12
    model = mixture(values, 3, covariance, floor=1e-3)
    true = {name: torch.as_tensor(value) for name, value in truth.items()}
    implied = model.implied_covariance(true).numpy()
    seen = np.ma.masked_invalid(values)
    np.testing.assert_allclose(np.ma.cov(seen, rowvar=False).filled(0), implied, atol=0.1 * implied.diagonal().max())
    order = torch.tensor([2, 0, 1])
    turned = {name: value[order] for name, value in true.items()}
    assert model.parameter_error(model.restore(turned), truth) < 1e-9
    learned = learn(model, model.restore(turned), 5)
    assert 1e-6 < model.parameter_error(learned, truth) < 0.1


def test_draws_have_the_expected_statistics() -> None:
    model = mixture(iris_with_gaps(), 3)
    parameters = model.start(0)
    chunk = model.observations.blocks[0][-1]
    posterior = model.posterior(parameters, chunk)
    want, draws = model.statistics(chunk, posterior), 400
    draw = generator(0, "test draws")
    drawn = [model.statistics(chunk, posterior.draw(draw)) for _ in range(draws)]
    assert "entropy" not in drawn[0]
    for name in set(want) - {"entropy"}:
        values = torch.stack([each[name] for each in drawn])
        error = values.std(0) / math.sqrt(draws)
        assert bool(((values.mean(0) - want[name]).abs() <= 5 * error + 1e-9).all()), name


def test_a_run_goes_on_as_if_it_had_not_stopped_and_applies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By EM and by gradients; responsibilities are written, an unrolled solver is refused in one line."""
    monkeypatch.setattr("lgm_cli.results.write._draw", lambda *_: None)
    values = iris_with_gaps(0.1)
    np.savetxt(tmp_path / "iris.csv", values, delimiter=",", header="a,b,c,d", comments="")
    common = ["model=gaussian_mixture", "data=csv", f"data.path={tmp_path}/iris.csv", "tolerance=0", "device=cpu"]
    for method in ("em", "gradient_em"):
        whole, parts = tmp_path / f"whole_{method}", tmp_path / f"parts_{method}"
        given = [*common, f"method={method}"]
        assert main([*given, "max_steps=6", f"hydra.run.dir={whole}"]) == 0
        assert main([*given, "max_steps=3", f"hydra.run.dir={parts}"]) == 0
        assert main([f"resume={parts}", "max_steps=6"]) == 0
        names = ("parameters.safetensors", "posterior.safetensors")
        assert all((whole / name).read_bytes() == (parts / name).read_bytes() for name in names)
        responsibilities = load_file(whole / "posterior.safetensors")["responsibilities"]
        assert responsibilities.shape == (150, 3)
        np.testing.assert_allclose(responsibilities.sum(1), 1, atol=1e-5)
    applied = tmp_path / "applied"
    assert main([f"apply={whole}", f"data.path={tmp_path}/iris.csv", f"hydra.run.dir={applied}"]) == 0
    assert load_file(applied / "posterior.safetensors")["responsibilities"].shape == (150, 3)
    assert main([*common, "method=unroll", f"hydra.run.dir={tmp_path}/none"]) == 2


def test_single_precision_is_enough() -> None:
    values = faithful()
    double = mixture(values, 2, floor=1e-4)
    single = cases.bind(GaussianMixture(2, "full", 1e-4), values, dtype=torch.float32)
    assert isinstance(single, GaussianMixture)
    reached = learn(single, single.start(0), 40)
    wanted = log_likelihood(double, learn(double, double.start(0), 40))
    exported = {name: value.double() for name, value in single.export(reached).items()}
    assert log_likelihood(double, double.restore(exported)) == pytest.approx(wanted, abs=1e-3)
