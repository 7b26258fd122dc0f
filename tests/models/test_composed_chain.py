"""Hidden Markov models of mixed columns, against sums over all paths and the models of single families."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from scipy import stats
from scipy.special import logsumexp

from lgm_cli.command.cli import main
from lgm_cli.data.base.data import Data
from lgm_cli.errors import UserError
from lgm_cli.models import composed
from lgm_cli.models.base.parameters import Parameters, Statistics
from lgm_cli.models.composed_chain import ComposedChain
from lgm_cli.models.families.counts import CountEmissions, Counts
from lgm_cli.models.families.predictive import Density
from lgm_cli.models.hidden_markov import HiddenMarkov
from lgm_cli.models.poisson_mixture import PoissonMixture
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk
from tests import cases
from tests.models.test_composed import BLOCKS, log_density, table


def chain(blocks: Any = BLOCKS, states: int = 2, **options: Any) -> ComposedChain:
    return ComposedChain(states, blocks, **({"covariance": "full", "noise_floor": 1e-3, "floor": 1e-6} | options))


def bound(values: np.ndarray, model: HiddenMarkov | None = None, **of_table: Any) -> HiddenMarkov:
    data = cases.as_data(values, kind="series")
    data = Data(dataclasses.replace(data.table, **of_table), data.hidden)
    found = cases.bind(chain() if model is None else model, data)
    assert isinstance(found, HiddenMarkov)
    return found


def emitted(values: np.ndarray, exported: dict[str, np.ndarray]) -> np.ndarray:
    """log p(observed entries of a step | state), (T, K)."""
    return log_density(values, exported | {"weights": np.ones(len(exported["initial"]))})


def paths(densities: np.ndarray, exported: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All paths of states (K^T, T), and log p(values, path)."""
    found = np.array(list(itertools.product(range(densities.shape[1]), repeat=len(densities))))
    steps = np.log(exported["initial"])[found[:, 0]] + densities[np.arange(len(densities)), found].sum(1)
    return found, steps + np.log(exported["transition"])[found[:, :-1], found[:, 1:]].sum(1)


def likelihood(model: HiddenMarkov, parameters: Parameters) -> float:
    (chunk,) = model.observations.chunks
    return float(model.log_likelihood(parameters, chunk, model.posterior(parameters, chunk)).sum())


def test_likelihood_states_and_predictions_are_sums_over_all_paths() -> None:
    values = table(rows=8)
    values[4] = np.nan  # a step without a value
    values[-1, 2] = 3.0
    model = bound(values)
    parameters = cases.moved(model, model.start(0))
    exported = cases.numpy_of(model.export(parameters))
    assert list(exported) == [
        *("initial", "transition", "means", "covariances", "probabilities", "rates", "probabilities_4"),
        *("means_5", "covariances_5"),
    ]
    found, joint = paths(emitted(values, exported), exported)
    total = logsumexp(joint)
    assert likelihood(model, parameters) == pytest.approx(total, abs=1e-9)
    (chunk,) = model.observations.chunks
    posterior = model.posterior(parameters, chunk)
    share = np.exp(joint - total)
    chances = np.stack([share @ (found == k) for k in range(2)], 1)
    np.testing.assert_allclose(posterior.state_probabilities.numpy(), chances, atol=1e-9)
    np.testing.assert_array_equal(model.inferred(parameters, posterior)["most_probable_path"], found[joint.argmax()])
    index = torch.arange(values.size)[None]
    predicted = model.predict(parameters, posterior, index)
    for t, m in np.argwhere(np.isnan(values)):  # p(y_tm | all others) is a ratio of likelihoods
        filled = values.copy()
        filled[t, m] = [51.0, 1, 3, 0.5, 2, 1, 2e-4][m]
        more = logsumexp(paths(emitted(filled, exported), exported)[1]) - total
        given = torch.zeros(1, values.size, dtype=torch.float64)
        given[0, 7 * t + m] = filled[t, m]
        assert float(predicted.log_density(given)[0, 7 * t + m]) == pytest.approx(more, abs=1e-8)
    np.testing.assert_allclose(predicted.mean.view(-1, 7)[:, 2], chances @ exported["rates"][:, 0], rtol=1e-8)


def test_the_step_of_em_is_a_maximum_and_its_gradient_is_that_of_the_likelihood() -> None:
    model = bound(table())
    cases.check_step_of_em(model, cases.moved(model, model.start(0)))


