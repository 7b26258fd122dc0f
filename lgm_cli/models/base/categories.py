"""Which models take columns of categories, and predictions of an entry by its most probable category."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lgm_cli.data.base.categories import sizes
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError, proposed
from lgm_cli.models.base.predictive import Predictive

TAKEN_OF_SERIES = "model=composed_chain learns from numbers and categories"
TAKEN_BY = "model=multinoulli_mixture learns from categories, and model=bernoulli_mixture from two in each column"


def require_categories(table: Table, most: int) -> None:
    """Raise UserError for a table with columns of categories, where a model takes none or not so many. The features of
    a regression are numbers by now."""
    if not table.categories or table.features is not None:
        return
    if most == 0:
        names = ", ".join(map(repr, list(table.categories)[:3])) + ", .." * (len(table.categories) > 3)
        raise UserError(
            f"data.categories reads {names} as categories, and this model learns from numbers",
            f"{TAKEN_BY if table.kind != 'series' else TAKEN_OF_SERIES}; or leave data.categories out",
        )
    for column, names in table.categories.items():
        if len(names) > most:
            raise UserError(
                f"column {column!r} of {table.name} has {len(names)} categories, and this model learns from {most}",
                f"model=multinoulli_mixture, or {proposed('data.drop', column)}",
            )


class Likeliest:
    """Predictions of columns of categories: in place of mean and standard deviation, the most probable category and the
    probability of the others together. Other columns keep theirs."""

    def __init__(self, table: Table) -> None:
        self.sizes = torch.as_tensor(sizes(table))  # (M,)
        self.most = int(self.sizes.max())

    def of(self, predicted: Predictive, index: Tensor) -> Predictive:
        """The predictions of entries index (n, t), with `mean` and the square root of `variance` so. The entries of a
        series, all of one data point, are counted step by step."""
        if self.most == 0:
            return predicted
        own = self.sizes.to(predicted.mean.device)[index.to(predicted.mean.device) % len(self.sizes)]
        number = predicted.mean.new_zeros(())
        best, log_probability = torch.zeros_like(predicted.mean), torch.full_like(predicted.mean, -torch.inf)
        for category in range(self.most):
            log_mass = predicted.log_density(torch.full_like(predicted.mean, category))
            better = (log_mass > log_probability) & (category < own)
            best, log_probability = (
                torch.where(better, new, old) for new, old in ((number + category, best), (log_mass, log_probability))
            )
        rest = (-torch.expm1(log_probability)).clamp_min(0.0)
        return replace(
            predicted,
            mean=torch.where(own > 0, best, predicted.mean),
            variance=torch.where(own > 0, rest.square(), predicted.variance),
        )
