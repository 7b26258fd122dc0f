"""New files for a finished run: recognised anew, however its own was written, and held to its columns."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lgm_cli.command import choices
from lgm_cli.command.apply import _data
from lgm_cli.data.base.load import load
from lgm_cli.errors import UserError
from lgm_cli.results.tables import write_columns
from lgm_cli.run import new_data


def learned(folder: Path, name: str, content: str | bytes, given: dict[str, Any]) -> dict[str, Any]:
    """Columns of a run with such data in its folder, and its configuration of data."""
    options = {key: entry.default for key, entry in choices.keys(f"data/{name}").items()} | {"test_fraction": 0.0}
    (folder / "own").write_bytes(content.encode() if isinstance(content, str) else content)
    options |= {"name": name, "path": str(folder / "own")} | given
    write_columns(folder / "columns.csv", load(options, 0, lambda _: {}).table)
    return options


def applied(folder: Path, options: dict[str, Any], content: str | bytes, **given: str):
    """The table that the new file becomes; given: what is said on the command line of apply=."""
    (folder / "new").write_bytes(content.encode() if isinstance(content, str) else content)
    asked = {"data.path": str(folder / "new")} | {f"data.{key}": value for key, value in given.items()}
    found = _data(options, {"reader": options["name"]}, asked)
    return new_data.load(folder, found, {}, asked)


GERMAN = "who;a;b\nx;1,5;2\ny;2,5;3\nz;-9;1\n"


@pytest.mark.parametrize(
    ("content", "given"),
    [
        ("who;b;a\nx;4;0,5\n", {}),
        ("a,b\n0.5,4\n", {}),
        (",a,b\nx,0.5,4\n", {}),
        ("a\tb\n0,5\t4\n".encode("utf-16"), {}),
        ('a,b\n"0,5",4\n', {"decimal": "comma"}),
        ("a:b\n0.5:4\n".replace(":", " "), {"separator": "whitespace"}),
        ("who,a,b\nx,0.5,4\n", {"index": "who"}),
        ("who;a;b;c\nx;0,5;4;1\n", {}),
    ],
)
def test_a_new_table_may_be_written_in_another_way(tmp_path, content, given):
    own = "who;a;b;c\nx;1,5;2;1\ny;2,5;3;1\nz;-9;1;1\n"
    run = learned(tmp_path, "csv", own, {"missing": ["-9"], "drop": ["c"]})
    table = applied(tmp_path, run, content, **given)
    assert table.column_labels.tolist() == ["a", "b"] and table.values.tolist() == [0.5, 4]


def test_what_stands_for_missing_in_the_run_does_so_again_unless_it_is_said(tmp_path):
    run = learned(tmp_path, "csv", GERMAN, {"missing": ["-9"]})
    assert applied(tmp_path, run, "a,b\n-9,4\n").values.tolist() == [4]
    assert applied(tmp_path, run, "a,b\n-9,-8\n", missing="-8").values.tolist() == [-9]
    assert applied(tmp_path, run, "a,b\n-9,-8\n3,k\n", missing="[-8, k]").values.tolist() == [-9, 3]
    with pytest.raises(UserError, match="data.decimal=colon is not one of point, comma, or auto"):
        applied(tmp_path, run, "a,b\n1,4\n", decimal="colon")
    with pytest.raises(UserError, match="line 2, column 'b': 'x' is not a number"):
        applied(tmp_path, run, "a,b\n1,x\n")


def test_text_columns_are_left_out_and_chosen_ones_kept(tmp_path):
    run = learned(tmp_path, "csv", "a,b,c\n1,2,9\n3,5,8\n", {"columns": ["a", "b"]})
    assert applied(tmp_path, run, "b,t,c,a\n1,u,7,2\n").values.tolist() == [2, 1]
    with pytest.raises(UserError, match="'b' missing"):
        applied(tmp_path, run, "a,c\n1,2\n")
    run = learned(tmp_path, "csv", "a;t;y\n1,5;u;9\n3;v;8\n4;w;7\n", {"target": "y"})
    table = applied(tmp_path, run, "t,a\nu,0.5\n")
    assert table.features is not None and table.features.tolist() == [[0.5]]
    with pytest.raises(UserError, match="line 2, column 'a': 'u' is not a number"):
        applied(tmp_path, run, "t,a\n1,u\n")


def test_names_with_control_characters_are_found_again(tmp_path):
    content = '"a\rx","b\ny"\n1,2\n3,5\n'
    run = learned(tmp_path, "csv", content, {})
    assert applied(tmp_path, run, content).values.tolist() == [1, 2, 3, 5]


@pytest.mark.parametrize(
    ("own", "new", "known"),
    [
        ("1,1,3\n2,1,4\n3,2,1\n", "2;7;4,5\n9;7;1\n", ["2"]),
        ("1,1,3\n2,1,4\n3,2,1\n", "2,7,4.5\nbob,7,1\n", ["2"]),
        ("u1,1,3\nu2,1,4\nu3,2,1\n", "u2,x,4.5\nu9,x,1\n", ["u2"]),
        ("007,1,3\nbob,1,4\n3,2,1\n", "007,5,4.5\n7,5,1\n", ["007"]),
    ],
)
def test_users_are_known_by_their_identifiers_as_written(tmp_path, own, new, known):
    table = applied(tmp_path, learned(tmp_path, "ratings", own, {}), new)
    assert table.values.tolist() == [4.5]
    assert table.column_labels[table.columns].tolist() == known
    assert "1 ratings of 1 columns that the run does not know are left out" in table.notes


def test_excel_is_read_by_a_run_of_a_text_file(tmp_path):
    run = learned(tmp_path, "csv", GERMAN, {})
    pd.DataFrame({"b": [4], "a": [0.5]}).to_excel(tmp_path / "x.xlsx", index=False)
    assert applied(tmp_path, run, (tmp_path / "x.xlsx").read_bytes()).values.tolist() == [0.5, 4]
