"""Ratings in the three layouts of MovieLens, and one clear line for everything wrong with them."""

import gzip

import numpy as np
import pandas as pd
import pytest

from lgm_cli.data.base.load import load
from lgm_cli.errors import UserError


def no_model(options):
    raise AssertionError("only simulated data call the model")


def read(tmp_path, text: str | bytes, points: str = "items"):
    path = tmp_path / "ratings.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    options = {"name": "ratings", "path": str(path), "points": points, "test_fraction": 0.0}
    return load(options, 0, no_model)


RATINGS = [(7, 30, 3.5, 100), (2, 10, 4.0, 90), (7, 10, 1.0, 80), (2, 30, 5.0, 70), (11, 20, 0.5, 60)]


def lines(separator: str, width: int = 4) -> str:
    return "".join(separator.join(map(str, rating[:width])) + "\n" for rating in RATINGS)


def numbered(separator: str, width: int = 4) -> str:
    """With the index of a DataFrame before each line."""
    given = lines(separator, width).splitlines()
    return "".join(f"{count}{separator}{line}\n" for count, line in enumerate(given))


LAYOUTS = {
    "index of pandas": ",userId,movieId,rating,timestamp\n" + numbered(","),
    "index of pandas without timestamps": ";user;item;rating\n" + numbered(";", 3),
    "u.data": lines("\t"),
    "ratings.dat": lines("::"),
    "ratings.csv": "userId,movieId,rating,timestamp\n" + lines(","),
    "u.data without timestamps": lines("\t", 3),
    "ratings.dat without timestamps": lines("::", 3),
    "ratings.csv without timestamps": "userId,movieId,rating\n" + lines(",", 3),
    "ratings.csv without header": lines(","),
    "u.data with header": "\nuser_id\titem_id\trating\ttimestamp\n" + lines("\t"),
    "quotes": '"user","item","movie_rating"\n' + lines(",", 3).replace("30", '"30"'),
    "byte order mark": "\ufeff" + lines("\t"),
    "semicolons": "userId;movieId;rating;timestamp\n" + lines(";"),
    "bars without header": lines("|"),
    "decimal commas": lines(";").replace(".", ","),
    "decimal commas and tabs": "user\titem\trating\n" + lines("\t", 3).replace(".", ","),
    "comment": "# of May\n" + lines(","),
    "identifiers with a point": lines(",").replace(",30,", ",30.0,"),
    "a line without a rating": lines(",") + "2,40,,80\n99,10,NA,81\n",
    "its first line": "99,10,,81\n" + lines(","),
    "UTF-16": ("userId,movieId,rating,timestamp\n" + lines(",")).encode("utf-16"),
    "gzip": gzip.compress(lines("::").encode()),
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_layouts(tmp_path, text):
    table = read(tmp_path, text).table
    assert table.row_labels.tolist() == [10, 20, 30]
    assert table.column_labels.tolist() == [2, 7, 11]
    assert table.rows.tolist() == [0, 0, 1, 2, 2]
    assert table.columns.tolist() == [0, 1, 2, 0, 1]
    assert table.values.tolist() == [4.0, 1.0, 0.5, 5.0, 3.5]
    assert table.common_unit
    assert not table.is_table


NAMED = {
    "texts": "u7,i30,3.5\nu2,i10,4\nu7,i10,1\nu2,i30,5\nu11,i20,0.5\n",
    "header and quotes": 'user;item;rating\n"u7";"i30";"3,5"\nu2;i10;4\nu7;i10;1\nu2;i30;5\nu11;i20;0,5\n',
    "ratings.dat": "u7::i30::3.5\nu2::i10::4\nu7::i10::1\nu2::i30::5\nu11::i20::0.5\n",
}


@pytest.mark.parametrize("text", NAMED.values(), ids=NAMED)
def test_users_and_items_may_be_named(tmp_path, text):
    table = read(tmp_path, text).table
    assert table.row_labels.tolist() == ["i10", "i20", "i30"]
    assert table.column_labels.tolist() == ["u11", "u2", "u7"]
    assert table.values.tolist() == [4, 1, 0.5, 5, 3.5]


@pytest.mark.parametrize("separator", [",", "\t", "::", ";", "|"])
def test_zeros_in_front_of_an_identifier_are_kept(tmp_path, separator):
    content = "007,1,3\n7,01,4\n7,1,5\n10,0,1\n".replace(",", separator)
    table = read(tmp_path, content).table
    assert table.column_labels.tolist() == ["007", "10", "7"] and table.row_labels.tolist() == ["0", "01", "1"]
    table = read(tmp_path, content.replace("007", "07").replace("01", "2")).table
    assert table.column_labels.tolist() == ["07", "10", "7"] and table.row_labels.tolist() == [0, 1, 2]
    table = read(tmp_path, content.replace("007", "8").replace("01", "2")).table
    assert table.column_labels.tolist() == [7, 8, 10]


def test_quotes_are_characters_between_double_colons(tmp_path):
    table = read(tmp_path, 'a::"x::3\nb::"x::4\na::y"::5\n"b"::"z"::"1"\n').table
    assert table.column_labels.tolist() == ["a", "b"] and table.row_labels.tolist() == ['"x', 'y"', "z"]
    assert table.values.tolist() == [3, 4, 5, 1]


def test_identifiers_of_both_kinds_are_texts(tmp_path):
    data = read(tmp_path, "1e30,1,3\n007,2,4\nbob,3,1\n")
    assert data.table.column_labels.tolist() == ["007", "1e30", "bob"] and data.table.row_labels.tolist() == [1, 2, 3]
    assert data.describe().endswith("users are read as texts: 'bob' is no number")
    long = [10**19, 10**19 + 1]
    assert read(tmp_path, f"{long[0]},1,3\n{long[1]},2,4\n").table.column_labels.tolist() == [*map(str, long)]


@pytest.mark.parametrize(
    "times",
    [
        ("2001-09-09 16:03:17", "2001-09-09 16:03:18", "1999-01-01 00:00:00"),
        ("2001-09-09T16:03:17Z", "2001-09-09T16:03:17.5Z", "2001-09-09T17:00:00+01:00"),
        ("2001-09-09", "2001-09-10", "2001-09-08"),
        ("10", "1e9", "9.5"),
    ],
)
def test_timestamps_are_numbers_or_in_iso_8601(tmp_path, times):
    lines = "".join(f"1,1,{rating},{time}\n" for rating, time in zip((3, 4, 5), times, strict=True))
    assert read(tmp_path, f"{lines}2,1,1,{times[0]}\n1,2,2,{times[0]}\n").table.values.tolist() == [4, 1, 2]


def test_a_first_column_without_a_name_is_left_out(tmp_path):
    data = read(tmp_path, ",user,item,rating\n0,007,x,1\n01,7,y,2\n2,7,x,\n")
    assert data.table.notes[0] == "a first column without a name left out"
    assert data.table.column_labels.tolist() == ["007", "7"]
    assert data.table.row_labels.tolist() == ["x", "y"]
    with pytest.raises(UserError, match="line 3"):
        read(tmp_path, ",user,item,rating\n0,1,2,3\n1,2,3\n")
    with pytest.raises(UserError):  # no header: the user is missing
        read(tmp_path, ",10,3.5,90\n2,10,4.0,90\n")


def test_lines_without_a_rating_are_said(tmp_path):
    assert (
        read(tmp_path, "1,1,3\n1,2,\n2,1,4\n2,2,n/a\n3,3,1\n")
        .describe()
        .endswith("; 2 lines without a rating left out")
    )
    assert read(tmp_path, lines(";").replace(".", ",")).describe().endswith("; semicolons, decimal commas")


def test_users_as_data_points(tmp_path):
    items, users = read(tmp_path, lines("\t")).table, read(tmp_path, lines("\t"), "users").table
    assert users.shape == items.shape[::-1]
    as_items = sorted(zip(items.rows, items.columns, items.values, strict=True))
    assert sorted(zip(users.columns, users.rows, users.values, strict=True)) == as_items
    assert (np.diff(users.rows * users.shape[1] + users.columns) > 0).all()


def test_the_latest_of_repeated_ratings_counts(tmp_path):
    stamped = "1,1,3,20\n1,1,4,30\n1,1,5,10\n2,1,1,5\n1,2,2,5\n2,1,2,5\n"
    data = read(tmp_path, stamped)
    assert data.table.values.tolist() == [4, 2, 2]
    assert data.describe().endswith("; 3 repeated by a later rating of the same user and item")
    unstamped = "".join(line.rpartition(",")[0] + "\n" for line in stamped.splitlines())
    assert read(tmp_path, unstamped).table.values.tolist() == [5, 2, 2]


def test_agrees_with_a_pivot_of_pandas(tmp_path):
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "userId": random.integers(1, 40, 2000),
            "movieId": random.integers(1, 90, 2000),
            "rating": random.integers(1, 11, 2000) / 2,
            "timestamp": random.permutation(2000),
        }
    )
    last = frame.sort_values("timestamp").drop_duplicates(["userId", "movieId"], keep="last")
    expected = last.pivot(index="movieId", columns="userId", values="rating")
    table = read(tmp_path, frame.to_csv(index=False)).table
    values = np.full(table.shape, np.nan)
    values[table.rows, table.columns] = table.values
    np.testing.assert_array_equal(values, expected.to_numpy())
    assert table.row_labels.tolist() == expected.index.tolist()
    assert table.column_labels.tolist() == expected.columns.tolist()


