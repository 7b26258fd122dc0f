"""What a model must give, so that every method, solver and record works with it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Generator, Tensor

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import KINDS, Table
from lgm_cli.errors import UserError
from lgm_cli.models.base.categories import require_categories
from lgm_cli.models.base.free_parameters import FreeParameters
from lgm_cli.models.base.parameters import Parameters, Statistics, with_imagined
from lgm_cli.models.base.predictive import Predictive
from lgm_cli.models.base.tuning import Tuning
from lgm_cli.numerics.cumulated import LinearChain
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk

# What a model's own `posterior` gives, or the IterativePosterior of its system: `mean`, `marginal_variance` and
# `log_density` at least.
Reference = Any

# Whatever gives the expectations that `statistics` needs, and the `entropy` of the latents, or None.
Posterior = Any


class LatentVariableModel(FreeParameters, ABC):
    """A model log p(y, z | parameters) of observed data y with latent variables z.

    Parameters are values: a dictionary of tensors in the internal (standardised) units goes in, a new one comes out.
    The posterior of a data point takes about `dim` numbers or their square; what is written to disk is in the data's
    own units.
    """

    dim: int
    observations: Observations

    def bind(self, observations: Observations) -> Self:
        """A copy of the model for these data, in whose units its parameters are. What handles parameters is asked of
        such a copy."""
        bound = copy.copy(self)
        bound.observations = observations
        bound.prepare(observations)
        return bound

    def prepare(self, observations: Observations) -> None:
        """Work out, once, whatever the model needs of the data that it is bound to."""

    @property
    def independent(self) -> int:
        """Data points, with the series of a joint table of several taken for data points."""
        return self.observations.shape[0]

    def apart(self, seed: int, size: int | None) -> Self:
        """A copy to learn from whose data points are those of `independent`, where a joint table has more than one, in
        random blocks of at most so many. What is reported is asked of the model itself."""
        raise TypeError(f"{type(self).__name__} has one data point")

    def layout(self, block: int, solved: bool = False) -> list[Chunk]:
        """The data points of a block, laid out as the posteriors and updates of a step are cheapest. solved: the
        posteriors are those of an iterative solver."""
        return self.observations.blocks[block]

    learns_from = "table"  # kind of table, one of KINDS of lgm_cli/data/base/table.py
    # Whether posteriors are those of linear systems, as method=unroll needs: true of every LatentGaussianModel. Whoever
    # wants to know asks for this, and never for the class.
    has_system = False
    standard_prior = False  # whether the coordinates of posteriors are standard normal before anything is observed
    has_chain = False  # whether `chain` gives the series as a linear Gaussian chain, for data.log and data.difference
    several_series = False  # whether it learns from several series at once (data.series)
    takes_classes = False  # whether classes of rows, known in part (data.labels), are its components or states
    in_common: tuple[str, ...] = ()  # parameters of a mixture that all components share
    most_categories = 0  # of a column of text that is learned from (data.categories)
    one_column = False  # whether a single column of independent rows tells of its latent variables
    standardise = True  # whether values are learned from in standard units, or as they are: counts, categories
    intervals: np.ndarray | None = None  # columns (M,) with normal intervals; None: all, if they are standardised
    # Whether statistics of several steps may be averaged: not where they are about a level of their own, nor, over some
    # data points each, where all data are one.
    averages = True
    blocks: tuple[tuple[str, ...], ...] = ()  # parameters that `maximise` takes by turns, for method=ecm
    expanded = False  # whether `maximise` works by parameter expansion: it raises the likelihood, but not F for certain
    double_precision = False  # whether single precision is too little, whatever device.dtype says

    def tuning(self) -> Tuning:
        """What `auto` means for this model and its data. A model replaces what it knows better."""
        return Tuning(self.dim, self.observations.observed / self.observations.shape[1])

    def gradient_scale(self) -> dict[str, float]:
        """By the name of a free parameter that columns share: the inverse of how many times the Fisher information of a
        column's own it has, by which its gradient is multiplied. (Adam's steps do not depend on it.)"""
        return {}

    def check(self, data: Data) -> None:
        """Raise UserError for data that this model cannot be learned from. Called before any work."""
        if data.table.kind != self.learns_from:
            given, needed = KINDS[data.table.kind], KINDS[self.learns_from]
            raise UserError(
                f"{data.table.name} is {given.what}, and this model learns from {needed.what}",
                f"{needed.data}; or {given.model}",
            )
        self.require_one_series(data.table)
        require_categories(data.table, self.most_categories)
        if data.table.is_table and not data.table.joint and data.shape[1] == 1 and not self.one_column:
            raise UserError(
                f"{data.table.name} has a single column, and this model is of what columns have in common",
                "give at least two columns; of one, model=gaussian_mixture or model=poisson_mixture",
            )
        if data.table.classes is not None and not self.takes_classes:
            raise UserError(
                "data.labels gives classes of rows, and this model has no components for them",
                f"{KINDS[self.learns_from].classes}, or leave data.labels out"
                if KINDS[self.learns_from].classes
                else "leave it out",
            )

    def require_one_series(self, table: Table) -> None:
        """Raise UserError for several series, where the model is of one."""
        if table.num_series > 1 and not self.several_series:
            raise UserError(
                f"data.series={table.series_column} names {table.num_series:,} series in {table.name}, and this model "
                "learns from one",
                "model=hidden_markov; or a file of one series, and data.series=null",
            )

    pictures: ClassVar[tuple[str, ...]] = ()  # its own, as modules of lgm_cli/report
    results: ClassVar[tuple[str, ...]] = ()  # what it learned, in words: modules of lgm_cli/report/results
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # what parameters are along: column, feature, factor, ..
    held_when_tempered: ClassVar[tuple[str, ...]] = ()  # parameters that method=annealed_em leaves until the end

    def alike(self, parameters: Parameters) -> Parameters | None:
        """Parameters whose components are all alike, from which method=annealed_em begins; None where it begins from
        the start, since there are no components or what is known of them tells them apart."""
        return None

    def dealt_anew(self, parameters: Parameters, held: tuple[str, ...], draw: Generator) -> Parameters:
        """What method=annealed_em goes on from at the next temperature: the same distribution of the data, in which
        components that are alike may stand elsewhere. held: parameters that it does not change."""
        return parameters

    def chain(self, exported: Parameters) -> LinearChain:
        """The series about its mean as a linear Gaussian chain in the data's units, where `has_chain` says so."""
        raise TypeError(f"{type(self).__name__} is no linear Gaussian chain")

    # Hooks of `lgm-run apply=RUN_DIR`, which works on new data with the parameters of a finished run:

    noise_floor: float  # lower bound of noise variances, as a fraction of the variance of the data

    def applied_state(self, parameters: Parameters) -> dict[str, Tensor]:
        """What new data need beside the parameters, for apply.safetensors: nothing, but of a model whose one latent
        vector was inferred from the data learned from. Empty, too, where it would take too much memory."""
        return {}

    def fix(self, exported: Parameters, state: Mapping[str, Tensor]) -> None:
        """Before `bind`: `restore` is to take these parameters as they are. Floors are in units of the data learned
        from, and new data have others. state: what `applied_state` gave; UserError when it lacks what is needed."""
        self.noise_floor = 0.0

    @abstractmethod
    def inferred(self, parameters: Parameters, posterior: Reference) -> dict[str, Tensor]:
        """What posterior.safetensors holds, a row for each data point, of a joint table in the shape that is
        written."""

    @abstractmethod
    def exported_shapes(self, table: Table) -> dict[str, tuple[int, ...]]:
        """The names and shapes of the exported parameters of a table with these columns; ANY for a size that the data
        learned from decide."""

    @abstractmethod
    def units(self, exported: Parameters) -> tuple[np.ndarray, np.ndarray]:
        """Center and scale, (M,) or () for all columns, in which data from these parameters are standardised, whatever
        the data: a single row, a column without values."""

    least_steps = 1  # of a series that posteriors can be computed of; steps without values are added to a shorter one

    @abstractmethod
    def simulate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Draw {"values": (N, M) array with NaN for hidden entries, "truth": parameters in the data's units}."""

    @abstractmethod
    def start(self, seed: int) -> Parameters:
        """Starting values, the same for every method."""

    @abstractmethod
    def free(self, parameters: Parameters) -> Parameters:
        """Unconstrained values on scales of about one, for an optimiser's steps."""

    @abstractmethod
    def constrain(self, free: Parameters) -> Parameters:
        """Inverse of `free`, differentiable."""

    @abstractmethod
    def posterior(self, parameters: Parameters, chunk: Chunk, inverse_temperature: float = 1.0) -> Reference:
        """p(z | y, parameters), exactly, for the data points of a chunk; at an inverse temperature beta, what is
        proportional to p(y, z | parameters)^beta. TypeError where a model has no such posterior."""

    def iterative_posterior(self, parameters: Parameters, chunk: Chunk, seed: int) -> Reference:
        """The same to a stated numerical error, where an exact one costs too much; of models with a `standard_prior`
        alone."""
        raise TypeError(f"{type(self).__name__} has exact posteriors only")

    @abstractmethod
    def exact_operations(self, observed: np.ndarray) -> np.ndarray:
        """Multiplications of an exact posterior, for data points with so many observed entries each. (N,)"""

    @abstractmethod
    def exact_bytes(self, gradient: bool = False) -> float:
        """Memory that a step with exact posteriors and an evaluation take at their peak, beside the data: the largest
        part of a chunk, its statistics and the M-step or, of a step by the gradient, what is kept for it. It is within
        30% of what is measured."""

    def product_operations(self, observed: np.ndarray) -> np.ndarray:
        """Multiplications of the smallest piece of work on each data point. (N,)"""
        return self.exact_operations(observed)

    def complete_loss(self, parameters: Parameters, chunk: Chunk, posterior: Posterior) -> Tensor:
        """-sum_n E_posterior log p(y_n, z_n | parameters) up to a constant; differentiable. A model overrides it where
        the statistics of single data points are too much to take. ()"""
        return self.expected_loss(parameters, self.statistics(chunk, posterior))

    @abstractmethod
    def statistics(self, chunk: Chunk, posterior: Posterior) -> Statistics:
        """Expected sufficient statistics E[t(y, z)] in the model's own coordinates, summed over the data points of a
        chunk. They know no parameters, so those of several steps may be averaged. `entropy` is that of the posterior,
        where it has one."""

    def add_statistics(self, total: Statistics, chunk: Chunk, posterior: Posterior) -> Statistics:
        """The sum of `total`, which may be empty and may be written into, and the statistics of a chunk."""
        found = self.statistics(chunk, posterior)
        return {name: total[name] + value for name, value in found.items()} if total else found

    @abstractmethod
    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> Tensor:
        """-E log p(y, z | parameters) of the data points behind the statistics, in standardised units and with all
        constants; differentiable. Less `entropy` of the same statistics it is minus the free energy. ()"""

    def prior_statistics(self) -> Statistics:
        """A conjugate prior of the parameters, as the statistics of imaginary data: whatever maximises, or takes
        gradients, adds them once to those of all data. Empty where there is no prior."""
        return {}

    def with_prior(self, statistics: Statistics) -> Statistics:
        """Statistics that stand for all data points, and the imaginary data of the prior."""
        prior = self.prior_statistics()
        return with_imagined(statistics, prior) if prior else statistics

    def log_prior(self, parameters: Parameters) -> Tensor | None:
        """log p(parameters) up to a constant, differentiable; None where there is no prior. In nats. ()"""
        prior = self.prior_statistics()
        return -self.expected_loss(parameters, prior) if prior else None

    @torch.no_grad()
    def prior_nats(self, parameters: Parameters) -> float:
        """The value of `log_prior`, zero where there is no prior: what is added to a log-likelihood, or to F."""
        prior = self.log_prior(parameters)
        return 0.0 if prior is None else float(prior)

    def free_energy(self, parameters: Parameters, statistics: Statistics) -> Tensor | None:
        """F = E log p(y, z | parameters) + H, which the log-likelihood of the same data points is never below; None
        for posteriors without an entropy. In nats of standardised data. Statistics are of the data alone: the prior
        has no part in F, and what an M-step raises is F + log p(parameters). ()"""
        if "entropy" not in statistics:
            return None
        return statistics["entropy"] - self.expected_loss(parameters, statistics)

    @abstractmethod
    def maximise(
        self, parameters: Parameters, statistics: Statistics, block: tuple[str, ...] | None = None
    ) -> Parameters:
        """The parameters that minimise `expected_loss` of the statistics; with a block of names, one of `blocks`, over
        these alone, and the others as they are."""

    def canonical(self, parameters: Parameters) -> Parameters:
        """The same model in the stated form that is written: where the likelihood leaves a choice, such as that of the
        axes of the latent space, a convention makes it."""
        return parameters

    def log_likelihood(self, parameters: Parameters, chunk: Chunk, posterior: Reference) -> Tensor:
        """log p(observed entries of y_n) for each data point, in the data's own units, (n,)."""
        return posterior.log_evidence - self.log_scales(chunk)

    def log_scales(self, chunk: Chunk) -> Tensor:
        """The sum over the observed entries of each data point of the logarithms of their columns' scales, (n,)."""
        return chunk.over_observed(self.observations.scale.log().to(chunk.weight))

    @abstractmethod
    def predict(self, parameters: Parameters, posterior: Reference, index: Tensor) -> Predictive:
        """The distribution of y_nm given what was observed of y_n, for columns index (n, t), in the data's own
        units."""

    @abstractmethod
    def export(self, parameters: Parameters) -> Parameters:
        """The parameters of the contract, in the data's own units, float64; differentiable."""

    @abstractmethod
    def restore(self, exported: Parameters) -> Parameters:
        """Inverse of `export`: start from given parameters."""

    # For a model with about as many parameters as data: a run ends when what it is for, `settling`, has settled, and
    # may then still gain this many tolerances of likelihood per doubling of the steps.
    settled_gain: float | None = None

    def settling(self, parameters: Parameters, posterior: Reference) -> tuple[Tensor, float]:
        """Posterior means of what a run is for, flattened, and the sum of their posterior variances: for models with a
        `settled_gain`."""
        raise TypeError(f"{type(self).__name__} is judged by its likelihood alone")

    def own_columns(self, data: Data) -> list[str]:
        """The model's own columns of metrics.csv."""
        return ["parameter_error"] if data.table.truth else []

    def measure(self, parameters: Parameters, chunk: Chunk, posterior: Reference) -> dict[str, Tensor]:
        """Sums over the data points of a chunk that `own_scores` needs."""
        return {}

    def own_scores(self, parameters: Parameters, sums: Mapping[str, Tensor], data: Data) -> dict[str, float]:
        """Values of `own_columns`. sums: what `measure` gave, over all data points that are evaluated."""
        truth = data.table.truth
        return {} if truth is None else {"parameter_error": self.parameter_error(parameters, truth)}

    def parameter_error(self, parameters: Parameters, truth: Mapping[str, np.ndarray]) -> float:
        """|S - S0| / |S0| (Frobenius) of the implied covariance of y; for simulated data."""
        implied, true = (
            self.implied_covariance(self.export(parameters)),
            self.implied_covariance(
                {name: torch.as_tensor(value, dtype=torch.float64) for name, value in truth.items()}
            ),
        )
        return float(torch.linalg.norm(implied - true) / torch.linalg.norm(true))

    @abstractmethod
    def implied_covariance(self, exported: Parameters) -> Tensor:
        """Cov(y) of the exported parameters, (M, M)."""

    @property
    def lower_floor(self) -> str:
        """The keys that let noise variances fall further: they would, and the likelihood rise, where a floor is met."""
        double = "" if self.double_precision or self.observations.dtype == torch.float64 else " device.dtype=float64"
        return f"model.noise_floor={1e-3 * self.noise_floor:g}{double}"

    def warnings(self, parameters: Parameters, names: list[str]) -> list[str]:
        """What a user should know of the learned parameters, in sentences. names: those of the columns."""
        return []
