"""Dialects of text files, Excel and Parquet: the same table however it is written, and what is said of it."""

import datetime
import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lgm_cli.data.base import sheets
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.load import load
from lgm_cli.errors import UserError

OPTIONS = {"csv": {}, "series": {}, "ratings": {"points": "items"}}
IMAGE = {"sensing": "pixels", "mask": "random", "fraction": 1.0, "noise": 0.1, "basis": "wavelet", "wavelet": "haar"}
IMAGE |= {"levels": 2, "seed": 0, "centre": 4}


def read(path: Path, content: str | bytes, kind: str = "csv", **options: object) -> Data:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load({"name": kind, "path": path, "test_fraction": 0.0} | OPTIONS[kind] | options, 0, lambda _: {})


def dense(data: Data) -> list[list[float]]:
    values = np.full(data.shape, np.nan)
    values[data.table.rows, data.table.columns] = data.table.values
    return values.tolist()


PLAIN = "größe,b\n1.5,20\n,4\n3,-0.25\n"
GERMAN = PLAIN.replace(",", ";").replace(".", ",")
SAME: dict[str, tuple[str | bytes, dict[str, object], str]] = {
    "plain": (PLAIN, {}, ""),
    "semicolons": (PLAIN.replace(",", ";"), {}, "semicolons"),
    "decimal commas": (GERMAN, {}, "semicolons, decimal commas"),
    "tabs": (PLAIN.replace(",", "\t"), {}, "tabs"),
    "tabs, decimal commas": (PLAIN.replace(",", "\t").replace(".", ","), {}, "tabs, decimal commas"),
    "bars": (PLAIN.replace(",", "|"), {}, "vertical bars"),
    "blanks": ("größe b\n1.5   20\nNA 4 \n  3\t-0.25\n", {}, "blanks; 1 cell 'NA' read as missing"),
    "stated": (PLAIN.replace(",", ":").replace("\n", "\r\n"), {}, "separated by ':'"),
    "Excel's first line": ("sep=;\r\n" + GERMAN, {}, "semicolons, decimal commas"),
    "cp1252": (PLAIN.encode("cp1252"), {}, "encoding cp1252"),
    "utf-16": (PLAIN.encode("utf-16"), {}, "encoding utf-16"),
    "utf-16 unmarked": (PLAIN.encode("utf-16-le"), {}, "encoding utf-16-le"),
    "utf-16 unmarked, other order": (PLAIN.encode("utf-16-be"), {}, "encoding utf-16-be"),
    "utf-8 marked": (PLAIN.encode("utf-8-sig"), {}, ""),
    "gzip": (gzip.compress(PLAIN.encode("cp1252")), {}, "encoding cp1252, unpacked by gzip"),
    "old Macintosh": (PLAIN.replace("\n", "\r").encode("mac-roman"), {"encoding": "mac-roman"}, "encoding mac-roman"),
    "all said": (
        PLAIN.replace(",", "\t").replace(".", ",").encode("latin-1"),
        {"separator": "tab", "decimal": "comma", "encoding": "latin-1"},
        "tabs, decimal commas, encoding latin-1",
    ),
    "quoted decimal commas": ('größe,b\n"1,5","20"\n,4\n3,"-0,25"\n', {"decimal": "comma"}, "decimal commas"),
    "comments": ("# of May, in m\n\n#\n" + PLAIN, {}, "2 lines of comment passed over"),
    "numpy.savetxt": ("# größe b\n1.5 20\nnan 4\n3 -0.25\n", {}, "blanks"),
    "numpy.savetxt with commas": ("# by me\n# größe,b\n1.5,20\nnan,4\n3,-0.25\n", {}, "1 line of comment passed over"),
    "text column": (
        "größe,who,b\n1.5,x,20\n,y,4\n3,1-2,-0.25\n",
        {},
        "left out as text: 'who' (data.index=NAME for labels, data.categories=all for categories, else data.drop)",
    ),
    "dropped": ("größe,who,b\n1.5,x,20\n,y,4\n3,z,-0.25\n", {"drop": ["who"]}, ""),
    "chosen": ("größe,c,b\n1.5,7,20\n,8,4\n3,9,-0.25\n", {"columns": ["b", "größe"]}, ""),
    "codes": (
        PLAIN.replace(",4", "-999,4"),
        {"missing": ["-999.0"]},
        "1 cell '-999' read as missing",
    ),
    "words": (PLAIN.replace("\n,4", "\nk. A.,4"), {"missing": ["k. a."]}, "1 cell 'k. A.' read as missing"),
}
SAME["stated"] = ("sep=:\r\n" + str(SAME["stated"][0]), {}, "separated by ':'")