@pytest.mark.parametrize(
    ("family", "columns", "emission"),
    [("normal", [0, 3, 6], "normal"), ("poisson", [2, 4], "poisson"), ("categorical", [1, 5], "categorical")],
)
def test_blocks_of_one_family_are_the_hidden_markov_model(family: str, columns: list[int], emission: str) -> None:
    """Likelihoods, forecasts and what is learned in twenty steps of EM, all to rounding."""
    values = np.vstack([table()[:, columns], np.full((3, len(columns)), np.nan)])
    known = bound(values, HiddenMarkov(2, emission, "full", 1e-9), forecast=3)
    model = bound(values, chain([{"family": family}], noise_floor=1e-9), forecast=3)
    one = cases.moved(known, known.start(0))
    two = model.restore(known.export(one))
    assert likelihood(model, two) == pytest.approx(likelihood(known, one), rel=1e-10)
    index = torch.arange(values.size)[None]
    ((of_known,), (of_model,)) = known.observations.chunks, model.observations.chunks
    expected = known.predict(one, known.posterior(one, of_known), index)
    found = model.predict(two, model.posterior(two, of_model), index)
    if family != "normal":
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-8)
        np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-8)
    else:
        own, (block,) = known.observations, model.parts
        mean = expected.mean.view(len(values), -1) * own.scale.view(len(values), -1) + own.center.view(len(values), -1)
        np.testing.assert_allclose(found.mean.view(mean.shape) * block.scale + block.center, mean, rtol=1e-8)
    torch.testing.assert_close(model.implied_covariance(model.export(two)), known.implied_covariance(known.export(one)))
    for _ in range(20):
        one, two = (
            each.maximise(now, each.statistics(chunk, each.posterior(now, chunk)))
            for each, now, chunk in ((known, one, of_known), (model, two, of_model))
        )
    assert likelihood(model, two) == pytest.approx(likelihood(known, one), rel=1e-9)


