"""Mixtures of mixed columns: measurements, zeros and ones, categories and counts in one table, with missing entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from lgm_cli.data.base.categories import MOST, sizes
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError
from lgm_cli.models.base.column_mixture import ColumnMixture
from lgm_cli.models.base.mixture import Mixture
from lgm_cli.models.base.naming import axes_of_components
from lgm_cli.models.base.parameters import Parameters, Statistics
from lgm_cli.models.bernoulli_mixture import BernoulliMixture
from lgm_cli.models.families.joined import OWN, Block, Joined, JoinedPredictive
from lgm_cli.models.gamma_mixture import GammaMixture
from lgm_cli.models.gaussian_mixture import GaussianMixture
from lgm_cli.models.multinoulli_mixture import MultinoulliMixture
from lgm_cli.models.negative_multinomial_mixture import NegativeMultinomialMixture
from lgm_cli.models.parts.columns_of_blocks import places_of
from lgm_cli.models.poisson_mixture import PoissonMixture
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.responsibilities import Responsibilities

MODELS: dict[str, type[ColumnMixture]] = {  # by family, of columns that are not normal
    "bernoulli": BernoulliMixture,
    "categorical": MultinoulliMixture,
    "poisson": PoissonMixture,
    "negative_multinomial": NegativeMultinomialMixture,
    "gamma": GammaMixture,
}


class Composed(Mixture):
    """k_n ~ weights,  y_n | k_n ~ prod_b p_b(y_nb | k_n) over blocks b of columns, each of a family of its own:

        normal       N(means_k, covariances_k)          bernoulli    P(y_m = 1) = probabilities_km
        categorical  P(y_m = c) = probabilities_kmc      poisson      Poisson(rates_km)
        gamma        gamma of mean means_km and shape shapes_km
        negative_multinomial   Poisson(z rates_km), z ~ gamma(shapes_k, shapes_k) common to the columns of the block

    Columns of one normal block may be correlated given the component; all others are independent. Hidden entries drop
    out, so that r_nk = p(k | observed entries of y_n) is exact. Everitt, Stat. Probab. Lett. 6 (1988) 305-309;
    McLachlan & Peel, Finite Mixture Models (2000), 5.

    blocks: {"family": .., "columns": [..]} each; one without columns has all that no other has. auto: columns whose
    categories have names (data.categories) are categorical, all others normal. A parameter of a second block that has
    one of the same name is called by the number of the block, such as rates_2.
    covariance: of normal blocks. noise_floor: of normal and gamma blocks, as in model=gaussian_mixture and
    model=gamma_mixture. floor: of probabilities, and of rates in averages of their column.
    prior_weights: imaginary data points of each component, w ~ Dirichlet(1 + this).
    """

    standardise = False  # each block has units of its own
    most_categories = MOST
    one_column = True
    pictures: ClassVar = ("blocks",)
    results: ClassVar = ("blocks",)
    axes: ClassVar[Mapping[str, Any]] = axes_of_components("component")
    start_numbers = 1 << 22
    family: Joined
    blocks = (("weights",), ("means",), ("covariances",))  # for method=ecm; once it is bound, those that there are

    def __init__(
        self,
        num_components: int,
        blocks: str | Sequence[Mapping[str, Any]],
        covariance: str,
        noise_floor: float,
        floor: float,
        prior_weights: float = 0.0,
    ) -> None:
        self.num_components, self.prior_weights = num_components, prior_weights
        self.covariance, self.noise_floor, self.floor = covariance, noise_floor, floor
        self._asked = blocks
        self._learned: Parameters | None = None  # of a finished run

    # Blocks ----------------------------------------------------------------------------------------------------

    def _unbound(self, family: str) -> GaussianMixture | ColumnMixture:
        k = self.num_components
        if family == "normal":
            return GaussianMixture(k, self.covariance, self.noise_floor)
        model: Any = MODELS[family]
        return model(k, getattr(self, model.bounded_by))

    def _shapes(self, family: str, columns: int) -> dict[str, tuple[int, ...]]:
        return self._unbound(family).exported_shapes(cast(Any, SimpleNamespace(shape=(0, columns))))

    def _named(self, places: Sequence[tuple[str, Sequence[int]]]) -> list[dict[str, str]]:
        """What the parameters of each block are called."""
        found: list[dict[str, str]] = []
        for number, (family, _) in enumerate(places):
            taken = {here for each in found for here in each.values()}
            own = [name for name in self._shapes(family, 1) if name != "weights"]
            found.append({name: f"{name}_{number + 1}" if name in taken else name for name in own})
        return found

    def check(self, data: Data) -> None:
        super().check(data)
        self.require_blocks(data.table)

    def require_blocks(self, table: Table) -> None:
        """Raise UserError for columns or values that the blocks cannot have."""
        labels = list(map(str, table.column_labels))
        number = sizes(table).tolist()
        for family, places in places_of(self._asked, labels, number):
            if named := [labels[m] for m in places if number[m] and family not in ("categorical", "bernoulli")]:
                raise UserError(
                    f"the column {named[0]!r} holds categories, and its block of model.blocks is {family}",
                    "family=categorical for it",
                )
            model = self._unbound(family)
            if not isinstance(model, GaussianMixture):
                here = np.isin(table.columns, places)
                local = np.searchsorted(sorted(places), table.columns[here])
                names = [labels[m] for m in sorted(places)]
                model.require(table.name, local, table.values[here], names)

    def prepare(self, observations: Observations) -> None:
        labels = list(observations.column_labels)
        places = places_of(self._asked, labels, observations.categories or (0,) * len(labels))
        center, scale = _units(observations)
        blocks = []
        for (family, own), names in zip(places, self._named(places), strict=True):
            columns = torch.as_tensor(own, device=observations.device)
            model = self._unbound(family)
            model.word = self.word
            if self._learned is not None:
                exported = {name: self._learned[here] for name, here in names.items()}
                exported["weights"] = self._learned["weights"]
                model.fix(exported, {})
                center[own], scale[own] = (torch.as_tensor(part).to(center) for part in model.units(exported))
            elif family != "normal":
                center[own], scale[own] = 0.0, 1.0
            blocks.append((model, names, columns))
        self.family = Joined([
            Block(model.bind(observations.restricted(columns, center, scale)), names, columns, center, scale)
            for model, names, columns in blocks
        ])  # fmt: skip
        self.parts = self.family.blocks
        self._log_scale = scale.log()
        self.intervals = np.zeros(len(labels), bool)
        for each in self.parts:
            self.intervals[each.columns.cpu().numpy()] = "covariances" in each.names
        self.blocks = (("weights",), *((here,) for each in self.parts for here in each.names.values()))
        normal = tuple(each.names["covariances"] for each in self.parts if "covariances" in each.names)
        self.held_when_tempered = normal  # pyright: ignore[reportAttributeAccessIssue]  # of these blocks
        self.dim = max(each.model.dim for each in self.parts)
        axes: dict[str, Any] = {"weights": (self.word,)}
        for each in self.parts:
            names = [labels[m] for m in each.columns.tolist()]
            for name, here in each.names.items():
                words = {**axes_of_components("component"), **each.model.axes}[name]
                if name == "probabilities" and isinstance(each.model, BernoulliMixture):
                    words = words[:2]
                said = {"column": names, "component": self.word}
                axes[here] = tuple(said.get(word, word) for word in words)
        self.axes = axes  # pyright: ignore[reportAttributeAccessIssue]  # of these columns

    def simulate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Columns that are all normal, as model=gaussian_mixture draws them."""
        self.require_unnamed()
        return GaussianMixture(self.num_components, self.covariance, self.noise_floor).simulate(options)

    def require_unnamed(self) -> None:
        """Raise UserError where blocks name columns."""
        if not isinstance(self._asked, str):
            raise UserError("model.blocks names columns, and simulated data have none of these", "model.blocks=auto")

    # Parameters ------------------------------------------------------------------------------------------------

    def features(self, chunk: Chunk) -> Tensor:
        """Those of the blocks, side by side."""
        return torch.cat([each.model.features(each.chunk(chunk)) for each in self.parts], 1)

    def before_clusters(self, centers: Tensor) -> Parameters:
        widths = [each.model.features(each.chunk(self._first).split(1)[0]).shape[1] for each in self.parts]
        found: Parameters = {}
        for each, own in zip(self.parts, centers.split(widths, 1), strict=True):
            first = each.model.before_clusters(own)
            found |= {"weights": first["weights"]} | each.shared(first)
        return found

    @property
    def _first(self) -> Chunk:
        return next(iter(self.observations.chunks))

    def after_clusters(self, first: Parameters, total: Statistics) -> Parameters:
        new = dict(first)
        for number, each in enumerate(self.parts):
            start = f"{number}{OWN}"
            own = {name.removeprefix(start): value for name, value in total.items() if name.startswith(start)}
            found = each.model.after_clusters(each.own(first), own | {"components": total["components"]})
            new |= {"weights": found["weights"]} | each.shared(found)
        return new

    def _by_part(self, what: str, parameters: Parameters) -> Parameters:
        found: Parameters = {}
        for each in self.parts:
            own = getattr(each.model, what)(each.own(parameters))
            found |= {"weights": own["weights"]} | each.shared(own)
        return found

    def free(self, parameters: Parameters) -> Parameters:
        return self._by_part("free", parameters)

    def constrain(self, free: Parameters) -> Parameters:
        return self._by_part("constrain", free)

    def export(self, parameters: Parameters) -> Parameters:
        return self._by_part("export", parameters)

    def restore(self, exported: Parameters) -> Parameters:
        return self._by_part("restore", exported)

    def fix(self, exported: Parameters, state: Mapping[str, Tensor]) -> None:
        self._learned = exported

    def exported_shapes(self, table: Table) -> dict[str, tuple[int, ...]]:
        labels = list(map(str, table.column_labels))
        places = places_of(self._asked, labels, sizes(table).tolist())
        found: dict[str, tuple[int, ...]] = {}
        for (family, own), names in zip(places, self._named(places), strict=True):
            shapes = self._shapes(family, len(own))
            found |= {"weights": shapes["weights"]} | {here: shapes[name] for name, here in names.items()}
        return found

    def units(self, exported: Parameters) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(()), np.ones(())

    def canonical(self, parameters: Parameters) -> Parameters:
        return self.reordered(parameters, self.order(parameters["weights"]))

    # Costs -----------------------------------------------------------------------------------------------------

    def _shares(self) -> list[float]:
        return [len(each.columns) / self.observations.shape[1] for each in self.parts]

    def exact_operations(self, observed: np.ndarray) -> np.ndarray:
        shares = zip(self.parts, self._shares(), strict=True)
        return np.sum([each.model.exact_operations(share * observed) for each, share in shares], 0)

    def product_operations(self, observed: np.ndarray) -> np.ndarray:
        shares = zip(self.parts, self._shares(), strict=True)
        return np.sum([each.model.product_operations(share * observed) for each, share in shares], 0)

    def exact_bytes(self, gradient: bool = False) -> float:
        return sum(each.model.exact_bytes(gradient) for each in self.parts)

    @property
    def has_prior(self) -> bool:
        return bool(self.prior_weights)

    def imagined(self, like: Tensor) -> Statistics:
        return {}

    # Learning --------------------------------------------------------------------------------------------------

    def maximise(
        self, parameters: Parameters, statistics: Statistics, block: tuple[str, ...] | None = None
    ) -> Parameters:
        """Shares of the responsibilities, and the weighted maxima of each block within their floors."""
        names, new = block or tuple(parameters), dict(parameters)
        if "weights" in names:
            new["weights"] = statistics["components"] / statistics["components"].sum()
        return self.family.maximise(new, statistics, names)

    def log_scales(self, chunk: Chunk) -> Tensor:
        return chunk.over_observed(self._log_scale.to(chunk.weight))

    # What is reported ------------------------------------------------------------------------------------------

    def predict(self, parameters: Parameters, posterior: Responsibilities, index: Tensor) -> JoinedPredictive:
        """Each entry by the family of its block, given what was observed of its row."""
        found = []
        for number, each in enumerate(self.parts):
            place = torch.full((self.observations.shape[1],), -1, device=index.device)
            place[each.columns.to(index.device)] = torch.arange(len(each.columns), device=index.device)
            local = place[index]
            emissions = cast(Any, posterior.emissions).blocks[number]
            own = cast(Any, SimpleNamespace(responsibilities=posterior.responsibilities, emissions=emissions))
            found.append(((local >= 0).cpu(), each.model.predict(each.own(parameters), own, local.clamp_min(0))))
        return JoinedPredictive.of(found)

    def moments(self, exported: Parameters) -> tuple[Tensor, Tensor]:
        """Means (K, M) and covariances (K, M, M) of the components."""
        k, m = self.num_components, self.observations.shape[1]
        means, inside = (torch.zeros(size, dtype=torch.float64) for size in ((k, m), (k, m, m)))
        for each in self.parts:
            own, at = each.own(exported), each.columns.cpu()
            if "covariances" in own:
                means[:, at], inside[:, at[:, None], at] = own["means"], own["covariances"]
            else:
                means[:, at] = each.model.moments(own)[0]
                inside[:, at[:, None], at] = each.model.spread(own)
        return means, inside

    def implied_covariance(self, exported: Parameters) -> Tensor:
        """Cov(y) by the moments of the components: sum_k w_k (Cov_k + (m_k - m)(m_k - m)^T)."""
        weights, (means, inside) = exported["weights"], self.moments(exported)
        apart = means - weights @ means
        return torch.einsum("k,kij->ij", weights, inside) + (weights[:, None] * apart).mT @ apart

    def warnings(self, parameters: Parameters, names: list[str]) -> list[str]:
        found: list[str] = []
        for each in self.parts:
            own = [names[m] for m in each.columns.tolist()]
            model, inside = each.model, each.own(parameters)
            told = model.warnings(inside, own) if "covariances" in inside else model.floor_warnings(inside, own)
            found += [warning for warning in told if warning not in found]
        return found


def _units(observations: Observations) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the observed values of each column, (M,), float64."""
    columns = observations.shape[1]
    count = total = square = torch.zeros(columns, dtype=torch.float64, device=observations.center.device)
    parts = [tuple(part.to(total) for part in chunk.scattered(columns)) for chunk in observations.chunks]
    for seen, values in parts:
        count, total = count + seen.sum(0), total + values.sum(0)
    center = total / count.clamp_min(1)
    for seen, values in parts:
        square = square + (seen * (values - center).square()).sum(0)
    scale = (square / count.clamp_min(1)).sqrt()
    return center, torch.where(scale > 0, scale, 1.0)
