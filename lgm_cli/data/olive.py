"""Eight fatty acids of 572 olive oils of Italy, in percent (Forina et al., Food Research and Data Analysis, 1983)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd

from lgm_cli.data.base import packaged
from lgm_cli.data.base.classes import classes_of
from lgm_cli.data.base.table import Table

ACIDS = ("palmitic", "palmitoleic", "stearic", "oleic", "linoleic", "linolenic", "arachidic", "eicosenoic")


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Rows are oils, by their numbers; data.labels makes their areas or regions their classes."""
    frame = packaged.frame("dslabs", "olive")
    table = packaged.columns(frame, "olive", frame.filter(ACIDS))
    table = dataclasses.replace(table, row_groups=pd.Index(frame["area"]))
    if (label := options.get("labels")) is None:
        return table
    classes, names = classes_of(list(frame[label]), label, "olive")
    return dataclasses.replace(table, classes=classes, class_names=names)