@pytest.mark.parametrize(("content", "options", "said"), SAME.values(), ids=SAME)
def test_the_same_table_however_it_is_written(tmp_path, content, options, said):
    data = read(tmp_path / "x.csv", content, **options)
    np.testing.assert_array_equal(dense(data), [[1.5, 20], [np.nan, 4], [3, -0.25]])
    assert data.table.column_labels.tolist() == ["größe", "b"]
    _, _, notes = data.describe().partition(" hidden for testing")
    assert notes.removeprefix("; ").startswith(said) and bool(notes) == bool(said)


LABELLED: dict[str, tuple[str, list[str], str]] = {
    "pandas": (",a,b\n0,1,2\n7,3,5\n9,4,6\n", ["0", "7", "9"], "column 1, without a name, labels the rows"),
    "R's write.csv": ('"","a","b"\n"x",1,2\n"y",3,5\n"z",4,6\n', ["x", "y", "z"], "column 1, without a name, labels"),
    "R's write.table": ('"a" "b"\n"x" 1 2\n"y" 3 5\n"z" 4 6\n', ["x", "y", "z"], "blanks; column 1, without a name"),
    "R's write.csv2": (
        '"";"a";"b"\n"x";1;2,0\n"y";3;5,0\n"1.5";4;6,0\n',
        ["x", "y", "1.5"],
        "semicolons, decimal commas",
    ),
    "pandas, blanks": (" a b\n0 1 2\n7 3 5\n9 4 6\n", ["0", "7", "9"], "blanks; column 1, without a name, labels"),
    "pandas, tabs": ("\ta\tb\n0\t1\t2\n7\t3\t5\n9\t4\t6\n", ["0", "7", "9"], "tabs; column 1, without a name, lab"),
    "R's, without quotes": ("a,b\nx,1,2\ny,3,5\nz,4,6\n", ["x", "y", "z"], "column 1, without a name, labels the row"),
    "a column called #": ("#,a,b\n10,1,2\n17,3,5\n11,4,6\n", ["10", "17", "11"], ""),
    "with text": ("#,a,b,c\nx,1,2,u\ny,3,5,v\nz,4,6,w\n", ["x", "y", "z"], "left out as text: 'c'"),
}


@pytest.mark.parametrize(("content", "labels", "said"), LABELLED.values(), ids=LABELLED)
def test_the_column_without_a_name_labels_the_rows(tmp_path, content, labels, said):
    data = read(tmp_path / "x.csv", content, **({"index": "#"} if content.startswith("#") else {}))
    assert dense(data) == [[1, 2], [3, 5], [4, 6]]
    assert data.table.row_labels.tolist() == labels
    assert data.table.index_name == ("#" if content.startswith("#") else "")
    assert data.describe().partition("testing")[2].removeprefix("; ").startswith(said)


def test_a_header_is_split_at_commas_if_it_can_be(tmp_path):
    """No other separator is guessed from a header whose fields agree with the rows between commas."""
    data = read(tmp_path / "x.csv", "A1BG|1,A2M|2,NAT1|9\n5.7,2.6,7.4\n4.6,3.7,7.3\n")
    assert data.table.column_labels.tolist() == ["A1BG|1", "A2M|2", "NAT1|9"]
    data = read(tmp_path / "x.csv", "A1BG|1\n5.7\n4.6\n", "series")
    assert data.table.column_labels.tolist() == ["A1BG|1"]
    data = read(tmp_path / "x.csv", "my own value\n5.7\n4.6\n", "series")
    assert data.table.column_labels.tolist() == ["my own value"]


