"""The weights of a regression, with their standard deviations."""

from __future__ import annotations

from lgm_cli import plots
from lgm_cli.models.linear_regression import LinearRegression
from lgm_cli.report.learned import Learned, Picture


def pictures(model: LinearRegression, learned: Learned) -> dict[str, Picture]:
    mean, deviation = (value[0].double().numpy() for value in learned.inferred().values())
    names, features = learned.data.table.feature_labels, learned.data.table.features
    assert names is not None and features is not None
    scale = features[learned.data.train_rows].std(axis=0)
    response = str(learned.data.table.column_labels[0])
    return {"weights": lambda path: plots.weights(mean, deviation, scale, list(map(str, names)), path, response)}
