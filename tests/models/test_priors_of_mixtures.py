"""Priors of mixtures and chains: densities, maxima by hand, objectives that never fall, no component that collapses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.distributions import Beta, Dirichlet, Gamma

from lgm_cli.command.cli import main
from lgm_cli.methods.acceleration import AcceleratedMethod
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.method import Method
from lgm_cli.methods.statistics.replaced import Replaced
from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters
from lgm_cli.models.bernoulli_mixture import BernoulliMixture
from lgm_cli.models.families.normal import COVARIANCES
from lgm_cli.models.gaussian_mixture import GaussianMixture
from lgm_cli.models.hidden_markov import HiddenMarkov
from lgm_cli.models.multinoulli_mixture import MultinoulliMixture
from lgm_cli.models.poisson_mixture import PoissonMixture
from lgm_cli.results.run_folder import with_later_keys
from tests import cases
from tests.models.test_priors import VARIANTS, objective, statistics_of

WEIGHT, POINTS = 1.5, 2.5  # imaginary data points, for weights or transitions and for the rest
DOUBLE: dict[str, Any] = {"dtype": torch.float64}


def values(kind: str, rows: int = 60) -> np.ndarray:
    """Rows of two groups with gaps, one of them empty."""
    draw = np.random.default_rng(4)
    group = draw.integers(0, 2, rows)[:, None]
    found = {
        "normal": lambda: draw.normal(size=(rows, 3)) + 2.0 * group,
        "poisson": lambda: draw.poisson(3.0 + 5.0 * group, (rows, 3)),
        "binary": lambda: draw.random((rows, 5)) < 0.3 + 0.4 * group,
        "categorical": lambda: (draw.integers(0, 3, (rows, 4)) + group) % 4,
    }[kind]()
    return cases.with_gaps(np.asarray(found, float), "masked")


MODELS: dict[str, Callable[[float, float], Any]] = {
    **{
        f"gaussian_{kind}": (lambda a, b, kind=kind: (GaussianMixture(2, kind, 1e-9, a, b), "normal"))
        for kind in COVARIANCES
    },
    "poisson": lambda a, b: (PoissonMixture(2, 1e-6, a, b), "poisson"),
    "bernoulli": lambda a, b: (BernoulliMixture(2, 1e-6, a, b), "binary"),
    "multinoulli": lambda a, b: (MultinoulliMixture(2, 1e-6, a, b), "categorical"),
    "chain_full": lambda a, b: (HiddenMarkov(2, "normal", "full", 1e-9, a, b), "normal"),
    "chain_spherical": lambda a, b: (HiddenMarkov(2, "normal", "spherical", 1e-9, a, b), "normal"),
    "chain_poisson": lambda a, b: (HiddenMarkov(2, "poisson", "full", 1e-9, a, b), "poisson"),
    "chain_categorical": lambda a, b: (HiddenMarkov(2, "categorical", "full", 1e-9, a, b), "categorical"),
}
each_model = pytest.mark.parametrize("name", MODELS)


def bound(name: str, weight: float = WEIGHT, points: float = POINTS, block_size: int | None = None) -> Any:
    model, kind = MODELS[name](weight, points)
    data = cases.as_data(values(kind), kind="series" if name.startswith("chain") else "table")
    return cases.bind(model, data, block_size=block_size)


def dense_log_prior(name: str, model: Any, parameters: Parameters) -> Tensor:
    """The densities, term by term."""
    rows = parameters["transition"] if "transition" in parameters else parameters["weights"][None]
    total = Dirichlet(torch.full((len(rows), 2), 1 + WEIGHT, **DOUBLE)).log_prob(rows).sum()
    average = np.nanmean(values(MODELS[name](0, 0)[1]), axis=0)
    if "covariances" in parameters:
        family = (model.emissions if "transition" in parameters else model).family
        number = 1 if name == "gaussian_tied" else 2
        for covariance in family.written(parameters["covariances"], 2, 3)[:number]:
            total = total - 0.5 * POINTS * (torch.logdet(covariance) + torch.linalg.inv(covariance).trace())
    elif "rates" in parameters:
        mean = torch.as_tensor(average)
        total = total + Gamma(1 + POINTS * mean, torch.tensor(POINTS, **DOUBLE)).log_prob(parameters["rates"]).sum()
    elif parameters["probabilities"].dim() == 2:
        share = model.overall()
        prior = Beta(1 + POINTS * share, 1 + POINTS * (1 - share))
        total = total + prior.log_prob(parameters["probabilities"]).sum()
    else:
        counts = np.stack([[(column == c).sum() + 1.0 for c in range(4)] for column in values("categorical").T])
        share = torch.as_tensor(counts / counts.sum(1, keepdims=True))
        total = total + Dirichlet(1 + POINTS * share).log_prob(parameters["probabilities"]).sum()
    return total


@each_model
def test_log_prior_is_the_density_up_to_a_constant(name: str) -> None:
    """Gradients in free coordinates, where rows of probabilities stay so, and differences of values."""
    model = bound(name)
    found, dense = [], []
    for seed in (0, 1):
        free = cases.leaves(model.free(cases.moved(model, model.start(0), seed)))
        parts = [f(model.constrain(free)) for f in (model.log_prior, lambda p: dense_log_prior(name, model, p))]
        gradients = [torch.autograd.grad(part, list(free.values()), allow_unused=True) for part in parts]
        for one, other in zip(*gradients, strict=True):
            one, other = (torch.zeros(1, **DOUBLE) if each is None else each for each in (one, other))
            torch.testing.assert_close(*torch.broadcast_tensors(one, other), rtol=1e-8, atol=1e-8)
        found.append(float(parts[0].detach()))
        dense.append(float(parts[1].detach()))
    assert found[0] - found[1] == pytest.approx(dense[0] - dense[1], abs=1e-8)


def test_the_step_of_a_gaussian_mixture_is_that_by_hand() -> None:
    """w = (N_k + a) / (N + K a), mean = sum r y / N_k, S = (sum r (y - mean)(y - mean)^T + b I) / (N_k + b)."""
    y = np.random.default_rng(0).normal(size=(30, 2)) @ np.array([[1.0, 0.4], [0.0, 2.0]])
    model = cases.bind(GaussianMixture(3, "full", 1e-9, WEIGHT, POINTS), y)
    parameters = model.start(0)
    (chunk,) = model.observations.chunks
    r = model.posterior(parameters, chunk).responsibilities.numpy()[np.argsort(chunk.points.numpy())]
    new = model.maximise(parameters, model.with_prior(statistics_of(model, parameters)))
    z = (y - y.mean(0)) / y.std(0)
    np.testing.assert_allclose(new["weights"], (r.sum(0) + WEIGHT) / (30 + 3 * WEIGHT), rtol=1e-10)
    for k in range(3):
        mean = r[:, k] @ z / r[:, k].sum()
        spread = (r[:, k, None] * (z - mean)).T @ (z - mean) + POINTS * np.eye(2)
        np.testing.assert_allclose(new["means"][k], mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(new["covariances"][k], spread / (r[:, k].sum() + POINTS), rtol=1e-9)


MOST = ("gaussian_full", "poisson", "chain_spherical", "chain_categorical")  # by all methods, the others by em alone


@pytest.mark.parametrize(
    ("name", "variant"), [(name, variant) for name in MODELS for variant in VARIANTS if name in MOST or variant == "em"]
)
def test_objective_never_falls(name: str, variant: str) -> None:
    model = bound(name)
    method = VARIANTS[variant](model)
    found = []
    for _ in range(8):
        found.append(float(objective(model, method.parameters).detach()))
        method.step()
    assert min(np.diff(found)) > -1e-8
    assert found[-1] > found[0]


@pytest.mark.parametrize("name", ["gaussian_full", "gaussian_tied", "poisson", "multinoulli"])
def test_incremental_em_never_falls_and_the_prior_counts_once(name: str) -> None:
    model = bound(name, block_size=16)
    update = ClosedForm(model, model.start(0), Replaced(model, 1))
    update.measured = True
    method, raised = Method(model, Exact(model), update, 1, 0), []
    for _ in range(60):
        method.step()
        assert update.free_energy is not None
        raised.append(float(update.free_energy + model.log_prior(method.parameters)))
    assert min(np.diff(raised)) > -1e-8
    whole = Method(model, Exact(model), ClosedForm(model, method.parameters), len(model.observations.blocks), 0)
    for _ in range(60):
        whole.step()
        method.step()
    best = float(objective(model, whole.parameters))
    assert float(objective(model, method.parameters)) == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("chain", [False, True])
def test_a_prior_keeps_a_component_from_collapsing(covariance: str, chain: bool) -> None:
    """Three rows alike among twelve: without a prior a component shrinks onto them, as far as its floor."""
    y = np.random.default_rng(1).normal(size=(12, 2))
    y[:3] = [4.0, 4.0]
    if covariance == "tied":  # one for all can collapse only where each row has a component
        y = np.repeat(y[[0, 5, 9]], 4, axis=0)
    smallest = {}
    for points in (0.0, 1.0):
        model: Any = (
            HiddenMarkov(3, "normal", covariance, 1e-8, 0.0, points)
            if chain
            else GaussianMixture(3, covariance, 1e-8, 0.0, points)
        )
        model = cases.bind(model, cases.as_data(y, kind="series" if chain else "table"))
        method = Method(model, Exact(model), ClosedForm(model, model.start(0)), 1, 0)
        for _ in range(60):
            method.step()
        family = (model.emissions if chain else model).family
        smallest[points] = float(family.smallest(method.parameters["covariances"]).min())
    assert smallest[0.0] < NEAR_FLOOR * 1e-8
    assert smallest[1.0] > 0.05  # at least 1 / (12 + 1) of an imaginary point of variance one


def test_counts_and_transitions_that_never_occur_are_not_impossible() -> None:
    y = np.repeat([[0.0, 5.0], [3.0, 0.0]], 6, axis=0)
    for weight, points in ((0.0, 0.0), (1.0, 1.0)):
        mixture: Any = cases.bind(PoissonMixture(2, 1e-9, weight, points), y)
        chain: Any = cases.bind(
            HiddenMarkov(2, "poisson", "full", 1e-9, weight, points), cases.as_data(y, kind="series")
        )
        for model in (mixture, chain):
            method = AcceleratedMethod(Method(model, Exact(model), ClosedForm(model, model.start(0)), 1, 0), "squarem")
            for _ in range(40):
                method.step()
            lowest = float(method.parameters["rates"].min())
            if points:  # one row of 1.5, the column's average, beside six of none
                assert lowest == pytest.approx(1.5 / 7, rel=0.05)
            else:
                assert lowest < 1e-5
        ways = chain.export(method.parameters)["transition"]
        assert (float(ways.min()) < 1e-9) == (weight == 0)


@each_model
def test_no_prior_changes_nothing(name: str) -> None:
    model = bound(name, 0.0, 0.0)
    statistics = statistics_of(model, model.start(0))
    assert model.prior_statistics() == {} and model.log_prior(model.start(0)) is None
    assert model.with_prior(statistics) is statistics


RUNS = {
    "gaussian_mixture": ("csv", ["prior_weights=1", "prior_covariance=2"]),
    "hidden_markov": ("series", ["prior_transitions=1", "prior_emissions=2"]),
}


@pytest.mark.parametrize("model", RUNS)
def test_a_run_says_what_it_raises_and_resumes(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lgm_cli.results.write._draw", lambda *_: None)
    path, whole, parts = tmp_path / "y.csv", tmp_path / "whole", tmp_path / "parts"
    pd.DataFrame(values("normal"), columns=["a", "b", "c"]).to_csv(path, index=False)
    reader, keys = RUNS[model]
    common = [f"model={model}", f"data={reader}", f"data.path={path}", "device=cpu", "tolerance=0", "method=em"]
    common += [f"model.{key}" for key in keys]
    assert main([*common, "max_steps=4", f"hydra.run.dir={whole}"]) == 0
    assert main([*common, "max_steps=2", f"hydra.run.dir={parts}"]) == 0
    assert main([f"resume={parts}", "max_steps=4"]) == 0
    assert (whole / "parameters.safetensors").read_bytes() == (parts / "parameters.safetensors").read_bytes()
    table = pd.read_csv(whole / "metrics.csv")
    raised = table["train_log_likelihood"] + table["log_prior"]
    assert min(np.diff(raised)) > -1e-9
    summary = json.loads((whole / "summary.json").read_text())
    assert "log_prior" in summary["last_row"]
    old = {"model": {"name": model}}
    assert {key.partition("=")[0]: 0 for key in keys}.items() <= with_later_keys(old)["model"].items()
