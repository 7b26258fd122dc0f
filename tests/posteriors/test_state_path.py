"""The posterior of a chain of states, against sums over all of its paths."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from lgm_cli.posteriors.state_path import CertainPath, StatePath

DOUBLE: dict[str, Any] = {"dtype": torch.float64}


@dataclass
class Told:
    """Emissions of which only the densities matter, and an entropy of hidden entries."""

    log_density: Tensor
    hidden: Tensor | None = None  # (T, K)

    def statistics(self, weights: Tensor) -> dict[str, Tensor]:
        return {}

    def entropy(self, weights: Tensor) -> Tensor:
        return torch.zeros_like(weights[:, 0]) if self.hidden is None else (weights * self.hidden).sum(1)

    def conditional(self, index: Tensor) -> tuple[Tensor, Tensor]:
        raise TypeError("these emissions know densities alone")

    def drawn(self, component: Tensor, generator: Generator) -> Told:
        return self


def chain(steps: int, states: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logarithms of the first state's probabilities, of transitions, and of emissions, with gaps."""
    draw = torch.Generator().manual_seed(seed)
    initial = torch.randn(states, generator=draw, **DOUBLE).log_softmax(0)
    transition = (1.5 * torch.randn(states, states, generator=draw, **DOUBLE)).log_softmax(1)
    emission = 2 * torch.randn(steps, states, generator=draw, **DOUBLE) - 3
    emission[1::3] = 0.0  # nothing was seen
    return initial, transition, emission


def path_of(parts: tuple[Tensor, Tensor, Tensor], beta: float = 1.0, hidden: Tensor | None = None) -> StatePath:
    return StatePath(parts[0], parts[1], Told(parts[2], hidden), beta)


