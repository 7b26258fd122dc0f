"""Mixtures of mixed columns, against densities by SciPy and the models of single families."""

from __future__ import annotations

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
from lgm_cli.errors import UserError
from lgm_cli.models.composed import Composed
from lgm_cli.models.gaussian_mixture import GaussianMixture
from lgm_cli.models.multinoulli_mixture import MultinoulliMixture
from tests import cases

BLOCKS = [
    {"family": "normal", "columns": ["y3", "y0"]},
    {"family": "bernoulli", "columns": ["y1"]},
    {"family": "poisson", "columns": ["y2", "y4"]},
    {"family": "categorical", "columns": None},
    {"family": "normal", "columns": ["y6"]},
]


def composed(blocks: Any = BLOCKS, components: int = 2, **options: Any) -> Composed:
    return Composed(components, blocks, **({"covariance": "full", "noise_floor": 1e-3, "floor": 1e-6} | options))


def table(rows: int = 80, seed: int = 0, gaps: float = 0.25) -> np.ndarray:
    """Columns: normal, zeros and ones, counts, normal, counts, categories, normal."""
    random = np.random.default_rng(seed)
    kind = random.integers(2, size=rows)
    values = np.c_[
        50 + 10 * kind + 3 * random.normal(size=rows),
        random.random(rows) < np.where(kind, 0.8, 0.3),
        random.poisson(np.where(kind, 6, 2)),
        random.normal(size=rows) - kind,
        random.poisson(np.where(kind, 1, 4)),
        random.integers(3, size=rows),
        1e-3 * random.normal(size=rows),
    ].astype(float)
    values[:, 3] += 0.1 * values[:, 0]
    values[random.random(values.shape) < gaps] = np.nan
    values[-1] = np.nan
    return values


def log_density(values: np.ndarray, exported: dict[str, np.ndarray]) -> np.ndarray:
    """log p(observed entries, k), (N, K), entry by entry; blocks as in BLOCKS."""
    found = np.tile(np.log(exported["weights"]), (len(values), 1))
    for n, row in enumerate(values):
        for k in range(len(exported["weights"])):
            for (means, covariances), columns in ((("means", "covariances"), [3, 0]),
                                                  (("means_5", "covariances_5"), [6])):  # fmt: skip
                seen = [place for place, column in enumerate(columns) if not np.isnan(row[column])]
                if seen:
                    y = [row[columns[place]] for place in seen]
                    covariance = exported[covariances][k][np.ix_(seen, seen)]
                    found[n, k] += stats.multivariate_normal(exported[means][k][seen], covariance).logpdf(y)
            if not np.isnan(row[1]):
                found[n, k] += stats.bernoulli(exported["probabilities"][k, 0]).logpmf(row[1])
            for place, column in enumerate((2, 4)):
                if not np.isnan(row[column]):
                    found[n, k] += stats.poisson(exported["rates"][k, place]).logpmf(row[column])
            if not np.isnan(row[5]):
                found[n, k] += np.log(exported["probabilities_4"][k, 0, int(row[5])])
    return found


@pytest.mark.parametrize("layout", ["masked", "gathered"])
def test_likelihood_responsibilities_and_predictions_are_those_of_the_densities(layout: str) -> None:
    values = table()
    model = cases.bind(composed(), values)
    if layout == "gathered":
        model = composed().bind(cases.regathered(model.observations))
    parameters = cases.moved(model, model.start(0))
    exported = cases.numpy_of(model.export(parameters))
    assert list(exported) == [
        *("weights", "means", "covariances", "probabilities", "rates", "probabilities_4", "means_5", "covariances_5")
    ]
    joint = log_density(values, exported)
    for chunk in model.observations.chunks:
        posterior, own = model.posterior(parameters, chunk), chunk.points.numpy()
        likelihood = model.log_likelihood(parameters, chunk, posterior)
        np.testing.assert_allclose(likelihood.numpy(), logsumexp(joint[own], 1), rtol=1e-10, atol=1e-10)
        share = np.exp(joint[own] - logsumexp(joint[own], 1, keepdims=True))
        np.testing.assert_allclose(posterior.responsibilities.numpy(), share, rtol=1e-8, atol=1e-12)
        index = torch.arange(7).expand(len(own), -1)
        predicted = model.predict(parameters, posterior, index)
        for row, n in enumerate(own):  # p(y_nm | the others) is a ratio of densities
            for m in range(7):
                if np.isnan(values[n, m]) and (n + m) % 5 == 0:
                    filled = values[n].copy()
                    filled[m] = [51.0, 1, 3, 0.5, 2, 1, 2e-4][m]
                    more = logsumexp(log_density(filled[None], exported), 1) - logsumexp(joint[n])
                    given = torch.zeros(len(own), 7, dtype=torch.float64)
                    given[row, m] = filled[m]
                    assert float(predicted.log_density(given)[row, m]) == pytest.approx(float(more[0]), abs=1e-8)
        np.testing.assert_allclose(predicted.mean[:, 2], share @ exported["rates"][:, 0], rtol=1e-8)


