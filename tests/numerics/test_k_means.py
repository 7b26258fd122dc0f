"""Centers of clusters, and the pairing of two sets."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans

from lgm_cli.numerics.assignment import best_assignment
from lgm_cli.numerics.k_means import k_means, nearest, spread_points
from lgm_cli.randomness import generator


def clusters() -> torch.Tensor:
    draw = generator(0, "test clusters")
    centers = 8 * torch.randn(4, 3, dtype=torch.float64, generator=draw)
    return (centers[:, None] + torch.randn(4, 25, 3, dtype=torch.float64, generator=draw)).flatten(0, 1)


def test_spread_points_are_of_different_clusters_and_rows() -> None:
    values = clusters()
    for seed in range(10):
        points = spread_points(values, 4, generator(seed, "test"))
        rows = torch.cdist(points, values).argmin(1)
        assert torch.equal(values[rows], points)
        assert len({int(row) // 25 for row in rows}) >= 3  # one pair may be of one cluster
    assert torch.equal(spread_points(values, 4, generator(1, "test")), spread_points(values, 4, generator(1, "test")))
    assert spread_points(torch.ones(5, 2), 3, generator(0, "test")).shape == (3, 2)  # fewer than three differ


def test_many_rounds_end_where_those_of_scikit_learn_do() -> None:
    values = clusters()
    start = spread_points(values, 4, generator(3, "test"))
    peer = KMeans(4, init=start.numpy(), n_init=1, algorithm="lloyd", tol=0).fit(values.numpy())
    found = k_means(values, 4, generator(3, "test"), rounds=100)
    np.testing.assert_allclose(found.numpy(), peer.cluster_centers_, atol=1e-12)
    np.testing.assert_array_equal(nearest(values, found).numpy(), peer.labels_)


def test_the_best_assignment_is_that_of_scipy() -> None:
    random = np.random.default_rng(0)
    for size in (1, 2, 3, 5, 9):
        for cost in (random.standard_normal((size, size)), random.integers(0, 3, (size, size)).astype(float)):
            order = best_assignment(cost)
            assert sorted(order) == list(range(size))
            row, column = linear_sum_assignment(cost)
            np.testing.assert_allclose(cost[np.arange(size), order].sum(), cost[row, column].sum(), atol=1e-12)
