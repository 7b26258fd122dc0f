"""The user's own table: what is read from it, and one clear line for everything that can be wrong with it."""

import gzip
import os
import shlex

import numpy as np
import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from lgm_cli.data.base.load import load
from lgm_cli.data.csv import load as load_csv
from lgm_cli.errors import UserError


def no_model(options):
    raise AssertionError("only simulated data call the model")


def read(tmp_path, text: str | bytes, **options):
    """The checked data of a file with this content, nothing hidden."""
    path = tmp_path / "survey.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load({"name": "csv", "path": str(path), "index": None, "test_fraction": 0.0, **options}, 0, no_model)


def dense(table) -> np.ndarray:
    values = np.full(table.shape, np.nan)
    values[table.rows, table.columns] = table.values
    return values


def test_reads_numbers_names_and_gaps(tmp_path):
    table = read(tmp_path, "height, weight,age\n1.5,,3\n-2e-3,NaN, 4\nnan,7,NA\n1, 8 ,2\n").table
    expected = [[1.5, np.nan, 3], [-2e-3, np.nan, 4], [np.nan, 7, np.nan], [1, 8, 2]]
    np.testing.assert_array_equal(dense(table), expected)
    assert table.column_labels.tolist() == ["height", "weight", "age"]
    assert table.row_labels.tolist() == [0, 1, 2, 3]
    assert (np.diff(table.rows * 3 + table.columns) > 0).all()
    assert (table.name, table.index_name, table.is_table, table.common_unit) == (
        "survey.csv",
        None,
        True,
        False,
    )


def test_numbers_are_read_to_the_last_bit(tmp_path):
    values = np.frombuffer(np.random.default_rng(0).bytes(8000), np.float64).reshape(-1, 2)
    values = values[np.isfinite(values).all(axis=1)]
    (tmp_path / "survey.csv").write_text("a,b\n" + "".join(f"{a!r},{b!r}\n" for a, b in values.tolist()))
    table = load_csv({"name": "csv", "path": str(tmp_path / "survey.csv")})  # too wide a range to learn from
    np.testing.assert_array_equal(dense(table), values)


@pytest.mark.parametrize(
    "text",
    [
        "a,b\r\n1,2\r\n3,4\r\n",
        "\ufeffa,b\n1,2\n3,4\n",
        '"a","b"\n"1",2\n3,"4"\n',
        "\n a ,b\n\n1,2\n   \n3,4",
    ],
    ids=["windows", "byte order mark", "quotes", "blank lines"],
)
def test_spellings_of_the_same_table(tmp_path, text):
    table = read(tmp_path, text).table
    assert dense(table).tolist() == [[1, 2], [3, 4]]
    assert table.column_labels.tolist() == ["a", "b"]


def test_the_index_column_is_carried_through_as_text(tmp_path):
    table = read(tmp_path, "a,day,b\n1,2020-01-01,2\n3,007,4\n5,NaN,7\n6,,8\n", index="day").table
    assert table.row_labels.tolist() == ["2020-01-01", "007", "NaN", ""]
    assert table.index_name == "day"
    assert table.column_labels.tolist() == ["a", "b"]
    assert dense(table).tolist() == [[1, 2], [3, 4], [5, 7], [6, 8]]


def test_rows_without_a_value_are_kept_and_said(tmp_path):
    data = read(tmp_path, "a,b\n1,2\n,\n3,4\n")
    assert data.shape == (3, 2)
    assert data.describe() == ("survey.csv: 3 x 2, 4 values (66.7% observed), 0 hidden for testing; 1 row has no value")
    assert read(tmp_path, "a,b\n1,2\n,\nNaN,\n3,4\n").describe().endswith("; 2 rows have no value")


def test_a_fraction_of_the_values_is_hidden(tmp_path):
    rows = "".join(f"{i},{i * i}\n" for i in range(50))
    data = read(tmp_path, "a,b\n" + rows, test_fraction=0.2)
    assert data.hidden.sum() == 20


