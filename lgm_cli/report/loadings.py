"""Factors: loadings by column, or the data points at the ends of each factor."""

from __future__ import annotations

import numpy as np

from lgm_cli import plots
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.report.learned import Learned, Picture
from lgm_cli.report.rotated import Rotated, rotated

LEAST_RATINGS = 20  # of a data point at the end of a factor: the score of one with fewer says little


def pictures(model: FactorAnalysis, learned: Learned) -> dict[str, Picture]:
    """Loadings by column or, of data points that have titles, those at the ends of each factor; of data points
    of several kinds, their plane of the first two factors. All are of the same factors as loadings.csv."""
    data, found = learned.data, {}
    shown = rotated(model, learned.exported)
    groups, titles = data.table.row_groups, data.table.row_titles
    if groups is not None and model.latent_dim > 1:
        plane = _scores(model, learned, shown)[:, :2]
        found["latents"] = lambda path: plots.latent_scatter(
            plane, list(map(str, groups)), path, latent=model.latent_name
        )
    if titles is not None:
        own = _scores(model, learned, shown)
        ratings = np.bincount(data.train_rows, minlength=data.shape[0])
        found["factors"] = lambda path: plots.factor_extremes(
            own,
            list(map(str, titles)),
            path,
            weights=ratings,
            rotated_by=shown.rotated_by,
            least=LEAST_RATINGS,
            latent=model.latent_name,
        )
        return found
    names = data.table.titles_of_columns
    found["loadings"] = lambda path: plots.loadings_table(
        shown.loadings, list(map(str, names)), path, rotated_by=shown.rotated_by,
        meaning="in standard deviations of the column", latent=model.latent_name,
    )  # fmt: skip
    return found


def _scores(model: FactorAnalysis, learned: Learned, shown: Rotated) -> np.ndarray:
    """Posterior means of the factors that are shown, (N, D), without the offset."""
    return learned.inferred()["latent_mean"][:, : model.latent_dim].double().numpy() @ shown.turn_of_scores