def test_the_step_of_em_is_a_maximum_and_its_gradient_is_that_of_the_likelihood() -> None:
    model = cases.bind(composed(), table())
    parameters = cases.moved(model, model.start(0))
    total = cases.check_step_of_em(model, parameters)
    energy = model.free_energy(parameters, total)
    assert energy is not None
    shift = sum(float(model.log_scales(chunk).sum()) for chunk in model.observations.chunks)
    assert float(energy) == pytest.approx(float(cases.log_likelihood(model, parameters)) + shift, rel=1e-10)


def test_blocks_of_one_family_are_the_model_of_that_family() -> None:
    values = table()
    for family, columns, other in (
        ("normal", [0, 3, 6], GaussianMixture(2, "full", 1e-3)),
        ("categorical", [1, 5], MultinoulliMixture(2, 1e-6)),
    ):
        known = cases.bind(other, values[:, columns])
        parameters = cases.moved(known, known.start(0))
        model = cases.bind(composed([{"family": family}]), values[:, columns])
        same = model.restore(known.export(parameters))
        for one, two in zip(known.observations.chunks, model.observations.chunks, strict=True):
            expected = known.log_likelihood(parameters, one, known.posterior(parameters, one))
            torch.testing.assert_close(model.log_likelihood(same, two, model.posterior(same, two)), expected)
        torch.testing.assert_close(model.implied_covariance(model.export(same)),
                                   known.implied_covariance(known.export(parameters)))  # fmt: skip


