"""Hidden Markov model of a series of one or several channels, with missing entries."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError
from lgm_cli.models.base.free_parameters import NEAR_ZERO
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.naming import axes_of_components, fewer_than_classes, named
from lgm_cli.models.base.parameters import Parameters, Statistics
from lgm_cli.models.base.tuning import Tuning
from lgm_cli.models.families.categories import above_floor, centred_logs, shares
from lgm_cli.models.families.mixed import Mixed
from lgm_cli.models.families.normal import EMPTY
from lgm_cli.models.parts.chains import Chains, apart, by_step
from lgm_cli.models.parts.hidden_markov_moments import RESTART, error_of_chains, lagged_covariance, stationary
from lgm_cli.models.parts.hidden_markov_simulation import simulated_chain
from lgm_cli.models.parts.state_emissions import NormalEmissions, StateEmissions
from lgm_cli.models.parts.whole_emissions import CategoryEmissions, CountEmissions
from lgm_cli.numerics.k_means import clusters
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.base import in_double
from lgm_cli.posteriors.state_path import CertainPath, StatePath
from lgm_cli.randomness import generator

LEAST = 1e-12  # probability of a state at the start, and of a transition: what is zero once is zero for ever
FEW = 2.0  # expected steps of a state below which nothing is known of it


class HiddenMarkov(LatentVariableModel):
    """k_1 ~ initial,  k_t | k_(t-1) ~ row k_(t-1) of transition,  y_t | k_t ~ the emission of state k_t; entries of y
    may be missing at random. The whole series is one data point, its path of states the latent variable. Several series
    (data.series) are independent chains of the same parameters: their likelihoods are multiplied, their expected
    numbers added up, and the data point is all of them.

    emission: normal, with `covariance` full, tied, diagonal or spherical; poisson, of counts; or categorical, of
    category numbers from 0 on. Columns are independent given the state but for full and tied covariances.
    Baum, Petrie, Soules & Weiss, Ann. Math. Statist. 41 (1970) 164-171; Rabiner, Proc. IEEE 77 (1989) 257-286.

    At a step whose state is known (data.labels) no other is possible; states with the names of classes come first.
    Steps after the last one with a value or a known state are no part of what is learned: their states are forecast.
    noise_floor: lower bound of the eigenvalues of covariances of the columns standardised each by its own.
    prior_transitions: imaginary transitions from each state to each: every row ~ Dirichlet(1 + this).
    prior_emissions: imaginary steps of each state: about its mean with the variances of all steps, for covariances, or
    with the averages of all steps, for rates and probabilities of categories.
    """

    learns_from = "series"
    averages = False
    several_series = takes_classes = True
    double_precision = True  # the sums run over thousands of steps
    pictures, results = ("states",), ("components", "forecasts")
    axes: ClassVar = axes_of_components("state")

    def __init__(
        self,
        num_components: int,
        emission: str,
        covariance: str,
        noise_floor: float,
        prior_transitions: float = 0.0,
        prior_emissions: float = 0.0,
    ) -> None:
        self.prior_transitions, self.prior_emissions = prior_transitions, prior_emissions
        self.num_components, self.emission, self.noise_floor = num_components, emission, noise_floor
        self.emissions: StateEmissions = {
            "normal": lambda: NormalEmissions(covariance, noise_floor),
            "poisson": CountEmissions,
            "categorical": CategoryEmissions,
        }[emission]()
        self.dim, self.standardise = num_components, self.emissions.standardise
        self.blocks = (("initial",), ("transition",), *((name,) for name in self.emissions.names))

    def check(self, data: Data) -> None:
        super().check(data)
        steps = data.table.end - data.table.horizon * data.table.num_series
        if self.num_components > steps:
            raise UserError(
                f"model.num_components={self.num_components} states cannot be learned from {steps} steps",
                f"use model.num_components={steps} or less",
            )
        if (names := data.table.class_names) is not None and self.num_components < len(names):
            raise fewer_than_classes(self.num_components, names)
        self.emissions.check(data)

    def prepare(self, observations: Observations) -> None:
        total, self.channels = observations.table_shape
        (chunk,) = observations.chunks
        seen = chunk.scattered(total * self.channels)[0].view(total, -1).sum(1) > 0
        self.chains = Chains(observations.series, seen.cpu().numpy(), observations.row_classes)
        self.steps, self.total = self.chains.steps, total
        several = len(self.chains.starts) > 1
        self.restart = len(self.chains.starts) / self.steps if several else RESTART
        self._table = chunk, self._rows(chunk)
        self.emissions = self.emissions.bind(observations, self._table[1])
        self._imagined = {}
        if self.prior_transitions or self.prior_emissions:
            zero, k = self._table[1].values.new_zeros(self.num_components), self.num_components
            chain = {"initial": zero, "transitions": zero.new_full((k, k), self.prior_transitions)}
            self._imagined = chain | self.emissions.imagined(self.prior_emissions, self._table[1], k)

    def fix(self, exported: Parameters, state: Mapping[str, Tensor]) -> None:
        super().fix(exported, state)
        self.emissions = self.emissions.without_floor(exported)

    chains: Chains
    steps: int  # that are learned from
    total: int  # with those that are forecast
    restart: float  # share of steps at which a series begins
    channels: int
    _table: tuple[Chunk, Chunk]
    _imagined: Statistics
    _of_series: dict[tuple[int, ...], tuple[Chunk, list[int], Tensor | None]] | None = None  # where these are apart

    def _rows(self, chunk: Chunk) -> Chunk:
        """The steps as data points (T, M)."""
        width, learned = self.total * self.channels, self.chains.learned.to(chunk.weight.device)
        parts = (part.view(-1, self.channels)[learned] for part in chunk.scattered(width))
        weight, values = map(in_double, parts)
        return Chunk(torch.arange(self.steps, device=weight.device), None, weight, values)

    def table(self, chunk: Chunk) -> Chunk:
        """The rows of a chunk, those of the data kept with what was found about their gaps."""
        return self._table[1] if chunk is self._table[0] else self._rows(chunk)

    def apart(self, seed: int, size: int | None) -> Self:
        found = copy.copy(self)
        found.observations = apart(self.observations, self.chains, self._table[1], seed, size)
        found.averages, found._of_series = True, {}
        return found

    @property
    def independent(self) -> int:
        return len(self.chains.starts)

    def _steps(self, chunk: Chunk) -> tuple[Chunk, Sequence[int], Tensor | None]:
        """The steps of a chunk as rows, the first of each series, and the known states."""
        if self._of_series is None:
            return self.table(chunk), self.chains.starts, self.chains.known
        if (series := tuple(chunk.points.tolist())) not in self._of_series:
            steps, starts, known = self.chains.of(series)
            self._of_series[series] = self._table[1].some(steps.to(self._table[1].values.device)), starts, known
        return self._of_series[series]

    def tuning(self) -> Tuning:
        """Of learning rates from 0.02 to 0.2, and of slower averages of gradients, these took the fewest steps."""
        return replace(super().tuning(), learning_rate={"adam": 0.1}, betas=(0.5, 0.9))

    def gradient_scale(self) -> dict[str, float]:
        """A series is one data point: its gradient is taken per entry."""
        names = ("initial", "transition", *self.emissions.names)
        return dict.fromkeys(names, 1 / len(self.observations.center))

    def exact_operations(self, observed: np.ndarray) -> np.ndarray:
        """Products of K x K matrices over time, or of vectors and matrices of many states."""
        steps = self.steps / self.observations.shape[0]
        return np.full(len(observed), steps * self.num_components**2 * min(self.num_components, 48))

    def exact_bytes(self, gradient: bool = False) -> float:
        """In double precision: about ten numbers for each step and state, and as many as four for each of its columns
        (of full covariances, as many as columns more)."""
        columns = {"full": 3 + self.channels, "tied": 3 + self.channels}.get(
            getattr(self.emissions, "covariance", ""), 4
        )
        return 8.0 * self.steps * self.num_components * (10 + columns * self.channels * (2 if gradient else 1))

    def simulate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return simulated_chain(self.emissions, self.num_components, options)

    # Parameters ------------------------------------------------------------------------------------------------

    def start(self, seed: int) -> Parameters:
        """States from clusters of the steps, whatever their order, by k-means++, steps of a known state in its own;
        transitions from how often one cluster follows another, plus one. (A start that holds states to stay in
        themselves ends elsewhere where they take turns.)"""
        table, k = self._table[1], self.num_components
        draw, known = generator(seed, "initial states"), self.chains.known
        label = clusters(self.emissions.features(table), k, draw, known=known)
        steps = torch.bincount(label, minlength=k).double() + 1
        pairs = (label[:-1] * k + label[1:])[self.chains.follows]
        pairs = torch.bincount(pairs, minlength=k * k).double().view(k, k) + 1
        chain = {"initial": steps / steps.sum(), "transition": pairs / pairs.sum(1, keepdim=True)}
        found = chain | self.emissions.start(table, label.to(table.values.device), k)
        return {name: self._placed(value) for name, value in found.items()}

    def _placed(self, value: Tensor) -> Tensor:
        return value.to(self.observations.device, self.observations.dtype)

    def free(self, parameters: Parameters) -> Parameters:
        """Logarithms of probabilities above LEAST, each row's about their mean; the emissions as they have them. Where
        the best probability p is zero, the gradient falls in proportion to p: steps along it near zero slowly."""
        chain = {name: centred_logs(parameters[name], LEAST) for name in ("initial", "transition")}
        return chain | self.emissions.free(parameters)

    def constrain(self, free: Parameters) -> Parameters:
        chain = {name: above_floor(free[name], LEAST) for name in ("initial", "transition")}
        return chain | self.emissions.constrain(free)

    def _inside(self, parameters: Parameters) -> Parameters:
        return {name: value.cpu().double() for name, value in parameters.items()}

    def export(self, parameters: Parameters) -> Parameters:
        inside = self._inside(parameters)
        return {name: inside[name] for name in ("initial", "transition")} | self.emissions.export(inside)

    def restore(self, exported: Parameters) -> Parameters:
        chain = {}
        for name in ("initial", "transition"):
            raised = exported[name].clamp_min(LEAST)
            chain[name] = raised / raised.sum(-1, keepdim=True)
        return {name: self._placed(value) for name, value in (chain | self.emissions.restore(exported)).items()}

    def exported_shapes(self, table: Table) -> dict[str, tuple[int, ...]]:
        k = self.num_components
        return {"initial": (k,), "transition": (k, k)} | self.emissions.shapes(k, table.shape[1])

    def units(self, exported: Parameters) -> tuple[np.ndarray, np.ndarray]:
        return self.emissions.units(exported, stationary(exported))

    def canonical(self, parameters: Parameters) -> Parameters:
        """States by falling stationary probability; known classes, which have names, first and in their order."""
        shares, classes = self.shares(self._inside(parameters)), len(self.observations.class_names)
        shares[:classes] = 2.0 + torch.arange(classes).to(shares).flip(0)
        order = shares.argsort(descending=True, stable=True).to(self.observations.device)
        chain = {"initial": parameters["initial"][order], "transition": parameters["transition"][order][:, order]}
        return chain | self.emissions.reordered(parameters, order)

    def shares(self, exported: Mapping[str, Tensor]) -> Tensor:
        """Shares of the time (K,) of the states: in the long run of one series, in several as long as these."""
        return stationary(exported, self.restart)

    # Learning --------------------------------------------------------------------------------------------------

    def posterior(self, parameters: Parameters, chunk: Chunk, inverse_temperature: float = 1.0) -> StatePath:
        parameters = {name: in_double(value) for name, value in parameters.items()}
        table, starts, known = self._steps(chunk)
        emissions = self.emissions.family.emissions(parameters, table)
        initial, transition = (parameters[name].log() for name in ("initial", "transition"))
        return StatePath(initial, transition, emissions, inverse_temperature, starts, known)

    def statistics(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, chunk: Chunk, posterior: StatePath | CertainPath
    ) -> Statistics:
        """`initial` (K,) and `transitions` (K, K), expected numbers of first states and of transitions; the family's
        sums over steps weighted with the probabilities of their states."""
        weights, entropy = posterior.state_probabilities, posterior.entropy()
        found = posterior.emissions.statistics(weights)
        found = found | {"initial": posterior.first_states, "transitions": posterior.transition_counts}
        return found if entropy is None else found | {"entropy": entropy.sum()}

    def prior_statistics(self) -> Statistics:
        """Numbers of imaginary transitions, and the family's statistics of imaginary steps."""
        return self._imagined

    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> Tensor:
        parameters = {name: in_double(value) for name, value in parameters.items()}
        chain = (statistics["initial"] * parameters["initial"].log()).sum()
        chain = chain + (statistics["transitions"] * parameters["transition"].log()).sum()
        return self.emissions.family.expected_loss(parameters, statistics) - chain

    def constraints(self, parameters: Parameters) -> Tensor:
        sums = parameters["initial"].sum()[None], parameters["transition"].sum(1)
        return torch.cat([*sums, self.emissions.family.constraints(parameters)])

    def at_bounds(self, parameters: Parameters) -> dict[str, Tensor]:
        chain = {name: parameters[name] <= NEAR_ZERO for name in ("initial", "transition")}
        return chain | self.emissions.family.at_bounds(parameters)

    @property
    def sample_size(self) -> int:
        return self.steps

    def maximise(
        self, parameters: Parameters, statistics: Statistics, block: tuple[str, ...] | None = None
    ) -> Parameters:
        """Shares of the expected numbers, none below LEAST; the emissions' weighted maxima under their floors. A state
        that the chain never leaves keeps its transitions."""
        names, new = block or tuple(parameters), {name: in_double(value) for name, value in parameters.items()}
        for name, counts in (("initial", statistics["initial"]), ("transition", statistics["transitions"])):
            if name in names:
                few = counts.sum(-1, keepdim=True) <= EMPTY * statistics["initial"].sum()
                found = shares(counts.masked_fill(few, 1.0), LEAST)
                new[name] = torch.where(few, new[name], found)
        new |= self.emissions.maximise(new, statistics, names)
        return {name: self._placed(new[name]) if name in names else value for name, value in parameters.items()}

    # What is reported ------------------------------------------------------------------------------------------

    def predict(self, parameters: Parameters, posterior: StatePath, index: Tensor) -> Mixed:
        """A mixture over the states of the entry's step, given all that was observed."""
        entry, inside = index[0].cpu(), self._inside(parameters)
        step = self.chains.place[entry // self.channels]
        chances = torch.cat([posterior.state_probabilities, posterior.ahead(self.chains.ahead)]).cpu()
        known = step < self.steps
        found = None
        if self.emission == "normal" and bool(known.any()):
            found = self._given_others(inside, posterior, step, entry % self.channels, known)
        return self.emissions.mixed(inside, chances[step].mT, entry, found)

    def _given_others(
        self, inside: Parameters, posterior: StatePath, step: Tensor, column: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Means and variances (K, t) of entries by their states, given the others of their step."""
        where = step[known]
        index, turn = by_step(where, column[known], self.steps)
        parts = posterior.emissions.conditional(index.to(posterior.state_probabilities.device))
        written = self.emissions.moments(self.emissions.export(inside))
        scale = self.emissions.scale
        means = ((written[0] - self.emissions.center) / scale)[:, column]
        variances = (written[1].diagonal(dim1=1, dim2=2) / scale**2)[:, column]
        for target, part in zip((means, variances), parts, strict=True):
            target[:, known] = part.expand(self.steps, self.num_components, -1)[where, :, turn].cpu().double().mT
        return means, variances

    def inferred(self, parameters: Parameters, posterior: StatePath) -> dict[str, Tensor]:
        """Probabilities of the states at all steps and, counted from 0, the most probable path."""
        place = self.chains.place.to(posterior.state_probabilities.device)
        chances = torch.cat([posterior.state_probabilities, posterior.ahead(self.chains.ahead)])
        path = posterior.most_probable(self.chains.ahead)
        return {"state_probabilities": chances[place], "most_probable_path": path[place]}

    def implied_covariance(self, exported: Parameters) -> Tensor:
        return lagged_covariance(self.emissions, exported)

    def parameter_error(self, parameters: Parameters, truth: Mapping[str, np.ndarray]) -> float:
        return error_of_chains(self.emissions, self.export(parameters), truth)

    def warnings(self, parameters: Parameters, names: list[str]) -> list[str]:
        found = self.emissions.warnings(parameters, self.lower_floor)
        steps = stationary(self._inside(parameters), len(self.chains.starts) / self.steps) * self.steps
        few = torch.nonzero(steps < FEW).flatten().tolist()
        if few and self.num_components > 1:
            verb = "stands for" if len(few) == 1 else "each stand for"
            states = named("state", few, self.observations.class_names)
            found.append(f"{states} {verb} fewer than {FEW:g} steps: fewer model.num_components would do")
        return found
