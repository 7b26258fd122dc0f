"""Mixtures of Bernoulli distributions: rows of zeros and ones, with missing entries."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from lgm_cli.models.base.column_mixture import ColumnMixture, near_floor
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.families.binary import Binary, log_mass
from lgm_cli.models.families.predictive import Density
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk


class BernoulliMixture(ColumnMixture):
    """k_n ~ weights,  y_nm | k_n ~ Bernoulli(probabilities_km).

    Identifiable up to the order of the components for almost all parameters where M >= 2 ceil(log2 K) + 1: Allman,
    Matias & Rhodes, Ann. Statist. 37 (2009) 3099-3132. floor: lower bound of the probabilities of a one and of a zero.
    """

    most_categories = 2
    theta, what = "probabilities", "zeros and ones"

    def __init__(
        self, num_components: int, floor: float, prior_weights: float = 0.0, prior_probabilities: float = 0.0
    ) -> None:
        super().__init__(num_components, floor, prior_weights, prior_probabilities)

    def misfit(self, columns: Tensor, values: Tensor) -> Tensor:
        return (values != 0) & (values != 1)

    def mend(self) -> str:
        return (
            "write yes as 1 and no as 0, or data.categories=NAME for two words; or model=multinoulli_mixture for "
            "categories, model=poisson_mixture for counts"
        )

    def learned_from(self, observations: Observations) -> None:
        seen = one = torch.zeros(observations.shape[1], dtype=torch.float64)
        for chunk in observations.chunks:
            weight, values = (part.sum(0).cpu().double() for part in chunk.scattered(observations.shape[1]))
            seen, one = seen + weight, one + values
        self._mean = (one + 1) / (seen + 2)
        self.family = Binary(max(self.floor, torch.finfo(observations.dtype).eps))

    def overall(self) -> Tensor:
        return self._mean

    def features(self, chunk: Chunk) -> Tensor:
        """Zeros and ones about their share in the column."""
        seen, values = chunk.scattered(len(self._mean))
        return values - seen * self._mean.to(seen)

    def moments(self, exported: Parameters) -> tuple[Tensor, Tensor]:
        mean = exported["probabilities"]
        return mean, mean * (1 - mean)

    def densities(self, inside: Parameters, index: Tensor) -> Density:
        probabilities = inside["probabilities"][:, index].transpose(0, 1)
        return lambda values: log_mass(probabilities, values[:, None])

    def restore(self, exported: Parameters) -> Parameters:
        """Within what the precision can tell from zero and one."""
        inside, least = super().restore(exported), self.family.floor if not self.fixed else 0.0
        least = max(least, torch.finfo(self.observations.dtype).eps)
        return inside | {"probabilities": inside["probabilities"].clamp(least, 1 - least)}

    def simulated_theta(self, components: int, columns: int, share: float, draw: Generator) -> Tensor:
        """Logits whose variance is in this share the component's."""
        like: Any = {"dtype": torch.float64, "generator": draw}
        between = share / (1 - share)
        return (
            0.5 * torch.randn(columns, **like) + (2 * between) ** 0.5 * torch.randn(components, columns, **like)
        ).sigmoid()

    def simulated_values(self, theta: Tensor, draw: Generator) -> Tensor:
        return torch.bernoulli(theta, generator=draw)

    def at_floor(self, inside: Parameters) -> Tensor:
        theta = inside["probabilities"]
        return near_floor(torch.minimum(theta, 1 - theta), self.family.floor)

    def floor_warning(self, components: str, columns: str, number: int) -> str:
        each = "a probability" if number == 1 else f"{number:,} probabilities"
        return (
            f"{each} of {components} in {columns} ended at the floor, {self.family.floor:g} from 0 or 1, or near it: "
            f"all that is known of these data points there is the same value (fewer {self.word}s may avoid it)"
        )