def test_words_for_missing_values(tmp_path):
    words = ["", "NaN", "NA", "N/A", "#N/A", "null", "NULL", "None", "-", "?", ".", "n/a", "missing", "Missing"]
    data = read(tmp_path / "x.csv", "a,b\n1,2\n2,1\n" + "".join(f"{word},1.5\n" for word in words))
    assert np.isnan(np.array(dense(data))[2:, 0]).all() and len(data.table.values) == 4 + len(words)
    assert "1 cell 'NULL', " in data.describe() and data.describe().count("read as missing") == 1


@pytest.mark.parametrize(
    ("content", "warned"),
    [
        (
            "a,b\n1,3\n2,-999\n4,5\n-999,2\n5,4\n",
            "-999 is there 2 times, far from all other values of 'a', 'b': data.missin",
        ),
        ("a,b\n1,3\n2,9\n3,5\n1,9\n2,8\n1,3\n", None),  # the next is not far
        (
            "a,b\n1,3\n2,9\n3,5\n9,8\n9,4\n1,3\n",
            "9 is there 2 times, far from all other values of 'a': data.missing=9 if it",
        ),
        ("a,b\n1,3\n0,9\n1,5\n0,8\n0,4\n1,3\n", None),  # two values are no code
        ("a,b\n1,3\n2,9\n3,5\n9,8\n4,4\n1,3\n", None),  # once
        ("a,b\n0,3\n120,9\n70,5\n0,8\n65,4\n99,3\n", None),  # not far
    ],
)
def test_an_extreme_value_that_repeats_is_a_warning(tmp_path, content, warned):
    table = read(tmp_path / "x.csv", content).table
    assert [warning[: len(warned or "")] for warning in table.warnings] == ([warned] if warned else [])
    if warned:
        code = table.warnings[0].split()[0]
        assert read(tmp_path / "x.csv", content, missing=[code]).table.warnings == ()


@pytest.mark.parametrize("first", [0, 1])
def test_a_column_that_counts_the_rows_is_said(tmp_path, first):
    content = "id,a,b\n" + "".join(f"{first + k},{k % 3},{k * k}\n" for k in range(6))
    assert "'id' looks like a row number: data.index=id" in read(tmp_path / "x.csv", content).describe()
    assert "row number" not in read(tmp_path / "x.csv", content, index="id").describe()


def test_excel_and_parquet(tmp_path):
    """Numbers to the last bit, labels as they are shown, texts as in a text file."""
    days = pd.date_range("2024-01-30", periods=3)
    frame = pd.DataFrame({"day": days, "a": [1 / 3, np.nan, 3], "b": [1, 2, 2], "who": ["x", None, "z"]})
    frame.to_parquet(tmp_path / "x.parquet")
    with pd.ExcelWriter(tmp_path / "x.xlsx") as book:
        frame.to_excel(book, sheet_name="first", index=False, startrow=2, startcol=1)
        frame.to_excel(book, sheet_name="second")
    for name, said in (("x.parquet", "left out"), ("x.xlsx", "sheet 'first', the first of 2; left out")):
        data = read(tmp_path / name, (tmp_path / name).read_bytes(), index="day")
        np.testing.assert_array_equal(dense(data), [[1 / 3, 1], [np.nan, 2], [3, 2]])
        assert data.table.row_labels.tolist() == ["2024-01-30", "2024-01-31", "2024-02-01"]
        assert data.describe().partition("testing; ")[2].startswith(f"{said} as text: 'who'")
    frame.set_index("day").to_parquet(tmp_path / "x.parquet")
    table = read(tmp_path / "x.parquet", (tmp_path / "x.parquet").read_bytes()).table
    assert (table.index_name, table.row_labels[2]) == ("day", "2024-02-01")
    frame.assign(day=days + datetime.timedelta(hours=1)).to_excel(tmp_path / "x.xlsx", index=False)
    data = read(tmp_path / "x.xlsx", (tmp_path / "x.xlsx").read_bytes(), "series", index="day")
    assert data.table.row_labels[0] == "2024-01-30 01:00:00"


@pytest.mark.parametrize(("name", "package"), [("x.xlsx", "openpyxl"), ("x.parquet", "pyarrow")])
def test_a_package_that_is_not_there_is_named(tmp_path, monkeypatch, name, package):
    def absent(*_args, **_options):
        raise ImportError

    monkeypatch.setattr(pd, "ExcelFile", absent)
    monkeypatch.setattr(pd, "read_parquet", absent)
    with pytest.raises(UserError, match=rf"the package {package} is not installed \(pip install 'lgm-run\[files\]'\)"):
        read(tmp_path / name, {"x.xlsx": b"PK\x03\x04", "x.parquet": b"PAR1"}[name])


