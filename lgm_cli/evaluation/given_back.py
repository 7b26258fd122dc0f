"""Predictions in the units of the user's series, where its logarithms or differences were learned from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lgm_cli.data.base.data import Data
from lgm_cli.errors import UserError
from lgm_cli.models.base.latent_variable_model import LatentVariableModel, Reference
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.base.predictive import Predictive
from lgm_cli.numerics.cumulated import smoothed


@dataclass(frozen=True)
class LogNormal(Predictive):
    """Predictions whose logarithms are normal. mean and variance are those of the value itself,

        mean = exp(m + v / 2),   variance = (exp(v) - 1) mean^2,   log y ~ N(m, v),

    and `log_mean`, `log_variance` are m and v; the median is exp(m).
    """

    log_mean: Tensor
    log_variance: Tensor

    @classmethod
    def of(cls, normal: Predictive) -> LogNormal:
        """What exp() makes of normal predictions."""
        mean = (normal.mean + normal.variance / 2).exp()
        return cls(mean, normal.variance.expm1() * mean.square(), normal.mean, normal.variance)

    def log_density(self, values: Tensor) -> Tensor:
        logs = values.log()
        scaled = (logs - self.log_mean) ** 2 / self.log_variance
        return -0.5 * (scaled + (2 * math.pi * self.log_variance).log()) - logs


def require_possible(model: LatentVariableModel, data: Data, name: str) -> None:
    """UserError where the model cannot give back the transform of the data. name: that of the model."""
    if data.table.transform is not None and not model.has_chain:
        raise UserError(
            f"data.log, data.difference and data.seasonal_difference are given back by linear models, and model={name} "
            "is none",
            "model=state_space or model=autoregressive, or transform the file yourself",
        )


class GivenBack:
    """Predicts entries of a transformed series. What is known on both sides of a gap holds it, and the variance of a
    forecast of cumulated differences has the covariances between its steps (`lgm_cli.numerics.cumulated`)."""

    def __init__(self, model: LatentVariableModel, data: Data) -> None:
        assert data.table.transform is not None
        self.model, self.data, self.transform = model, data, data.table.transform
        self._last: tuple[Parameters, Tensor, Tensor] | None = None  # parameters, and what they predict

    @property
    def log_jacobian(self) -> float:
        """Sum over the entries learned from of log |d x / d y|, x = log y; differences have a determinant of one."""
        if not self.transform.log:
            return 0.0
        table = self.data.learned.table
        return -float(self.data.levels[table.rows, table.columns].sum())

    def predict(self, parameters: Parameters, posterior: Reference, index: Tensor) -> Predictive:
        """As that of a model: index (1, t) into the table, row by row."""
        found = self._cumulated(parameters, index) if self.transform.reach else None
        if found is None:
            found = self.model.predict(parameters, posterior, index)
        return LogNormal.of(found) if self.transform.log else found

    def _cumulated(self, parameters: Parameters, index: Tensor) -> Predictive:
        if self._last is None or self._last[0] is not parameters:
            exported = self.model.export(parameters)
            learned, shape = self.data.learned, self.data.shape
            rows, columns = (place.ravel() for place in np.indices(shape))
            level = np.asarray(exported["mean"]) + learned.seasonal(rows, columns).reshape(shape)
            found = smoothed(self.model.chain(exported), level, self.data.levels, self.transform.weights)
            mean, variance = (torch.as_tensor(part).reshape(-1) for part in found)
            self._last = parameters, mean, variance
        _, mean, variance = self._last
        return Predictive(mean[index.cpu()], variance[index.cpu()])
