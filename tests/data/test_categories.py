"""data.categories: columns of text as categories, from the file to what a run leaves and new files for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import load_file

from lgm_cli.command.cli import main
from lgm_cli.data.base.categories import errors, sizes
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.load import load
from lgm_cli.errors import UserError

COLOURS, SIZES = ("blue", "green", "red"), ("large", "small")


def read(path: Path, content: str, **options: object) -> Data:
    path.write_text(content, encoding="utf-8")
    return load({"name": "csv", "path": path, "test_fraction": 0.0} | options, 0, lambda _: {})


def dense(data: Data) -> np.ndarray:
    values = np.full(data.shape, np.nan)
    values[data.table.rows, data.table.columns] = data.table.values
    return values


MIXED = "who,colour,x,size\na,red,1.5,10\nb,NA,2,9\nc,blue,3,\nd, green ,4,10.0\n"


def test_texts_become_numbers_in_the_order_of_their_names(tmp_path):
    data = read(tmp_path / "x.csv", MIXED, index="who", categories=["colour", "size"])
    np.testing.assert_array_equal(dense(data), [[2, 1.5, 1], [np.nan, 2, 0], [0, 3, np.nan], [1, 4, 1]])
    assert data.table.categories == {"colour": COLOURS, "size": ("9", "10")}
    assert sizes(data.table).tolist() == [3, 0, 2]
    assert "1 cell 'NA' read as missing; read as categories: 'colour' (3), 'size' (2)" in data.describe()


def test_all_means_every_column_of_text_and_others_may_be_named_beside_it(tmp_path):
    data = read(tmp_path / "x.csv", MIXED, index="who", categories=["all"])
    assert data.table.categories == {"colour": COLOURS} and data.table.column_labels.tolist() == ["colour", "x", "size"]
    assert "left out" not in data.describe()
    data = read(tmp_path / "x.csv", MIXED, index="who", categories=["all", "size"])
    assert data.table.categories == {"colour": COLOURS, "size": ("9", "10")}
    data = read(tmp_path / "x.csv", MIXED, index="who", categories=["all"], missing=["green"], drop=["x"])
    assert data.table.categories == {"colour": ("blue", "red")}


def test_names_are_part_of_the_fingerprint_only_where_there_are_some(tmp_path):
    codes = read(tmp_path / "x.csv", "a,b\n0,0\n1,1\n1,0\n")
    first = read(tmp_path / "x.csv", "a,b\nno,0\nyes,1\nyes,0\n", categories=["a"])
    second = read(tmp_path / "x.csv", "a,b\nn,0\ny,1\ny,0\n", categories=["a"])
    np.testing.assert_array_equal(dense(codes), dense(first))
    assert len({data.fingerprint for data in (codes, first, second)}) == 3
    assert codes.fingerprint.startswith("b05d1166d9aa763d")  # as before there were categories


MANY = "a,b\n" + "".join(f"w{number},{number % 3}\n" for number in range(60))
REFUSED = {
    "too many": (MANY, {"categories": ["a"]}, r"column 'a' has 60 categories, and at most 50 .*data.drop=a, "),
    "too many of all": (MANY, {"categories": ["all"]}, "column 'a' has 60 categories"),
    "one": ("a,b\nx,1\nx,2\n", {"categories": ["a"]}, "column 'a' has a single category 'x' .*data.drop=a"),
    "none": ("a,b,c\n,1,2\nNA,2,1\n", {"categories": ["a"]}, "column 'a' has no category"),
    "no text": ("a,b\n1,2\n2,1\n", {"categories": ["all"]}, "data.categories=all, and .* has no column of text alone"),
    "unknown": (MIXED, {"categories": ["color"]}, r"data.categories=color is not a column .*data.categories=colour\?"),
    "the target": (MIXED, {"categories": ["x"], "target": "x"}, "data.categories has data.target=x"),
    "the index": (MIXED, {"categories": ["who"], "index": "who"}, "data.categories=who is not among the columns"),
    "dropped": (MIXED, {"categories": ["x"], "drop": ["x"]}, "data.categories=x is not among the columns"),
    "both": ("a,b,c\n1,x,u\n2,3,v\n", {"categories": ["all"]}, "'x' is not a number .*data.categories=b for c"),
    "a gap": (MIXED, {"drop": ["who"], "categories": ["all"], "target": "x"}, "no value in column 'colour"),
    "a name that is there": (
        "y,a,a=v\n1,u,1\n2,v,2\n3,u,2\n", {"categories": ["a"], "target": "y"}, "has a column 'a=v', and that is the",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, content, options, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path / "x.csv", content, **options)


def test_the_error_of_a_category_is_one_where_it_is_wrong(tmp_path):
    table = read(tmp_path / "x.csv", MIXED, index="who", categories=["colour"]).table
    found = errors(np.array([2.0, 2, 5]), np.array([0.0, 2, 3]), np.array([0, 0, 1]), table)
    assert found.tolist() == [1, 0, 2]


# Runs ------------------------------------------------------------------------------------------------------------


def table(rows: int = 120) -> pd.DataFrame:
    """Two groups of rows that differ in all three columns, with gaps."""
    draw = np.random.default_rng(3)
    group = draw.random(rows) < 0.4
    frame = pd.DataFrame({"row": [f"r{place}" for place in range(rows)]})
    for name, words, apart in (
        ("colour", COLOURS, 0.8),
        ("size", SIZES, 0.85),
        ("taste", ("bad", "fair", "good"), 0.7),
    ):
        own = np.where(
            draw.random(rows) < apart, np.where(group, 0, len(words) - 1), draw.integers(len(words), size=rows)
        )
        frame[name] = np.where(draw.random(rows) < 0.05, "", np.array(words)[own])
    return frame


def as_codes(frame: pd.DataFrame) -> pd.DataFrame:
    """Names as numbers, by hand."""
    codes = frame.copy()
    for name in frame.columns[1:]:
        place = {word: number for number, word in enumerate(sorted(set(frame[name]) - {""}))}
        codes[name] = frame[name].map(place).astype("Int64")
    return codes


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("categories")
    table().to_csv(folder / "texts.csv", index=False)
    as_codes(table()).to_csv(folder / "codes.csv", index=False)
    table()[["row", "size"]].assign(other=table()["size"].to_numpy()[::-1]).to_csv(folder / "two.csv", index=False)
    run(folder, "texts", *MIXTURE, *TEXTS)
    return folder


MIXTURE = ("model=multinoulli_mixture", "model.num_components=2", "method=em", "device.dtype=float64", "data.index=row")
TEXTS = ("data=csv", "data.path=texts.csv", "data.categories=all")


def run(folder: Path, name: str, *arguments: str, code: int = 0) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*arguments, f"hydra.run.dir={name}"]) == code
    return folder / name


def test_texts_learn_as_the_numbers_that_stand_for_them(folder):
    codes = run(folder, "codes", *MIXTURE, "data=csv", "data.path=codes.csv")
    one, other = (json.loads((folder / name / "summary.json").read_text()) for name in ("texts", "codes"))
    for score in ("train_log_likelihood", "test_log_likelihood"):
        assert one["last_row"][score] == pytest.approx(other["last_row"][score], abs=1e-10)
    mine, theirs = (load_file(path / "parameters.safetensors") for path in (folder / "texts", codes))
    for name, value in theirs.items():
        np.testing.assert_allclose(mine[name], value, atol=1e-10)


def test_files_have_names_and_the_most_probable_fills_gaps(folder):
    given, done = table(), folder / "texts"
    filled, rest = (
        pd.read_csv(done / name, index_col="row", keep_default_na=False)
        for name in ("imputed.csv", "imputed_standard_deviation.csv")
    )
    known = given.set_index("row") != ""
    assert (filled[known] == given.set_index("row")[known]).to_numpy()[known].all() and not known.all(axis=None)
    hidden = pd.read_csv(done / "predictions.csv")
    learned = given.set_index("row")
    for row, column in hidden[["row", "column"]].itertuples(index=False):
        learned.loc[row, column] = ""
    found = load_file(done / "parameters.safetensors")
    words = [COLOURS, SIZES, ("bad", "fair", "good")]

    def probabilities(row: str, column: int) -> np.ndarray:
        """By Bayes' rule, from what the run has learned of the row."""
        share = found["weights"].copy()
        for place, word in enumerate(learned.loc[row]):
            if word:
                share *= found["probabilities"][:, place, words[place].index(word)]
        return share / share.sum() @ found["probabilities"][:, column]

    gaps = [(row, place) for row, kept in known.iterrows() for place in np.flatnonzero(~kept.to_numpy())]
    assert len(gaps) > 5
    for row, place in gaps:
        chances = probabilities(row, place)
        assert filled.loc[row].iloc[place] == words[place][chances.argmax()]
        assert float(rest.loc[row].iloc[place]) == pytest.approx(1 - chances.max(), abs=1e-9)
    wrong = 0
    for row, column, true, mean, deviation in hidden.itertuples(index=False):
        place = given.columns.get_loc(column) - 1
        chances = probabilities(row, place)
        assert true == given.set_index("row").loc[row, column] and mean == words[place][chances.argmax()]
        assert deviation == pytest.approx(1 - chances.max(), abs=1e-9)
        wrong += true != mean
    last = json.loads((done / "summary.json").read_text())["last_row"]
    assert last["test_rmse"] == pytest.approx((wrong / len(hidden)) ** 0.5)
    lines = pd.read_csv(done / "parameters.csv")
    assert lines["column"][lines["row"] == "size"].tolist() == 2 * list(SIZES)
    np.testing.assert_allclose(lines["value"][2:5], found["probabilities"][0, 0], atol=1e-12)
    assert (
        f"{wrong / len(hidden):.1%} of the hidden categories are predicted wrong" in (done / "summary.txt").read_text()
    )
    names = pd.read_csv(done / "columns.csv").query("role == 'category'")
    assert names["column"].tolist() == [*COLOURS, *SIZES, "bad", "fair", "good"]
    assert {path.stem for path in (done / "plots").iterdir()} >= {"components", "convergence"}
    for entry in json.loads((done / "summary.json").read_text())["scores"].values():
        assert entry["unit"] == "root of the share of wrong categories"


