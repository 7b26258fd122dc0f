"""Posterior of the states of a Markov chain, of which emissions tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor

from lgm_cli.numerics.markov_chain import Logarithms, Maxima, Probabilities, Recursion, log_of_all_paths
from lgm_cli.posteriors.emissions import Emissions, excluded

SAFE = 1e-250  # of the probability of a step beside its likeliest: above, nothing of weight was lost below 1e-308
PART = 1 << 21  # numbers of pairs of states that are held at a time


class StatePath:
    """p(k_1, .., k_T | y) of a chain k_1 ~ p, k_t | k_(t-1) ~ A, whose step t tells L_tk = log p(y_t | k):

        log p(y) = log sum over paths of p_(k_1) e^(L_1) A_(k_1 k_2) e^(L_2) ..,

    by forward and backward sums (Baum, Petrie, Soules & Weiss, Ann. Math. Statist. 41 (1970) 164-171), in O(T K^2) or,
    of few states, by stretches of time at once. initial (K,) and transition (K, K), from row to column, are logarithms
    of p and A; emissions.log_density (T, K) is L, zero at a step of which nothing was seen. All in double precision.

    starts: the first step of each of several chains, which come one after the other: p(y) is their product. () is one.

    known: (T,) the states of steps whose state is known, -1 for the others. No path through another state is possible:
    L_tk = -inf there, and p(y) is the probability of y together with the known states.

    At an inverse temperature beta, p, A and e^L are each taken to that power, but not the hidden entries of a step
    given its state (Ueda & Nakano, Neural Networks 11 (1998) 271-282).
    """

    def __init__(
        self,
        initial: Tensor,
        transition: Tensor,
        emissions: Emissions,
        inverse_temperature: float = 1.0,
        starts: Sequence[int] = (),
        known: Tensor | None = None,
    ) -> None:
        self.emissions, self.inverse_temperature, self.starts = emissions, inverse_temperature, list(starts) or [0]
        emission = emissions.log_density
        if known is not None:
            emission = emission.masked_fill(excluded(known.to(emission.device), emission.shape[1]), -math.inf)
        self._given = initial, transition, emission
        with torch.no_grad():
            parts = tuple(inverse_temperature * part.detach().double() for part in self._given)
            self._initial, self._transition, self._emission = parts
            if not self._sums(Probabilities()):
                self._sums(Logarithms())

    def _sums(self, semiring: Probabilities | Logarithms) -> bool:
        """Take the forward and the backward sums; False where probabilities may have been too small for the semiring.

        _before, _after (T, K): p(k_t | y_1 .. y_t), and p(y_(t+1) .. y_T | k_t) up to a factor, as logarithms."""
        recursion = Recursion(semiring, self._initial, self._transition, self._emission, self.starts)
        (before, scale), after = recursion.forward(), recursion.backward()
        both = semiring.times(before, after)
        if not (semiring.exact or bool((both.sum(1) * (scale - self._emission.amax(1)).exp() > SAFE).all())):
            return False
        self.state_probabilities = semiring.shares(both)
        self._before, self._after = semiring.log(before), semiring.log(after)
        self._total = scale.sum()
        return True

    # What `statistics` needs ------------------------------------------------------------------------------------

    @property
    def log_evidence(self) -> Tensor | None:
        """log p(y), (1,), with the gradients of initial, transition and emission. None at a temperature."""
        if self.inverse_temperature != 1.0:
            return None
        if not torch.is_grad_enabled() or not any(part.requires_grad for part in self._given):
            return self._total[None]
        gradients = self.first_states, self.transition_counts, self.state_probabilities
        return _Evidence.apply(*self._given, self._total, self.starts, *gradients)[None]  # pyright: ignore[reportOptionalSubscript]

    @cached_property
    def first_states(self) -> Tensor:
        """Expected numbers of first states of the chains. (K,)"""
        return self.state_probabilities[self.starts].sum(0)

    @cached_property
    def transition_counts(self) -> Tensor:
        """Expected numbers of transitions, the sum over t of `pairs`. (K, K)"""
        now, following = _transitions(self.starts, len(self._emission))
        ahead = (self._emission + self._after)[following]
        ahead = (ahead - ahead.amax(1, keepdim=True)).exp()
        before, matrix = self._before[now].exp(), self._transition.exp()
        weight = ((before @ matrix) * ahead).sum(1, keepdim=True)
        if bool((weight > SAFE).all()):
            return matrix * (before.mT @ (ahead / weight))
        found = torch.zeros_like(self._transition)
        for part in self._parts(len(self._emission) - len(self.starts) + 1):
            found = found + self.pairs(part).sum(0)
        return found

    def _parts(self, steps: int | None = None) -> list[slice]:
        """The transitions between so many steps, T by default, as many at a time as can be held as pairs of states."""
        size = max(1, PART // self._transition.numel())
        count = (len(self._emission) if steps is None else steps) - 1
        return [slice(first, min(first + size, count)) for first in range(0, count, size)]

    def pairs(self, transitions: slice = slice(None)) -> Tensor:
        """p(k_t = j, k_(t+1) = k | y) of the transitions from t to t + 1, none from one chain to the next. (n, K, K)"""
        now, following = _transitions(self.starts, len(self._emission))
        ahead = self._emission[following][transitions] + self._after[following][transitions]
        logs = self._before[now][transitions][:, :, None] + self._transition + ahead[:, None, :]
        return torch.softmax(logs.flatten(1), 1).view_as(logs)

    def entropy(self) -> Tensor:
        """(1,) of the path, log sum of path weights less their expected logarithm, divided by beta; and of the hidden
        entries of every step given its state."""
        expected = _product(self.first_states, self._initial) + _product(self.state_probabilities, self._emission)
        expected = expected + _product(self.transition_counts, self._transition)
        path = ((self._total - expected) / self.inverse_temperature).clamp_min(0.0)
        return (path + self.emissions.entropy(self.state_probabilities).sum())[None]

    # What else is asked -----------------------------------------------------------------------------------------

    def draw(self, generator: Generator) -> CertainPath:
        """A path from the posterior: k_T from the filtered probabilities, then each state given the one after it; the
        last state of each chain from the filtered probabilities."""
        like: Any = {"dtype": torch.float64, "generator": generator, "device": generator.device}
        uniform = torch.rand(len(self._emission), **like).to(self._emission)
        total = self._before[-1].softmax(0).cumsum(0)
        state = int((uniform[-1] * total[-1] >= total[:-1]).sum())
        chosen = []
        for part in self._parts():  # the state before, for each state that may follow
            matrix = self._between(self.starts, part)
            weight = (self._before[:-1][part][:, :, None] + matrix).softmax(1).cumsum(1)
            weight = weight.nan_to_num()  # what cannot follow is not asked for
            chosen += (uniform[:-1][part, None, None] * weight[:, -1:] >= weight[:, :-1]).sum(1).tolist()
        path = torch.tensor(_traced(chosen, state), device=self._emission.device)
        return CertainPath(path, len(self._initial), self.emissions.drawn(path, generator), self.starts)

    def _between(self, starts: Sequence[int], part: slice) -> Tensor:
        """Logarithms of the transitions between steps, the same from every state where a chain begins anew."""
        if len(starts) == 1:
            return self._transition
        steps = torch.arange(part.start, part.stop) + 1
        anew = torch.isin(steps, torch.tensor(starts)).to(self._transition.device)
        return torch.where(anew[:, None, None], 0.0, self._transition)

    def most_probable(self, ahead: int | Sequence[int] = 0) -> Tensor:
        """The path (T,) of largest posterior probability (Viterbi, IEEE Trans. Inf. Theory 13 (1967) 260-269), and
        behind it how it goes on: so many steps of each chain, one chain after the other."""
        more = torch.tensor(self._counts(ahead))
        sizes = torch.diff(torch.tensor([*self.starts, len(self._emission)]))
        shift = more.cumsum(0) - more
        given = torch.arange(len(self._emission)) + shift.repeat_interleave(sizes)
        later = torch.ones(len(given) + int(more.sum()), dtype=torch.bool)
        later[given] = False
        emission = self._emission.new_zeros(len(later), len(self._initial))
        emission[given] = self._emission
        starts = (torch.tensor(self.starts) + shift).tolist()
        best, chosen = Recursion(Maxima(), self._initial, self._transition, emission, starts).forward()[0], []
        for part in self._parts(len(emission)):
            chosen += (best[:-1][part][:, :, None] + self._between(starts, part)).argmax(1).tolist()
        path = torch.tensor(_traced(chosen, int(best[-1].argmax())))
        return torch.cat([path[given], path[later]]).to(emission.device)

    def ahead(self, steps: int | Sequence[int]) -> Tensor:
        """p(k_(T+h) | y) for h = 1 .. steps of each chain, one chain after the other. (sum of steps, K)"""
        counts = torch.tensor(self._counts(steps))
        ends = torch.tensor([*self.starts[1:], len(self._emission)]) - 1
        order = counts.argsort(descending=True, stable=True)
        begin = (counts.cumsum(0) - counts)[order]
        now, matrix = self.state_probabilities[ends[order]], self._given[1].detach().double().exp()
        found = now.new_empty(int(counts.sum()), now.shape[1])
        for step in range(int(counts.max())):
            active = int((counts > step).sum())
            now = now[:active] @ matrix
            found[begin[:active] + step] = now
        return found

    def _counts(self, steps: int | Sequence[int]) -> list[int]:
        return [steps] * len(self.starts) if isinstance(steps, int) else list(steps)


class CertainPath:
    """A posterior that is certain of one path, (T,) states from 0 to K - 1, and of the steps' latent entries."""

    log_evidence = None

    def __init__(self, path: Tensor, states: int, emissions: Emissions, starts: Sequence[int] = ()) -> None:
        self.path, self.emissions = path, emissions
        self.state_probabilities = torch.nn.functional.one_hot(path, states).double()  # (T, K)
        self.first_states = self.state_probabilities[list(starts) or [0]].sum(0)
        now, following = _transitions(starts, len(path))
        pair = path[now] * states + path[following]
        self.transition_counts = torch.bincount(pair, minlength=states**2).double().view(states, states)

    def entropy(self) -> None:
        """None: what was drawn has no entropy."""
        return

    def draw(self, generator: Generator) -> CertainPath:
        return self