# Content of the file, options, and what the one line must say.
BAD = {
    "empty": ("", {}, r"survey.csv is empty"),
    "blank": ("\n  \n\n", {}, r"survey.csv is empty"),
    "byte order mark only": (b"\xef\xbb\xbf", {}, r"survey.csv is empty"),
    "only a header": ("a,b\n", {}, r"has a header line and no rows"),
    "one row": ("a,b\n1,2\n", {}, r"survey.csv has a single row"),
    "only the index": ("day\nx\ny\n", {"index": "day"}, r"has no value in 2 x 0 entries"),
    "short line": ("a,b,c\n1,2,3\n\n4,5\n", {}, r"survey.csv, line 4 has 2 fields where the header has 3"),
    "long line": ("a,b\n1,2\n3,4,5\n", {}, r"line 3 has 3 fields where the header has 2"),
    "short line after a quoted break": ('d,a,b\n"x\ny",1,2\nz,3\n', {"index": "d"}, r"line 4 has 2 fields"),
    "open quote": ('a,b\n1,2\n3,"4\n5,6\n', {}, r"line 3: unexpected end of data .*quote"),
    "text": ("a,b\n1,2\n3,high\n", {}, r"line 3, column 'b': 'high' is not a number .*data.index"),
    "text beside a gap": ("a,b,c\n1,2,3\n,x7,4\n", {}, r"line 3, column 'b': 'x7' is not a number"),
    "underscore": ("a,b\n1,2020_01\n3,2\n", {}, r"line 2, column 'b': '2020_01' is not a number"),
    "true": ("a,b\n1,True\n0,False\n", {}, r"line 2, column 'b': 'True' is not a number"),
    "infinite": ("a,b\n1,2\n\n3,4\n-inf,5\n", {}, r"line 5, column 'a' is infinite"),
    "too large": ("a,b\n1,1e999\n3,4\n", {}, r"line 2, column 'b' is infinite"),
    "text in a chosen column": ("a,b,c\n1,2,x\n3,4,y\n", {"columns": ["a", "c"]}, r"line 2, column 'c': 'x' is not a"),
    "text in the target": ("a,b,c\n1,2,x\n3,4,y\n", {"target": "c"}, r"line 2, column 'c': 'x' is not a number"),
    "text alone": ("a,b\nx,y\nz,u\n", {}, r"line 2, column 'a': 'x' is not a number .*data.drop=a"),
    "semicolons in the rows alone": ("a, b;c, d\n5,1;2,5\n6,2;3,5\n", {}, r"'1;2' is not a number .*data.separator"),
    "thousands": ('a,b\n"1,234",2\n"5,678",3\n', {}, r"'1,234' is not a number \(.*data.decimal=comma"),
    "points and commas": ("a;b\n1,5;2.5\n2,5;3\n", {}, r"'1,5' is not a number \(.*data.decimal=comma"),
    "a point among commas": ("a;b\n1,5;2\n2.5;3\n", {"decimal": "comma"}, r"line 3, column 'a': '2.5' is not a number"),
    "another separator": ("a;b\n1;2\n3;4\n", {"separator": "comma"}, r"column 'a;b': '1;2' is not a number"),
    "unknown column": ("a,b\n1,2\n3,4\n", {"columns": ["a", "bb"]}, r"data.columns=bb .*did you mean data.columns=b\?"),
    "unknown drop": ("abc,b\n1,2\n3,4\n", {"drop": ["abd"]}, r"data.drop=abd is not .*data.drop=abc\?"),
    "dropped target": ("a,b,c\n1,2,3\n4,5,6\n", {"drop": ["b"], "target": "b"}, r"data.drop has data.target=b"),
    "unknown encoding": ("a,b\n1,2\n3,4\n", {"encoding": "utf-88"}, r"data.encoding=utf-88 is not known"),
    "no encoding of text": ("a,b\n1,2\n3,4\n", {"encoding": "rot13"}, r"data.encoding=rot13 is not known"),
    "wrong encoding": ("a,b\n1,2\né,4\n".encode("cp1252"), {"encoding": "utf-8"}, r"line 3 is not UTF-8 text"),
    "half a character": (b"a,b\n1,2\n3,+2AA-\n", {"encoding": "utf-7"}, r"line 3 is not utf-7 text"),
    "no encoding": (b"a,b\n1,2\n\x81,4\n", {}, r"line 3 is not UTF-8 text"),
    "torn gzip": (gzip.compress(b"a,b\n1,2\n3,4\n")[:-12], {}, r"survey.csv is a damaged gzip file"),
    "torn Excel": (b"PK\x03\x04 and no more", {}, r"survey.csv is not an Excel file that can be read"),
    "torn Parquet": (b"PAR1\0\1\xff~", {}, r"survey.csv is not a Parquet file that can be read"),
    "old Excel": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", {}, r"old version of Excel \(save it as .xlsx"),
    "comments alone": ("# a\n# b\n", {}, r"survey.csv has no name for column 1"),
    "same name": ("a,b,a\n1,2,3\n4,5,6\n", {}, r"has 2 columns named 'a'"),
    "no name": ("a,,b\n0,1,2\n1,3,4\n", {}, r"has no name for column 2"),
    "a comma at one end": ("a,b\n1,2,\n3,4\n", {}, r"line 2 has 3 fields where the header has 2"),
    "a column without a name": ("a,b,\n1,2,5\n3,4,6\n", {}, r"has no name for column 3"),
    "quoted nothing": ('""\n', {}, r"has no name for column 1"),
    "no header": ("5.1,3.5\n4.9,3\n4.7,3.2\n", {}, r"begins with numbers instead of names"),
    "unknown index": ("day,a,b\nx,1,2\ny,3,4\n", {"index": "days"}, r"data.index=days .*data.index=day\?"),
    "foreign index": ("u,a,b\nx,1,2\ny,3,4\n", {"index": "time"}, r"data.index=time .*columns are u, a, b"),
    "constant": ("a,b,c\n1,2,3\n1,3,3\n", {}, r"no two different values in columns 'a', 'c' "),
    "one value": ("a,b\n1,2\n,3\n", {}, r"no two different values in column 'a' "),
    "many constant": ("a,b,c,d,e\n1,1,1,1,1\n1,1,1,1,2\n", {}, r"columns 'a', 'b', 'c' and 1 more"),
    "column without a value": ("a,b\n1,\n2,\n", {}, r"no value in column 'b'"),
    "nothing at all": ("a,b\n,\nNaN,\n", {}, r"survey.csv has no value in 2 x 2 entries"),
    "binary": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", {}, r"survey.csv is a binary file"),
    "latin-1": ("a,b\n1,2\n3,é\n".encode("latin-1"), {}, r"line 3, column 'b': 'é' is not a number"),
    "cut in a character": ("a,b\n1,2\n3,é".encode()[:-1], {}, r"line 3, column 'b': 'Ã' is not a number"),
    "hides nothing": ("a,b\n1,2\n3,4\n", {"test_fraction": 0.01}, r"data.test_fraction=0.01 hides none"),
    "hides all": ("a,b\n1,2\n3,4\n", {"test_fraction": 0.9}, r"data.test_fraction=0.9 leaves too few"),
}


@pytest.mark.parametrize(("text", "options", "says"), BAD.values(), ids=BAD.keys())
def test_bad_content_is_one_clear_line(tmp_path, text, options, says):
    with pytest.raises(UserError, match=says) as error:
        read(tmp_path, text, **options)
    assert len(str(error.value).splitlines()) == 1


def test_a_missing_file_is_answered_with_its_neighbour(tmp_path):
    (tmp_path / "survey.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(UserError, match=r"survy.csv does not exist \(did you mean .*/survey.csv\?\)"):
        load_csv({"name": "csv", "path": str(tmp_path / "survy.csv"), "index": None})
    with pytest.raises(UserError, match=r"absent/survey.csv does not exist \(a relative path starts at"):
        load_csv({"name": "csv", "path": str(tmp_path / "absent" / "survey.csv"), "index": None})


def test_what_is_not_a_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"data.path is not set \(data.path=FILE\)"):
        load_csv({"name": "csv", "path": None, "index": None})
    with pytest.raises(UserError, match="is a directory"):
        load_csv({"name": "csv", "path": str(tmp_path), "index": None})
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="can be read only once"):
        load_csv({"name": "csv", "path": str(tmp_path / "pipe"), "index": None})
    (tmp_path / "plain").touch()
    with pytest.raises(UserError, match="cannot be read: Not a directory"):
        load_csv({"name": "csv", "path": str(tmp_path / "plain" / "survey.csv"), "index": None})