def test_the_implied_covariance_is_that_of_draws() -> None:
    model = cases.bind(composed(), table())
    exported = cases.numpy_of(model.export(model.start(0)))
    random, size = np.random.default_rng(0), 200_000
    kind = random.choice(2, size, p=exported["weights"])
    drawn = np.empty((size, 7))
    for k in range(2):
        at = np.flatnonzero(kind == k)
        drawn[np.ix_(at, [3, 0])] = random.multivariate_normal(
            exported["means"][k], exported["covariances"][k], len(at)
        )
        drawn[at, 1] = random.random(len(at)) < exported["probabilities"][k, 0]
        drawn[np.ix_(at, [2, 4])] = random.poisson(exported["rates"][k], (len(at), 2))
        drawn[at, 5] = random.choice(3, len(at), p=exported["probabilities_4"][k, 0])
        spread = exported["covariances_5"][k, 0, 0] ** 0.5
        drawn[at, 6] = exported["means_5"][k, 0] + spread * random.normal(size=len(at))
    implied = model.implied_covariance(model.export(model.start(0))).numpy()
    scale = np.sqrt(implied.diagonal())
    np.testing.assert_allclose(np.cov(drawn.T) / np.outer(scale, scale), implied / np.outer(scale, scale), atol=0.015)


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ([{"family": "normal", "columns": ["y9"]}], "column 'y9', which the data have not"),
        ([{"family": "normal", "columns": ["y0"]}], "column 'y1' is in no block"),
        ([{"family": "normal"}, {"family": "poisson", "columns": ["y0", "y0"]}], "column 'y0' twice"),
        ([{"family": "normal"}, {"family": "poisson"}], "several blocks without columns"),
        ([{"family": "poisson"}], "'y0', and .* more such values, and this model learns from counts"),
        ([{"family": "normal"}, {"family": "bernoulli", "columns": ["y2"]}], "has .* in 'y2'"),
    ],
)
def test_blocks_that_cannot_be_are_refused(blocks: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        composed(blocks).check(cases.as_data(table()))


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Measurements, counts, and two columns of text, one of them a tenth empty."""
    random = np.random.default_rng(3)
    kind = random.integers(2, size=150)
    colour = np.where(random.random(150) < 0.2 + 0.6 * kind, "red", "blue")
    frame = pd.DataFrame({
        "size": np.round(10 + 3 * kind + random.normal(size=150), 3),
        "colour": np.where(random.random(150) < 0.1, None, colour),
        "visits": random.poisson(np.where(kind, 8, 1)),
        "shape": random.choice(["round", "long", "flat"], 150),
    })  # fmt: skip
    frame.to_csv(tmp_path / "mixed.csv", index=False)
    return tmp_path


KEYS = ("data=csv", "data.categories=all", "model=composed", "model.num_components=2", "device.dtype=float64")
GIVEN = "model.blocks=[{family:categorical,columns:[shape,colour]},{family:poisson,columns:visits},{family:normal}]"


def test_a_run_goes_on_and_is_applied(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = f"data.path={mixed / 'mixed.csv'}"
    run, short, new = (mixed / name for name in ("run", "short", "new"))
    assert main([*KEYS, path, GIVEN, f"hydra.run.dir={run}"]) in (0, None)
    said = " ".join(capsys.readouterr().out.split())
    assert "components, with the likeliest category or rate or mean of each column" in said
    exported = load_file(run / "parameters.safetensors")
    assert {name: value.shape for name, value in exported.items()} == {
        "weights": (2,), "probabilities": (2, 2, 3), "rates": (2, 1), "means": (2, 1), "covariances": (2, 1, 1)
    }  # fmt: skip
    hidden = pd.read_csv(run / "predictions.csv").query("column == 'size'").astype({"true": float, "mean": float})
    inside = (hidden["true"] - hidden["mean"]).abs() <= 1.6448536269514722 * hidden["standard_deviation"]
    assert f"90% intervals of normal columns hold {inside.mean():.1%}" in said
    scores = pd.read_csv(run / "scores.csv").set_index("column")["coverage_90"]
    assert scores["size"] == pytest.approx(inside.mean()) and scores.drop("size").isna().all()
    written = pd.read_csv(run / "parameters.csv")
    colours = written[written["row"] == "colour"]
    assert set(colours["column"]) == {"red", "blue"}
    assert set(written.loc[written["name"] == "rates", "column"]) == {"visits"}
    assert main([*KEYS, path, GIVEN, "max_steps=4", f"hydra.run.dir={short}"]) in (0, None)
    steps = json.loads((run / "summary.json").read_text())["last_row"]["step"]
    assert main([f"resume={short}", f"max_steps={max(steps, 2000)}"]) in (0, None)
    again = load_file(short / "parameters.safetensors")
    for name, value in exported.items():
        np.testing.assert_array_equal(again[name], value)
    frame = pd.read_csv(mixed / "mixed.csv")
    frame[["visits", "size", "shape", "colour"]].tail(40).to_csv(mixed / "new.csv", index=False)
    assert main([f"apply={run}", f"data.path={mixed / 'new.csv'}", f"hydra.run.dir={new}"]) in (0, None)
    filled = pd.read_csv(new / "imputed.csv")
    assert filled["colour"].isin(["red", "blue"]).all()
    summary = json.loads((new / "summary.json").read_text())
    joint = np.tile(np.log(exported["weights"]), (40, 1))
    names = {"shape": ["flat", "long", "round"], "colour": ["blue", "red"]}
    for n, row in enumerate(frame.tail(40).to_dict("records")):
        for k in range(2):
            spread = exported["covariances"][k, 0, 0] ** 0.5
            joint[n, k] += stats.norm(exported["means"][k, 0], spread).logpdf(row["size"])
            joint[n, k] += stats.poisson(exported["rates"][k, 0]).logpmf(row["visits"])
            for place, column in enumerate(("shape", "colour")):
                order = sorted(names[column])
                if isinstance(row[column], str):
                    joint[n, k] += np.log(exported["probabilities"][k, place, order.index(row[column])])
    entries = int(frame.tail(40).notna().sum().sum())
    own = logsumexp(joint, 1).sum() / entries
    assert summary["last_row"]["train_log_likelihood"] == pytest.approx(own, rel=1e-9)


def test_auto_takes_texts_for_categories_and_is_as_good_as_by_hand(mixed: Path) -> None:
    path = f"data.path={mixed / 'mixed.csv'}"
    blocks = "model.blocks=[{family:normal},{family:categorical,columns:[colour,shape]}]"
    found = []
    for number, more in enumerate(([], [blocks])):
        run = mixed / f"run{number}"
        assert main([*KEYS, path, *more, f"hydra.run.dir={run}"]) in (0, None)
        found.append(load_file(run / "parameters.safetensors"))
    for name, value in found[0].items():
        np.testing.assert_array_equal(found[1][name], value)


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ("[{family:gamma}]", "model.blocks"),
        ("[{columns:[size]}]", "model.blocks"),
        ("normal", "model.blocks=normal is not a list of blocks"),
        ("[]", "model.blocks"),
        ("[{family:normal,dim:2}]", "model.blocks"),
        ("[{family:normal}]", "the column 'colour' holds categories, and its block of model.blocks is normal"),
    ],
)
def test_a_mistake_in_the_blocks_is_one_line(
    mixed: Path, blocks: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [*KEYS, f"data.path={mixed / 'mixed.csv'}", f"model.blocks={blocks}"]
    assert main([*keys, f"hydra.run.dir={mixed / 'run'}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("lgm-run: error: ") and said in line