class _Evidence(torch.autograd.Function):
    """The value of log p(y), with the derivatives d / d log p_k = p(k_1 = k | y), d / d log A_jk = the expected number
    of transitions from j to k, d / d L_tk = p(k_t = k | y). Where these are to be differentiated in turn, they are
    taken again in a way that can be."""

    @staticmethod
    def forward(
        ctx: Any, initial: Tensor, transition: Tensor, emission: Tensor, value: Tensor, starts: list[int],
        *gradients: Tensor,
    ):  # fmt: skip
        ctx.save_for_backward(initial, transition, emission, *gradients)
        ctx.starts = starts
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,), (initial, transition, emission, *parts) = grad_outputs, ctx.saved_tensors
        given = initial, transition, emission
        found = [(grad * part).to(like.dtype) for part, like in zip(parts, given, strict=True)]
        if torch.is_grad_enabled() and any(part.requires_grad for part in given):
            value = log_of_all_paths(initial, transition, emission, ctx.starts)
            wanted = [place for place, part in enumerate(given) if part.requires_grad]
            again = torch.autograd.grad(value, [given[place] for place in wanted], grad, create_graph=True)
            for place, part in zip(wanted, again, strict=True):
                found[place] = part
        return *found, None, None, None, None, None


def _transitions(starts: Sequence[int], steps: int) -> tuple[Any, Any]:
    """The steps from which transitions go, and those to which, as what picks rows."""
    if len(starts) < 2:
        return slice(None, -1), slice(1, None)
    inside = torch.ones(steps, dtype=torch.bool)
    inside[list(starts)] = False
    following = inside.nonzero()[:, 0]
    return following - 1, following


def _product(weight: Tensor, logs: Tensor) -> Tensor:
    """Sum of weight times logs, with 0 log 0 = 0."""
    return (weight * torch.where(weight > 0, logs, 0.0)).sum()


def _traced(before: list[list[int]], last: int) -> list[int]:
    """A path from its last state: before[t][k] is the state at t of a path that has k at t + 1."""
    path = [last]
    for row in reversed(before):
        path.append(row[path[-1]])
    return path[::-1]
