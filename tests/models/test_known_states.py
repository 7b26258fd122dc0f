"""States that are known at some steps of a series (data.labels), against sums over the paths that agree with them."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor

from lgm_cli.command.cli import main
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.load import load
from lgm_cli.errors import UserError
from lgm_cli.models.hidden_markov import HiddenMarkov
from lgm_cli.models.poisson_mixture import PoissonMixture
from lgm_cli.models.state_space import StateSpace
from lgm_cli.posteriors.state_path import StatePath
from tests import cases
from tests.models.test_hidden_markov import chunk_of, density, kinds, likelihood, model_of, moved, observed
from tests.models.test_several_series import joined, values_of

SIZES = (4, 3)
KNOWN = np.array([-1, 0, -1, 1, 1, -1, 0])  # of steps of both series; the second step of the first has no value


def labelled(data: Data, classes: np.ndarray, names: int = 2) -> Data:
    called = pd.Index([f"class {number}" for number in range(names)])
    return Data(dataclasses.replace(data.table, classes=classes, class_names=called), data.hidden)


def bound(emission: str, covariance: str = "full", states: int = 3) -> HiddenMarkov:
    data = labelled(joined(values_of(emission, covariance, sum(SIZES)), SIZES), KNOWN)
    model = cases.bind(model_of(emission, covariance, states, floor=1e-2), data)
    assert isinstance(model, HiddenMarkov)
    return model


def agreeing(model: HiddenMarkov, emission: str) -> tuple[Tensor, Tensor]:
    """The paths of both series that agree with the known states (P, 7), and log p(y, path)."""
    exported, rows, states = model.export(moved(model)), observed(model), model.num_components
    choices = [range(states) if known < 0 else [known] for known in KNOWN.tolist()]
    every = torch.tensor(list(itertools.product(*choices)))
    told = [[density(exported, emission, row, k) for k in range(states)] for row in rows]
    told = torch.tensor(told, dtype=torch.float64)
    weight = told[torch.arange(len(rows)), every].sum(1)
    for t, begins in enumerate(t in (0, SIZES[0]) for t in range(len(rows))):
        row = exported["initial"] if begins else exported["transition"][every[:, t - 1]]
        weight = weight + (row[every[:, t]] if begins else row.gather(1, every[:, t : t + 1])[:, 0]).log()
    return every, weight


@kinds
def test_likelihood_and_posterior_are_sums_over_the_paths_that_agree(emission: str, covariance: str) -> None:
    model = bound(emission, covariance)
    parameters, (every, weight) = moved(model), agreeing(model, emission)
    assert likelihood(model, parameters) == pytest.approx(float(torch.logsumexp(weight, 0)), abs=1e-9)
    chances = weight.softmax(0)
    posterior = model.posterior(parameters, chunk_of(model))
    states = torch.stack([(chances[:, None] * (every == k)).sum(0) for k in range(3)], 1)
    torch.testing.assert_close(posterior.state_probabilities, states, atol=1e-10, rtol=0)
    pairs = torch.zeros(3, 3, dtype=torch.float64)
    for t in (0, 1, 2, 4, 5):
        pairs.view(-1).index_add_(0, 3 * every[:, t] + every[:, t + 1], chances)
    torch.testing.assert_close(posterior.transition_counts, pairs, atol=1e-10, rtol=0)
    torch.testing.assert_close(posterior.pairs().sum(0), pairs, atol=1e-10, rtol=0)
    assert posterior.most_probable().tolist() == every[weight.argmax()].tolist()
    draw = torch.Generator().manual_seed(0)
    drawn = torch.stack([posterior.draw(draw).path for _ in range(400)])
    assert bool((drawn[:, KNOWN >= 0] == torch.as_tensor(KNOWN[KNOWN >= 0])).all())
    shares = torch.stack([(drawn == k).double().mean(0) for k in range(3)], 1)
    assert float((shares - states).abs().max()) < 4.5 * 0.5 / 20  # standard deviations of a share of 400


@pytest.mark.parametrize("beta", [1.0, 0.4])
@pytest.mark.parametrize("scale", [1.0, 400.0])  # the larger one needs logarithms
def test_the_entropy_and_stretches_of_time(beta: float, scale: float) -> None:
    """A long chain, which is cut into stretches, has at short ones among known states what these have by paths."""
    from tests.posteriors.test_state_path import Told, chain, paths

    initial, transition, emission = chain(200, 2)
    emission, known = scale * emission, torch.full((200,), -1)
    known[::8] = torch.arange(25) % 2
    known[7::8] = 1
    long = StatePath(initial, transition, Told(emission), beta, (), known)
    assert bool((long.state_probabilities[known >= 0, known[known >= 0]] == 1.0).all())
    entropy, nowhere = 0.0, torch.zeros(6, 2, dtype=torch.float64)
    for first in range(0, 200, 8):  # between two known states the path is of six steps
        inside = emission[first + 1 : first + 7]
        every, weight = paths((transition[known[first]], transition, inside))
        weight = beta * (weight + transition[every[:, -1], 1])
        chances = weight.softmax(0)
        entropy += float(torch.special.entr(chances).sum())
        shares = torch.stack([(chances[:, None] * (every == k)).sum(0) for k in range(2)], 1)
        nowhere = torch.maximum(nowhere, (long.state_probabilities[first + 1 : first + 7] - shares).abs())
    assert float(nowhere.max()) < 1e-9
    assert float(long.entropy()) == pytest.approx(entropy / beta, abs=1e-8 * scale)
    best = long.most_probable()
    assert torch.equal(best[known >= 0], known[known >= 0])


@kinds
def test_em_climbs_and_gradients_are_those_of_the_expected_loss(emission: str, covariance: str) -> None:
    data = joined(values_of(emission, covariance, 60), (35, 25))
    draw = np.random.default_rng(0)
    model = model_of(emission, covariance, 3)
    given = cases.bind(model, labelled(data, np.where(draw.random(60) < 0.3, draw.integers(0, 2, 60), -1)))
    assert isinstance(given, HiddenMarkov)
    chunk, parameters, before = chunk_of(given), given.start(0), -np.inf
    for _ in range(10):
        statistics = given.statistics(chunk, given.posterior(parameters, chunk))
        reached = float(given.posterior(parameters, chunk).log_evidence)
        bound = given.free_energy(parameters, statistics)
        assert bound is not None and float(bound) == pytest.approx(reached, abs=1e-8)
        assert reached > before - 1e-9
        before, parameters = reached, given.maximise(parameters, statistics)
    free = cases.leaves(given.free(parameters))
    evidence = given.posterior(given.constrain(free), chunk).log_evidence.sum()
    found = torch.autograd.grad(evidence, list(free.values()))
    statistics = given.statistics(chunk, given.posterior(parameters, chunk))
    loss = given.expected_loss(given.constrain(free), statistics)
    for one, other in zip(found, torch.autograd.grad(loss, list(free.values())), strict=True):
        torch.testing.assert_close(one, -other, rtol=1e-7, atol=1e-6)


def test_all_states_known_are_counted() -> None:
    """The maximum is the shares of transitions and the moments of the rows of each class."""
    draw = np.random.default_rng(1)
    values, classes = draw.normal(size=(40, 2)), draw.integers(0, 2, 40)
    classes[[0, 1, 39]] = [0, 1, 1]
    model = cases.bind(model_of("normal", states=2), labelled(cases.as_data(values, kind="series"), classes))
    assert isinstance(model, HiddenMarkov)
    start = model.start(0)
    found = model.maximise(start, model.statistics(chunk_of(model), model.posterior(start, chunk_of(model))))
    exported = model.export(model.canonical(found))
    for k in range(2):
        np.testing.assert_allclose(exported["means"][k], values[classes == k].mean(0), rtol=1e-9)
        np.testing.assert_allclose(exported["covariances"][k], np.cov(values[classes == k].T, bias=True), rtol=1e-9)
        after = classes[1:][classes[:-1] == k]
        np.testing.assert_allclose(exported["transition"][k], np.bincount(after) / len(after), rtol=1e-9)


def test_states_of_classes_keep_their_places() -> None:
    model = bound("normal", "diagonal", 4)
    parameters = moved(model)
    order = model.shares(model.export(parameters))[2:].argsort(descending=True) + 2
    written = model.canonical(parameters)
    assert torch.equal(written["means"], parameters["means"][torch.cat([torch.arange(2), order])])
    with pytest.raises(UserError, match="fewer than the 2 classes of data.labels"):
        model_of("normal", states=1).check(labelled(joined(values_of("normal", "full", 7), SIZES), KNOWN))
    with pytest.raises(UserError, match=r"no components for them \(model=hidden_markov, or leave data.labels out"):
        StateSpace(1, 1e-3).check(labelled(cases.as_data(np.eye(7), kind="series"), KNOWN))


def write(path: Path, steps: slice = slice(None)) -> Path:
    """Two series of waiting times, one after the other, whose rows alternate; the state of a third of them is known."""
    draw = np.random.default_rng(0)
    state = np.repeat(draw.integers(0, 2, 30), 4)
    frame = pd.DataFrame({"time": np.tile(np.arange(60), 2), "of": np.repeat(["a", "b"], 60)})
    frame["y"], frame["z"] = draw.normal(size=(2, 120)) + 3 * state
    frame["phase"] = np.where(draw.random(120) < 0.3, np.array(["low", "high"])[state], "")
    frame.loc[7, ["y", "z"]], frame.loc[7, "phase"] = np.nan, "low"
    frame = frame.sort_values("time", kind="stable")[steps]
    frame.to_csv(path, index=False)
    return path


METHODS = ("em", "monte_carlo_em", "annealed_em")


@pytest.mark.parametrize("method", METHODS)
def test_runs_resume_and_are_certain_of_the_known_states(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lgm_cli.results.write._draw", lambda *_: None)
    path, whole, parts = write(tmp_path / "two.csv"), tmp_path / "whole", tmp_path / "parts"
    common = ["model=hidden_markov", "model.num_components=3", "data=series", f"data.path={path}", "data.index=time",
              "data.series=of", "data.labels=phase", f"method={method}", "device=cpu", "tolerance=0"]  # fmt: skip
    assert main([*common, "max_steps=4", f"hydra.run.dir={whole}"]) == 0
    assert main([*common, "max_steps=2", f"hydra.run.dir={parts}"]) == 0
    assert main([f"resume={parts}", "max_steps=4"]) == 0
    for name in ("parameters.safetensors", "posterior.safetensors"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    names = json.loads((whole / "summary.json").read_text())["data"]["classes"]
    frame = pd.read_csv(path, keep_default_na=False).sort_values(["of", "time"])
    posterior = load_file(whole / "posterior.safetensors")
    for row, name in enumerate(frame["phase"]):
        if name:
            assert posterior["state_probabilities"][row, names.index(name)] == 1.0
            assert posterior["most_probable_path"][row] == names.index(name)
    if method != "em":
        return
    new, applied = write(tmp_path / "new.csv", slice(30)), tmp_path / "applied"
    assert main([f"apply={whole}", f"data.path={new}", f"hydra.run.dir={applied}"]) == 0
    found, frame = load_file(applied / "posterior.safetensors"), pd.read_csv(new, keep_default_na=False)
    for row, name in enumerate(frame.sort_values(["of", "time"])["phase"]):
        assert not name or found["state_probabilities"][row, names.index(name)] == 1.0


def test_states_in_the_horizon_are_hidden_and_none_is_known_past_the_end(tmp_path: Path) -> None:
    options = {"name": "series", "path": str(write(tmp_path / "two.csv")), "index": "time", "series": "of",
               "labels": "phase", "horizon": 5, "forecast": 3, "test_fraction": 0.0}  # fmt: skip
    table = load(options, 0, lambda _: {}).table
    frame = pd.read_csv(tmp_path / "two.csv", keep_default_na=False).sort_values(["of", "time"], ignore_index=True)
    assert table.classes is not None and table.class_names is not None and len(table.classes) == 126
    known = [name if time < 55 else "" for name, time in zip(frame["phase"], frame["time"], strict=True)] + [""] * 6
    assert ["" if k < 0 else str(table.class_names[k]) for k in table.classes] == known


def test_a_mixture_of_counts_has_the_rates_of_known_classes() -> None:
    draw = np.random.default_rng(2)
    classes = np.array([1] * 8 + [0] * 22)
    values = draw.poisson(np.where(classes, 9.0, 2.0)[:, None], (30, 3)).astype(float)
    model = PoissonMixture(2, 1e-6)
    data = labelled(cases.as_data(values), 1 - classes)  # the class of fewer rows is the first
    model.check(data)
    found = cases.bind(model, data)
    parameters, total = found.start(0), {}
    for chunk in found.observations.chunks:
        total = found.add_statistics(total, chunk, found.posterior(parameters, chunk))
    exported = found.export(found.canonical(found.maximise(parameters, total)))
    np.testing.assert_allclose(exported["weights"], [8 / 30, 22 / 30], rtol=1e-9)
    np.testing.assert_allclose(exported["rates"], [values[classes == k].mean(0) for k in (1, 0)], rtol=1e-9)
