"""Mixtures of negative multinomial distributions: counts that vary more than Poisson's, with missing entries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

from lgm_cli.data.base.table import Table
from lgm_cli.models.base.column_mixture import POOLED
from lgm_cli.models.base.parameters import Parameters, Statistics
from lgm_cli.models.families.gamma_shapes import standard_gamma
from lgm_cli.models.families.overdispersed_counts import SHAPES, OverdispersedCounts, log_mass
from lgm_cli.models.families.predictive import Density, MixturePredictive
from lgm_cli.models.poisson_mixture import PoissonMixture
from lgm_cli.observations.blocks import Observations
from lgm_cli.posteriors.responsibilities import Responsibilities


class NegativeMultinomialMixture(PoissonMixture):
    """k_n ~ weights,  z_n | k_n ~ gamma(shapes_k, shapes_k),  y_nm | z_n, k_n ~ Poisson(z_n rates_km).

    z_n is the level of a row: how often a person goes to any doctor, how long a text is. Its mean is one and its
    variance 1 / shapes_k, so that Var(y_m | k) = rates_km + rates_km^2 / shapes_k. Where shapes_k grows, this is a
    Poisson mixture. Entries of a row tell of its level, so hidden ones are predicted from the others.

    floor: lower bound of rates, in averages of the column. Conjugacy of gamma and Poisson: Sokoloski, arXiv 2404.19501.
    """

    axes: ClassVar = {"weights": ("component",), "rates": ("component", "column"), "shapes": ("component",)}

    def __init__(self, num_components: int, floor: float, prior_weights: float = 0.0) -> None:
        super().__init__(num_components, floor, prior_weights)
        self.blocks = (("weights",), ("rates",), ("shapes",))

    def learned_from(self, observations: Observations) -> None:
        super().learned_from(observations)
        self.family = OverdispersedCounts(self.family.floor)

    # Parameters ------------------------------------------------------------------------------------------------

    def before_clusters(self, centers: Tensor) -> Parameters:
        first = super().before_clusters(centers)
        return first | {"shapes": torch.ones_like(first["weights"])}

    def after_clusters(self, first: Parameters, total: Statistics) -> Parameters:
        """Components take half of their rates from the rows of their cluster, half from all rows; levels begin with a
        variance of one."""
        found = self.family.maximise(first, total, "rates")
        weights = (total["components"] + 1) / (total["components"] + 1).sum()
        rates = (1 - POOLED) * found["rates"] + POOLED * first["rates"]
        return {"weights": weights, "rates": rates, "shapes": first["shapes"]}

    def free(self, parameters: Parameters) -> Parameters:
        return super().free(parameters) | {"shapes": parameters["shapes"].log()}

    def constrain(self, free: Parameters) -> Parameters:
        low, high = map(math.log, SHAPES)
        return super().constrain(free) | {"shapes": free["shapes"].clamp(low, high).exp()}

    def restore(self, exported: Parameters) -> Parameters:
        return super().restore(exported) | {
            "shapes": exported["shapes"].to(self.observations.device, self.observations.dtype)
        }

    def exported_shapes(self, table: Table) -> dict[str, tuple[int, ...]]:
        return super().exported_shapes(table) | {"shapes": (self.num_components,)}

    def simulated_values(self, theta: Tensor, draw: Generator) -> Tensor:
        """Rates (N, M); levels of variance a half."""
        return torch.poisson(theta * standard_gamma(torch.full_like(theta[:, :1], 2.0), draw) / 2.0, generator=draw)

    def simulate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        drawn = super().simulate(options)
        drawn["truth"]["shapes"] = np.full(self.num_components, 2.0)
        return drawn

    # What is reported ------------------------------------------------------------------------------------------

    def moments(self, exported: Parameters) -> tuple[Tensor, Tensor]:
        rates = exported["rates"]
        return rates, rates + rates.square() / exported["shapes"][:, None]

    def spread(self, exported: Parameters) -> Tensor:
        """The levels make columns of a component covary: Cov(y_m, y_l | k) = rates_km rates_kl / shapes_k, l != m."""
        rates = exported["rates"]
        return torch.diag_embed(rates) + rates[:, :, None] * rates[:, None] / exported["shapes"][:, None, None]

    def densities(self, inside: Parameters, index: Tensor) -> Density:
        """Of rows of which nothing else was observed: negative binomial."""
        rates, a = inside["rates"][:, index].transpose(0, 1), inside["shapes"][:, None]
        return lambda values: log_mass(a, a, rates, values)

    def predict(self, parameters: Parameters, posterior: Responsibilities, index: Tensor) -> MixturePredictive:
        """A mixture of negative binomials, given what was observed of the row."""
        emissions: Any = posterior.emissions
        weights = posterior.responsibilities.detach().cpu().double()
        mean, variance = (part.detach().cpu().double() for part in emissions.conditional(index))
        return MixturePredictive.of(
            weights, mean, variance,
            lambda values: emissions.log_mass(index, values.to(index.device)).detach().cpu().double(),
        )  # fmt: skip

    def warnings(self, parameters: Parameters, names: list[str]) -> list[str]:
        found = super().warnings(parameters, names)
        high = torch.nonzero(parameters["shapes"] >= 1e-3 * SHAPES[1]).flatten().tolist()
        if high:
            found.append(
                f"the shape of {self.named(high)} grew to {float(parameters['shapes'].max()):.3g}: there the counts "
                "vary no more than Poisson's, and model=poisson_mixture would do"
            )
        return found
