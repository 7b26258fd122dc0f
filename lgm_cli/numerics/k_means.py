"""Centers of clusters, to begin a mixture at."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

ROUNDS = 10  # of assignment and means, far fewer than until nothing moves: what follows goes on from there


def k_means(
    values: Tensor, number: int, generator: Generator, rounds: int = ROUNDS, known: Tensor | None = None
) -> Tensor:
    """Means (number, M) of clusters of the rows of values (N, M), by a few rounds of Lloyd from spread points. known:
    (N,) the cluster of rows that stay in it, -1 for others; such clusters begin at the means of these rows.

    Lloyd, IEEE Transactions on Information Theory 28 (1982) 129-137. A cluster without rows keeps its center.
    """
    centers = _first_points(values, number, generator, known)
    for _ in range(rounds):
        assigned = nearest(values, centers)
        if known is not None:
            assigned = torch.where(known >= 0, known, assigned)
        rows = torch.bincount(assigned, minlength=number)[:, None]
        sums = torch.zeros_like(centers).index_add(0, assigned, values)
        centers = torch.where(rows > 0, sums / rows.clamp_min(1), centers)
    return centers


def _first_points(values: Tensor, number: int, generator: Generator, known: Tensor | None) -> Tensor:
    return spread_points(values, number, generator) if known is None else _seeded(values, number, generator, known)


def _seeded(values: Tensor, number: int, generator: Generator, known: Tensor) -> Tensor:
    """Means of the rows that are known to be of a cluster; of clusters without any, points far from these means and
    from each other (Basu, Banerjee & Mooney, ICML 2002, 27-34)."""
    rows = torch.nn.functional.one_hot(known + 1, number + 1)[:, 1:].to(values)
    count = rows.sum(0)
    means, absent = rows.mT @ values / count.clamp_min(1)[:, None], torch.nonzero(count == 0).flatten()
    points = spread_points(values, len(absent), generator, means[count > 0])
    return means.index_copy(0, absent, points)


def spread_points(values: Tensor, number: int, generator: Generator, before: Tensor | None = None) -> Tensor:
    """`number` of the rows of values (N, M), drawn far apart: the first at random, each other with probability
    proportional to its squared distance from the nearest before it; (number, M). before: points (n, M) that are there
    already.

    k-means++: Arthur & Vassilvitskii, SODA 2007, 1027-1035. Rows repeat where fewer than `number` differ.
    """
    if before is not None and len(before):
        points, distance = [], torch.cdist(values, before).square().amin(1)
    else:
        chosen = int(torch.randint(len(values), (), generator=generator))
        points = [values[chosen]]
        distance = (values - points[0]).square().sum(1)
    for _ in range(len(points), number):
        chances = distance if bool(distance.any()) else torch.ones_like(distance)
        edges = chances.cumsum(0)
        mark = torch.rand((), dtype=edges.dtype, generator=generator) * edges[-1]
        chosen = min(int(torch.searchsorted(edges, mark, right=True)), len(values) - 1)
        points.append(values[chosen])
        distance = torch.minimum(distance, (values - points[-1]).square().sum(1))
    return torch.stack(points) if points else values[:0]


def nearest(values: Tensor, points: Tensor) -> Tensor:
    """The number of the nearest of points (K, M) to each row of values (N, M), (N,)."""
    return torch.cdist(values, points).argmin(1)


def clusters(
    values: Tensor,
    number: int,
    generator: Generator,
    starts: int = 5,
    rounds: int = 20,
    known: Tensor | None = None,
) -> Tensor:
    """The cluster of each row of values (N, M), (N,): the best of several starts at `spread_points`, each of which goes
    on for so many rounds of nearest points and means (Lloyd, IEEE Trans. Inf. Theory 28 (1982) 129-137). known: as in
    `k_means`."""
    best, found = torch.inf, torch.zeros(len(values), dtype=torch.long)
    for _ in range(starts):
        points, label = _first_points(values, number, generator, known), found
        for _ in range(rounds):
            before, label = label, nearest(values, points)
            if known is not None:
                label = torch.where(known >= 0, known, label)
            count = torch.bincount(label, minlength=number)[:, None]
            means = torch.zeros_like(points).index_add(0, label, values) / count.clamp_min(1)
            points = torch.where(count > 0, means, points)
            if torch.equal(before, label):
                break
        spread = float((values - points[label]).square().sum())
        if spread < best:
            best, found = spread, label
    return found
