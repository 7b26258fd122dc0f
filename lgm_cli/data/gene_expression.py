"""Expression of 500 genes in 189 samples of seven human tissues (Irizarry, dslabs), nothing missing."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd

from lgm_cli.data.base import packaged
from lgm_cli.data.base.table import Table


def load(options: dict[str, Any], simulate: object = None) -> Table:
    """Rows go by the names of the samples and are grouped by tissue, columns by the names of the genes."""
    frame = packaged.frame("dslabs", "tissue_gene_expression")
    genes = frame.filter(regex=r"^x\.")
    table = packaged.columns(frame, "gene_expression", genes.rename(columns=lambda name: name.removeprefix("x.")))
    return dataclasses.replace(table, row_groups=pd.Index(frame["y"]))