def test_a_new_file_has_the_names_of_the_run(folder, capsys):
    (folder / "new.csv").write_text("taste,row,size,colour\ngood,a,small,\nbad,b,,blue\n", encoding="utf-8")
    done = run(folder, "new", "apply=texts", "data.path=new.csv")
    filled = pd.read_csv(done / "imputed.csv", index_col="row")
    assert filled.to_numpy().tolist() == [["red", "small", "good"], ["blue", "large", "bad"]]
    (folder / "odd.csv").write_text("row,colour,size,taste\na,red,small,good\nb,black,small,good\n", encoding="utf-8")
    capsys.readouterr()
    run(folder, "odd", "apply=texts", "data.path=odd.csv", code=2)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "line 3, column 'colour': 'black' is no category that the run has learned" in said
    assert "its categories are blue, green, red" in said


def test_a_run_goes_on_and_one_of_an_earlier_version_too(folder):
    done = run(folder, "part", *MIXTURE, *TEXTS, "max_steps=2", "tolerance=1e-12")
    before = json.loads((done / "summary.json").read_text())
    assert before["status"] == "max_steps"
    assert main([f"resume={done}", "max_steps=4"]) == 0
    assert json.loads((done / "summary.json").read_text())["last_row"]["step"] == 4
    old = run(folder, "old", *MIXTURE, "data=csv", "data.path=codes.csv", "max_steps=2", "tolerance=1e-12")
    place = old / ".hydra" / "config.yaml"
    recorded = yaml.safe_load(place.read_text())
    assert recorded["data"].pop("categories") is None
    place.write_text(yaml.safe_dump(recorded))
    assert main([f"resume={old}", "max_steps=4"]) == 0


