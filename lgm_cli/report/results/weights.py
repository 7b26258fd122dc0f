"""The coefficients of a regression."""

from __future__ import annotations

import numpy as np

from lgm_cli.data.base.intervals import INTERVAL
from lgm_cli.models.linear_regression import LinearRegression
from lgm_cli.report.learned import Learned
from lgm_cli.report.text import Result, number, ruled, wrapped

ROWS = 10


def result(model: LinearRegression, learned: Learned) -> Result:
    """Posterior means of the weights with their deviations and 90% intervals, those first that are farthest from zero
    in deviations; the intercept, the noise and the share of the variance that is explained,

        R^2 = 1 - sum (y - E[y])^2 / sum (y - mean y)^2,  over the responses that were learned from;

    and the effective number of coefficients, p - alpha tr Var(w), of prior precision alpha: how many are determined by
    the data and not by their prior (MacKay, Neural Computation 4 (1992) 415-447, section 4).
    """
    data, table = learned.data, learned.data.table
    mean, deviation = (value[0].double().numpy() for value in learned.inferred().values())
    assert table.feature_labels is not None and table.features is not None
    order = np.argsort(-np.abs(mean) / deviation, kind="stable")[:ROWS]
    head = ["", "coefficient", "deviation", "90% interval"]
    body = [
        [
            str(table.feature_labels[place]),
            number(float(mean[place])),
            number(float(deviation[place])),
            " to ".join(number(float(mean[place] + side * INTERVAL * deviation[place])) for side in (-1, 1)),
        ]
        for place in order
    ]
    few = f", the clearest {len(order)} of {len(mean):,}" if len(order) < len(mean) else ""
    features = table.features[data.train_rows] - learned.exported["feature_mean"].numpy()
    fitted = float(learned.exported["intercept"]) + features @ mean
    y = data.train_values
    share = 1 - np.square(y - fitted).sum() / np.square(y - y.mean()).sum()
    noise = float(learned.exported["noise_variance"]) ** 0.5
    lines = [
        *wrapped(f"coefficients of {table.column_labels[0]}, per unit of each column{few}:"),
        *ruled([head, *body]),
    ]
    at_mean = number(float(learned.exported["intercept"]))
    lines.append(f"R^2 {share:.4f} of what was learned from; deviation of the noise {number(noise)}")
    lines.append(f"at the means of all columns the response is {at_mean}")
    effective = len(mean) - float(learned.exported["weight_precision"]) * float(np.square(deviation).sum())
    lines.append(f"{effective:.2f} of {len(mean):,} coefficients are determined by the data, the rest by their prior")
    return Result(lines)
