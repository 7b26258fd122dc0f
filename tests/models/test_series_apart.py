"""Several series as data points of their own: incremental and online EM of a hidden Markov model."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lgm_cli.command.cli import main
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.method import Method
from lgm_cli.methods.statistics.replaced import Replaced
from lgm_cli.methods.statistics.running import Running
from lgm_cli.models.hidden_markov import HiddenMarkov
from tests import cases
from tests.models.test_hidden_markov import chunk_of, kinds, likelihood, model_of, moved
from tests.models.test_known_states import labelled
from tests.models.test_several_series import joined, values_of

SIZES = (9, 1, 14, 6, 11, 8, 5, 12)


def bound(emission: str, covariance: str) -> HiddenMarkov:
    """Eight series, one of them without a value and one with steps to forecast; some states are known."""
    values = values_of(emission, covariance, sum(SIZES))
    values[sum(SIZES[:3]) : sum(SIZES[:4])] = np.nan
    values[sum(SIZES[:5]) - 3 : sum(SIZES[:5])] = np.nan
    known = np.where(np.arange(sum(SIZES)) % 11 == 0, np.arange(sum(SIZES)) % 2, -1)
    model = cases.bind(model_of(emission, covariance), labelled(joined(values, SIZES), known))
    assert isinstance(model, HiddenMarkov)
    return model


@kinds
@pytest.mark.parametrize("size", [1, 3, None])
def test_statistics_of_the_blocks_add_up_to_those_of_all_series(
    emission: str, covariance: str, size: int | None
) -> None:
    model = bound(emission, covariance)
    parameters, chunk = moved(model), chunk_of(model)
    wanted = model.statistics(chunk, model.posterior(parameters, chunk))
    parts = model.apart(3, size)
    chunks = list(parts.observations.chunks)
    assert parts.observations.block_sizes == {1: [1] * 8, 3: [3, 3, 2], None: [8]}[size]
    assert sorted(torch.cat([each.points for each in chunks]).tolist()) == list(range(8))
    found: dict[str, torch.Tensor] = {}
    for part in itertools.chain.from_iterable(each.split(2) for each in chunks):
        found = parts.add_statistics(found, part, parts.posterior(parameters, part))
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9)
    assert sum(each.observed for each in chunks) == chunk.observed
    scales = sum(float(parts.log_scales(each).sum()) for each in chunks)
    assert scales == pytest.approx(float(model.log_scales(chunk).sum()), abs=1e-9)
    for each in chunks:  # the entries are those of the table
        seen, entries = each.scattered(model.observations.shape[1])
        own = chunk.scattered(model.observations.shape[1])[1][0]
        assert torch.equal(entries[seen > 0], own.expand_as(entries)[seen > 0])


@pytest.mark.parametrize("emission", ["normal", "poisson"])
def test_incremental_em_never_lowers_the_free_energy_and_ends_where_em_stays(emission: str) -> None:
    model = bound(emission, "diagonal")
    parts = model.apart(0, 2)
    update = ClosedForm(parts, model.start(0), Replaced(parts, 1))
    update.measured = True
    method, found = Method(parts, Exact(parts), update, 1, 0), []
    for _ in range(150):
        method.step()
        assert update.free_energy is not None
        found.append(float(update.free_energy))
    whole = Method(model, Exact(model), ClosedForm(model, method.parameters), 1, 0)
    whole.step()
    assert min(np.diff(found)) > -1e-8 and found[-1] > found[0] + 1
    before = likelihood(model, method.parameters)
    assert before - 1e-9 <= likelihood(model, whole.parameters) < before + 1e-3


def test_online_em_learns_from_a_series_at_a_time() -> None:
    """One pass over 80 series, of which each step sees two, comes nearer the truth than one step of EM."""
    model = model_of("normal", "diagonal")
    draw = np.random.default_rng(0)
    state = (np.cumsum(draw.random((80, 25)) < 0.15, axis=1) + draw.integers(0, 2, (80, 1))) % 2
    values = draw.normal(size=(80 * 25, 2)) + 1.2 * state.reshape(-1, 1)
    model = cases.bind(model, joined(values, (25,) * 80))
    assert isinstance(model, HiddenMarkov)
    parts = model.apart(0, 2)
    online = Method(parts, Exact(parts), ClosedForm(parts, model.start(0), Running(parts, 0.6)), 1, 0)
    whole = Method(model, Exact(model), ClosedForm(model, model.start(0)), 1, 0)
    whole.step()
    once = likelihood(model, whole.parameters)
    for _ in range(40):
        online.step()
    for _ in range(200):
        whole.step()
    best = likelihood(model, whole.parameters)
    assert once < likelihood(model, online.parameters) <= best + 1e-6
    for _ in range(150):
        online.step()
    assert likelihood(model, online.parameters) > best - 2.0


def write(path: Path) -> Path:
    draw = np.random.default_rng(0)
    state = np.repeat(draw.integers(0, 2, 40), 3)
    frame = pd.DataFrame(draw.normal(size=(120, 2)) + 3 * state[:, None], columns=["y", "z"])
    frame.assign(of=np.repeat(list("abcdefgh"), 15)).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("method", ["incremental_em", "online_em", "stochastic_em"])
def test_runs_by_series_resume_and_one_series_is_refused(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lgm_cli.results.write._draw", lambda *_: None)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    common = ["model=hidden_markov", "model.num_components=2", "data=series", f"data.path={write(tmp_path / 'y.csv')}",
              f"method={method}", "device=cpu", "tolerance=0", "data.horizon=2"]  # fmt: skip
    common += ["method.batch_size=2"] if method != "stochastic_em" else []
    if method == "incremental_em":
        assert main([*common, "data.drop=[of]", "max_steps=2", f"hydra.run.dir={tmp_path / 'one'}"]) == 2
        assert "or a file of several series with data.series" in capsys.readouterr().err
    common.append("data.series=of")
    assert main([*common, "max_steps=6", f"hydra.run.dir={whole}"]) == 0
    assert main([*common, "max_steps=3", f"hydra.run.dir={parts}"]) == 0
    assert main([f"resume={parts}", "max_steps=6"]) == 0
    for name in ("parameters.safetensors", "posterior.safetensors"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["status"] == "max_steps"
    if method != "stochastic_em":
        assert summary["chosen"]["batch_size"] == 2
