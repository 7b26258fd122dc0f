"""The sum over all paths of a chain by a tree of products, against enumeration, and its second derivatives."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from lgm_cli.numerics.markov_chain import log_of_all_paths


def logs(steps: int, states: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(steps)
    shapes = (states,), (states, states), (steps, states)
    initial, transition, emission = (torch.randn(*s, dtype=torch.float64, generator=draw) for s in shapes)
    return initial.log_softmax(0), transition.log_softmax(1), 20 * emission


@pytest.mark.parametrize(("steps", "starts"), [(1, [0]), (2, [0]), (7, [0]), (7, [0, 1, 4]), (6, [0, 5])])
def test_it_is_the_sum_over_paths(steps: int, starts: list[int]) -> None:
    initial, transition, emission = logs(steps, 3)
    emission[steps // 2, 1] = -math.inf  # a step whose state cannot be the second
    total = torch.tensor(-math.inf, dtype=torch.float64)
    for path in itertools.product(range(3), repeat=steps):
        each = sum(
            (initial[k] if t in starts else transition[path[t - 1], k]) + emission[t, k] for t, k in enumerate(path)
        )
        total = torch.logaddexp(total, torch.as_tensor(each))
    assert float(log_of_all_paths(initial, transition, emission, starts)) == pytest.approx(float(total), rel=1e-12)


def test_long_chains_neither_overflow_nor_underflow() -> None:
    initial, transition, emission = logs(3000, 2)
    value = log_of_all_paths(initial, transition, 40 * emission - 1e4, [0])
    state = initial + 40 * emission[0] - 1e4
    for row in 40 * emission[1:] - 1e4:
        state = torch.logsumexp(state[:, None] + transition, 0) + row
    assert float(value) == pytest.approx(float(torch.logsumexp(state, 0)), rel=1e-12)


def test_it_can_be_differentiated_twice() -> None:
    inputs = tuple(part.requires_grad_() for part in logs(5, 2))
    assert torch.autograd.gradgradcheck(lambda *parts: log_of_all_paths(*parts, [0, 3]), inputs)
