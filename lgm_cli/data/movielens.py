"""MovieLens, the small set: 100,004 ratings of 9,066 films by 671 users (Harper & Konstan 2015)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from lgm_cli.data.base import packaged
from lgm_cli.data.base.table import Table
from lgm_cli.data.ratings import tabulate


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Ratings with films (data.points=items) or users as data points, films known by their titles."""
    frame = packaged.frame("dslabs", "movielens")
    ratings = frame.rename(columns={"userId": "user", "movieId": "item"})
    table = tabulate("MovieLens", ratings, options["points"])
    films = pd.Series(frame["title"].to_numpy(), frame["movieId"]).groupby(level=0).first()
    if options["points"] == "items":
        return replace(table, row_titles=_titles(films, table.row_labels))
    return replace(table, column_titles=_titles(films, table.column_labels))


def _titles(films: pd.Series, labels: pd.Index) -> pd.Index:
    """Titles of the films with these identifiers; a few films have none."""
    titles = films.reindex(labels)
    return pd.Index(titles.where(titles.notna(), [f"film {label}" for label in labels]))
