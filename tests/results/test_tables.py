"""Predictions and imputed tables: in the input's own labels, and readable back to the last bit."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lgm_cli.command import cli
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.load import load
from lgm_cli.data.base.make_table import rectangle
from lgm_cli.data.base.table import Table
from lgm_cli.results.tables import gaps, write_columns, write_csv, write_imputed, write_predictions


def no_model(options):
    raise AssertionError("only simulated data call the model")


def test_predictions_name_rows_and_columns_as_the_input_does(tmp_path):
    table = Table(
        name="ratings",
        rows=np.array([0, 0, 1, 2]),
        columns=np.array([0, 1, 1, 0]),
        values=np.array([3.5, 4.0, 0.1, 2.0]),
        row_labels=pd.Index([10, 20, 30]),
        column_labels=pd.Index([5, 7]),
        common_unit=True,
        is_table=False,
    )
    data = Data(table, np.array([False, True, True, False]))
    write_predictions(tmp_path / "predictions.csv", data, np.array([1 / 3, 2.0]), np.array([0.5, 0.25], np.float32))
    assert (tmp_path / "predictions.csv").read_text() == (
        "row,column,true,mean,standard_deviation\n10,7,4.0,0.3333333333333333,0.5\n20,7,0.1,2.0,0.25\n"
    )


def test_true_values_of_whole_numbers_stay_whole(tmp_path):
    values = np.array([[1.0, 2.5, 4], [2, 3, 2.0**60], [np.nan, 1, 7]])
    data = Data(rectangle("test", values, pd.RangeIndex(3), pd.Index(["a", "b", "c"])), np.ones(8, bool))
    write_predictions(tmp_path / "predictions.csv", data, np.zeros(8), np.ones(8))
    frame = pd.read_csv(tmp_path / "predictions.csv", dtype=str)
    assert frame["true"].tolist() == ["1", "2.5", "4.0", "2", "3.0", "1.152921504606847e+18", "1.0", "7.0"]
    whole = Data(rectangle("test", values[:1], pd.RangeIndex(1), pd.Index(["a", "b", "c"])), np.array([1, 0, 1], bool))
    write_predictions(tmp_path / "predictions.csv", whole, np.zeros(2), np.ones(2))
    assert pd.read_csv(tmp_path / "predictions.csv", dtype=str)["true"].tolist() == ["1", "4"]


def test_predictions_without_hidden_entries_are_a_header(tmp_path):
    data = Data(rectangle("test", np.eye(2), pd.RangeIndex(2), pd.RangeIndex(2)), np.zeros(4, bool))
    write_predictions(tmp_path / "predictions.csv", data, np.zeros(0), np.zeros(0))
    assert (tmp_path / "predictions.csv").read_text() == "row,column,true,mean,standard_deviation\n"


@pytest.mark.parametrize(
    ("text", "index", "imputed", "uncertain"),
    [
        (
            "a,b\n0.1,3\n,5\n1e-300,\n2,7\n",
            None,
            "a,b\n0.1,3\n-1.5,5\n1e-300,0.3333333333333333\n2.0,7\n",
            "a,b\n,\n0.5,\n,0.25\n,\n",
        ),
        (
            'a,day,"b, c"\n0.1,2020-01,3\n,"Tue, 2nd",5\n1e-300,007,\n2,,7\n',
            "day",
            'day,a,"b, c"\n2020-01,0.1,3\n"Tue, 2nd",-1.5,5\n007,1e-300,0.3333333333333333\n,2.0,7\n',
            'day,a,"b, c"\n2020-01,,\n"Tue, 2nd",0.5,\n007,,0.25\n,,\n',
        ),
    ],
    ids=["positions", "index"],
)
def test_the_gaps_of_the_users_table_are_filled(tmp_path, text, index, imputed, uncertain):
    (tmp_path / "survey.csv").write_text(text)
    options = {"name": "csv", "path": str(tmp_path / "survey.csv"), "index": index, "test_fraction": 0.3}
    data = load(options, 0, no_model)
    assert data.hidden.sum() == 2  # hidden entries are the user's own values, not gaps
    rows, columns = gaps(data.table)
    assert (rows.tolist(), columns.tolist()) == ([1, 2], [0, 1])
    paths = tmp_path / "imputed.csv", tmp_path / "imputed_standard_deviation.csv"
    write_imputed(*paths, data, rows, columns, np.array([-1.5, 1 / 3]), np.array([0.5, 0.25]))
    assert (tmp_path / "imputed.csv").read_text() == imputed
    assert (tmp_path / "imputed_standard_deviation.csv").read_text() == uncertain


@settings(max_examples=40, deadline=None)
@given(
    arrays(
        np.float64,
        array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6),
        elements=st.floats(allow_nan=True, allow_infinity=False),
    )
)
def test_an_imputed_table_reads_back_to_the_last_bit(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("imputed")
    table = rectangle(
        "test",
        values,
        pd.RangeIndex(len(values)),
        pd.Index([f"y{column}" for column in range(values.shape[1])]),
    )
    rows, columns = gaps(table)
    assert len(rows) == np.isnan(values).sum()
    filled = np.where(np.isnan(values), np.pi, values)
    data = Data(table, np.zeros(len(table.values), bool))
    paths = folder / "imputed.csv", folder / "imputed_standard_deviation.csv"
    write_imputed(*paths, data, rows, columns, filled[rows, columns], np.ones(len(rows)))
    np.testing.assert_array_equal(pd.read_csv(folder / "imputed.csv").to_numpy(np.float64), filled)
    uncertain = pd.read_csv(folder / "imputed_standard_deviation.csv", skip_blank_lines=False)
    np.testing.assert_array_equal(np.isnan(uncertain.to_numpy(np.float64)), ~np.isnan(values))


@pytest.mark.parametrize("control", ["\r", "\r\n", "\n", "\t", "\x0b", "\x1c", "\x1b[31m", "\x85", "\u2028"])
def test_control_characters_in_names_and_labels_can_be_read_back(tmp_path, control):
    """By Python's csv, by pandas and by data=csv."""
    names, labels = [f"a{control}x", "b"], [f"p{control}q", "=1+1", "@s", "t"]
    with (tmp_path / "given.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([["i", *names], *([label, k, k * k or ""] for k, label in enumerate(labels))])
    options = {"name": "csv", "path": str(tmp_path / "given.csv"), "index": "i", "test_fraction": 0.0}
    data = load(options, 0, no_model)
    rows, columns = gaps(data.table)
    write_imputed(tmp_path / "full.csv", tmp_path / "sd.csv", data, rows, columns, np.array([7.0]), np.array([0.5]))
    again = load(options | {"path": str(tmp_path / "full.csv")}, 0, no_model)
    assert again.table.column_labels.tolist() == names and again.table.row_labels.tolist() == labels
    everything = Data(data.table, np.ones(len(data.table.values), bool))
    write_predictions(tmp_path / "predictions.csv", everything, data.table.values, data.table.values)
    write_columns(tmp_path / "columns.csv", data.table)
    write_csv(
        pd.DataFrame({f"f{control}": [0.5, 1.5]}, index=pd.Index(names)), tmp_path / "x.csv", index_label="column"
    )
    for name, key, expected in (
        ("full.csv", "i", labels),
        ("predictions.csv", "column", [names[k] for k in data.table.columns]),
        ("predictions.csv", "row", [labels[k] for k in data.table.rows]),
        ("columns.csv", "column", names),
        ("x.csv", "column", names),
    ):
        with (tmp_path / name).open(newline="", encoding="utf-8") as file:
            assert [record[key] for record in csv.DictReader(file, strict=True)] == expected
        assert pd.read_csv(tmp_path / name, keep_default_na=False)[key].tolist() == expected


def test_a_regression_speaks_of_observations_as_rows(tmp_path):
    """Predictions, and the user's table with the responses that were missing."""
    path = tmp_path / "table.csv"
    path.write_text("when,a,fat,b\nmon,1,10.0,2\ntue,3,,4\nwed,5,30.0,6\nthu,7,40.0,9\n")
    options = {"name": "csv", "path": str(path), "index": "when", "target": "fat", "test_fraction": 0.4}
    data = load(options, 0, no_model)
    assert data.hidden.sum() == 1
    write_predictions(tmp_path / "predictions.csv", data, np.array([20.0]), np.array([1.0]))
    predicted = pd.read_csv(tmp_path / "predictions.csv")
    assert predicted["column"].tolist() == ["fat"]
    truth = {"mon": 10.0, "wed": 30.0, "thu": 40.0}
    assert truth[predicted["row"][0]] == predicted["true"][0]
    rows, columns = gaps(data.table)
    write_imputed(tmp_path / "full.csv", tmp_path / "sd.csv", data, rows, columns, np.array([21.5]), np.array([0.5]))
    assert (tmp_path / "full.csv").read_text() == ("when,a,fat,b\nmon,1,10,2\ntue,3,21.5,4\nwed,5,30,6\nthu,7,40,9\n")
    assert (tmp_path / "sd.csv").read_text() == "when,a,fat,b\nmon,,,\ntue,,0.5,\nwed,,,\nthu,,,\n"


def test_whole_numbers_stay_whole_beside_what_was_filled(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    ages = random.integers(20, 60, 80)
    heights = ages / 10 + random.normal(size=80)
    lines = [f"{age},{height!r},{2 * age}" for age, height in zip(ages.tolist(), heights.tolist(), strict=True)]
    lines[3], lines[5] = f",{heights.tolist()[3]!r},40", "30,,60"
    (tmp_path / "table.csv").write_text("\n".join(["age,height,double", *lines, ""]))
    data = ["data=csv", f"data.path={tmp_path / 'table.csv'}", f"hydra.run.dir={tmp_path / 'run'}"]
    cli.in_python(["model=factor_analysis", *data, "model.latent_dim=1", "max_steps=3", "method=em", "device=cpu"])
    written = (tmp_path / "run" / "imputed.csv").read_text().splitlines()
    assert written[0] == "age,height,double" and len(written) == 81
    for place, (line, found) in enumerate(zip(lines, written[1:], strict=True)):
        if place not in (3, 5):
            assert found == line
    assert "." in written[4].split(",")[0] and written[4].endswith(",40")
    assert written[6].startswith("30,") and written[6].endswith(",60")
