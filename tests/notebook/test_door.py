"""`lgm_cli.fit` and `lgm_cli.load`: the same runs as the command line's, in a process that goes on after them."""

import asyncio
import copy
import logging
import pickle
import random
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import initialize
from hydra.core.global_hydra import GlobalHydra

import lgm_cli
from lgm_cli.command.cli import main
from lgm_cli.errors import quoted
from lgm_cli.notebook import frames

ROOT = Path(__file__).parents[2]
EM = ("model=ppca", "model.latent_dim=2", "method=em", "max_steps=15")
PICTURES = "lgm_cli.results.write._draw"


def table(rows: int = 60, gaps: float = 0.1, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(rows, 2)) @ generator.normal(size=(2, 5)) + 0.3 * generator.normal(size=(rows, 5))
    values[generator.random(values.shape) < gaps] = np.nan
    return pd.DataFrame(values, index=[f"person {n}" for n in range(rows)], columns=list("abcde"))


@pytest.fixture(scope="module")
def drawn() -> lgm_cli.Run:
    """A run with its pictures."""
    return lgm_cli.fit(table(), *EM)


def test_nothing_heavy_is_imported_with_the_package():
    program = "import sys, lgm_cli; lgm_cli.UserError; lgm_cli.load; print(*{n.partition('.')[0] for n in sys.modules})"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pandas", "matplotlib", "hydra", "omegaconf"} & set(found.stdout.split())
    assert {"Run", "UserError", "fit", "load"} <= set(dir(lgm_cli))
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = lgm_cli.fitt  # type: ignore[attr-defined]


def test_the_command_line_learns_the_same_from_the_same_file(tmp_path, drawn):
    table().to_csv(tmp_path / "data.csv")
    assert main([*EM, "data=csv", f"data.path={tmp_path}/data.csv", f"hydra.run.dir={tmp_path}/run"]) == 0
    theirs = lgm_cli.load(tmp_path / "run")
    assert theirs.summary["data"]["fingerprint"] == drawn.summary["data"]["fingerprint"]
    assert theirs.status == drawn.status == "max_steps"
    for name, value in theirs.parameters.items():
        np.testing.assert_array_equal(drawn.parameters[name], value)
    for name in ("predictions.csv", "imputed.csv", "imputed_standard_deviation.csv", "loadings.csv", "columns.csv"):
        assert (drawn.folder / name).read_text() == (theirs.folder / name).read_text(), name
    assert set(theirs.pictures) == set(drawn.pictures) >= {"convergence", "predictions", "loadings"}
    left = {path.name for path in drawn.folder.iterdir()} - {path.name for path in theirs.folder.iterdir()}
    assert left == {"data.csv"}
    assert "reading data=csv" in (drawn.folder / "run.log").read_text()


def test_a_run_has_what_its_files_have(drawn):
    given = table()
    parameters = drawn.parameters
    assert parameters["loadings"].shape == (5, 2)
    assert list(drawn.loadings.index) == list("abcde")
    filled, deviation = drawn.impute(with_deviation=True)
    assert list(filled.index) == list(given.index)
    assert list(filled.columns) == list(given.columns)
    assert filled.index.name is None
    known = given.notna().to_numpy()
    np.testing.assert_array_equal(filled.to_numpy()[known], given.to_numpy()[known])
    np.testing.assert_array_equal(deviation.notna().to_numpy(), ~known)
    hidden = drawn.predictions
    assert drawn.metrics["test_rmse"].iloc[-1] == pytest.approx(
        float(np.sqrt(((hidden["true"] - hidden["mean"]) ** 2).mean())), rel=1e-6
    )
    # The posterior of a data point, by its equation: hidden entries are not among what it is given.
    for row in hidden.itertuples():
        assert given.loc[row.row, row.column] == row.true
        given.loc[row.row, row.column] = np.nan
    loadings, mean, noise = parameters["loadings"], parameters["mean"], float(parameters["noise_variance"])
    for name, values in given.head(10).iterrows():
        seen = values.notna().to_numpy()
        precision = np.eye(2) + loadings[seen].T @ loadings[seen] / noise
        expected = np.linalg.solve(precision, loadings[seen].T @ (values.to_numpy() - mean)[seen] / noise)
        np.testing.assert_allclose(drawn.latents.loc[name], expected, atol=1e-4)


def test_numbers_reach_the_reader_as_they_are(tmp_path):
    values = np.array([[0.1, 1 / 3], [1e-300, -2.5e17], [np.nan, np.pi]])
    for given in (values, values.astype(np.float32), pd.DataFrame(values).convert_dtypes(convert_integer=False)):
        frames.write(given, tmp_path / "data.csv")
        read = pd.read_csv(tmp_path / "data.csv")
        assert list(read.columns) == ["column_0", "column_1"]
        np.testing.assert_array_equal(read.to_numpy(), frames.as_frame(given).to_numpy(np.float64, na_value=np.nan))


