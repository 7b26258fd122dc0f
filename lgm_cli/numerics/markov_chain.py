"""Recursions over the time of a discrete chain, many stretches of time at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

MOST_STATES = 48  # up to which stretches of time are worth the K times as many operations that they take
STRETCHES = 1.5  # times sqrt(T): a step of all stretches takes longer than one stretch of the vectors between them
SMALLEST = 1e-290  # of a sum of probabilities: what is less has lost digits


class Semiring(Protocol):
    """What "times" and "plus" mean in a recursion. A state (.., K) is kept normalised, its scale beside it in logs.
    exact: whether no part of a sum is too small for it."""

    exact: bool

    def value(self, logs: Tensor) -> Tensor: ...  # of logarithms, as this semiring has them

    def step(self, state: Tensor, transition: Tensor) -> Tensor: ...  # state (.., K) times a matrix (K, K)

    def times(self, state: Tensor, factor: Tensor) -> Tensor: ...

    def normalise(self, state: Tensor) -> tuple[Tensor, Tensor]: ...  # the state over its sum, and the sum (.., 1)

    def log(self, total: Tensor) -> Tensor: ...  # of what `normalise` gave

    def shares(self, state: Tensor) -> Tensor: ...  # the state as probabilities that sum to one


class Probabilities:
    """Sums of products of probabilities: matrix products, fast. Relative to their sum, parts below 1e-308 are lost."""

    exact = False

    def value(self, logs: Tensor) -> Tensor:
        return logs.exp()

    def step(self, state: Tensor, transition: Tensor) -> Tensor:
        return state @ transition

    def times(self, state: Tensor, factor: Tensor) -> Tensor:
        return state * factor

    def normalise(self, state: Tensor) -> tuple[Tensor, Tensor]:
        total = state.sum(-1, keepdim=True).clamp_min(SMALLEST)
        return state / total, total

    def log(self, total: Tensor) -> Tensor:
        return total.log()

    def shares(self, state: Tensor) -> Tensor:
        return state / state.sum(-1, keepdim=True)


class Logarithms:
    """The same sums in logarithms, where nothing is lost; some ten times slower."""

    exact = True

    def value(self, logs: Tensor) -> Tensor:
        return logs

    def step(self, state: Tensor, transition: Tensor) -> Tensor:
        return torch.logsumexp(state[..., :, None] + transition, -2)

    def times(self, state: Tensor, factor: Tensor) -> Tensor:
        return state + factor

    def normalise(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return _without(state, torch.logsumexp(state, -1, keepdim=True))

    def log(self, total: Tensor) -> Tensor:
        return total

    def shares(self, state: Tensor) -> Tensor:
        return state.softmax(-1)


class Maxima(Logarithms):
    """The largest of sums of logarithms, for the most probable path."""

    def step(self, state: Tensor, transition: Tensor) -> Tensor:
        return (state[..., :, None] + transition).amax(-2)

    def normalise(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return _without(state, state.amax(-1, keepdim=True))


def _without(state: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    scale = torch.where(scale == -math.inf, 0.0, scale)  # where nothing is possible, nothing becomes so
    return state - scale, scale


class Recursion:
    """Forward and backward sums over the paths of chains of T steps together, each begun anew at its start:

        a_1k = p_k e_1k,  a_tk = sum_j a_(t-1)j A_jk e_tk;    b_Tj = 1,  b_tj = sum_k A_jk e_(t+1)k b_(t+1)k,

    with p, A and e as logarithms: initial (K,), transition (K, K), emission (T, K), float64. starts: the first step of
    each chain, from 0 on, in order; () is one chain.

    A chain of more than B steps is cut into stretches of B. The matrix of each of its stretches, the product of
    A diag(e_t) over its steps, is computed for all of them at once, B products in turn; products of a vector and a
    matrix, one for each stretch, give what enters them, and B more steps of all stretches at once the sums (a parallel
    prefix in two levels: Blelloch, CMU-CS-90-190 (1990)). A shorter chain is one stretch, and needs no matrix.
    """

    def __init__(
        self,
        semiring: Semiring,
        initial: Tensor,
        transition: Tensor,
        emission: Tensor,
        starts: Sequence[int] = (),
    ) -> None:
        steps, states = emission.shape
        self.semiring, self.steps = semiring, steps
        count = 1 if states > MOST_STATES else max(1, round(STRETCHES * math.sqrt(steps)))
        self._cut(starts or (0,), -(-steps // count), emission)
        peak = emission.amax(1, keepdim=True)
        peak = torch.where(peak == -math.inf, 0.0, peak)
        self._peak = peak[:, 0]
        padded = emission.new_zeros(self.count * self.length, states)
        padded[self._place] = emission - peak
        self._emission = semiring.value(padded).view(self.count, self.length, states)
        self._initial, self._transition = semiring.value(initial), semiring.value(transition)
        self._one = semiring.value(initial.new_zeros(states))
        self._products = self._through_each() if len(self._inner) else None

    def _cut(self, starts: Sequence[int], most: int, like: Tensor) -> None:
        """Cut chains into stretches of at most so many steps. The longest come first, so that those which have a step
        are the first of them."""
        sizes = np.diff([*starts, self.steps])
        pieces = -(-sizes // most)
        chain = np.repeat(np.arange(len(sizes)), pieces)
        turn = np.arange(len(chain)) - np.repeat(pieces.cumsum() - pieces, pieces)
        lengths = np.minimum(sizes[chain] - most * turn, most)
        order = np.argsort(-lengths, kind="stable")
        self.count, self.length = len(chain), int(lengths.max())
        self._lengths, self._active = lengths[order], _active(lengths)
        self._first = torch.as_tensor(turn[order] == 0, device=like.device)  # (C,) whether a chain begins with it
        several = pieces[chain] > 1
        self._inner = np.flatnonzero(several[order])  # the stretches of chains that have more than one
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        inner = np.full(len(order), -1)
        inner[self._inner] = np.arange(len(self._inner))
        self._links = [  # of stretches that follow each other, in the order of time: places of both, and among `_inner`
            (int(rank[each]), int(rank[each + 1]), int(inner[rank[each]]), int(inner[rank[each + 1]]))
            for each in np.flatnonzero(chain[1:] == chain[:-1])
        ]
        self._place = slice(0, self.steps)  # of the steps among those of all stretches, laid end to end
        if (order != np.arange(len(order))).any() or (self._lengths[:-1] != self.length).any():
            begin = np.repeat(rank * self.length, lengths)
            offset = np.arange(self.steps) - np.repeat(lengths.cumsum() - lengths, lengths)
            self._place = torch.as_tensor(begin + offset, device=like.device)

    def _through_each(self) -> Tensor:
        """The products of the stretches of `_inner` up to a factor, from what enters one to its last step. Every row of
        the first of a chain is the sum of that stretch itself. Until the end each row has a scale of its own.
        (C, K, K)"""
        ring, lengths = self.semiring, self._lengths[self._inner]
        whole, actives = len(lengths) == self.count, _active(lengths)
        factor = (self._emission if whole else self._emission[self._inner])[:, :, None, :]
        state = self._transition.repeat(len(lengths), 1, 1)
        state[self._first if whole else self._first[self._inner]] = self._initial
        state, total = ring.normalise(ring.times(state, factor[:, 0]))
        scale = ring.log(total)
        for step in range(1, int(lengths.max())):
            active = actives[step]
            moved, total = ring.normalise(
                ring.times(ring.step(state[:active], self._transition), factor[:active, step])
            )
            state[:active], scale[:active] = moved, scale[:active] + ring.log(total)
        return ring.times(state, ring.value(scale - scale.amax(1, keepdim=True)))

    def forward(self) -> tuple[Tensor, Tensor]:
        """a (T, K), each step normalised, and the logarithms of the factors that this took, (T,), whose sum is the
        logarithm of the sum over all paths."""
        ring = self.semiring
        start = [self._one] * self.count
        if self._products is not None:
            for before, after, through, _ in self._links:
                start[after] = ring.normalise(ring.step(start[before], self._products[through]))[0]
        result = torch.empty_like(self._emission)
        totals = result.new_zeros(self.count, self.length, 1)
        state = ring.step(torch.stack(start), self._transition)
        state[self._first] = self._initial
        for step in range(self.length):
            active = self._active[step]
            state = state[:active] if step == 0 else ring.step(state[:active], self._transition)
            state, total = ring.normalise(ring.times(state, self._emission[:active, step]))
            result[:active, step], totals[:active, step] = state, total
        return self._in_turn(result), ring.log(self._in_turn(totals))[:, 0] + self._peak

    def backward(self) -> Tensor:
        """b (T, K), each step normalised."""
        ring = self.semiring
        end = [self._one] * self.count
        if self._products is not None:
            for before, after, _, through in reversed(self._links):
                end[before] = ring.normalise(ring.step(end[after], self._products[through].mT))[0]
        result = torch.empty_like(self._emission)
        back = self._transition.mT.contiguous()
        state = ring.normalise(torch.stack(end))[0]
        for step in range(self.length - 1, -1, -1):
            active = self._active[step]
            result[:active, step] = state[:active]
            if step:
                moved = ring.step(ring.times(state[:active], self._emission[:active, step]), back)
                state[:active] = ring.normalise(moved)[0]
        return self._in_turn(result)

    def _in_turn(self, values: Tensor) -> Tensor:
        """(C, B, ..) as (T, ..)."""
        return values.flatten(0, 1)[self._place]


def log_of_all_paths(initial: Tensor, transition: Tensor, emission: Tensor, starts: Sequence[int]) -> Tensor:
    """log sum over paths of p_(k_1) e^(L_1) A_(k_1 k_2) e^(L_2) .., (), of several chains that begin at `starts`, whose
    sums are multiplied. By a tree of matrix products, which takes O(T K^3) operations in log T turns and can be
    differentiated any number of times. initial (K,), transition (K, K), emission (T, K): logarithms of p and A, and L.
    """
    peak = emission.detach().amax(1, keepdim=True)
    weight = (emission - peak).exp()
    first = torch.zeros(len(emission), 1, 1, dtype=torch.bool, device=emission.device)
    first[list(starts)] = True
    matrices = torch.where(first, (initial.exp() * weight)[:, None, :], transition.exp() * weight[:, None, :])
    total = peak.sum()
    while len(matrices) > 1:
        even = len(matrices) // 2 * 2
        pairs = matrices[:even:2] @ matrices[1:even:2]
        scale = pairs.detach().amax((1, 2), keepdim=True).clamp_min(SMALLEST)
        total, matrices = total + scale.log().sum(), torch.cat([pairs / scale, matrices[even:]])
    return total + matrices[0, 0].sum().log()


def _active(lengths: np.ndarray) -> list[int]:
    """How many of the stretches have each step."""
    return (len(lengths) - np.bincount(lengths).cumsum()[:-1]).tolist()
