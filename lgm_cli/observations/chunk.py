"""Data points of one layout, as tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import embedding

SHARED_FROM = 8  # data points with one mask that are worth a chunk of their own


@dataclass(frozen=True)
class Chunk:
    """Some data points and their observed entries, in one of three layouts.

    masked:   index is None;   weight and values are (n, M), 0 where nothing was observed
    shared:   index is (m,);   all data points observe the same m columns
    gathered: index is (n, m); each observes its own, padded with column M (which has no loadings) where weight is 0
    """

    points: Tensor  # (n,) which data points
    index: Tensor | None
    weight: Tensor  # (n, m or M), 1 = observed
    values: Tensor  # (n, m or M), standardised, 0 where weight is 0
    classes: Tensor | None = field(default=None, kw_only=True)  # (n,) int64, -1 where it is not known

    @property
    def mask(self) -> Tensor | None:
        """What a product over `take`n rows must be multiplied with: only the masked layout needs it."""
        return self.weight if self.index is None else None

    @cached_property
    def observed(self) -> float:
        """Number of observed entries."""
        return float(self.weight.sum())  # of at most 2^18 ones: exact in single precision

    @cached_property
    def width(self) -> int:
        """Columns of `gathered`: the observed entries of the data point that has most."""
        return self.weight.shape[1] if self.index is not None else max(1, int(self.weight.sum(1).max()))

    def take(self, by_column: Tensor) -> Tensor:
        """Rows of (M,) or (M, D) for this chunk: themselves, (m[, D]) or (n, m[, D]); zeros where padded."""
        if self.index is None:
            return by_column
        if by_column.dim() == 1:
            return self.take(by_column[:, None]).squeeze(-1)
        return embedding(self.index, torch.cat([by_column, by_column.new_zeros(1, by_column.shape[1])]))

    def over_observed(self, by_column: Tensor) -> Tensor:
        """(M,) -> (n,): the sum over the observed columns of each data point."""
        return (self.weight * self.take(by_column)).sum(1)

    def noise(self, number: int, dim: int, draw: Generator, signs: bool) -> tuple[Tensor, Tensor]:
        """What `number` perturbations are made of, e (n, K, D) and e' (n, K, m): standard normal or random signs."""
        sizes = [(len(self.points), number, size) for size in (dim, self.values.shape[-1])]
        if signs:
            device = self.values.device
            drawn = (torch.randint(2, size, generator=draw, device=device) for size in sizes)
            latent, observed = ((2 * sign - 1).to(self.values.dtype) for sign in drawn)
        else:
            like = {"dtype": self.values.dtype, "device": self.values.device}
            latent, observed = (torch.randn(size, generator=draw, **like) for size in sizes)
        return latent, observed

    def add_to_columns(self, target: Tensor, source: Tensor) -> None:
        """target (M, ...) += source (n, m or M, ...) summed over data points; source is 0 where weight is."""
        if self.index is None:
            target += source.sum(0)
        elif self.index.dim() == 1:
            target.index_add_(0, self.index, source.sum(0))
        else:
            padded = torch.cat([target, torch.zeros_like(target[:1])])
            padded.index_add_(0, self.index.flatten(), source.flatten(0, 1))
            target.copy_(padded[:-1])

    @cached_property
    def gathered(self) -> Chunk:
        """The same entries without the unobserved columns; what exact factorisations work on."""
        if self.index is not None:
            return self
        order = torch.argsort(self.weight, dim=1, descending=True, stable=True)[:, : self.width]
        weight = self.weight.gather(1, order)
        index = torch.where(weight > 0, order, self.weight.shape[1])
        return Chunk(self.points, index, weight, self.values.gather(1, order), classes=self.classes)

    @cached_property
    def alike(self) -> list[tuple[Tensor, Chunk]]:
        """The same data points in groups, each with the places (n,) of its members in this chunk.

        Those that observe the same columns are a shared chunk where there are at least SHARED_FROM of them; all others
        are one gathered chunk.
        """
        everyone = torch.arange(len(self.points), device=self.points.device)
        if self.index is not None:
            return [(everyone, self)]
        _, pattern, size = torch.unique(self.weight, dim=0, return_inverse=True, return_counts=True)
        groups, rest = [], torch.ones_like(pattern, dtype=torch.bool)
        for number in torch.nonzero(size >= SHARED_FROM).flatten().tolist():
            members = torch.nonzero(pattern == number).flatten()
            index = torch.nonzero(self.weight[members[0]]).flatten()
            if len(index):
                groups.append((members, self._of(members, index, (members[:, None], index))))
                rest[members] = False
        members = everyone[rest]
        if len(members):
            groups.append((members, self._of(members, None, members).gathered))
        return groups

    @cached_property
    def patterns(self) -> tuple[Tensor, Tensor]:
        """The different rows (P, m) of the index of a gathered chunk, and which of them is each data point's, (n,)."""
        assert self.index is not None and self.index.dim() == 2
        return torch.unique(self.index, dim=0, return_inverse=True)

    def scattered(self, width: int) -> tuple[Tensor, Tensor]:
        """weight and values over all `width` columns, (n, width) each, zero where nothing was observed."""
        if self.index is None:
            return self.weight, self.values
        if self.index.dim() == 1 and len(self.index) == width and bool((self.index.diff() > 0).all()):
            return self.weight, self.values
        index = self.index.expand(len(self.points), -1)
        whole = self.weight.new_zeros(len(self.points), width + 1)
        return whole.scatter(1, index, self.weight)[:, :-1], whole.scatter(1, index, self.values)[:, :-1]

    def some(self, members: Tensor | slice) -> Chunk:
        """Some of the data points, in the same layout."""
        index = self.index[members] if self.index is not None and self.index.dim() == 2 else self.index
        return self._of(members, index, members)

    def _of(self, members: Tensor | slice, index: Tensor | None, entries: Any) -> Chunk:
        classes = None if self.classes is None else self.classes[members]
        return Chunk(self.points[members], index, self.weight[entries], self.values[entries], classes=classes)

    def split(self, size: int) -> list[Chunk]:
        """The same data points, at most `size` at a time (remembered: a chunk is split alike at every step)."""
        if len(self.points) <= size:
            return [self]
        if size not in self._parts:
            self._parts[size] = []
            for start in range(0, len(self.points), size):
                part = slice(start, start + size)
                self._parts[size].append(self.some(part))
        return self._parts[size]

    def restricted(self, key: object, columns: Tensor, center: Tensor, scale: Tensor) -> Chunk:
        """The entries in some columns alone, numbered anew in their order, (value - center) / scale; masked. key: under
        which it is remembered."""
        if key not in self._restricted:
            weight, values = (part[:, columns] for part in self.scattered(int(center.shape[0])))
            values = weight * (values - center[columns].to(values)) / scale[columns].to(values)
            self._restricted[key] = Chunk(self.points, None, weight, values, classes=self.classes)
        return self._restricted[key]

    @cached_property
    def _restricted(self) -> dict[object, Chunk]:
        return {}

    @cached_property
    def _parts(self) -> dict[int, list[Chunk]]:
        return {}
