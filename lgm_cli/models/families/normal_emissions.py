"""Densities and expected moments of rows with missing entries under normal components."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Generator, Tensor

from lgm_cli.models.base.parameters import Statistics
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.emissions import Emissions

LOG_2PI = math.log(2 * math.pi)
PART = 1 << 17  # numbers of the rows that are taken at once, which the cache holds


def moments(weights: Tensor, values: Tensor) -> Statistics:
    """Statistics of complete rows (n, M) with weights (n, K): counts (K,), sum r y (K, M), sum r y y^T (K, M, M)."""
    count, k, m = weights.sum(0), weights.shape[1], values.shape[1]
    second, size = values.new_zeros(k * m, m), max(1, PART // (k * m))
    for weight, part in zip(weights.split(size), values.split(size), strict=True):
        weighted = (weight[:, :, None] * part[:, None]).view(len(part), k * m)
        second = torch.addmm(second, weighted.mT, part)
    second = second.view(k, m, m)
    return {"count": count, "normaliser": count, "first": weights.mT @ values, "second": second}


class SharedNormal:
    """Rows that observe the same columns o: one factorisation S_oo = L L^T of each component serves all.

    z_nk = L_k^-1 (y_n - mean_ko),  log p(y_n | k) = -(|z_nk|^2 + m log 2 pi) / 2 - log det L_k.
    means: (K, M). covariances: (K, M, M), or (1, M, M) where all components share one.
    """

    def __init__(self, means: Tensor, covariances: Tensor, chunk: Chunk) -> None:
        assert chunk.index is not None
        self.means, self.covariances, self.chunk = means, covariances, chunk
        self.complete = len(chunk.index) == means.shape[1]  # indices rise
        seen = covariances if self.complete else covariances[:, chunk.index[:, None], chunk.index]
        mean = means if self.complete else means[:, chunk.index]
        factor = torch.linalg.cholesky(seen)
        self.inverse = torch.linalg.solve_triangular(factor, torch.eye(mean.shape[1]).to(factor), upper=False)
        self.log_determinant = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)  # (K,) or (1,)
        size = max(1, PART // mean.numel())
        square = torch.cat([self._whitened(part, mean).square().sum(-1) for part in chunk.values.split(size)])
        self.log_density = -0.5 * (square + mean.shape[1] * LOG_2PI) - self.log_determinant

    def _whitened(self, values: Tensor, mean: Tensor) -> Tensor:
        shift = (self.inverse @ mean[:, :, None]).squeeze(-1)
        if len(self.inverse) == 1:
            return (values @ self.inverse[0].mT)[:, None] - shift
        (k, m), n = mean.shape, len(values)
        return torch.addmm(shift.flatten(), values, self.inverse.reshape(k * m, m).mT, beta=-1).view(n, k, m)

    @cached_property
    def whitened(self) -> Tensor:
        """z, (n, K, m)."""
        mean = self.means if self.complete else self.means[:, self.chunk.index]
        return self._whitened(self.chunk.values, mean)

    @property
    def _rows(self) -> Tensor:
        """V = L^-1 S_o, (K, m, M): E[y_n | k] = mean_k + V_k^T z_nk,  Cov = S_k - V_k^T V_k."""
        return self.inverse @ self.covariances[:, self.chunk.index]

    @torch.no_grad()  # a posterior is held fixed
    def statistics(self, weights: Tensor) -> Statistics:
        if self.complete:
            return moments(weights, self.chunk.values)
        rows, count, mean = self._rows, weights.sum(0), self.means
        weighted = weights.mT[:, None] * self.whitened.permute(1, 2, 0)  # (K, m, n)
        shift = (rows.mT @ weighted.sum(-1, keepdim=True)).squeeze(-1)
        square = weighted @ self.whitened.transpose(0, 1)
        first = count[:, None] * mean + shift
        crossed = mean[:, :, None] * shift[:, None]
        spread = self.covariances - rows.mT @ rows
        second = first[:, :, None] * mean[:, None] + crossed + rows.mT @ square @ rows + count[:, None, None] * spread
        return {"count": count, "normaliser": count, "first": first, "second": second}

    def entropy(self, weights: Tensor) -> Tensor:
        if self.complete:
            return torch.zeros_like(weights[:, 0])
        hidden = self.means.shape[1] - self.inverse.shape[-1]
        each = log_determinant(self.covariances) - self.log_determinant + 0.5 * hidden * (1 + LOG_2PI)
        return (weights * each).sum(1)

    def conditional(self, index: Tensor) -> tuple[Tensor, Tensor]:
        rows = self._rows
        mean = self.means + (self.whitened[:, :, None] @ rows).squeeze(-2)
        variance = (self.covariances.diagonal(dim1=-2, dim2=-1) - rows.square().sum(-2)).expand(self.means.shape)
        place = index[:, None].expand(-1, len(self.means), -1)
        return mean.gather(2, place), variance.expand(len(index), -1, -1).gather(2, place)

    def drawn(self, component: Tensor, generator: Generator) -> FilledNormal:
        own = component if len(self.inverse) > 1 else torch.zeros_like(component)
        rows, everyone = self._rows[own], torch.arange(len(own), device=own.device)
        error = normal_error(self.covariances, own, generator)
        known = (self.inverse[own] @ error[:, self.chunk.index, None]).squeeze(-1)
        difference = self.whitened[everyone, component] - known
        filled = self.means[component] + error + (difference[:, None] @ rows).squeeze(1)
        return FilledNormal(_observed_kept(self.chunk, filled))


class GatheredNormal:
    """Rows that observe columns of their own: a factorisation for each pattern of gaps and component, all at once.

    Notation as in SharedNormal; L and V are those of the P different patterns, padded with rows of the identity.
    """

    def __init__(self, means: Tensor, covariances: Tensor, chunk: Chunk) -> None:
        self.means, self.covariances, self.chunk = means, covariances, chunk
        self.index, self.which = chunk.patterns
        m = means.shape[1]
        padded = torch.nn.functional.pad(covariances, (0, 0, 0, 1))  # a row of zeros, which padding points at
        crossed = padded[:, self.index].transpose(0, 1)  # S_o, (P, K or 1, m, M)
        column = torch.nn.functional.pad(crossed, (0, 1))
        at = self.index[:, None, None].expand(*crossed.shape[:-1], -1)
        seen = column.gather(-1, at) + torch.diag_embed((self.index == m).to(means.dtype))[:, None]
        factor = torch.linalg.cholesky(seen)
        self.inverse = torch.linalg.solve_triangular(factor, torch.eye(factor.shape[-1]).to(factor), upper=False)
        self.crossed = crossed
        self.log_determinant = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)[self.which]  # (n, K or 1)
        mean = chunk.take(means.mT).mT  # (n, K, m)
        difference = (chunk.values[:, None] - mean) * chunk.weight[:, None]
        self.whitened = (self.inverse[self.which] @ difference[..., None]).squeeze(-1)
        square = self.whitened.square().sum(-1)
        self.log_density = -0.5 * (square + chunk.weight.sum(1, keepdim=True) * LOG_2PI) - self.log_determinant

    @property
    def _rows(self) -> Tensor:
        """V = L^-1 S_o, (P, K or 1, m, M)."""
        return self.inverse @ self.crossed

    def _expected(self, rows: Tensor) -> Tensor:
        """E[y_n | k], (n, K, M), what was observed as it was."""
        filled = self.means + (self.whitened[:, :, None] @ rows[self.which]).squeeze(-2)
        return _observed_kept(self.chunk, filled)

    @torch.no_grad()  # a posterior is held fixed
    def statistics(self, weights: Tensor) -> Statistics:
        rows, count = self._rows, weights.sum(0)
        expected = self._expected(rows)
        weighted = weights[:, :, None] * expected
        of_pattern = weights.new_zeros(len(rows), weights.shape[1]).index_add(0, self.which, weights)
        scaled = (of_pattern[:, :, None, None] * rows).permute(1, 3, 0, 2).flatten(2)  # (K, M, P m)
        known = scaled @ rows.transpose(0, 1).flatten(1, 2)
        second = weighted.permute(1, 2, 0) @ expected.transpose(0, 1)
        second = second + count[:, None, None] * self.covariances - known
        return {"count": count, "normaliser": count, "first": weighted.sum(0), "second": second}

    def entropy(self, weights: Tensor) -> Tensor:
        hidden = self.means.shape[1] - self.chunk.weight.sum(1, keepdim=True)
        each = log_determinant(self.covariances) - self.log_determinant + 0.5 * hidden * (1 + LOG_2PI)
        return (weights * each).sum(1)

    def conditional(self, index: Tensor) -> tuple[Tensor, Tensor]:
        rows, place = self._rows, index[:, None].expand(-1, len(self.means), -1)
        variance = self.covariances.diagonal(dim1=-2, dim2=-1) - rows.square().sum(-2)  # (P, K or 1, M)
        spread = variance[self.which].expand(-1, len(self.means), -1)
        return self._expected(rows).gather(2, place), spread.gather(2, place)

    def drawn(self, component: Tensor, generator: Generator) -> FilledNormal:
        own = component if len(self.covariances) > 1 else torch.zeros_like(component)
        everyone = torch.arange(len(own), device=own.device)
        error = normal_error(self.covariances, own, generator)
        assert self.chunk.index is not None
        known = torch.nn.functional.pad(error, (0, 1)).gather(1, self.chunk.index)
        inverse, rows = self.inverse[self.which, own], self._rows[self.which, own]
        difference = self.whitened[everyone, component] - (inverse @ known[..., None]).squeeze(-1)
        filled = self.means[component] + error + (difference[:, None] @ rows).squeeze(1)
        return FilledNormal(_observed_kept(self.chunk, filled))


class FilledNormal:
    """Rows (n, M) without a gap, as drawn."""

    log_density: Tensor

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def statistics(self, weights: Tensor) -> Statistics:
        return moments(weights, self.values)

    def entropy(self, weights: Tensor) -> Tensor:
        return torch.zeros_like(weights[:, 0])

    def conditional(self, index: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.values.gather(1, index)[:, None]
        return mean, torch.zeros_like(mean)

    def drawn(self, component: Tensor, generator: Generator) -> FilledNormal:
        return self


class DiagonalNormal:
    """Rows under components whose columns are independent: hidden entries drop out of densities and sums.

    -2 log p(y_n | k) = sum over observed m of y_nm^2 / v_km - 2 y_nm mean_km / v_km + mean_km^2 / v_km + log 2 pi v_km.
    means, variances: (K, M).
    """

    def __init__(self, means: Tensor, variances: Tensor, chunk: Chunk) -> None:
        self.means, self.variances, self.chunk = means, variances, chunk
        accurate = means.dtype if means.device.type == "mps" else torch.float64  # the parts of a square cancel
        seen, values = (part.to(accurate) for part in chunk.scattered(means.shape[1]))
        mean, precision = means.to(accurate), 1 / variances.to(accurate)
        constants = mean.square() * precision - precision.log() + LOG_2PI
        parts = torch.cat([values.square(), values, seen], dim=1)
        factors = torch.cat([precision, -2 * mean * precision, constants], dim=1)
        self.log_density = (-0.5 * parts @ factors.mT).to(means.dtype)

    def statistics(self, weights: Tensor) -> Statistics:
        """Counts, sum r y and sum r y^2 of the observed entries, (K, M) each."""
        seen, values = self.chunk.scattered(self.means.shape[1])
        count = weights.mT @ seen
        second = weights.mT @ values.square()
        return {"count": count, "normaliser": count, "first": weights.mT @ values, "second": second}

    def entropy(self, weights: Tensor) -> Tensor:
        return torch.zeros_like(weights[:, 0])

    def conditional(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return self.means[:, index].transpose(0, 1), self.variances[:, index].transpose(0, 1)

    def drawn(self, component: Tensor, generator: Generator) -> DiagonalNormal:
        return self


class Together:
    """Groups of rows, each with their places in the chunk that they make up."""

    def __init__(self, groups: list[tuple[Tensor, Emissions]], log_density: Tensor | None) -> None:
        self.groups = groups
        if log_density is not None:
            self.log_density = log_density

    @staticmethod
    def of(groups: list[tuple[Tensor, Emissions]]) -> Emissions:
        if len(groups) == 1:
            return groups[0][1]
        back = torch.cat([places for places, _ in groups]).argsort()
        return Together(groups, torch.cat([part.log_density for _, part in groups])[back])

    def _back(self, parts: list[Tensor]) -> Tensor:
        return torch.cat(parts)[torch.cat([places for places, _ in self.groups]).argsort()]

    def statistics(self, weights: Tensor) -> Statistics:
        found = [part.statistics(weights[places]) for places, part in self.groups]
        return {name: sum((each[name] for each in found[1:]), found[0][name]) for name in found[0]}

    def entropy(self, weights: Tensor) -> Tensor:
        return self._back([part.entropy(weights[places]) for places, part in self.groups])

    def conditional(self, index: Tensor) -> tuple[Tensor, Tensor]:
        means, variances = zip(*(part.conditional(index[places]) for places, part in self.groups), strict=True)
        return self._back(list(means)), self._back(list(variances))

    def drawn(self, component: Tensor, generator: Generator) -> Emissions:
        groups = [(places, part.drawn(component[places], generator)) for places, part in self.groups]
        return Together(groups, None)


def log_determinant(covariances: Tensor) -> Tensor:
    """Half of log det S, (K,)."""
    return torch.linalg.cholesky(covariances).diagonal(dim1=-2, dim2=-1).log().sum(-1)


def normal_error(covariances: Tensor, component: Tensor, generator: Generator) -> Tensor:
    """Draws of N(0, S_k), (n, M), of the component of each row."""
    factor = torch.linalg.cholesky(covariances)
    like = {"dtype": factor.dtype, "device": factor.device}
    draw = torch.randn(len(component), factor.shape[-1], generator=generator, **like)
    return (factor[component] @ draw[..., None]).squeeze(-1)


def _observed_kept(chunk: Chunk, filled: Tensor) -> Tensor:
    """Observed entries as they were observed, not as they are computed; (n, M) or (n, K, M)."""
    seen, values = chunk.scattered(filled.shape[-1])
    if filled.dim() == 3:
        seen, values = seen[:, None], values[:, None]
    return torch.where(seen > 0, values, filled)
