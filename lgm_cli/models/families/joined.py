"""Several families side by side: blocks of columns that are independent given the component."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor

from lgm_cli.models.base.parameters import Parameters, Statistics
from lgm_cli.models.base.predictive import Predictive
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.emissions import Emissions

OWN = "/"  # between the number of a block and the name of one of its statistics


@dataclass(frozen=True)
class Block:
    """Columns of one family.

    model: a mixture of these columns alone, bound to them. names: what its parameters are called here, by what they are
    called there. columns: (m,) numbers of its columns; center, scale: (M,) units in which they are learned from.
    """

    model: Any
    names: Mapping[str, str]
    columns: Tensor
    center: Tensor
    scale: Tensor

    def own(self, parameters: Parameters) -> Parameters:
        """Its parameters, and the weights, under its own names."""
        found = {name: parameters[here] for name, here in self.names.items()}
        return found | ({"weights": parameters["weights"]} if "weights" in parameters else {})

    def shared(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """What is by its own names, by the names here; others are left out."""
        return {here: own[name] for name, here in self.names.items() if name in own}

    def chunk(self, chunk: Chunk) -> Chunk:
        return chunk.restricted(self.columns, self.columns, self.center, self.scale)


class Joined:
    """log p(y | k) = sum over blocks b of log p_b(y_b | k): the family of a mixture of several families."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = blocks

    def emissions(self, parameters: Parameters, chunk: Chunk) -> JoinedEmissions:
        return JoinedEmissions(
            [each.model.family.emissions(each.own(parameters), each.chunk(chunk)) for each in self.blocks]
        )

    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> Tensor:
        """The sum of those of the blocks. ()"""
        losses = [
            each.model.family.expected_loss(each.own(parameters), part(statistics, number))
            for number, each in enumerate(self.blocks)
        ]
        return torch.stack(losses).sum()

    def maximise(self, parameters: Parameters, statistics: Statistics, names: Sequence[str]) -> Parameters:
        """The maxima of the blocks, of the parameters with these names alone, one after the other."""
        new = dict(parameters)
        for number, each in enumerate(self.blocks):
            for name, here in each.names.items():
                if here in names:
                    found = each.model.family.maximise(each.own(new), part(statistics, number), name)
                    new[here] = found[name]
        return new

    def constraints(self, parameters: Parameters) -> Tensor:
        return torch.cat([each.model.family.constraints(each.own(parameters)) for each in self.blocks])

    def at_bounds(self, parameters: Parameters) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for each in self.blocks:
            found |= each.shared(each.model.family.at_bounds(each.own(parameters)))
        return found


class JoinedEmissions:
    """Rows under components of several families. log_density: (n, K), the sum of those of the blocks."""

    def __init__(self, blocks: Sequence[Emissions]) -> None:
        self.blocks = blocks

    @cached_property
    def log_density(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return torch.stack([each.log_density for each in self.blocks]).sum(0)

    def statistics(self, weights: Tensor) -> Statistics:
        """Those of the blocks, under the number of each."""
        return {
            f"{number}{OWN}{name}": value
            for number, each in enumerate(self.blocks)
            for name, value in each.statistics(weights).items()
        }

    def entropy(self, weights: Tensor) -> Tensor:
        return torch.stack([each.entropy(weights) for each in self.blocks]).sum(0)

    def conditional(self, index: Tensor) -> tuple[Tensor, Tensor]:
        raise TypeError("columns are numbered within their block: ask the blocks")

    def drawn(self, component: Tensor, generator: Generator) -> JoinedEmissions:
        return JoinedEmissions([each.drawn(component, generator) for each in self.blocks])


def part(statistics: Statistics, number: int) -> Statistics:
    """The statistics of one block, under their own names."""
    start = f"{number}{OWN}"
    return {name.removeprefix(start): value for name, value in statistics.items() if name.startswith(start)}


@dataclass(frozen=True)
class JoinedPredictive(Predictive):
    """Predictions of entries that are of several blocks. blocks: where each predicts, (n, t), and what."""

    blocks: Sequence[tuple[Tensor, Predictive]]

    @classmethod
    def of(cls, blocks: Sequence[tuple[Tensor, Predictive]]) -> JoinedPredictive:
        mean, variance = (torch.zeros_like(blocks[0][1].mean) for _ in range(2))
        for here, each in blocks:
            mean, variance = torch.where(here, each.mean, mean), torch.where(here, each.variance, variance)
        return cls(mean, variance, blocks)

    def log_density(self, values: Tensor) -> Tensor:
        found = torch.zeros_like(self.mean)
        for here, each in self.blocks:
            found = torch.where(here, each.log_density(values.masked_fill(~here, 0.0)), found)
        return found