def test_two_categories_are_zeros_and_ones(folder, capsys):
    done = run(folder, "two", "model=bernoulli_mixture", "model.num_components=2", "method=em", "data=csv",
               "data.path=two.csv", "data.index=row", "data.categories=[size,other]")  # fmt: skip
    lines = pd.read_csv(done / "parameters.csv")
    assert lines["column"].dropna().tolist() == ["size=small", "other=small"] * 2
    assert set(pd.read_csv(done / "imputed.csv")["size"]) == set(SIZES)
    assert "probability of the named category" in (done / "summary.txt").read_text()
    capsys.readouterr()
    run(folder, "three", "model=bernoulli_mixture", "method=em", *TEXTS, "data.index=row", code=2)
    assert "column 'colour' of texts.csv has 3 categories, and this model learns from 2 (model=multinoulli_mixture" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("model", ["factor_analysis", "gaussian_mixture", "poisson_mixture", "ppca"])
def test_other_models_say_which_ones_take_categories(folder, capsys, model):
    run(folder, f"no_{model}", f"model={model}", *TEXTS, "data.index=row", code=2)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "as categories, and this model learns from numbers (model=multinoulli_mi" in said


# Regressions -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def regression(tmp_path_factory) -> tuple[Path, pd.DataFrame, np.ndarray]:
    """A run on a number and two categories, its table, and the same by indicators, made by hand."""
    folder, draw, rows = tmp_path_factory.mktemp("regression"), np.random.default_rng(5), 400
    frame = pd.DataFrame({"colour": np.array(COLOURS)[draw.integers(3, size=rows)], "x": draw.normal(size=rows)})
    frame["y"] = 0.0
    frame["size"] = np.array(SIZES)[draw.integers(2, size=rows)]
    dummies = np.column_stack([
        frame["colour"] == "green", frame["colour"] == "red", frame["x"], frame["size"] == "small",
    ]).astype(float)  # fmt: skip
    frame["y"] = 3 + dummies @ [1.0, -2, 0.5, 4] + 0.01 * draw.normal(size=rows)
    frame.to_csv(folder / "x.csv", index=False)
    run(folder, "run", "model=linear_regression", "method=em", "device.dtype=float64", "data=csv", "data.path=x.csv",
        "data.target=y", "data.categories=all", "data.test_fraction=0", "tolerance=1e-10")  # fmt: skip
    return folder, frame, dummies


