"""The weights of a regression, with their standard deviations."""

from __future__ import annotations

from lgm_cli import plots
from lgm_cli.models.linear_regression import LinearRegression
from lgm_cli.report.learned import Learned, Picture


def pictures(model: LinearRegression, learned: Learned) -> dict[str, Picture]:
    mean, deviation = (value[0].double().numpy() for value in learned.inferred().values())
    names = learned.data.table.feature_labels
    assert names is not None
    response = str(learned.data.table.column_labels[0])
    return {"weights": lambda path: plots.weights(mean, deviation, list(map(str, names)), path, response=response)}