def test_a_file_without_read_permission_is_refused(tmp_path, monkeypatch):
    """Permission bits do not stop the superuser, so the refusal itself is played."""

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(UserError, match="survey.csv cannot be read: Permission denied"):
        load_csv({"name": "csv", "path": str(tmp_path / "survey.csv"), "index": None})


def test_a_target_is_the_response_and_the_other_columns_are_its_features(tmp_path):
    text = "when,a,fat,b\nmon,1,10,2\ntue,3,,4\nwed,5,30,6\nthu,7,40,9\n"
    table = read(tmp_path, text, index="when", target="fat").table
    assert table.features is not None and table.feature_labels is not None
    np.testing.assert_array_equal(table.features, [[1, 2], [3, 4], [5, 6], [7, 9]])
    np.testing.assert_array_equal(dense(table), [[10], [np.nan], [30], [40]])
    assert table.feature_labels.tolist() == ["a", "b"]
    assert table.row_labels.tolist() == ["mon", "tue", "wed", "thu"]
    assert (table.column_labels.tolist(), table.target_position, table.index_name) == (["fat"], 1, "when")


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("a,b\n1,2\n3,4\n5,6\n", "c", "data.target=c is not a column of"),
        ("a,fat\n1,2\n3,4\n5,6\n", "fta", "did you mean data.target=fat?"),
        ("a,b\n1,2\n,4\n5,6\n", "b", "survey.csv, line 3 has no value in column 'a'"),
        ("a\n1\n3\n5\n", "a", "no column beside data.target=a"),
        ("a,b\n1,2\n3,\n5,6\n", "b", "fewer than three known responses"),
        ("a,b\n1,2\n3,2\n5,2\n", "b", "survey.csv has no two different values in column 'b'"),
        ("a,b\n1,2\n1,3\n1,5\n", "b", "no feature with two different values"),
        ("a,b,c\n1,2,1e200\n2,3,0\n1,5,0\n", "b", "too large to be squared in column 'c'"),
    ],
)
def test_a_target_that_cannot_be_is_refused(tmp_path, text, target, message):
    with pytest.raises(UserError) as refused:
        read(tmp_path, text, target=target)
    assert message in str(refused.value)


def test_a_target_may_not_be_the_index(tmp_path):
    with pytest.raises(UserError, match="is the index, too"):
        read(tmp_path, "a,b\n1,2\n3,4\n5,6\n", index="a", target="a")


@pytest.mark.parametrize(
    "name", ["a b", "a,b", "x=[1]", 'in "quotes"', "it's", "${home}", "null", "7", "Höhe", "a\\", "{", "#", "A"]
)
def test_a_proposal_can_be_pasted(tmp_path, name):
    """A column of text between numbers: what the message proposes is read back as that column by shell and Hydra."""
    pd.DataFrame({name: ["1", "x", "2"], "other": [1.0, 2, 3]}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError) as caught:
        read(tmp_path, (tmp_path / "t.csv").read_bytes(), columns=[name, "other"])
    offered = shlex.split(str(caught.value).rpartition(", if it is missing; ")[2].rpartition(" for labels")[0])
    (override,) = OverridesParser.create().parse_overrides(offered)
    value = override.value()
    assert override.key_or_group == "data.index"
    assert OmegaConf.create({"key": getattr(value, "text", value)})["key"] == name
