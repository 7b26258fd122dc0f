"""Four measurements of 344 penguins of three species, two of them not measured (Horst, Hill & Gorman, modeldata)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd

from lgm_cli.data.base import packaged
from lgm_cli.data.base.classes import classes_of
from lgm_cli.data.base.table import Table

MEASURED = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Rows go by their numbers and are grouped by species, which data.labels makes their classes; columns are the
    measurements."""
    frame = packaged.frame("modeldata", "penguins")
    table = packaged.columns(frame, "penguins", frame.filter(MEASURED))
    table = dataclasses.replace(table, row_groups=pd.Index(frame["species"]))
    if options.get("labels") is None:
        return table
    classes, names = classes_of(list(frame["species"]), "species", "penguins")
    return dataclasses.replace(table, classes=classes, class_names=names)
