"""Hidden Markov model of a series with columns of several kinds, with missing entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from lgm_cli.data.base.categories import MOST
from lgm_cli.data.base.table import Table
from lgm_cli.models.base.naming import axes_of_components
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.composed import Composed
from lgm_cli.models.families.joined import Block
from lgm_cli.models.hidden_markov import HiddenMarkov
from lgm_cli.models.parts.mixture_emissions import MixtureEmissions, StepwisePredictive
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.base import in_double
from lgm_cli.posteriors.state_path import StatePath


class ComposedChain(HiddenMarkov):
    """k_1 ~ initial,  k_t | k_(t-1) ~ row k_(t-1) of transition,  y_t | k_t ~ prod_b p_b(y_tb | k_t) over blocks b of
    columns, each of a family of its own: those of model=composed, whose components are the states here.

    Several series (data.series), known states (data.labels) and forecasts are as in model=hidden_markov. Hidden entries
    drop out of p_b, so that the probabilities of the states are exact. Zucchini, MacDonald & Langrock, Hidden Markov
    Models for Time Series (2016), 9.

    blocks, covariance, noise_floor, floor: as in model=composed. prior_transitions: as in model=hidden_markov.
    """

    most_categories = MOST
    pictures: ClassVar = ("states", "blocks")
    results: ClassVar = ("blocks", "forecasts")
    axes: ClassVar[Mapping[str, Any]] = axes_of_components("state")

    def __init__(
        self,
        num_components: int,
        blocks: str | Sequence[Mapping[str, Any]],
        covariance: str,
        noise_floor: float,
        floor: float,
        prior_transitions: float = 0.0,
    ) -> None:
        self.prior_transitions, self.prior_emissions = prior_transitions, 0.0
        self.num_components, self.emission, self.noise_floor = num_components, "blocks", noise_floor
        self.emissions = MixtureEmissions(Composed(num_components, blocks, covariance, noise_floor, floor))
        self.dim, self.standardise = num_components, False
        self.blocks = (("initial",), ("transition",))  # and, once it is bound, each parameter of a block

    def prepare(self, observations: Observations) -> None:
        super().prepare(observations)
        mixture = self.mixture
        self.intervals = mixture.intervals
        self.blocks = (("initial",), ("transition",), *((name,) for name in self.emissions.names))
        axes = axes_of_components("state") | {name: mixture.axes[name] for name in self.emissions.names}
        self.axes = axes  # pyright: ignore[reportAttributeAccessIssue]  # of these columns

    @property
    def mixture(self) -> Composed:
        """What states emit: a mixture whose components they are."""
        return cast(MixtureEmissions, self.emissions).mixture

    @property
    def parts(self) -> Sequence[Block]:
        return self.mixture.parts

    def exported_shapes(self, table: Table) -> dict[str, tuple[int, ...]]:
        k, own = self.num_components, self.mixture.exported_shapes(table)
        del own["weights"]
        return {"initial": (k,), "transition": (k, k)} | own

    def log_scales(self, chunk: Chunk) -> Tensor:
        """Of the columns of normal blocks, which are learned from in standard units."""
        return self.mixture.log_scales(self.table(chunk)).sum()[None]

    def predict(self, parameters: Parameters, posterior: StatePath, index: Tensor) -> StepwisePredictive:  # pyright: ignore[reportIncompatibleMethodOverride]
        """By the probabilities of the states of the entry's step, given all that was observed."""
        entry, table = index[0].cpu(), self._table[1]
        steps, row = self.chains.place[entry // self.channels].unique(return_inverse=True)
        chances = torch.cat([posterior.state_probabilities, posterior.ahead(self.chains.ahead)])
        steps = steps.to(chances.device)
        known = steps < self.steps  # the others are forecast: nothing is observed there
        weight, values = (table.weight.new_zeros(len(steps), self.channels) for _ in range(2))
        weight[known], values[known] = table.weight[steps[known]], table.values[steps[known]]
        rows = Chunk(torch.arange(len(steps), device=steps.device), None, weight, values)
        inside = {name: in_double(value) for name, value in parameters.items()}
        emissions = cast(MixtureEmissions, self.emissions)
        return emissions.given_step(inside, chances[steps], rows, row, entry % self.channels)