def test_series_apart_and_known_states_are_as_in_the_hidden_markov_model() -> None:
    """The likelihood of several series is the product of each; at a step of a known state no other is possible."""
    values, sizes = table(rows=9), (4, 3, 2)
    series = np.repeat(np.arange(3), sizes)
    names = {"series_names": pd.Index(["a", "b", "c"]), "series_column": "id"}
    model = bound(values, series=series, **names)
    parameters = cases.moved(model, model.start(0))
    exported = cases.numpy_of(model.export(parameters))
    densities = emitted(values, exported)
    parts = np.split(densities, np.cumsum(sizes)[:-1])
    assert likelihood(model, parameters) == pytest.approx(sum(logsumexp(paths(part, exported)[1]) for part in parts))
    classes = np.full(9, -1)
    classes[[1, 5]] = 1
    known = bound(values, classes=classes, class_names=pd.Index(["calm", "storm"]))
    found, joint = paths(densities, exported)
    of_known = (found[:, [1, 5]] == 1).all(1)
    assert likelihood(known, parameters) == pytest.approx(logsumexp(joint[of_known]), abs=1e-9)


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ([{"family": "normal", "columns": ["y9"]}], "column 'y9', which the data have not"),
        ([{"family": "poisson"}], "'y0', and .* more such values, and this model learns from counts"),
    ],
)
def test_blocks_that_cannot_be_are_refused(blocks: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        chain(blocks).check(cases.as_data(table(), kind="series"))


@pytest.fixture
def days(tmp_path: Path) -> Path:
    """Measurements, counts and a column of text over 160 days, with gaps; two states."""
    random, kind = np.random.default_rng(5), [0]
    for _ in range(159):
        kind.append(1 - kind[-1] if random.random() < 0.1 else kind[-1])
    state = np.array(kind)
    frame = pd.DataFrame({
        "warmth": np.round(15 - 6 * state + 2 * random.normal(size=160), 1),
        "sky": np.where(random.random(160) < 0.2 + 0.6 * state, "cloud", "sun"),
        "visitors": random.poisson(np.where(state, 4, 18)).astype(float),
    }).mask(random.random((160, 3)) < 0.1)  # fmt: skip
    frame.insert(0, "day", pd.date_range("2024-01-01", periods=160).astype(str))
    frame.to_csv(tmp_path / "days.csv", index=False)
    return tmp_path


GIVEN = "model.blocks=[{family:normal,columns:warmth},{family:poisson,columns:visitors},{family:categorical}]"
KEYS = ("model=composed_chain", "model.num_components=2", "data=series", "data.index=day", "data.categories=all",
        "device.dtype=float64", GIVEN)  # fmt: skip


def test_a_run_says_what_states_are_like_and_what_comes_next(days: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = [*KEYS, f"data.path={days / 'days.csv'}", "data.forecast=4", "data.horizon=6"]
    run, short, new = (days / name for name in ("run", "short", "new"))
    assert main([*keys, f"hydra.run.dir={run}"]) in (0, None)
    said = " ".join(capsys.readouterr().out.split())
    assert "states, with the mean or rate or likeliest category of each column:" in said
    assert "what comes next, mean ± deviation or likeliest category and its probability:" in said
    exported = load_file(run / "parameters.safetensors")
    chances = load_file(run / "posterior.safetensors")["state_probabilities"]
    assert chances.shape == (164, 2)
    forecast = pd.read_csv(run / "forecast.csv")
    for column, blocks in (("warmth", exported["means"]), ("visitors", exported["rates"])):
        own = forecast[forecast["column"] == column]["mean"].astype(float)
        np.testing.assert_allclose(own, chances[160:] @ blocks[:, 0], rtol=1e-6)
    sky = forecast[forecast["column"] == "sky"]
    share = chances[160:] @ exported["probabilities"][:, 0]
    assert sky["mean"].tolist() == [["cloud", "sun"][place] for place in share.argmax(1)]
    np.testing.assert_allclose(sky["standard_deviation"], 1 - share.max(1), rtol=1e-6)
    assert sky[["lower_90", "upper_90"]].isna().all(axis=None)
    first = next(line for line in said.split("2024-06-09")[1:])
    assert f"sun {share[0, 1]:.0%}" in first or f"cloud {share[0, 0]:.0%}" in first
    assert {path.name for path in (run / "plots").iterdir()} >= {
        *("states.png", "component_means.png", "rates.png", "probabilities.png")
    }
    written = pd.read_csv(run / "parameters.csv")
    assert set(written.loc[written["name"] == "rates", "row"]) == {"state_1", "state_2"}
    assert main([*keys, "max_steps=3", f"hydra.run.dir={short}"]) in (0, None)
    assert main([f"resume={short}", "max_steps=2000"]) in (0, None)
    again = load_file(short / "parameters.safetensors")
    for name, value in exported.items():
        np.testing.assert_array_equal(again[name], value)
    frame = pd.read_csv(days / "days.csv")[["day", "visitors", "sky", "warmth"]].tail(30)
    frame.to_csv(days / "new.csv", index=False)
    assert main([f"apply={run}", f"data.path={days / 'new.csv'}", f"hydra.run.dir={new}"]) in (0, None)
    filled = pd.read_csv(new / "imputed.csv")
    assert filled["sky"].isin(["cloud", "sun"]).all() and not filled.isna().any(axis=None)


def test_the_likelihood_of_the_files_is_the_reported_one(days: Path) -> None:
    run = days / "run"
    keys = [*KEYS, f"data.path={days / 'days.csv'}", "data.test_fraction=0"]
    assert main([*keys, f"hydra.run.dir={run}"]) in (0, None)
    exported, frame = load_file(run / "parameters.safetensors"), pd.read_csv(days / "days.csv")
    values = np.full((160, 7), np.nan)  # as in test_composed: normal, two-valued, count, .., categories
    values[:, 3], values[:, 2] = frame["warmth"], frame["visitors"]
    values[:, 5] = frame["sky"].map({"cloud": 0, "sun": 1})
    nothing, covariances = np.zeros((2, 1, 1)), np.pad(exported["covariances"], ((0, 0), (0, 1), (0, 1)))
    whole = exported | {
        "probabilities_4": exported["probabilities"], "probabilities": np.ones((2, 1)),
        "means": np.c_[exported["means"], [0, 0]], "covariances": covariances,
        "means_5": nothing[:, 0], "covariances_5": nothing,
    }  # fmt: skip
    densities = emitted(values, whole)
    ahead = np.log(exported["initial"]) + densities[0]
    for row in densities[1:]:
        ahead = logsumexp(ahead[:, None] + np.log(exported["transition"]), 0) + row
    summary = json.loads((run / "summary.json").read_text())
    entries = int(frame[["warmth", "sky", "visitors"]].notna().sum().sum())
    assert summary["last_row"]["train_log_likelihood"] == pytest.approx(logsumexp(ahead) / entries, rel=1e-9)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["data.season=7"], "data.season=7 takes means off columns, and data.categories has 'sky'"),
        (["data.categories=null", "data.season=7", "data.drop=[sky]", "model.blocks=auto"], "data.season=7 would take"),
        (["data.difference=1"], "data.log and differences are of numbers, and data.categories has 'sky'"),
        (["model=state_space", "~model.blocks"], "(model=composed_chain learns from numbers and categories; or leave"),
        (["model.num_components=500"], "model.num_components=500 states cannot be learned from 160 steps"),
        (["data=simulated"], "model.blocks names columns, and simulated data have none of these"),
    ],
)
def test_a_mistake_is_one_line(days: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    keys = [*KEYS, f"data.path={days / 'days.csv'}"]
    if "data=simulated" in more:
        keys = ["model=composed_chain", GIVEN]
    if "model=state_space" in more:
        keys, more = [key for key in keys if not key.startswith("model")], ["model=state_space"]
    assert main([*keys, *more, f"hydra.run.dir={days / 'run'}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("lgm-run: error: ") and said in line


class Geometric(Counts):
    """P(y | k) = rate^y / (1 + rate)^(y + 1): counts of mean rate. A family that the program does not have."""

    def emissions(self, parameters: Parameters, chunk: Chunk) -> CountEmissions:
        found, rates = super().emissions(parameters, chunk), parameters["rates"]
        seen, values = chunk.scattered(rates.shape[1])
        found.log_density = values @ rates.log().mT - (values + seen) @ rates.log1p().mT
        return found

    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> torch.Tensor:
        rates, first = parameters["rates"], statistics["first"]
        return ((first + statistics["count"]) * rates.log1p() - first * rates.log()).sum()


class GeometricMixture(PoissonMixture):
    def learned_from(self, observations: Observations) -> None:
        super().learned_from(observations)
        self.family = Geometric(self.family.floor)

    def densities(self, inside: Parameters, index: torch.Tensor) -> Density:
        rates = inside["rates"][:, index].transpose(0, 1)
        return lambda values: values[:, None] * rates.log() - (values[:, None] + 1) * rates.log1p()


def test_a_family_of_a_test_works_in_a_mixture_and_in_a_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given to the table of families; nothing else knows of it. Likelihood, gaps, EM, hidden entries."""
    monkeypatch.setitem(composed.MODELS, "geometric", GeometricMixture)
    values = table(rows=7)[:, [0, 2, 4]]
    values[1] = np.nan
    blocks = [{"family": "normal", "columns": ["y0"]}, {"family": "geometric"}]
    model = bound(values, chain(blocks))
    mixture = cases.bind(composed.Composed(2, blocks, "full", 1e-3, 1e-6), values)

    def each(values: np.ndarray, exported: dict[str, np.ndarray]) -> np.ndarray:
        found = np.zeros((len(values), 2))
        for k in range(2):
            spread = exported["covariances"][k, 0, 0] ** 0.5
            found[:, k] += np.nan_to_num(stats.norm.logpdf(values[:, 0], exported["means"][k, 0], spread))
            mass = stats.geom.logpmf(values[:, 1:] + 1, 1 / (1 + exported["rates"][k]))
            found[:, k] += np.where(np.isnan(values[:, 1:]), 0, mass).sum(1)
        return found

    parameters = cases.moved(model, model.start(0))
    exported = cases.numpy_of(model.export(parameters))
    _, joint = paths(each(values, exported), exported)
    assert likelihood(model, parameters) == pytest.approx(logsumexp(joint), abs=1e-9)
    ((chunk,),) = model.observations.blocks
    found = model.predict(parameters, model.posterior(parameters, chunk), torch.arange(values.size)[None])
    t, m = np.argwhere(np.isnan(values[:, 1:]))[0] + [0, 1]
    filled = values.copy()
    filled[t, m] = 3
    more = logsumexp(paths(each(filled, exported), exported)[1]) - logsumexp(joint)
    given = torch.full((1, values.size), 3.0, dtype=torch.float64)
    assert float(found.log_density(given)[0, 3 * t + m]) == pytest.approx(more, abs=1e-9)
    before = likelihood(model, parameters)
    for _ in range(5):
        parameters = model.maximise(parameters, model.statistics(chunk, model.posterior(parameters, chunk)))
        now = likelihood(model, parameters)
        assert now >= before - 1e-9
        before = now
    own = cases.moved(mixture, mixture.start(0))
    exported = cases.numpy_of(mixture.export(own))
    expected = logsumexp(np.log(exported["weights"]) + each(values, exported), 1)
    assert float(cases.log_likelihood(mixture, own)) == pytest.approx(expected.sum(), abs=1e-9)