def test_a_regression_and_a_series_are_read_alike(tmp_path):
    data = read(tmp_path / "x.csv", "name;y;x\nu;1,5;2\nv;NA;3\nw;2,5;4\nt;1;5\n", target="y")
    assert data.table.features is not None and data.table.features.ravel().tolist() == [2, 3, 4, 5]
    assert data.table.values.tolist() == [1.5, 2.5, 1]
    assert "; semicolons, decimal commas; 1 cell 'NA' read as missing; left out as text: 'name' (" in data.describe()
    data = read(tmp_path / "x.csv", "day\tx\n2024-01-01\t1,5\n2024-01-02\t2\n2024-01-03\t4\n", "series", index="day")
    assert data.table.values.tolist() == [1.5, 2, 4] and data.table.row_labels[0] == "2024-01-01"


def saved(write) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


CELLS = [
    "1",
    "2.5",
    "3,5",
    "",
    "NA",
    "-999",
    "x",
    '"q"',
    '"',
    "#",
    "a b",
    "é",
    "-",
    "1e400",
    "1e300",
    "1e-300",
    "inf",
    "\r",
]
CELLS += ["\0", "2020-01-01", "_1", "|", "::", "sep=;", "0"]
TABLES = st.builds(
    lambda separator, rows, end: end.join(map(separator.join, rows)),
    st.sampled_from([",", ";", "\t", "|", " ", "::"]),
    st.lists(st.lists(st.sampled_from(CELLS), max_size=5), max_size=8),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
ENCODED = st.builds(
    lambda text, encoding, packed: (gzip.compress if packed else bytes)(text.encode(encoding, "replace")),
    TABLES,
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"]),
    st.booleans(),
)
PIXELS = np.arange(64, dtype=np.uint8).reshape(8, 8)
FRAME = pd.DataFrame({"a": [1, 2, 3.5], "b": [3, 4, 5]})
WHOLE = [saved(lambda file, form=form: Image.fromarray(PIXELS).save(file, form)) for form in ("PNG", "TIFF", "JPEG")]
WHOLE += [saved(lambda file: np.save(file, PIXELS)), gzip.compress(b"a,b\n1,2\n3,4\n")]
WHOLE += [saved(lambda file: FRAME.to_excel(file, index=False)), saved(FRAME.to_parquet)]


@st.composite
def damaged(draw) -> bytes:
    """A good file in which some bytes are others, and whose end may be missing."""
    content = bytearray(draw(st.sampled_from(WHOLE)))
    for place in draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.one_of(st.none(), st.integers(0, len(content))))])


@pytest.mark.filterwarnings("error")
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.one_of(ENCODED, ENCODED, damaged(), st.binary(max_size=60)),
    st.sampled_from(["csv", "series", "ratings", "image x.npy", "image x.png"]),
)
def test_no_file_raises_anything_but_a_user_error(tmp_path, content, kind):
    """Nor a warning on standard error."""
    name, _, file = kind.partition(" ")
    path = tmp_path / (file or "x")
    path.write_bytes(content)
    options = OPTIONS | {"image": IMAGE}
    try:
        load({"name": name, "path": str(path), "test_fraction": 0.0} | options[name], 0, lambda _: {})
    except UserError as error:
        assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    ("header", "end", "separator"),
    [("len, cm;b;c", "", ";"), ("a,b,c,", ",", ","), ("a;b;c;", ";", ";"), ("a,b,c", ",", ","), ("a;b;c", ";", ";")],
)
def test_commas_in_names_and_separators_at_the_ends_of_lines(
    tmp_path: Path, header: str, end: str, separator: str
) -> None:
    rows = [[str(1.5 * row), str(row), str(row % 3)] for row in range(9)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join([header, *(separator.join(row) + end for row in rows)]) + "\n", encoding="utf-8")
    sheet = sheets.read(path, {})
    assert sheet.names == ["len, cm" if ", " in header else "a", "b", "c"]
    assert [fields for _, fields in sheet.records] == rows
