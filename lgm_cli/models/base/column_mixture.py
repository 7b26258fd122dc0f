"""What mixtures of columns of whole or positive numbers share: categories, counts, zeros and ones, amounts."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError
from lgm_cli.models.base.mixture import Mixture, error_of_components
from lgm_cli.models.base.naming import axes_of_components
from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters, Statistics
from lgm_cli.models.base.tuning import Tuning
from lgm_cli.models.families.predictive import Density, MixturePredictive
from lgm_cli.observations.blocks import Observations
from lgm_cli.posteriors.costs import exact_part_size
from lgm_cli.posteriors.responsibilities import Responsibilities
from lgm_cli.randomness import generator

POOLED = 0.5  # share of all rows in what a component starts from: clusters are farther apart than components
FEW = 2.0  # data points of a component below which nothing is known of it
ALIKE = 1e-3  # largest difference of components that are called one
SHOWN = 5  # columns that a warning names


class ColumnMixture(Mixture):
    """k_n ~ weights,  y_nm | k_n ~ a distribution of whole or positive numbers, independent over columns m given the
    component.

    Hidden entries drop out: log p(y_n | k) is a sum over the observed ones. Responsibilities are
    r_nk = p(k | observed entries of y_n). A subclass says what its columns may hold, what family of
    lgm_cli/models/families they have, and how `theta`, the parameter by which its components are told apart, starts, is
    drawn and is read.

    floor: how near to the edge of its domain theta may come, in the units of the family.
    prior_weights: imaginary data points that each component has before any is seen, w ~ Dirichlet(1 + this).
    prior_theta: imaginary data points of each component with the averages of all data, for theta: the conjugate prior
    of the family.
    """

    standardise = False  # values are learned from as they are
    pictures: ClassVar = ("profiles",)
    results: ClassVar = ("components",)
    axes: ClassVar = axes_of_components("component")

    bounded_by = "floor"  # what its second argument is called
    theta: ClassVar[str]  # name of the parameter of the components
    what: ClassVar[str]  # what a column holds, in words
    start_numbers = 1 << 22
    fixed = False  # whether the parameters are those of a finished run

    def __init__(self, num_components: int, floor: float, prior_weights: float = 0.0, prior_theta: float = 0.0) -> None:
        self.num_components, self.floor = num_components, floor
        self.prior_weights, self.prior_theta = prior_weights, prior_theta
        self.blocks = (("weights",), (self.theta,))

    # Data ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def misfit(self, columns: Tensor, values: Tensor) -> Tensor:
        """Which values (E,) of these columns (E,) the model cannot have, bool (E,)."""

    @abstractmethod
    def mend(self) -> str:
        """What a user may do about such a value."""

    def check(self, data: Data) -> None:
        super().check(data)
        table = data.table
        self.require(table.name, table.columns, table.values, list(map(str, table.column_labels)))

    def require(self, where: str, columns: np.ndarray, values: np.ndarray, names: list[str]) -> None:
        bad = torch.nonzero(self.misfit(torch.as_tensor(columns), torch.as_tensor(values))).flatten().tolist()
        if bad:
            value, name = values[bad[0]], names[int(columns[bad[0]])]
            more = f", and {len(bad) - 1:,} more such values" if len(bad) > 1 else ""
            raise UserError(f"{where} has {value:g} in {name!r}{more}, and this model learns from {self.what}",
                            self.mend())  # fmt: skip

    def prepare(self, observations: Observations) -> None:
        """Sums over the observed entries of each column are taken once, in double precision."""
        columns = observations.shape[1]
        if self.fixed:
            for chunk in observations.chunks:
                seen, values = (part.cpu().double() for part in chunk.scattered(columns))
                row, column = torch.nonzero(seen, as_tuple=True)
                self.require("a new table", column.numpy(), values[row, column].numpy(), list(map(str, range(columns))))
        self.dim = self.num_components
        self.learned_from(observations)

    @property
    def turns(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]  # those of the family
        return self.family.names

    @abstractmethod
    def learned_from(self, observations: Observations) -> None:
        """Set `family`, with its floor, and the averages that `start` needs."""

    def simulated_theta(self, components: int, columns: int, share: float, draw: Generator) -> Tensor:
        """Theta of components that differ by about this share of what a column varies, float64. Here theta is
        positive, and its logarithm varies."""
        like: Any = {"dtype": torch.float64, "generator": draw}
        own = (0.5 * share) ** 0.5 * torch.randn(components, columns, **like)
        return (1.0 + (0.5 * (1 - share)) ** 0.5 * torch.randn(columns, **like) + own).exp()

    @abstractmethod
    def simulated_values(self, theta: Tensor, draw: Generator) -> Tensor:
        """Values (N, M) of rows whose components have theta (N, M, ..)."""

    def simulate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Draw rows of components whose means differ by about factor_share of a column's variation. Entries are hidden
        with probability hidden_share."""
        n, m, k = options["num_points"], options["num_dimensions"], self.num_components
        draw = generator(options["seed"], "simulate mixture")
        like: Any = {"dtype": torch.float64, "generator": draw}
        weights = (0.3 * torch.randn(k, **like)).softmax(0).sort(descending=True).values
        theta = self.simulated_theta(k, m, options["factor_share"], draw)
        component = torch.multinomial(weights, n, replacement=True, generator=draw)
        values = self.simulated_values(theta[component], draw)
        values[torch.rand(n, m, **like) < options["hidden_share"]] = math.nan
        return {"values": values.numpy(), "truth": {"weights": weights.numpy(), self.theta: theta.numpy()}}

    # Parameters ------------------------------------------------------------------------------------------------

    @abstractmethod
    def overall(self) -> Tensor:
        """Theta of a single component, (M, ..)."""

    def before_clusters(self, centers: Tensor) -> Parameters:
        k, like = self.num_components, {"dtype": self.observations.dtype, "device": self.observations.device}
        whole = self.overall().to(**like)
        return {"weights": torch.full((k,), 1 / k, **like), self.theta: whole.expand(k, *whole.shape)}

    def after_clusters(self, first: Parameters, total: Statistics) -> Parameters:
        """Components take half of their theta from the rows of their cluster, half from all rows. (Were all alike, they
        would stay so for ever.)"""
        theta = self.family.maximise(first, total)[self.theta]
        weights = (total["components"] + 1) / (total["components"] + 1).sum()
        return {"weights": weights, self.theta: (1 - POOLED) * theta + POOLED * first[self.theta]}

    def free(self, parameters: Parameters) -> Parameters:
        """Logarithms of weights, and the family's natural parameters above their floor."""
        weights = parameters["weights"].clamp_min(1e-30).log()
        return {"weights": weights, self.theta: self.family.free(parameters[self.theta])}

    def constrain(self, free: Parameters) -> Parameters:
        return {"weights": free["weights"].softmax(0), self.theta: self.family.constrain(free[self.theta])}

    def export(self, parameters: Parameters) -> Parameters:
        return {name: value.cpu().double() for name, value in parameters.items()}

    def restore(self, exported: Parameters) -> Parameters:
        inside = {"weights": exported["weights"] / exported["weights"].sum(), self.theta: exported[self.theta]}
        return {name: value.to(self.observations.device, self.observations.dtype) for name, value in inside.items()}

    def fix(self, exported: Parameters, state: Mapping[str, Tensor]) -> None:
        self.fixed = True

    def exported_shapes(self, table: Table) -> dict[str, tuple[int, ...]]:
        return {"weights": (self.num_components,), self.theta: (self.num_components, table.shape[1])}

    def units(self, exported: Parameters) -> tuple[np.ndarray, np.ndarray]:
        columns = exported[self.theta].shape[1]
        return np.zeros(columns), np.ones(columns)

    def canonical(self, parameters: Parameters) -> Parameters:
        return self.reordered(parameters, self.order(parameters["weights"]))

    # Costs -----------------------------------------------------------------------------------------------------

    categories = 1  # numbers that an entry is spread over, in products

    def tuning(self) -> Tuning:
        rates = {"adam": 0.1, "rmsprop": 0.03, "adagrad": 0.3, "sgd": 0.03}
        return replace(super().tuning(), learning_rate=rates)

    def exact_operations(self, observed: np.ndarray) -> np.ndarray:
        return 2.0 * self.num_components * self.categories * observed

    def exact_bytes(self, gradient: bool = False) -> float:
        """Densities and responsibilities of the largest part, its entries laid out by column, and the parameters."""
        k, m, peaks = self.num_components, self.observations.shape[1], [0.0]
        for chunk in self.observations.chunks:
            n = min(exact_part_size(chunk, self.dim), len(chunk.points))
            peaks.append(n * (6 * k + 4 * m * (1 if self.categories == 1 else 0.75 * self.categories)))
        return float(self.observations.dtype.itemsize * (max(peaks) + 6 * k * m * self.categories))

    @property
    def has_prior(self) -> bool:
        return bool(self.prior_weights or self.prior_theta)

    def imagined(self, like: Tensor) -> Statistics:
        if not self.prior_theta:
            return {}
        whole = self.overall().to(like)
        return self.family.imagined(self.prior_theta, whole.expand(self.num_components, *whole.shape))

    # What is reported ------------------------------------------------------------------------------------------

    @abstractmethod
    def moments(self, exported: Parameters) -> tuple[Tensor, Tensor]:
        """Means and variances of the columns given the component, (K, M) each."""

    @abstractmethod
    def densities(self, inside: Parameters, index: Tensor) -> Density:
        """log p(values | k) of entries index (n, t), as a function of values (n, t); (n, K, t)."""

    def predict(self, parameters: Parameters, posterior: Responsibilities, index: Tensor) -> MixturePredictive:
        """A mixture of the components' distributions of the entry, by what was observed of its row."""
        inside, index = self.export(parameters), index.cpu()
        weights = posterior.responsibilities.detach().cpu().double()
        means, variances = (part[:, index].transpose(0, 1) for part in self.moments(inside))
        return MixturePredictive.of(weights, means, variances, self.densities(inside, index))

    def implied_covariance(self, exported: Parameters) -> Tensor:
        weights, (means, _) = exported["weights"], self.moments(exported)
        apart = means - weights @ means
        return torch.einsum("k,kml->ml", weights, self.spread(exported)) + (weights[:, None] * apart).mT @ apart

    def spread(self, exported: Parameters) -> Tensor:
        """Cov(y | k), (K, M, M)."""
        return torch.diag_embed(self.moments(exported)[1])

    def parameter_error(self, parameters: Parameters, truth: Mapping[str, np.ndarray]) -> float:
        """|A - A0| / |A0| (Frobenius) over A_k = weight_k (1, theta_k), under the best order of the components, theta
        in averages of its column. A component too many, or missing, is compared with zero."""
        true = {name: torch.as_tensor(truth[name], dtype=torch.float64) for name in ("weights", self.theta)}
        unit = torch.einsum("k,km...->m...", true["weights"], true[self.theta]).clamp_min(1e-12)

        def parts(exported: Parameters) -> Tensor:
            theta = (exported[self.theta] / unit).flatten(1) if self.scaled else exported[self.theta].flatten(1)
            weights = exported["weights"][:, None]
            return torch.cat([weights, weights * theta], 1)

        return error_of_components(parts(self.export(parameters)), parts(true))

    scaled = False  # whether theta has the unit of its column
    whole = True  # whether values are whole numbers

    @abstractmethod
    def at_floor(self, inside: Parameters) -> Tensor:
        """Which parameters ended at their bound, or near it, bool (K, M)."""

    @abstractmethod
    def floor_warning(self, components: str, columns: str, number: int) -> str:
        """What is said of them."""

    def floor_warnings(self, parameters: Parameters, names: list[str]) -> list[str]:
        """Of theta at their floors."""
        low = torch.nonzero(self.at_floor(self.export(parameters)))
        if not len(low):
            return []
        components, columns = (part.unique().tolist() for part in low.T)
        return [self.floor_warning(self.named(components), _listed(columns, names), len(low))]

    def warnings(self, parameters: Parameters, names: list[str]) -> list[str]:
        """Of theta at their floors, of components that have almost no data points, and of components that are alike."""
        found, inside, k = self.floor_warnings(parameters, names), self.export(parameters), self.num_components
        few = torch.nonzero(inside["weights"] * self.observations.shape[0] < FEW).flatten().tolist()
        if few and k > 1:
            verb = "stands for" if len(few) == 1 else "each stand for"
            found.append(
                f"{self.named(few)} {verb} fewer than {FEW:g} data points: fewer model.num_components would do, or "
                "another seed may find more"
            )
        flat = inside[self.theta].flatten(1)
        unit = flat.amax(0).clamp_min(1e-12) if self.scaled else 1.0
        apart = torch.cdist(flat / unit, flat / unit, p=torch.inf) if k > 1 else torch.ones(1, 1)
        twins = torch.nonzero((apart < ALIKE).triu(1).any(0)).flatten().tolist()
        if twins:
            found.append(
                f"{self.named(twins)} came out like one before {'it' if len(twins) == 1 else 'them'}: fewer "
                "model.num_components would do, or another seed may find more"
            )
        return found


def near_floor(value: Tensor, floor: float | Tensor) -> Tensor:
    """Whether values ended at their floor, or just above."""
    return value <= NEAR_FLOOR * floor


def _listed(columns: list[int], names: list[str]) -> str:
    """`'a'`, or `'a', 'b' and 4 more`."""
    shown = ", ".join(repr(names[column]) for column in columns[:SHOWN])
    return shown + (f" and {len(columns) - SHOWN} more" if len(columns) > SHOWN else "")
