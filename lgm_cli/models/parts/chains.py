"""Where the steps of several series stand in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk

UNEVEN = 4.0  # longest series of a chunk over the shortest, at most


class Chains:
    """The rows of a table by series. The steps of a series up to its last observed one are learned from; those after
    it, and those past its end, are forecast.

    series (rows,): which series each row is of, from 0 on; None where all are one. seen (rows,): whether a row has an
    observed entry. classes (rows,): the state of each row, -1 where it is not known; a known one is observed, too.
    """

    def __init__(self, series: np.ndarray | None, seen: np.ndarray, classes: np.ndarray | None = None) -> None:
        seen = seen if classes is None else seen | (classes >= 0)
        series = np.zeros(len(seen), np.int64) if series is None else series
        order = np.argsort(series, kind="stable")
        sizes = np.bincount(series)
        turn = np.arange(len(order)) - np.repeat(sizes.cumsum() - sizes, sizes)
        last = np.zeros(len(sizes), np.int64)
        of_seen = seen[order]
        np.maximum.at(last, series[order][of_seen], turn[of_seen])
        known = turn <= np.repeat(last, sizes)
        place = np.empty(len(order), np.int64)
        place[np.concatenate([order[known], order[~known]])] = np.arange(len(order))
        self.learned = torch.as_tensor(order[known])  # rows, one series after the other
        self.place = torch.as_tensor(place)  # of each row among those learned from and then those that are forecast
        self.edges = [0, *(last + 1).cumsum().tolist()]  # where each series begins among those, and where the last ends
        self.starts = tuple(self.edges[:-1])  # first step of each series among those learned from
        self.ahead = tuple((sizes - last - 1).tolist())  # steps of each series that are forecast
        follows = np.ones(len(self.learned) - 1, bool)
        follows[np.array(self.starts[1:], np.int64) - 1] = False
        self.known = None if classes is None else torch.as_tensor(classes[order[known]])  # (steps,) states, or -1
        self.follows = torch.as_tensor(follows)  # (steps - 1,) whether the next step is of the same series

    @property
    def steps(self) -> int:
        return len(self.learned)

    def steps_of(self, series: int) -> slice:
        """The steps of a series among those learned from."""
        return slice(self.edges[series], self.edges[series + 1])

    def of(self, series: Sequence[int]) -> tuple[Tensor, list[int], Tensor | None]:
        """Of some series, one after the other: their steps among those learned from, the place there of the first step
        of each, and the known states."""
        parts = [torch.arange(self.edges[each], self.edges[each + 1]) for each in series]
        sizes = torch.tensor([0, *map(len, parts)])
        steps = torch.cat(parts)
        return steps, sizes.cumsum(0)[:-1].tolist(), None if self.known is None else self.known[steps]


def apart(observations: Observations, chains: Chains, table: Chunk, seed: int, size: int | None) -> Observations:
    """The observations of a joint table with its series as data points, in random blocks of at most so many, which the
    seed decides. table: all steps that are learned from, as rows."""
    columns, width = table.weight.shape[1], observations.shape[1]
    count = len(chains.starts)
    order = np.random.default_rng([seed, 0xB10C]).permutation(count)

    def chunk(members: np.ndarray) -> Chunk:
        weight, values, index = [], [], []
        for series in members.tolist():
            steps = chains.steps_of(series)
            weight.append(table.weight[steps].flatten().to(observations.dtype))
            values.append(table.values[steps].flatten().to(observations.dtype))
            places = (chains.learned[steps, None] * columns + torch.arange(columns)).flatten().to(table.weight.device)
            index.append(torch.where(weight[-1] > 0, places, width))
        padded = (pad_sequence(each, batch_first=True) for each in (weight, values))
        points = torch.as_tensor(members, device=observations.device)
        return Chunk(points, pad_sequence(index, batch_first=True, padding_value=width), *padded)

    def block(members: np.ndarray) -> list[Chunk]:
        """Series of very different lengths in chunks of their own: each is filled up to the longest of its chunk."""
        length = np.diff(chains.edges)[members]
        kind = np.log(length.max() / length) // np.log(UNEVEN)
        return [chunk(np.sort(members[kind == each])) for each in np.unique(kind)]

    size = min(size or count, count)
    blocks = [block(order[first : first + size]) for first in range(0, count, size)]
    return replace(observations, shape=(count, width), blocks=blocks)


def by_step(step: Tensor, column: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """The columns of entries (t,) in a row for each step, (steps, most of one step), zero where there is none; and the
    place of each entry in its row, (t,)."""
    turn, order = torch.zeros_like(step), step.argsort(stable=True)
    turn[order] = torch.arange(len(step)) - torch.searchsorted(step[order], step[order])
    index = torch.zeros(steps, int(turn.max()) + 1, dtype=torch.long)
    index[step, turn] = column
    return index, turn
