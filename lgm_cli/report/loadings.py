"""Factors: loadings by column, or the data points at the ends of each factor."""

from __future__ import annotations

import numpy as np

from lgm_cli import plots
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.numerics.varimax import picture_rotation
from lgm_cli.report.learned import Learned, Picture, drawn_units

LEAST_RATINGS = 20  # of a data point at the end of a factor: the score of one with fewer says little


def pictures(model: FactorAnalysis, learned: Learned) -> dict[str, Picture]:
    """Loadings by column or, of data points that have titles, those at the ends of each factor, by varimax; of data
    points of several kinds, their plane of the first two factors."""
    data, found = learned.data, {}
    _, scale, unit = drawn_units(data)
    loadings = learned.exported["loadings"].numpy() / scale[:, None]
    rotation, rotated_by = picture_rotation(loadings)
    groups, titles = data.table.row_groups, data.table.row_titles
    if groups is not None and model.latent_dim > 1:
        plane = learned.inferred()["latent_mean"][:, :2].double().numpy()
        found["latents"] = lambda path: plots.latent_scatter(plane, list(map(str, groups)), path)
    if titles is not None:
        own = learned.inferred()["latent_mean"][:, : model.latent_dim].double().numpy() @ rotation  # without the offset
        ratings = np.bincount(data.train_rows, minlength=data.shape[0])
        found["factors"] = lambda path: plots.factor_extremes(
            own, list(map(str, titles)), path, weights=ratings, rotated_by=rotated_by, least=LEAST_RATINGS
        )
        return found
    names = data.table.titles_of_columns
    found["loadings"] = lambda path: plots.loadings_table(
        loadings @ rotation, list(map(str, names)), path, rotated_by=rotated_by, meaning=f"in {unit}"
    )
    return found