GOOD = "1\t1\t3\t5\n2\t2\t4\t6\n"

BAD = {
    "only a header": ("userId,movieId,rating\n", r"has a header line and no ratings"),
    "too few fields": (GOOD + "3\t1\t5\n", r"line 3 has 3 fields, the first has 4"),
    "too few without timestamps": ("1,1,3\n2,2\n", r"line 2 has 2 fields, the first has 3"),
    "too many fields": (GOOD + "3\t1\t5\t1\t1\n", r"line 3 has 5 fields, the first has 4"),
    "header narrower than the lines": ("user,item,rating\n1,1,3,4\n2,2,4,5\n", r"line 2 has 4 fields"),
    "two fields": ("1\t1\n2\t2\n", r"line 1 has 2 fields, not 3 or 4"),
    "negative identifier": (
        GOOD + "\n-3\t1\t5\t1\n",
        r"line 4: user '-3' is not an identifier: a text, or a whole number of at least 0",
    ),
    "blank identifier": (GOOD + "3\t\t5\t1\n", r"line 3: item '' is not an identifier"),
    "blank first identifier": (GOOD + "\t3\t5\t1\n", r"line 3: user '' is not an identifier"),
    "fractional identifier": (GOOD + "3.5\t1\t5\t1\n", r"line 3: user '3.5' is not an identifier"),
    "identifier in powers of ten": (GOOD + "1e30\t1\t5\t1\n", r"line 3: user '1e30' is not an identifier"),
    "infinite identifier": (GOOD + "inf\t1\t5\t1\n", r"line 3: user 'inf' is not an identifier"),
    "blank text identifier": ("u1,i1,3\n1e30,i2,4\n,i1,3\n", r"line 3: user '' is not an identifier"),
    "text rating": ("1,1,good\n2,2,3\n", r"line 1: rating 'good' is not a number"),
    "no rating": ("1,1,\n2,2,NA\n", r"has no line with a rating"),
    "short line among blank ratings": ("1,1,3\n1,2,\n2,2\n3,3,4\n", r"line 3 has 2 fields, the first has 3"),
    "open quote": ('1,1,3\n"2,2,4\n3,3,1\n', r"line 2 ends within quotes"),
    "quotes that close in a later line": ('1,1,3\n2,2,"4\n3,3,1\n4,1,5\n4,"2",1"\n', r"line 2 ends within quotes"),
    "quoted text of two lines": ('a,x,3\n"b,x,4\na,y,5\nb",y,1\n', r"line 2 ends within quotes"),
    "too large": (GOOD + "3\t1\t1e308\t1\n", r"ratings.csv has values too large to be squared"),
    "too close": ("1,1,1e-200\n2,2,2e-200\n", r"ratings.csv has values too close to each other to be squared"),
    "infinite rating": (GOOD + "3\t1\tinf\t1\n", r"line 3: rating 'inf' is not a number"),
    "text timestamp": (GOOD + "3\t1\t5\tnow\n", r"line 3: timestamp 'now' is not a number, or a time"),
    "single colon": ("1::1::3\n2:2::4\n", r"line 2 has 2 fields, the first has 3"),
    "no separator": ("1 1 3\n2 2 4\n", r"line 1 is no rating: '1 1 3'"),
    "swapped header": ("movieId,userId,rating\n1,1,3\n2,2,4\n", r"has 'movieId' where the user should be"),
    "equal ratings": ("1,1,3\n2,2,3\n", r"every value in ratings.csv is 3"),
    "one item": ("1,1,3\n2,1,4\n", r"has a single data point"),
    "one user": ("1,1,3\n1,2,4\n", r"has a single dimension"),
}


@pytest.mark.parametrize(("text", "says"), BAD.values(), ids=BAD.keys())
def test_bad_content_is_one_clear_line(tmp_path, text, says):
    with pytest.raises(UserError, match=says) as error:
        read(tmp_path, text)
    assert len(str(error.value).splitlines()) == 1
