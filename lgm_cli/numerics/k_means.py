"""Well spread points to begin clusters at."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def spread_points(values: Tensor, number: int, generator: Generator) -> Tensor:
    """`number` of the rows of values (N, M), drawn far apart: the first at random, each other with probability
    proportional to its squared distance from the nearest before it; (number, M).

    k-means++: Arthur & Vassilvitskii, SODA 2007, 1027-1035. Rows repeat where fewer than `number` differ.
    """
    chosen = int(torch.randint(len(values), (), generator=generator))
    points = [values[chosen]]
    distance = (values - points[0]).square().sum(1)
    for _ in range(1, number):
        chances = distance if bool(distance.any()) else torch.ones_like(distance)
        edges = chances.cumsum(0)
        mark = torch.rand((), dtype=edges.dtype, generator=generator) * edges[-1]
        chosen = min(int(torch.searchsorted(edges, mark, right=True)), len(values) - 1)
        points.append(values[chosen])
        distance = torch.minimum(distance, (values - points[-1]).square().sum(1))
    return torch.stack(points)


def nearest(values: Tensor, points: Tensor) -> Tensor:
    """The number of the nearest of points (K, M) to each row of values (N, M), (N,)."""
    return torch.cdist(values, points).argmin(1)
