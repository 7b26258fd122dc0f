"""Factors: loadings, communalities and what the factors explain."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.report.learned import Learned
from lgm_cli.report.rotated import Rotated, rotated
from lgm_cli.report.text import Result, ruled, wrapped

MOST_FACTORS = 5  # that 80 columns have room for
ROWS = 9
SHORT = {"component": "comp."}


def result(model: FactorAnalysis, learned: Learned) -> Result:
    """loadings.csv, of correlated factors their correlations too; the columns with the strongest loadings in lines."""
    table, shown = learned.data.table, rotated(model, learned.exported)
    names = [f"{model.latent_name}_{number + 1}" for number in range(shown.loadings.shape[1])]
    frame = pd.DataFrame(shown.loadings, index=table.column_labels, columns=pd.Index(names))
    if shown.offset is not None:
        frame["offset"] = shown.offset
    frame["communality"], frame["uniqueness"] = shown.communality, 1 - shown.communality
    frame.index.name = "column"
    tables = {"loadings": frame}
    if shown.rotated_by == "promax":
        correlations = pd.DataFrame(shown.correlations, index=pd.Index(names), columns=pd.Index(names))
        tables["factor_correlations"] = correlations.rename_axis(model.latent_name)
    return Result(_lines(model, shown, list(map(str, table.titles_of_columns))), tables)


def _lines(model: FactorAnalysis, shown: Rotated, titles: list[str]) -> list[str]:
    loadings, what = shown.loadings, model.latent_name
    columns, factors = loadings.shape
    first = min(factors, MOST_FACTORS)
    rows = strongest(loadings[:, :first], ROWS)
    by = f", rotated by {shown.rotated_by}" if shown.rotated_by else ", not rotated" if factors > 1 else ""
    few = f"; the strongest of {columns:,} columns" if len(rows) < columns else ""
    few += f", the first {first} of {factors} {what}s" if first < factors else ""
    head = ["", *(f"{SHORT.get(what, what)} {number + 1}" for number in range(first)), "communality"]
    body = [
        [titles[m], *(f"{value:.2f}" for value in loadings[m, :first]), f"{shown.communality[m]:.2f}"] for m in rows
    ]
    squares = shown.squares
    total, explained = float(squares.sum()), float(shown.communality.sum())
    feet = [
        ["sum of squares", *(f"{value:.2f}" for value in squares[:first]), f"{explained:.2f}"],
        ["variance share", *(f"{value / columns:.1%}" for value in squares[:first]), f"{explained / columns:.1%}"],
    ]
    lines = [*wrapped(f"loadings in standard deviations of the column{by}{few}:"), *ruled([head, *body, *feet])]
    if shown.offset is not None:
        lines.append(f"the offset of each row explains {(explained - total) / columns:.1%} of the variance")
    if shown.rotated_by == "promax":
        above = shown.correlations[np.triu_indices(factors, 1)]
        lines.append(f"the factors correlate by {above.min():.2f} to {above.max():.2f} (factor_correlations.csv)")
    return lines


def strongest(loadings: np.ndarray, count: int) -> list[int]:
    """So many rows (M, D), those that load most on each factor in turn, put together by their strongest factor."""
    strength = np.abs(loadings)
    chosen: list[int] = []
    for row in np.argsort(-strength, axis=0, kind="stable").ravel():
        if len(chosen) < count and row not in chosen:
            chosen.append(int(row))
    return sorted(chosen, key=lambda row: (int(strength[row].argmax()), -float(strength[row].max())))
