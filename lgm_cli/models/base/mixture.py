"""What mixtures share: responsibilities, weights, starts from clusters, components in any order."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot, pad

from lgm_cli.data.base.data import Data
from lgm_cli.errors import UserError
from lgm_cli.models.base.free_parameters import NEAR_ZERO
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.naming import fewer_than_classes, named
from lgm_cli.models.base.parameters import Parameters, Statistics
from lgm_cli.numerics.assignment import best_assignment
from lgm_cli.numerics.k_means import k_means, nearest
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.responsibilities import Responsibilities
from lgm_cli.randomness import generator

MERGED = 0.05  # in free coordinates: components that differ by less are one, until they come apart


class Mixture(LatentVariableModel):
    """k_n ~ weights,  y_n | k_n ~ a distribution of a family of lgm_cli/models/families.

    Responsibilities are r_nk = p(k | observed entries of y_n). Rows whose class is known are of the component with the
    number of their class: classes come first among components.
    """

    takes_classes = True
    word = "component"  # what its components are called
    num_components: int
    prior_weights: float  # imaginary data points of each component
    family: Any  # once it is bound
    turns: tuple[str, ...]  # what an M-step maximises besides the weights, in this order
    start_numbers: ClassVar[int]  # of the table's, of which a start is drawn; of a larger table, of some rows

    def check(self, data: Data) -> None:
        super().check(data)
        if self.num_components > (points := data.shape[0]):
            raise UserError(
                f"model.num_components={self.num_components} components cannot be learned from {points} data points",
                f"use model.num_components={points} or less",
            )

        if (names := data.table.class_names) is not None and 0 < self.num_components < len(names):
            raise fewer_than_classes(self.num_components, names)

    def order(self, weights: Tensor) -> Tensor:
        """Components by falling weight; those of known classes, which have names, first and in the order of these."""
        classes = len(self.observations.class_names)
        named = torch.arange(classes, device=weights.device)
        return torch.cat([named, classes + weights[classes:].argsort(descending=True, stable=True)])

    # Starts ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def features(self, chunk: Chunk) -> Tensor:
        """Rows (n, F) whose distances tell components apart, zero where nothing was observed."""

    def start(self, seed: int) -> Parameters:
        """From clusters of rows by k-means++ on their `features`. Rows of a known class stay with its component."""
        centers = self.starting_centers(generator(seed, self.start_name))
        first = self.before_clusters(centers)
        return self.after_clusters(first, self.statistics_of_clusters(first, centers))

    start_name = "initial components"  # what the random numbers of a start are keyed to

    @abstractmethod
    def before_clusters(self, centers: Tensor) -> Parameters:
        """Parameters by which rows with gaps count for clusters with these centers (K, F)."""

    @abstractmethod
    def after_clusters(self, first: Parameters, total: Statistics) -> Parameters:
        """Where learning starts. total: the statistics of all rows, each certain of its cluster; first: the parameters
        that they were taken by."""

    def starting_centers(self, draw: Generator) -> Tensor:
        """Centers (K, F) of clusters of rows drawn without replacement, float64, on the CPU: the same whatever the
        blocks of the observations."""
        points = self.observations.shape[0]
        size = self.features(next(iter(self.observations.chunks)).split(1)[0]).shape[1]
        limit = max(self.num_components, self.start_numbers // size)
        chosen = torch.randperm(points, generator=draw)[:limit].sort().values
        place = torch.full((points,), -1)
        place[chosen] = torch.arange(len(chosen))
        table = torch.zeros(len(chosen), size, dtype=torch.float64)
        known = torch.full((len(chosen),), -1) if self.observations.class_names else None
        for chunk in self.observations.chunks:
            where = place[chunk.points.cpu()]
            taken = where >= 0
            if bool(taken.any()):
                table[where[taken]] = self.features(chunk).cpu().double()[taken]
                if known is not None and chunk.classes is not None:
                    known[where[taken]] = chunk.classes.cpu()[taken]
        return k_means(table, self.num_components, draw, known=known)

    def statistics_of_clusters(self, first: Parameters, centers: Tensor) -> Statistics:
        """The statistics of all rows, each of them certain to be of its class or, unknown, of the nearest center."""
        k, total = self.num_components, {}
        like = {"dtype": self.observations.dtype, "device": self.observations.device}
        centers = centers.to(**like)
        for chunk in self.observations.chunks:
            assigned = nearest(self.features(chunk), centers)
            if chunk.classes is not None:
                assigned = torch.where(chunk.classes >= 0, chunk.classes, assigned)
            certain = one_hot(assigned, k).to(**like)
            found = self.family.emissions(first, chunk).statistics(certain) | {"components": certain.sum(0)}
            total = {name: value + total.get(name, 0.0) for name, value in found.items()}
        return total

    # Learning --------------------------------------------------------------------------------------------------

    def posterior(self, parameters: Parameters, chunk: Chunk, inverse_temperature: float = 1.0) -> Responsibilities:
        emissions = self.family.emissions(parameters, chunk)
        return Responsibilities(parameters["weights"].log(), emissions, inverse_temperature, chunk.classes)

    @torch.no_grad()  # the posterior is held fixed
    def statistics(self, chunk: Chunk, posterior: Any) -> Statistics:
        """Sums of the responsibilities, `components` (K,), and the family's sums over rows weighted with them."""
        weights, entropy = posterior.responsibilities, posterior.entropy()
        found = posterior.emissions.statistics(weights) | {"components": weights.sum(0)}
        return found if entropy is None else found | {"entropy": entropy.sum()}

    def alike(self, parameters: Parameters) -> Parameters | None:
        """All components have the average of those given, and the same weight."""
        if self.observations.class_names:
            return None
        weights = parameters["weights"]
        average = {
            name: value
            if name in self.in_common
            else torch.einsum("k,k...->...", weights, value).expand_as(value).contiguous()
            for name, value in parameters.items()
        }
        return average | {"weights": torch.full_like(weights, 1 / len(weights))}

    def dealt_anew(self, parameters: Parameters, held: tuple[str, ...], draw: Generator) -> Parameters:
        """Components that are alike are one group. Groups get numbers of members as equal as can be, at random where
        they cannot be equal, and the members of a group share its weight. So each group can come apart at the next
        temperature; left as they were, one group would have many members and another a single one.
        Cf. Rose, Proc. IEEE 86 (1998) 2210-2239, section II."""
        if self.observations.class_names:
            return parameters
        weights, free = parameters["weights"], self.free(parameters)
        k = len(weights)
        told_by = [value for name, value in free.items() if name not in ("weights", *self.in_common, *held)]
        if not told_by:
            return parameters
        flat = torch.cat([value.reshape(k, -1) for value in told_by], 1).double().cpu()
        near = (torch.cdist(flat, flat, p=math.inf) < MERGED).double()
        for _ in range(k.bit_length()):  # those of one group are joined by a chain of near ones
            near = ((near @ near) > 0).double()
        group = near.argmax(1)  # the number of its first member
        places = group.unique()
        spare = places[torch.randperm(len(places), generator=draw)].repeat(k // len(places))
        group_of = torch.cat([places, spare])[:k]
        inside, own = (group[None] == group_of[:, None]), weights.cpu().double()
        heaviest = torch.where(inside, own, -1.0).argmax(1)
        shared = (inside * own).sum(1) / (group_of[:, None] == group_of[None]).sum(1)
        return self.reordered(parameters, heaviest.to(weights.device)) | {"weights": shared.to(weights)}

    def reordered(self, parameters: Parameters, order: Tensor) -> Parameters:
        """Components in this order, (K,) of their numbers."""
        return {name: value if name in self.in_common else value[order] for name, value in parameters.items()}

    def constraints(self, parameters: Parameters) -> Tensor:
        return torch.cat([parameters["weights"].sum()[None], self.family.constraints(parameters)])

    def at_bounds(self, parameters: Parameters) -> dict[str, Tensor]:
        return {"weights": parameters["weights"] <= NEAR_ZERO} | self.family.at_bounds(parameters)

    def maximise(
        self, parameters: Parameters, statistics: Statistics, block: tuple[str, ...] | None = None
    ) -> Parameters:
        """Shares of the responsibilities, and the family's weighted maxima within their bounds, a parameter of `turns`
        after the other. A component that has almost no weight keeps its own."""
        names, new = block or tuple(parameters), dict(parameters)
        if "weights" in names:
            new["weights"] = statistics["components"] / statistics["components"].sum()
        for name in self.turns:
            if name in names:
                new |= self.family.maximise(new, statistics, name)
        return new

    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> Tensor:
        component = torch.special.xlogy(statistics["components"], parameters["weights"]).sum()
        return self.family.expected_loss(parameters, statistics) - component

    @property
    @abstractmethod
    def has_prior(self) -> bool:
        """Whether there are imaginary data."""

    @abstractmethod
    def imagined(self, like: Tensor) -> Statistics:
        """The family's statistics of the imaginary data of the components, in the precision and on the device of
        `like`."""

    def prior_statistics(self) -> Statistics:
        """Numbers of imaginary data points of the components, and the family's statistics of others."""
        if not self.has_prior:
            return {}
        like = torch.zeros((), dtype=self.observations.dtype, device=self.observations.device)
        numbers = like.new_full((self.num_components,), self.prior_weights)
        return self.imagined(like) | {"components": numbers}

    # What is reported ------------------------------------------------------------------------------------------

    def inferred(self, parameters: Parameters, posterior: Any) -> dict[str, Tensor]:
        return {"responsibilities": posterior.responsibilities}

    def named(self, components: list[int]) -> str:
        return named(self.word, components, self.observations.class_names)


def error_of_components(found: Tensor, true: Tensor) -> float:
    """|A - A0| / |A0| (Frobenius) of a row for each component, under their best order. A component too many, or
    missing, is compared with zero."""
    most = max(len(found), len(true))
    found, true = (pad(part, (0, 0, 0, most - len(part))) for part in (found, true))
    order = best_assignment(torch.cdist(found, true).square().numpy())
    return float(torch.linalg.norm(found - true[order]) / torch.linalg.norm(true))
