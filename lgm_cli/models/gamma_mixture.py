"""Mixtures of gamma distributions: rows of positive numbers, with missing entries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

from lgm_cli.data.base.table import Table
from lgm_cli.models.base.column_mixture import POOLED, ColumnMixture
from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters, Statistics
from lgm_cli.models.families.gamma_shapes import SMALLEST, shapes_of, standard_gamma
from lgm_cli.models.families.positive import Positive, log_density
from lgm_cli.models.families.predictive import Density
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk

FLOOR = 1e-6  # of means, in averages of the column
DRAWN = 4.0  # shape of what is simulated


class GammaMixture(ColumnMixture):
    """k_n ~ weights,  y_nm | k_n ~ gamma(mean means_km, shape shapes_km), of variance means_km^2 / shapes_km.

    For columns that are positive and skew, such as concentrations, durations, amounts of money and speeds of wind: the
    standard deviation of a component grows with its mean. Wiper, Rios Insua & Ruggeri, J. Comput. Graph. Statist. 10
    (2001) 440-454.

    noise_floor: smallest variance of a column given the component, as a fraction of its mean squared, 1 / shapes_km;
    without one the likelihood has no maximum.
    """

    one_column, bounded_by = True, "noise_floor"
    theta, what, scaled, whole = "means", "positive numbers", True, False
    axes: ClassVar = {"weights": ("component",)} | dict.fromkeys(("means", "shapes"), ("component", "column"))

    def __init__(self, num_components: int, noise_floor: float, prior_weights: float = 0.0) -> None:
        super().__init__(num_components, FLOOR, prior_weights)
        self.noise_floor = noise_floor
        self.blocks = (("weights",), ("means",), ("shapes",))

    def misfit(self, columns: Tensor, values: Tensor) -> Tensor:
        return values <= 0

    def mend(self) -> str:
        return (
            "leave out such columns (data.drop), or data.missing=[0] if a zero stands for a missing value; "
            "model=gaussian_mixture for numbers of any sign"
        )

    def learned_from(self, observations: Observations) -> None:
        seen = total = logs = squares = torch.zeros(observations.shape[1], dtype=torch.float64)
        for chunk in observations.chunks:
            weight, values = (part.cpu().double() for part in chunk.scattered(observations.shape[1]))
            log = values.masked_fill(weight == 0, 1.0).log()
            seen, total = seen + weight.sum(0), total + values.sum(0)
            logs, squares = logs + log.sum(0), squares + log.square().sum(0)
        few = seen.clamp_min(1)
        self._mean, self._log = torch.where(seen > 0, total / few, 1.0), logs / few
        self._deviation = (squares / few - self._log.square()).clamp_min(1e-12).sqrt()
        largest = math.inf if self.fixed else 1 / self.noise_floor
        self._shape = shapes_of(1 + self._mean.log() - self._log).clamp_max(largest)
        floor = (0.0 if self.fixed else FLOOR) * self._mean
        self.family = Positive(floor.to(observations.device), largest)

    def overall(self) -> Tensor:
        return self._mean

    def features(self, chunk: Chunk) -> Tensor:
        """Logarithms about their average, in their standard deviations."""
        seen, values = chunk.scattered(len(self._mean))
        log = values.masked_fill(seen == 0, 1.0).log() - self._log.to(seen)
        return seen * log / self._deviation.to(seen)

    # Parameters ------------------------------------------------------------------------------------------------

    def before_clusters(self, centers: Tensor) -> Parameters:
        first = super().before_clusters(centers)
        return first | {"shapes": self._shape.to(first["means"]).expand_as(first["means"])}

    def after_clusters(self, first: Parameters, total: Statistics) -> Parameters:
        """Components take half of their means and shapes from the rows of their cluster, half from all rows."""
        found = self.family.maximise(first, total)
        weights = (total["components"] + 1) / (total["components"] + 1).sum()
        mixed = {name: (1 - POOLED) * found[name] + POOLED * first[name] for name in ("means", "shapes")}
        return {"weights": weights} | mixed

    def free(self, parameters: Parameters) -> Parameters:
        return super().free(parameters) | {"shapes": parameters["shapes"].log()}

    def constrain(self, free: Parameters) -> Parameters:
        shapes = free["shapes"].clamp(math.log(SMALLEST), math.log(self.family.largest)).exp()
        return super().constrain(free) | {"shapes": shapes}

    def restore(self, exported: Parameters) -> Parameters:
        shapes = exported["shapes"].clamp(SMALLEST, self.family.largest)
        return super().restore(exported) | {"shapes": shapes.to(self.observations.device, self.observations.dtype)}

    def exported_shapes(self, table: Table) -> dict[str, tuple[int, ...]]:
        return super().exported_shapes(table) | {"shapes": (self.num_components, table.shape[1])}

    def simulated_values(self, theta: Tensor, draw: Generator) -> Tensor:
        return theta * standard_gamma(torch.full_like(theta, DRAWN), draw) / DRAWN

    def simulate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        drawn = super().simulate(options)
        drawn["truth"]["shapes"] = np.full_like(drawn["truth"]["means"], DRAWN)
        return drawn

    # What is reported ------------------------------------------------------------------------------------------

    def moments(self, exported: Parameters) -> tuple[Tensor, Tensor]:
        return exported["means"], exported["means"].square() / exported["shapes"]

    def densities(self, inside: Parameters, index: Tensor) -> Density:
        means, shapes = (inside[name][:, index].transpose(0, 1) for name in ("means", "shapes"))
        return lambda values: log_density(means, shapes, values[:, None])

    def at_floor(self, inside: Parameters) -> Tensor:
        return inside["shapes"] >= self.family.largest / NEAR_FLOOR

    def floor_warning(self, components: str, columns: str, number: int) -> str:
        return (
            f"the spread of {components} in {columns} ended at its floor, {self.noise_floor:g} of the mean squared, or "
            f"just above: values hardly differ there ({self.lower_floor} lets it fall further; fewer {self.word}s "
            "avoid it)"
        )