@pytest.mark.parametrize("name", ["/a b/c.csv", "it's", "a\\b", "C:\\", "\\'", "null", "1", "a,b=c[", "year"])
def test_an_argument_is_read_back_as_it_was(name):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(f"data.index={quoted(name)}").value() == name


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (np.zeros((2, 2, 2)), "3 dimensions"),
        (np.ones((9, 2)) * 1j, "is complex"),
        (pd.DataFrame({"a": [1.0, 2.0]}, index=pd.Index([3, 4], name="a")), "both named 'a'"),
        (pd.DataFrame(np.ones((4, 1)), index=pd.MultiIndex.from_product([[0, 1], [0, 1]])), "several levels"),
        (pd.DataFrame({"a": [1.0, np.inf, 2.0], "b": [1.0, 2.0, 4.0]}), "inf"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(tmp_path, given, what):
    with pytest.raises(lgm_cli.UserError, match=what):
        lgm_cli.fit(given, *EM, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        (["model=ppcc"], r"no model=ppcc \(did you mean model=ppca\?"),
        (["model=ppca", "model.latent_dim=99"], "more than the 5 columns"),
        (["model.latent_dm=2"], "latent_dim"),
        (["seed=0,1"], "several values"),
        (["data=bfi"], "does not read the table"),
        (["data.path=x.csv"], "first argument"),
        (["hydra.run.dir=x"], "folder=DIR"),
        (["hydra.verbose=true"], "hydra.verbose"),
        (["--multirun"], "an option"),
        (["resume=x"], r"load\(DIR\).resume"),
        (["model=sparse_bayes"], "learns from a signal"),
        ([5], "no text"),
    ],
)
def test_a_mistake_is_an_error_with_its_remedy_and_leaves_nothing(tmp_path, overrides, what, capfd):
    with pytest.raises(lgm_cli.UserError, match=what) as found:
        lgm_cli.fit(table(), *overrides, folder=tmp_path / "run")
    assert str(found.value) == f"{found.value.what} ({found.value.mend})"
    assert not (tmp_path / "run").exists()
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_is_taken_stays_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(PICTURES, lambda *_: None)
    run = lgm_cli.fit(table(), *EM, folder=tmp_path / "run")
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with pytest.raises(lgm_cli.UserError, match="holds a run already"):
        lgm_cli.fit(table(seed=1), *EM, folder=tmp_path / "run")
    assert before == {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "data.csv").write_text("mine")
    with pytest.raises(lgm_cli.UserError, match="there already"):
        lgm_cli.fit(table(), *EM, folder=tmp_path / "own")
    assert (tmp_path / "own" / "data.csv").read_text() == "mine"