def paths(parts: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """All paths (P, T), and the logarithm of each one's weight."""
    initial, transition, emission = parts
    steps, states = emission.shape
    every = torch.tensor(list(itertools.product(range(states), repeat=steps)))
    weight = initial[every[:, 0]] + emission[torch.arange(steps), every].sum(1)
    return every, weight + transition[every[:, :-1], every[:, 1:]].sum(1)


@pytest.mark.parametrize("steps", [1, 2, 6])
@pytest.mark.parametrize("beta", [1.0, 0.4])
def test_marginals_pairs_entropy_and_the_best_path_are_those_of_all_paths(steps: int, beta: float) -> None:
    parts = chain(steps, 3)
    every, weight = paths(parts)
    total = torch.logsumexp(beta * weight, 0)
    share = (beta * weight - total).exp()
    found = path_of(parts, beta)
    if beta == 1.0:
        assert found.log_evidence is not None
        assert abs(float(found.log_evidence - total)) < 1e-12
    else:
        assert found.log_evidence is None
    for t in range(steps):
        single = torch.stack([share[every[:, t] == k].sum() for k in range(3)])
        assert torch.allclose(found.state_probabilities[t], single, atol=1e-12, rtol=0)
    counts = torch.zeros(3, 3, **DOUBLE)
    for t, j, k in itertools.product(range(steps - 1), range(3), range(3)):
        pair = share[(every[:, t] == j) & (every[:, t + 1] == k)].sum()
        counts[j, k] += pair
        assert abs(float(found.pairs()[t, j, k] - pair)) < 1e-12
    assert torch.allclose(found.transition_counts, counts, atol=1e-12, rtol=0)
    assert abs(float(found.entropy() + (share * share.log()).sum() / beta)) < 1e-12
    assert torch.equal(found.most_probable(), every[weight.argmax()])


def test_the_free_energy_at_a_temperature_is_the_tempered_sum() -> None:
    """E log p + H / beta = log sum p^beta / beta at the best q, and less at another q (latent_variables.md, 7)."""
    parts, beta = chain(6, 3), 0.4
    weight = paths(parts)[1]

    def free_energy(q: StatePath) -> float:
        expected = (q.state_probabilities[0] * parts[0]).sum() + (q.state_probabilities * parts[2]).sum()
        return float(expected + (q.transition_counts * parts[1]).sum() + q.entropy()[0])

    best = float(torch.logsumexp(beta * weight, 0) / beta)
    assert abs(free_energy(path_of(parts, beta)) - best) < 1e-12
    other = path_of(chain(6, 3, seed=1), beta)
    assert free_energy(other) < best - 0.1


def test_hidden_entries_have_their_own_entropy_whatever_the_temperature() -> None:
    parts, hidden = chain(5, 2), torch.rand(5, 2, **DOUBLE)
    for beta in (1.0, 0.3):
        plain, full = path_of(parts, beta), path_of(parts, beta, hidden)
        extra = (plain.state_probabilities * hidden).sum()
        assert abs(float(full.entropy() - plain.entropy() - extra)) < 1e-13


def test_gradients_are_expected_numbers() -> None:
    one, two, three = (part.requires_grad_() for part in chain(6, 3))
    parts = one, two, three
    found = path_of(parts)
    assert found.log_evidence is not None
    gradients = torch.autograd.grad(2 * found.log_evidence.sum(), parts)
    expected = torch.autograd.grad(2 * torch.logsumexp(paths(parts)[1], 0), parts)
    for value, other, meaning in zip(
        gradients,
        expected,
        (found.state_probabilities[0], found.transition_counts, found.state_probabilities),
        strict=True,
    ):
        assert torch.allclose(value, other, atol=1e-12, rtol=0)
        assert torch.allclose(value, 2 * meaning, atol=1e-12, rtol=0)
    for part, gradient in zip(parts, gradients, strict=True):
        moved, step = torch.randn_like(part), 1e-5
        ends = []
        for sign in (1, -1):
            a, b, c = (p + sign * step * moved if p is part else p for p in parts)
            value = path_of((a, b, c)).log_evidence
            assert value is not None
            ends.append(value.detach())
        difference = float((ends[0] - ends[1]) / step)
        assert abs(difference - float((gradient * moved).sum())) < 1e-7


@pytest.mark.parametrize("steps", [100, 301])
def test_a_long_chain_is_that_of_one_step_after_another(steps: int) -> None:
    initial, transition, emission = parts = chain(steps, 4)
    before = initial + emission[0]
    for t in range(1, steps):
        before = torch.logsumexp(before[:, None] + transition, 0) + emission[t]
    after, later = torch.zeros(4, **DOUBLE), []
    for t in range(steps - 1, -1, -1):
        later.append(after)
        after = torch.logsumexp(transition + emission[t] + after, 1)
    found = path_of(parts)
    assert found.log_evidence is not None
    assert abs(float(found.log_evidence / torch.logsumexp(before, 0)) - 1) < 1e-14
    middle = steps // 2
    state = initial + emission[0]
    for t in range(1, middle + 1):
        state = torch.logsumexp(state[:, None] + transition, 0) + emission[t]
    single = (state + later[steps - 1 - middle]).softmax(0)
    assert torch.allclose(found.state_probabilities[middle], single, atol=1e-12, rtol=0)
    assert torch.allclose(found.pairs().sum(0), found.transition_counts, atol=1e-10, rtol=1e-12)
    best, chosen = initial + emission[0], []
    for t in range(1, steps):
        value, where = (best[:, None] + transition).max(0)
        best = value + emission[t]
        chosen.append(where)
    path = [int(best.argmax())]
    for where in reversed(chosen):
        path.append(int(where[path[-1]]))
    assert found.most_probable().tolist() == path[::-1]


def test_many_states_go_step_by_step() -> None:
    initial, transition, emission = parts = chain(40, 60)
    before = initial + emission[0]
    for t in range(1, 40):
        before = torch.logsumexp(before[:, None] + transition, 0) + emission[t]
    found = path_of(parts)
    assert found.log_evidence is not None
    assert abs(float(found.log_evidence - torch.logsumexp(before, 0))) < 1e-11


def test_what_is_far_below_the_smallest_double_still_counts() -> None:
    """State 1 is 1,000 nats less likely at the first steps, but what comes at the end can only follow from it: sums of
    probabilities, which end at 745 nats, lose it."""
    impossible = -5000.0
    initial = torch.tensor([0.5, 0.5], **DOUBLE).log()
    transition = torch.tensor([[0.0, impossible], [impossible, 0.0]], **DOUBLE)
    emission = torch.zeros(6, 2, **DOUBLE)
    emission[0, 1], emission[1, 1], emission[4, 0], emission[5, 0] = -600.0, -400.0, -700.0, -300.5
    parts = initial, transition, emission
    weight = paths(parts)[1]
    found = path_of(parts)
    assert found.log_evidence is not None
    assert abs(float(found.log_evidence - torch.logsumexp(weight, 0))) < 1e-11
    expected = torch.tensor([-1000.5, -1000.0], **DOUBLE).softmax(0)
    assert torch.allclose(found.state_probabilities, expected.expand(6, 2), atol=1e-12, rtol=0)
    assert torch.allclose(found.transition_counts, torch.diag(5 * expected), atol=1e-11, rtol=0)


def test_transitions_that_cannot_be_stay_so() -> None:
    initial = torch.tensor([1.0, 0.0], **DOUBLE).log()
    transition = torch.tensor([[0.0, 1.0], [1.0, 0.0]], **DOUBLE).log()
    found = path_of((initial, transition, torch.randn(50, 2, **DOUBLE)))
    assert found.state_probabilities[:, 0].tolist() == [1.0, 0.0] * 25
    assert found.transition_counts.tolist() == [[0.0, 25.0], [24.0, 0.0]]
    assert float(found.entropy()) < 1e-12


def test_draws_have_the_probabilities_of_paths() -> None:
    """Of 400 draws, the numbers of all 8 paths within 4 standard deviations (one chance in 2,000 for all)."""
    parts, draw = chain(3, 2), torch.Generator().manual_seed(0)
    share, found = paths(parts)[1].softmax(0), path_of(parts)
    number = torch.zeros(8)
    for _ in range(400):
        number[(found.draw(draw).path * torch.tensor([4, 2, 1])).sum()] += 1
    assert bool(((number - 400 * share).abs() < 4 * (400 * share * (1 - share)).sqrt() + 1).all())


def test_a_long_draw_has_the_expected_transitions() -> None:
    parts = chain(5000, 3)
    found = path_of(parts)
    drawn = found.draw(torch.Generator().manual_seed(1))
    assert float(drawn.transition_counts.sum()) == 4999
    expected = found.transition_counts
    assert bool(((drawn.transition_counts - expected).abs() < 5 * expected.sqrt()).all())


def test_a_certain_path_counts_itself() -> None:
    certain = CertainPath(torch.tensor([0, 2, 2, 1]), 3, Told(torch.zeros(4, 3, **DOUBLE)))
    assert certain.state_probabilities.argmax(1).tolist() == [0, 2, 2, 1]
    assert certain.transition_counts.tolist() == [[0, 0, 1], [0, 0, 0], [0, 1, 1]]
    assert certain.log_evidence is None
    assert certain.entropy() is None


def test_states_after_the_end_follow_the_transitions() -> None:
    parts = chain(6, 3)
    found, longer = path_of(parts), path_of((*parts[:2], torch.nn.functional.pad(parts[2], (0, 0, 0, 4))))
    assert torch.allclose(found.ahead(4), longer.state_probabilities[6:], atol=1e-13, rtol=0)
    assert torch.allclose(found.state_probabilities, longer.state_probabilities[:6], atol=1e-13, rtol=0)
    assert torch.equal(found.most_probable(4), longer.most_probable())
    assert found.ahead(0).shape == (0, 3)


def test_single_precision_given_keeps_its_gradients() -> None:
    one, two, three = (part.float().requires_grad_() for part in chain(20, 3))
    parts = one, two, three
    value = path_of(parts).log_evidence
    assert value is not None
    assert value.dtype == torch.float64
    value.sum().backward()
    assert all(part.grad is not None and part.grad.dtype == torch.float32 for part in parts)
    assert math.isclose(float(parts[2].grad.sum()), 20, rel_tol=1e-6)  # pyright: ignore[reportOptionalMemberAccess]