def test_categories_are_indicators_of_all_names_but_the_first(regression):
    folder, frame, dummies = regression
    options = {"name": "csv", "path": folder / "x.csv", "test_fraction": 0.0, "target": "y", "categories": ["all"]}
    features = load(options, 0, lambda _: {}).table
    assert features.feature_labels is not None
    assert features.feature_labels.tolist() == ["colour=green", "colour=red", "x", "size=small"]
    np.testing.assert_allclose(features.features, dummies, rtol=1e-12)
    learned = load_file(folder / "run" / "parameters.safetensors")
    weights = load_file(folder / "run" / "posterior.safetensors")["latent_mean"].ravel()
    centred = dummies - dummies.mean(0)
    plain = np.linalg.lstsq(centred, frame["y"] - frame["y"].mean(), rcond=None)[0]
    np.testing.assert_allclose(weights, plain, rtol=1e-4)
    assert learned["intercept"] == pytest.approx(frame["y"].mean(), abs=1e-6)


def test_a_finished_regression_predicts_new_rows_of_categories(regression, capsys):
    folder, frame, _ = regression
    own = pd.read_csv(folder / "run" / "imputed.csv")
    assert own.columns.tolist() == ["colour", "x", "y", "size"] and own[["colour", "size"]].equals(
        frame[["colour", "size"]]
    )
    (folder / "new.csv").write_text("size,x,colour\nsmall,1,blue\nlarge,0,red\n", encoding="utf-8")
    done = run(folder, "new", "apply=run", "data.path=new.csv")
    predicted = pd.read_csv(done / "predictions.csv")["mean"]
    np.testing.assert_allclose(predicted, [3 + 0.5 + 4, 3 - 2], atol=0.01)
    (folder / "odd.csv").write_text("size,x,colour\nsmall,1,blue\nsmall,1,black\n", encoding="utf-8")
    capsys.readouterr()
    run(folder, "odd", "apply=run", "data.path=odd.csv", code=2)
    assert "line 3, column 'colour': 'black' is no category" in capsys.readouterr().err
