"""Several chains of states that share their parameters, against sums over paths and against each chain by itself."""

from __future__ import annotations

import itertools
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from lgm_cli.posteriors.state_path import CertainPath, StatePath
from tests.posteriors.test_state_path import DOUBLE, Told, chain, paths

# Sizes of chains: tiny ones, one cut into stretches among short ones, many stretches of each, states too many to cut.
SIZES = {"tiny": (3, 1, 2), "one long": (2, 400, 7, 1, 30), "all long": (150, 90, 120), "single steps": (1, 1, 1, 1)}
sizes = pytest.mark.parametrize("lengths", list(SIZES.values()), ids=list(SIZES))


def starts_of(lengths: tuple[int, ...]) -> list[int]:
    return [0, *itertools.accumulate(lengths)][:-1]


def together(parts: tuple[Tensor, Tensor, Tensor], lengths: tuple[int, ...], beta: float = 1.0) -> StatePath:
    return StatePath(parts[0], parts[1], Told(parts[2]), beta, starts_of(lengths))


def apart(parts: tuple[Tensor, Tensor, Tensor], lengths: tuple[int, ...], beta: float = 1.0) -> list[StatePath]:
    edges = [*starts_of(lengths), sum(lengths)]
    return [StatePath(parts[0], parts[1], Told(parts[2][one:two]), beta) for one, two in pairwise(edges)]


@pytest.mark.parametrize("beta", [1.0, 0.4])
def test_three_chains_have_the_sums_over_all_of_their_paths(beta: float) -> None:
    lengths, parts = SIZES["tiny"], chain(6, 3)
    edges = [*starts_of(lengths), 6]
    each = [paths((parts[0], parts[1], parts[2][one:two])) for one, two in pairwise(edges)]
    found, total, entropy = together(parts, lengths, beta), 0.0, 0.0
    pairs, first, best = torch.zeros(3, 3, **DOUBLE), torch.zeros(3, **DOUBLE), []
    for (every, weight), begin in zip(each, edges, strict=False):
        share = (beta * weight - torch.logsumexp(beta * weight, 0)).exp()
        total, entropy = total + float(torch.logsumexp(beta * weight, 0)), entropy - float((share * share.log()).sum())
        best += every[weight.argmax()].tolist()
        for t, k in itertools.product(range(every.shape[1]), range(3)):
            chance = share[every[:, t] == k].sum()
            assert abs(float(found.state_probabilities[begin + t, k] - chance)) < 1e-12
            first[k] += chance if t == 0 else 0
        for t, j, k in itertools.product(range(every.shape[1] - 1), range(3), range(3)):
            pairs[j, k] += share[(every[:, t] == j) & (every[:, t + 1] == k)].sum()
    if beta == 1.0:
        assert found.log_evidence is not None and abs(float(found.log_evidence) - total) < 1e-12
    assert torch.allclose(found.transition_counts, pairs, atol=1e-12, rtol=0)
    assert torch.allclose(found.pairs().sum(0), pairs, atol=1e-12, rtol=0)
    assert torch.allclose(found.first_states, first, atol=1e-12, rtol=0)
    assert abs(float(found.entropy()) - entropy / beta) < 1e-10 / beta or beta != 1.0
    assert found.most_probable().tolist() == best


@sizes
@pytest.mark.parametrize("states", [3, 50])
@pytest.mark.parametrize("scale", [1.0, 400.0])  # the larger one needs logarithms
def test_chains_together_are_the_chains_apart(lengths: tuple[int, ...], states: int, scale: float) -> None:
    parts = chain(sum(lengths), states)
    parts = parts[0], parts[1], scale * parts[2]
    if scale > 1:
        parts = parts[0], (30 * parts[1]).log_softmax(1), parts[2]
    given = [part.clone().requires_grad_() for part in parts]
    same = [part.clone().requires_grad_() for part in parts]
    found = together((given[0], given[1], given[2]), lengths)
    each = apart((same[0], same[1], same[2]), lengths)
    assert found.log_evidence is not None
    evidence = torch.cat([one.log_evidence for one in each if one.log_evidence is not None]).sum()
    assert float(found.log_evidence.detach()) == pytest.approx(float(evidence.detach()), rel=1e-12)
    found.log_evidence.sum().backward()
    evidence.backward()
    for one, two in zip(given, same, strict=True):
        assert one.grad is not None and two.grad is not None
        assert torch.allclose(one.grad, two.grad, atol=1e-9, rtol=1e-9)
    ahead = [3, *range(len(lengths) - 1)]
    wanted = torch.cat([one.ahead(count) for one, count in zip(each, ahead, strict=True)])
    assert torch.allclose(found.ahead(ahead), wanted, atol=1e-10, rtol=0)
    best = [one.most_probable(count) for one, count in zip(each, ahead, strict=True)]
    wanted = [path[:size] for path, size in zip(best, lengths, strict=True)]
    wanted += [path[size:] for path, size in zip(best, lengths, strict=True)]
    assert found.most_probable(ahead).tolist() == torch.cat(wanted).tolist()
    energy = torch.cat([one.entropy() for one in each]).sum()
    assert float(found.entropy()) == pytest.approx(float(energy), rel=1e-8, abs=1e-8)


def test_the_gradient_is_that_of_differences() -> None:
    lengths, parts = SIZES["tiny"], chain(6, 3)
    given = [part.clone().requires_grad_() for part in parts]
    value = together((given[0], given[1], given[2]), lengths).log_evidence
    assert value is not None
    value.sum().backward()
    for place, part in enumerate(given):
        index = (0,) * part.dim()
        moved = []
        for step in (-1e-5, 1e-5):
            other = [each.detach().clone() for each in parts]
            other[place][index] += step
            evidence = together((other[0], other[1], other[2]), lengths).log_evidence
            assert evidence is not None
            moved.append(float(evidence))
        assert part.grad is not None
        assert float(part.grad[index]) == pytest.approx((moved[1] - moved[0]) / 2e-5, abs=1e-7)


def test_draws_of_chains_have_their_marginals_and_no_transition_between_them() -> None:
    lengths, parts = (3, 1, 2), chain(6, 3)
    found, draw = together(parts, lengths), torch.Generator().manual_seed(0)
    drawn = [found.draw(draw) for _ in range(1500)]
    for name in ("state_probabilities", "transition_counts", "first_states"):
        values = torch.stack([getattr(each, name) for each in drawn])
        error = values.std(0) / len(drawn) ** 0.5 + 1e-3
        assert float(((values.mean(0) - getattr(found, name)) / error).abs().max()) < 4.5, name
    assert float(drawn[0].transition_counts.sum()) == 3
    path = torch.tensor([0, 1, 1, 0])
    certain = CertainPath(path, 2, Told(torch.zeros(4, 2, **DOUBLE)), (0, 2))
    assert certain.transition_counts.tolist() == [[0, 1], [1, 0]]
    assert certain.first_states.tolist() == [1, 1]
