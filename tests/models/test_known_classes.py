"""Classes that are known of some rows (data.labels), against discriminant analysis and a dense computation."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis

from lgm_cli.command.cli import main
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.load import load
from lgm_cli.errors import UserError
from lgm_cli.models.base.parameters import Parameters, Statistics
from lgm_cli.models.families.normal import COVARIANCES
from lgm_cli.models.gaussian_mixture import GaussianMixture
from lgm_cli.results.run_folder import with_later_keys
from tests import cases

VALUES, SPECIES = load_iris(return_X_y=True)


def labelled(values: np.ndarray, classes: np.ndarray, names: int = 3) -> Data:
    data = cases.as_data(values)
    known = pd.Index([f"class {number}" for number in range(names)])
    return Data(dataclasses.replace(data.table, classes=classes, class_names=known), data.hidden)


def some_known(share: float = 0.3, seed: int = 0) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(len(SPECIES)) < share, SPECIES, -1)


def mixture(values: np.ndarray, classes: np.ndarray, covariance: str = "full", components: int = 3) -> GaussianMixture:
    model = GaussianMixture(components, covariance, 1e-9)
    data = labelled(values, classes)
    model.check(data)
    model = cases.bind(model, data)
    assert isinstance(model, GaussianMixture)
    return model


def expected(model: GaussianMixture, parameters: Parameters, beta: float = 1.0) -> Statistics:
    total: Statistics = {}
    for chunk in model.observations.chunks:
        total = model.add_statistics(total, chunk, model.posterior(parameters, chunk, beta))
    return total


def step(model: GaussianMixture, parameters: Parameters) -> Parameters:
    return model.maximise(parameters, expected(model, parameters))


def dense(values: np.ndarray, classes: np.ndarray, exported: Parameters) -> tuple[np.ndarray, np.ndarray]:
    """log weight_k + log N(observed entries; mean_k, covariance_k), (N, K), -inf for what a known class excludes; and
    the posterior probabilities."""
    weights, means, covariances = (exported[name].numpy() for name in ("weights", "means", "covariances"))
    joint = np.tile(np.log(weights), (len(values), 1))
    for n, row in enumerate(values):
        o = np.flatnonzero(~np.isnan(row))
        for k in range(len(weights)):
            if len(o):
                joint[n, k] += multivariate_normal(means[k][o], covariances[k][np.ix_(o, o)]).logpdf(row[o])
            if classes[n] not in (-1, k):
                joint[n, k] = -np.inf
    return joint, np.exp(joint - logsumexp(joint, axis=1)[:, None])


def test_all_classes_known_and_full_covariances_are_quadratic_discriminant_analysis() -> None:
    model = mixture(VALUES, SPECIES)
    exported = model.export(step(model, model.start(0)))
    peer = QuadraticDiscriminantAnalysis(store_covariance=True).fit(VALUES, SPECIES)
    np.testing.assert_allclose(exported["weights"].numpy(), peer.priors_, rtol=1e-12)
    np.testing.assert_allclose(exported["means"].numpy(), peer.means_, rtol=1e-12)
    for k, covariance in enumerate(exported["covariances"].numpy()):  # scikit-learn's divisor depends on its version
        np.testing.assert_allclose(covariance, np.cov(VALUES[k == SPECIES].T, bias=True), rtol=1e-9)
    blind = mixture(VALUES, np.full(150, -1))
    chances = np.empty((150, 3))
    restored = blind.restore(exported | {"covariances": torch.as_tensor(np.stack(peer.covariance_))})
    for chunk in blind.observations.chunks:
        chances[chunk.points] = blind.posterior(restored, chunk).responsibilities.numpy()
    np.testing.assert_allclose(chances, peer.predict_proba(VALUES), atol=1e-9)


def test_all_classes_known_and_a_tied_covariance_are_linear_discriminant_analysis() -> None:
    kept = np.flatnonzero(np.random.default_rng(1).random(150) < [(0.9, 0.6, 0.3)[k] for k in SPECIES])
    values, classes = VALUES[kept], SPECIES[kept]
    model = mixture(values, classes, "tied")
    exported = model.export(step(model, model.start(0)))
    peer = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(values, classes)
    np.testing.assert_allclose(exported["weights"].numpy(), peer.priors_, rtol=1e-12)
    np.testing.assert_allclose(exported["means"].numpy(), peer.means_, rtol=1e-12)
    for covariance in exported["covariances"].numpy():  # scikit-learn's is divided by n here
        np.testing.assert_allclose(covariance, peer.covariance_, rtol=1e-9)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_likelihood_and_a_step_are_those_of_a_dense_computation(layout: str) -> None:
    """With gaps, classes known of a third of the rows, one of which has no value, and a component without a class."""
    if layout == "gathered":
        draw = np.random.default_rng(3)
        classes = draw.integers(-1, 3, 60)
        values = cases.with_gaps(draw.standard_normal((60, 40)) + classes[:, None], layout)
    else:
        classes, values = some_known(), cases.with_gaps(VALUES, layout)
    classes[-1] = 1
    model = GaussianMixture(4, "diagonal" if layout == "gathered" else "full", 1e-3)
    model = cases.bind(model, labelled(values, classes))
    assert isinstance(model, GaussianMixture) and layout in cases.layouts(model.observations)
    parameters = model.start(0)
    joint, chances = dense(values, classes, model.export(parameters))
    assert float(cases.log_likelihood(model, parameters)) == pytest.approx(logsumexp(joint, axis=1).sum(), rel=1e-11)
    for chunk in model.observations.chunks:
        posterior = model.posterior(parameters, chunk)
        np.testing.assert_allclose(posterior.responsibilities.numpy(), chances[chunk.points.numpy()], atol=1e-10)
        parts = [model.posterior(parameters, part).responsibilities for part in chunk.split(7)]
        torch.testing.assert_close(torch.cat(parts), posterior.responsibilities)
    new = model.export(step(model, parameters))
    np.testing.assert_allclose(new["weights"].numpy(), chances.mean(0), rtol=1e-9)
    if layout == "gathered":  # means of independent columns: weighted averages of what was seen
        seen = ~np.isnan(values)
        sums, count = chances.T @ np.where(seen, values, 0), chances.T @ seen
        np.testing.assert_allclose(
            new["means"].numpy()[count > 0.01], (sums / count.clip(0.01))[count > 0.01], rtol=1e-7
        )


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_free_energy_is_the_evidence_and_never_falls(covariance: str) -> None:
    values = cases.with_gaps(VALUES, "masked")
    model = mixture(values, some_known(), covariance, 4)
    scale = model.observations.scale.log()
    of_scale = sum(float((chunk.scattered(4)[0] @ scale).sum()) for chunk in model.observations.chunks)
    for beta in (0.4, 1.0):
        parameters, before = model.start(0), -np.inf
        for _ in range(15):
            total = expected(model, parameters, beta)
            reached = float(total["entropy"] - model.expected_loss(parameters, total))
            if beta == 1.0:
                assert reached == pytest.approx(float(cases.log_likelihood(model, parameters)) + of_scale, abs=1e-8)
            assert reached > before - 1e-9
            before, parameters = reached, model.maximise(parameters, total)
    other = cases.moved(model, parameters, 1, 0.05)
    below = float(total["entropy"] - model.expected_loss(other, total))
    assert below < float(cases.log_likelihood(model, other)) + of_scale


def test_gradients_are_those_of_the_expected_loss_and_of_finite_differences() -> None:
    model = mixture(cases.with_gaps(VALUES, "masked"), some_known())
    parameters = model.start(0)
    parameters["means"][0] += 40.0  # a known class, however improbable, is certain
    free = cases.leaves(model.free(parameters))
    evidence = cases.log_likelihood(model, model.constrain(free))
    found = torch.autograd.grad(evidence, list(free.values()))
    loss = model.expected_loss(model.constrain(free), expected(model, parameters))
    for one, other in zip(found, torch.autograd.grad(loss, list(free.values())), strict=True):
        torch.testing.assert_close(one, -other, rtol=1e-7, atol=1e-6)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for (name, at), gradient in zip(free.items(), found, strict=True):
            way = torch.randn(at.shape, dtype=torch.float64, generator=draw)
            low, high = (
                float(cases.log_likelihood(model, model.constrain(free | {name: at + size * way})))
                for size in (-1e-6, 1e-6)
            )
            assert float((gradient * way).sum()) == pytest.approx((high - low) / 2e-6, rel=1e-4)


def test_known_classes_keep_their_components_and_help() -> None:
    """Few labels lead each component to its class; components keep the order of the classes, whatever their weights."""
    classes = np.full(150, -1)
    classes[[0, 60, 120]] = [2, 0, 1]  # one row of each
    model = mixture(VALUES, classes, "tied", 4)
    start = model.start(0)
    assert start["weights"].shape == (4,)
    parameters = start
    for _ in range(30):
        parameters = step(model, parameters)
    written = model.canonical(parameters)
    for name in ("weights", "means"):
        assert torch.equal(written[name][:3], parameters[name][:3])
    model = mixture(VALUES, classes, "tied")
    parameters = model.start(0)
    for _ in range(30):
        parameters = step(model, parameters)
    for chunk in model.observations.chunks:
        found = model.posterior(parameters, chunk).responsibilities.argmax(1).numpy()
    agreement = np.mean(np.array([2, 0, 1])[SPECIES[chunk.points.numpy()]] == found)
    assert agreement > 0.95
    assert model.named([1]) == "component 2 (class 1)"


def write(path: Path, known: np.ndarray, rows: slice = slice(None), column: bool = True) -> Path:
    frame = pd.DataFrame(VALUES, columns=["a", "b", "c", "d"])
    if column:
        names = np.array(["setosa", "virginica", "versicolor", ""])
        frame.insert(2, "species", names[known])
    frame[rows].to_csv(path, index=False)
    return path


def test_a_run_resumes_bit_for_bit_and_applies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lgm_cli.results.write._draw", lambda *_: None)
    known = some_known()
    common = ["model=gaussian_mixture", "model.num_components=auto", "data=csv", "data.labels=species", "tolerance=0",
              f"data.path={write(tmp_path / 'iris.csv', known)}", "device=cpu", "device.dtype=float64"]  # fmt: skip
    for method in ("em", "gradient_em"):
        whole, parts = tmp_path / f"whole_{method}", tmp_path / f"parts_{method}"
        assert main([*common, f"method={method}", "max_steps=6", f"hydra.run.dir={whole}"]) == 0
        assert main([*common, f"method={method}", "max_steps=3", f"hydra.run.dir={parts}"]) == 0
        assert main([f"resume={parts}", "max_steps=6"]) == 0
        for name in ("parameters.safetensors", "posterior.safetensors"):
            assert (whole / name).read_bytes() == (parts / name).read_bytes()
    names = pd.read_csv(whole / "columns.csv")
    names = list(names["column"][names["role"] == "class"])
    counts = pd.Series(known[known >= 0]).value_counts()
    spelled = {0: "setosa", 1: "virginica", 2: "versicolor"}
    assert names == sorted(spelled.values(), key=lambda name: (-counts[[*spelled.values()].index(name)], name))
    assert json.loads((whole / "summary.json").read_text())["data"]["classes"] == names
    chances = load_file(whole / "posterior.safetensors")["responsibilities"]
    for row in np.flatnonzero(known >= 0):
        assert chances[row, names.index(spelled[known[row]])] == 1.0
    assert "species" not in pd.read_csv(whole / "imputed.csv").columns
    exported = load_file(whole / "parameters.safetensors")
    parameters = {name: torch.as_tensor(value) for name, value in exported.items()}
    for column in (True, False):  # new data with classes known of some rows, all of one class, and without
        only = np.where(np.arange(150) == 55, known.max(), -1)
        path, applied = write(tmp_path / f"new{column}.csv", only, slice(50, 60), column), tmp_path / f"to_{column}"
        assert main([f"apply={whole}", f"data.path={path}", f"hydra.run.dir={applied}"]) == 0
        classes = np.full(10, -1)
        if column:
            classes[5] = names.index("versicolor")
        joint, wanted = dense(VALUES[50:60], classes, parameters)
        found = load_file(applied / "posterior.safetensors")["responsibilities"]
        np.testing.assert_allclose(found, wanted, atol=1e-9)
        row = json.loads((applied / "summary.json").read_text())["last_row"]
        assert row["train_log_likelihood"] == pytest.approx(logsumexp(joint, axis=1).sum() / 40, rel=1e-10)


def test_a_class_that_the_run_does_not_know_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lgm_cli.results.write._draw", lambda *_: None)
    run, path = tmp_path / "run", write(tmp_path / "iris.csv", some_known())
    given = ["model=gaussian_mixture", "data=csv", "data.labels=species", f"data.path={path}", "device=cpu"]
    assert main([*given, "method=em", "max_steps=2", f"hydra.run.dir={run}"]) == 0
    path.write_text(path.read_text().replace("setosa", "sibirica"))
    assert main([f"apply={run}", f"data.path={path}", f"hydra.run.dir={tmp_path / 'applied'}"]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "has the class 'sibirica' in iris.csv, which the run has not learned" in last


REFUSED = {
    "data.labels=nothing": "data.labels=nothing is not a column of",
    "data.labels=empty": "data.labels=empty has no class in any row of table.csv",
    "data.labels=same": "data.labels=same has a single class 'x' in table.csv",
    "data.labels=class data.index=class": "data.labels=class is in data.index, too",
    "data.labels=class data.columns=[a,class]": "data.labels=class is in data.columns, too",
    "data.labels=class data.drop=class": "data.labels=class is in data.drop, too",
    "data.labels=class data.target=class": "data.labels=class is in data.target, too",
    "data.labels=class model.num_components=2": "model.num_components=2 is fewer than the 3 classes of data.labels",
    "model.num_components=auto": "model.num_components=auto is as many components as data.labels has classes",
    "data.labels=class model=factor_analysis": "this model has no components for them",
    "data.labels=class model=ppca": "this model has no components for them",
    "data.labels=class model=linear_regression data.target=a": "this model has no components for them",
    "data=penguins data.labels=island": "data.labels=island is not possible with data=penguins",
}


@pytest.mark.parametrize("given", REFUSED)
def test_what_makes_no_sense_is_refused_in_one_line(
    given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.standard_normal((20, 2)), columns=["a", "b"])
    frame = frame.assign(**{"class": draw.integers(1, 4, 20), "same": ["x"] * 10 + [""] * 10, "empty": ""})
    frame.to_csv(tmp_path / "table.csv", index=False)
    words = given.split()
    common = [] if "data=penguins" in words else ["data=csv", f"data.path={tmp_path / 'table.csv'}"]
    common += [] if any(word.startswith("data.columns") for word in words) else ["data.columns=[a,b]"] * bool(common)
    common += [] if any(word.startswith("model=") for word in words) else ["model=gaussian_mixture"]
    assert main([*common, *words, "method=em", f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("lgm-run: error: ") and REFUSED[given] in lines[-1]
    assert not (tmp_path / "run" / "parameters.safetensors").exists()


def test_classes_that_are_numbers_are_in_their_order_and_penguins_have_their_species() -> None:
    from lgm_cli.data.base.classes import classes_of

    classes, names = classes_of(["10", "2", " 2", "NA", "10", "x", "", "b", "1"], "column", "file", missing=["x"])
    assert list(names) == ["2", "10", "1", "b"]
    assert classes.tolist() == [1, 0, 0, -1, 1, -1, -1, 3, 2]
    with pytest.raises(UserError, match="single class"):
        classes_of(["1", "1", ""], "column", "file")
    data = load({"name": "penguins", "labels": "species", "test_fraction": 0.1}, 0, lambda _: {})
    plain = load({"name": "penguins", "labels": None, "test_fraction": 0.1}, 0, lambda _: {})
    assert data.table.class_names is not None and data.table.classes is not None
    assert list(data.table.class_names) == ["Adelie", "Gentoo", "Chinstrap"]
    assert np.bincount(data.table.classes).tolist() == [152, 124, 68]
    assert data.fingerprint != plain.fingerprint
    assert with_later_keys({"data": {"name": "penguins"}})["data"]["labels"] is None