def test_the_process_is_left_as_it_was(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(PICTURES, lambda *_: None)
    root, stream = logging.getLogger(), logging.FileHandler(tmp_path / "mine.log", mode="w")
    root.addHandler(stream)
    threads, other = torch.get_num_threads(), torch.get_num_threads() % 2 + 1
    torch.set_num_threads(other)
    torch.set_default_dtype(torch.float64)
    GlobalHydra.instance().clear()
    monkeypatch.setenv("OMP_NUM_THREADS", "no number")
    try:
        with initialize(config_path=None, version_base="1.3"):
            mine = GlobalHydra.instance().hydra
            before = (
                root.handlers[:],
                root.level,
                logging.raiseExceptions,
                sys.argv[:],
                logging.getLogger("lgm_cli").handlers[:],
            )
            draws = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
            lgm_cli.fit(table(), *EM)
            with pytest.raises(lgm_cli.UserError):
                lgm_cli.fit(table(), "model.latent_dim=99")
            root.warning("after the run")
            assert GlobalHydra.instance().hydra is mine
            after = (
                root.handlers[:],
                root.level,
                logging.raiseExceptions,
                sys.argv[:],
                logging.getLogger("lgm_cli").handlers[:],
            )
            assert after == before
            assert random.getstate() == draws[0]
            assert torch.equal(torch.get_rng_state(), draws[1])
            np.testing.assert_array_equal(np.random.get_state()[1], draws[2])  # noqa: NPY002
        assert torch.get_num_threads() == other
        assert torch.get_default_dtype() == torch.float64
        import os

        assert os.environ["OMP_NUM_THREADS"] == "no number"
        assert "HYDRA_FULL_ERROR" not in os.environ
        assert (tmp_path / "mine.log").read_text() == "after the run\n"
        assert capfd.readouterr().out == ""
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(threads)
        root.removeHandler(stream)
        stream.close()


def test_the_log_is_shown_when_it_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(PICTURES, lambda *_: None)
    run = lgm_cli.fit(table(), *EM, verbose=True)
    shown = capsys.readouterr().out
    assert "60 x 5" in shown
    assert all(line in (run.folder / "run.log").read_text() for line in shown.splitlines())


def test_runs_of_threads_and_of_an_event_loop_take_turns(monkeypatch):
    monkeypatch.setattr(PICTURES, lambda *_: None)
    found: dict[int, lgm_cli.Run] = {}

    def one(seed: int) -> None:
        found[seed] = lgm_cli.fit(table(seed=seed), *EM, f"seed={seed}")

    async def in_a_kernel() -> None:
        one(0)
        await asyncio.gather(*(asyncio.to_thread(one, seed) for seed in (1, 2)))

    asyncio.run(in_a_kernel())
    assert threading.active_count() >= 1
    for seed, run in found.items():
        alone = lgm_cli.fit(table(seed=seed), *EM, f"seed={seed}")
        np.testing.assert_array_equal(run.parameters["loadings"], alone.parameters["loadings"])
        assert (run.folder / "run.log").read_text().count("reading data=csv") == 1


def test_a_run_is_its_folder(drawn, tmp_path):
    for same in (pickle.loads(pickle.dumps(drawn)), copy.copy(drawn), copy.deepcopy(drawn), lgm_cli.load(drawn.folder)):
        assert same == drawn
        assert hash(same) == hash(drawn)
        assert same.summary == drawn.summary
    with pytest.raises(lgm_cli.UserError, match="does not exist"):
        lgm_cli.load(tmp_path / "none")
    with pytest.raises(lgm_cli.UserError, match="holds no run"):
        lgm_cli.load(tmp_path)


def test_what_a_run_has_not_left_is_said(drawn):
    with pytest.raises(lgm_cli.UserError, match=r"no forecast.csv \(.*data.forecast=STEPS"):
        drawn.forecast()
    with pytest.raises(lgm_cli.UserError, match="no picture 'convergance' \\(did you mean 'convergence'"):
        drawn.show("convergance")


def test_criteria_are_those_of_the_summary(drawn, tmp_path):
    import json
    import shutil

    run = lgm_cli.load(shutil.copytree(drawn.folder, tmp_path / "run"))
    summary = run.summary | {"aic": 12.5, "bic": 20.25}
    (run.folder / "summary.json").write_text(json.dumps(summary))
    assert (run.aic, run.bic) == (12.5, 20.25)
    (run.folder / "summary.json").write_text(json.dumps(summary | {"aic": None}))
    with pytest.raises(lgm_cli.UserError, match=f"version {lgm_cli.__version__}"):
        _ = run.aic


def test_apply_and_resume(drawn, monkeypatch, tmp_path):
    monkeypatch.setattr(PICTURES, lambda *_: None)
    given = table().head(7)
    for answer in (drawn.apply(given), drawn.apply(given.reset_index(drop=True), folder=tmp_path / "new")):
        assert answer.status == "applied"
        known = given.notna().to_numpy()
        np.testing.assert_array_equal(answer.impute().to_numpy()[known], given.to_numpy()[known])
        assert answer.latents.shape == (7, 2)
        assert answer.impute().notna().all(axis=None)
    assert list(drawn.apply(given).latents.index) == list(given.index)
    with pytest.raises(lgm_cli.UserError, match="column"):
        drawn.apply(given.drop(columns="a"), folder=tmp_path / "other")
    assert not (tmp_path / "other").exists()
    run = lgm_cli.fit(table(), *EM)
    assert run.resume("max_steps=40") is run
    assert run.metrics["step"].iloc[-1] > 15
    with pytest.raises(lgm_cli.UserError, match="may only be raised"):
        run.resume("max_steps=3")


def test_a_run_is_shown_with_its_pictures_and_nothing_of_the_data_runs(monkeypatch, drawn):
    page = drawn._repr_html_()
    assert page.count("data:image/png;base64,") == 3
    assert "stopped at max_steps" in page
    assert "max_steps" in repr(drawn)
    assert str(drawn.folder) in repr(drawn)
    assert drawn.show()._repr_html_().startswith('<img alt="convergence"')
    summary = drawn.summary | {"warnings": ["<script>alert(1)</script>"], "status": "<b>"}
    monkeypatch.setattr(lgm_cli.Run, "summary", property(lambda _: summary))
    assert "<script>" not in drawn._repr_html_()
    assert "&lt;b&gt;" in drawn._repr_html_()
