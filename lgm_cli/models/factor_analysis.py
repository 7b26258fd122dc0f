"""Factor analysis, with missing entries and an optional offset of each data point."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError
from lgm_cli.models.base.latent_variable_model import Posterior
from lgm_cli.models.base.linear_gaussian_model import LinearGaussianModel
from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters
from lgm_cli.models.base.statistics import Statistics
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk
from lgm_cli.observations.sparse_rows import SparseRows
from lgm_cli.posteriors.base import Frame
from lgm_cli.posteriors.costs import sparse_part_size
from lgm_cli.posteriors.dense import DensePosterior
from lgm_cli.posteriors.sparse import column_sums
from lgm_cli.randomness import generator

INITIAL_SHARE = 0.1  # of the variance, carried by random factors at the start; far enough from the saddle at zero
INITIAL_OFFSET_SHARE = 0.1
LARGEST_START = 0.3  # share of the variance that principal axes carry at the start
RANDOM_PART = 0.1  # of the loadings at the start, so that seeds differ
PAIRED_COLUMNS = 2048  # up to which the covariances of all pairs of columns are affordable
FEW = 5  # data points that tell half of what many do of a pair's covariance
SPARSE_DIM = 100  # latents up to which ratings are sparse rows: beyond, matrices of all columns take much memory
SOLVED_SPARSE_DIM = 32  # the same for an iterative solver, which does without matrices where they are large
NO_OFFSET = 1e-9  # variance of an offset times the columns that share it, beside which it is none


class FactorAnalysis(LinearGaussianModel):
    """y_n = eta + Phi z_n + o_n 1 + noise,  z_n ~ N(0, I_D),  o_n ~ N(0, v),  noise ~ N(0, diag(Psi)^-1).

    Phi (M, D) loadings, eta (M,) mean, 1 / Psi (M,) noise variances; the offset o_n, one number for each data point,
    is there with offset=True. Any entries of y may be missing (at random). Rubin & Thayer, EM algorithms for ML factor
    analysis, Psychometrika 47 (1982) 69-76; missing entries after Little & Rubin, Statistical Analysis with Missing
    Data, chapter 11.

    Inside, the columns are standardised, the last latent coordinate is the offset divided by sqrt(v), and
    V = Psi^(1/2) [Phi, sqrt(v) c] are the rows that posterior computations work on (c = 1 in the data's own units).

    noise_floor: lower bound of every noise variance, as a fraction of the variance of the data it belongs to, so that a
    Heywood case (a noise variance that runs to zero) keeps a finite likelihood.

    Priors, in standard units, under which maxima are those of log p(y | parameters) + log p(parameters):
    prior_loadings: lambda of phi_m | s_m ~ N(0, s_m / lambda I) of a row and its noise variance s_m, a ridge.
    prior_noise: the number w of imaginary entries of each column that are noise alone, of a variance v =
    prior_noise_variance: s_m ~ inverse gamma(w / 2 - 1, w v / 2), whose mode is v. Either keeps s_m from zero.
    """

    pictures = ("loadings",)
    blocks = (("loadings", "mean", "offset_variance"), ("noise_variance",))

    largest_communality = 0.8  # of a column at the start: a noise variance of its own is not to begin near zero

    def __init__(
        self, latent_dim: int, offset: bool, noise_floor: float, prior_loadings: float = 0.0, prior_noise: float = 0.0,
        prior_noise_variance: float = 0.5,
    ) -> None:  # fmt: skip
        self.latent_dim, self.offset, self.noise_floor = latent_dim, offset, noise_floor
        self.prior_loadings, self.prior_noise, self.prior_noise_variance = (
            prior_loadings, prior_noise, prior_noise_variance,
        )  # fmt: skip
        self.dim = latent_dim + offset

    def check(self, data: Data) -> None:
        super().check(data)
        points, columns = data.shape
        most = min(columns, points - 1)
        mend = f"use model.latent_dim={most} or less" if most else "give at least two data points"
        if self.latent_dim > columns:
            raise UserError(f"model.latent_dim={self.latent_dim} is more than the {columns} columns of the data", mend)
        if self.latent_dim >= points:
            raise UserError(
                f"model.latent_dim={self.latent_dim} factors cannot be learned from {points} data points", mend
            )

    def simulate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Loadings N(0, 1/D), so that the factors give every entry a variance of about one; factor_share of the
        variance is theirs, offset_share the offset's, the rest noise. Entries are hidden with probability
        hidden_share."""
        n, m, d = options["num_points"], options["num_dimensions"], options["latent_dim"]
        draw = generator(options["seed"], "simulate")
        kind = {"dtype": torch.float64, "generator": draw}
        total = 1 / options["factor_share"]
        offset_variance = options["offset_share"] * total
        noise = total - 1 - offset_variance
        if noise <= 0:
            raise UserError(
                "data.factor_share and data.offset_share add up to one or more, which leaves no noise",
                "choose shares that add up to less than one",
            )
        truth = {
            "loadings": torch.randn(m, d, **kind) / math.sqrt(d),
            "mean": torch.randn(m, **kind),
            "noise_variance": torch.full((m,), noise, dtype=torch.float64),
        }
        y = (
            truth["mean"]
            + torch.randn(n, d, **kind) @ truth["loadings"].T
            + math.sqrt(noise) * torch.randn(n, m, **kind)
        )
        if offset_variance:
            truth["offset_variance"] = torch.tensor(offset_variance, dtype=torch.float64)
            y += math.sqrt(offset_variance) * torch.randn(n, 1, **kind)
        y[torch.rand(n, m, **kind) < options["hidden_share"]] = math.nan
        return {"values": y.numpy(), "truth": {name: value.numpy() for name, value in truth.items()}}

    def prepare(self, observations: Observations) -> None:
        super().prepare(observations)
        like = {"dtype": observations.dtype, "device": observations.device}
        self._offset_unit = observations.scale.min()  # so that no column starts with most of its variance in it
        self._offset_rows = (self._offset_unit / observations.scale).to(**like)  # its loadings, standardised
        count = torch.zeros(observations.shape[1], **like)
        for chunk in observations.chunks:
            chunk.add_to_columns(count, chunk.weight)
        self._weight = self._noise_weight = (count.clamp_min(1) / count.mean()).sqrt()
        self._offset_floor = torch.tensor(NO_OFFSET / observations.shape[1], **like)
        self._points_weight = math.sqrt(observations.shape[0] / float(count.mean()))

    def mean_of_columns(self, parameters: Parameters) -> Tensor:
        return parameters["mean"]

    def noise_of_columns(self, parameters: Parameters) -> Tensor:
        return parameters["noise_variance"]

    def start(self, seed: int) -> Parameters:
        """The leading principal axes of the covariances of pairs of columns, each from the data points at which both
        were observed, with a part that is random; loadings all random where there are too many columns for that."""
        m, d = self.observations.shape[1], self.latent_dim
        like = {"dtype": self.observations.dtype, "device": self.observations.device}
        draw = torch.randn(m, d, dtype=torch.float64, generator=generator(seed, "initial loadings"))
        if m <= PAIRED_COLUMNS:
            loadings = self._principal_axes()
            share = float(loadings.square().sum()) / m
            loadings += RANDOM_PART * math.sqrt(share / d) * draw
        else:
            loadings = draw * math.sqrt(INITIAL_SHARE / d)
        excess = loadings.square().sum(1, keepdim=True) / self.largest_communality
        loadings /= excess.clamp_min(1.0).sqrt()
        offset = INITIAL_OFFSET_SHARE * self.offset
        noise = (1 - offset - loadings.square().sum(1)).clamp_min(2 * self.noise_floor)
        parameters = {"loadings": loadings, "mean": torch.zeros(m), "noise_variance": noise}
        if self.offset:
            parameters["offset_variance"] = torch.tensor(INITIAL_OFFSET_SHARE)
        return {name: value.to(**like) for name, value in parameters.items()}

    def _correlations(self) -> Tensor:
        """Of the columns, (M, M), each pair's from the data points at which both were observed; float64, on the CPU."""
        square, together = torch.zeros(2, *2 * self.observations.shape[1:], dtype=torch.float64)
        for chunk in self.observations.chunks:
            for part in chunk.split(PAIRED_COLUMNS):
                weight, values = part.scattered(len(square))
                square += (values.mT @ values).cpu().double()
                together += (weight.mT @ weight).cpu().double()
        return square / (together + FEW)

    def _principal_axes(self) -> Tensor:
        """Loadings U (Lambda s)^(1/2), (M, D), of the leading eigenvalues Lambda of the correlations without what an
        offset explains; s <= 1 such that they carry LARGEST_START of the variance at most. The diagonal is each
        column's largest correlation, a usual first guess of communalities (Harman, Modern Factor Analysis, 1976,
        section 5.5)."""
        correlations = self._correlations()
        if self.offset:
            rows = self._offset_rows.cpu().double()
            correlations -= INITIAL_OFFSET_SHARE * torch.outer(rows, rows)
        correlations.fill_diagonal_(0.0)
        correlations.diagonal().copy_(correlations.abs().amax(1))
        size, axes = leading(correlations, self.latent_dim)
        size = size.clamp_min(1e-2 * float(size[0].clamp_min(1e-2)))
        return axes * (size * min(1.0, LARGEST_START * len(axes) / float(size.sum()))).sqrt()

    def free(self, parameters: Parameters) -> Parameters:
        """Loadings and mean in units of the noise's standard deviation, logarithms of variances; all of a column
        weighted with the root of its share of the entries.

        In these coordinates the Fisher information of a column is about the identity times the average number of
        entries: a gradient step of length one is about an EM step (there, the loadings' gradient is multiplied with
        the noise variance over the number of entries and the inverse of the average E z z^T, which is about the
        identity).
        """
        root = self.noise_of_columns(parameters).rsqrt() * self._weight
        free = {
            "loadings": parameters["loadings"] * root[:, None],
            "mean": parameters["mean"] * root,
        }
        tiny = 1e-3 * self.noise_floor
        excess = (parameters["noise_variance"] - self.noise_floor).clamp_min(tiny)
        free["noise_variance"] = excess.log() * self._noise_weight
        if self.offset:
            offset = parameters["offset_variance"] - self._offset_floor
            free["offset_variance"] = torch.maximum(offset, 1e-3 * self._offset_floor).log() * self._points_weight
        return free

    def floors(self) -> Parameters:
        noise = torch.full_like(self._offset_floor, self.noise_floor)
        return {"noise_variance": noise} | ({"offset_variance": self._offset_floor} if self.offset else {})

    def constrain(self, free: Parameters) -> Parameters:
        parameters = {"noise_variance": self.noise_floor + (free["noise_variance"] / self._noise_weight).exp()}
        root = self.noise_of_columns(parameters).sqrt() / self._weight
        parameters |= {"loadings": free["loadings"] * root[:, None], "mean": free["mean"] * root}
        if self.offset:
            excess = (free["offset_variance"] / self._points_weight).exp()
            parameters["offset_variance"] = self._offset_floor + excess
        return parameters

    def whitened_loadings(self, parameters: Parameters) -> Tensor:
        """[Phi, sqrt(v) c], (M, D + offset): loadings of the whitened latent vector."""
        if not self.offset:
            return parameters["loadings"]
        column = parameters["offset_variance"].sqrt() * self._offset_rows
        return torch.cat([parameters["loadings"], column[:, None]], dim=1)

    def frame(self, parameters: Parameters) -> Frame:
        """Of the latents (z, o), whose last one is whitened by the offset's standard deviation."""
        if not self.offset:
            return Frame()
        scale = parameters["loadings"].new_ones(self.dim)
        return Frame(torch.cat([scale[:-1], parameters["offset_variance"].sqrt()[None]]))

    def statistics(self, chunk: Chunk, posterior: Posterior) -> Statistics:
        """With u = (z, 1, o): sum omega E[u u^T] (M, q, q), sum omega y E[u] (M, q), sum omega y^2 (M,), sum E|z|^2,
        sum E[o^2] and the number of data points."""
        return self.add_statistics({}, chunk, posterior)

    def add_statistics(self, total: Statistics, chunk: Chunk, posterior: Posterior) -> Statistics:
        q, m = self.dim + 1, self.observations.shape[1]
        entropy = posterior.entropy()
        if not total:
            shapes = {
                "second_moment": (m, q, q),
                "cross_moment": (m, q),
                "square": (m,),
                "latent_square": (),
                "offset_square": (),
                "points": (),
            } | ({} if entropy is None else {"entropy": ()})
            total = {name: posterior.mean.new_zeros(shape) for name, shape in shapes.items()}
        if isinstance(chunk, SparseRows):
            self._add_sparse(total, chunk, posterior)
            return total
        moment = self._moment(posterior)
        first = moment[:, self.latent_dim]  # E[u]
        if chunk.index is None:
            total["second_moment"].view(m, q * q).addmm_(chunk.weight.T, moment.flatten(1))
            total["cross_moment"].addmm_(chunk.values.T, first)
        elif chunk.index.dim() == 1:
            total["second_moment"][chunk.index] += moment.sum(0)
            total["cross_moment"][chunk.index] += chunk.values.T @ first
        else:
            chunk.add_to_columns(total["second_moment"], chunk.weight[:, :, None, None] * moment[:, None])
            chunk.add_to_columns(total["cross_moment"], chunk.values[:, :, None] * first[:, None])
        chunk.add_to_columns(total["square"], chunk.values**2)
        total["points"] += len(moment)
        d = self.latent_dim
        total["latent_square"] += moment[:, :d, :d].diagonal(dim1=1, dim2=2).sum()
        if entropy is not None:
            total["entropy"] += entropy.sum()
        if self.offset:
            total["offset_square"] += moment[:, -1, -1].sum()
        return total

    def _add_sparse(self, total: Statistics, rows: SparseRows, posterior: Posterior) -> None:
        """The same of sparse rows, in place, from sums over the entries of each column of w = (z, o / sqrt(v), 1)."""
        sums, order = column_sums(rows, posterior), list(range(self.dim + 1))
        unit = posterior.mean.new_ones(self.dim + 1)
        square = (posterior.marginal_variance + posterior.mean.square()).sum(0)
        if self.offset:
            assert posterior.frame.scale is not None
            order = [*order[:-2], self.dim, self.latent_dim]
            unit[-1] = posterior.frame.scale[-1]
            total["offset_square"] += unit[-1] ** 2 * square[-1]
        total["second_moment"] += sums.second[:, order][:, :, order] * (unit[:, None] * unit)
        total["cross_moment"] += sums.cross[:, order] * unit
        total["square"] += sums.square
        total["points"] += len(rows.points)
        total["latent_square"] += square[: self.latent_dim].sum()
        if (entropy := posterior.entropy()) is not None:
            total["entropy"] += entropy.sum()

    def _numbers_of_statistics(self, chunk: Chunk, points: int) -> float:
        """E[u u^T] of the data points and what it is made of, entry by entry in the gathered layout, and its sums."""
        each, columns = (self.dim + 2) ** 2, self.observations.shape[1]
        gathered = chunk.index is not None and chunk.index.dim() == 2
        moments = points * (2 + (chunk.width <= self.dim) + chunk.width * gathered)
        return each * (moments + columns * (1 + gathered))

    def prior_statistics(self) -> Statistics:
        """Moments of imaginary entries y = 0: of lambda I of the factors, and of noise alone. Their densities have
        `imagined` (M,) normalisers, beside the entries that the moment of ones counts: D for a row of loadings, and w.
        """
        if not (self.prior_loadings or self.prior_noise):
            return {}
        m, q, d, like = self.observations.shape[1], self.dim + 1, self.latent_dim, self._offset_rows
        second, share = like.new_zeros(q, q), self._noise_share()
        second[range(d), range(d)] = self.prior_loadings
        normalisers = d * like.new_ones(m) if self.prior_loadings else like.new_zeros(m)
        zero = like.new_zeros(())
        return {
            "second_moment": second.expand(m, q, q),
            "cross_moment": zero.expand(m, q),
            "square": self.prior_noise * self.prior_noise_variance * share[0],
            "imagined": normalisers + self.prior_noise * share[1],
            "latent_square": zero,
            "offset_square": zero,
            "points": zero,
        }

    def _noise_share(self) -> tuple[Tensor, Tensor]:
        """How much of the imaginary noise each column has, of its square and of its number of entries, (M,) each."""
        return torch.ones_like(self._offset_rows), torch.ones_like(self._offset_rows)

    def _numbers_of_maximum(self) -> float:
        """Four copies of the sums, and one to which imaginary data are added."""
        return (5.0 if self.prior_statistics() else 4.0) * (self.dim + 2) ** 2 * self.observations.shape[1]

    def in_sparse_rows(self, block: int, solved: bool = False) -> bool:
        return self.dim <= (SOLVED_SPARSE_DIM if solved else SPARSE_DIM) and self.observations.is_sparse(block)

    def layout(self, block: int, solved: bool = False) -> list[Chunk]:
        """Ratings as sparse rows, where sums over packed matrices are cheaper than gathered rows."""
        if self.in_sparse_rows(block, solved):
            return self.observations.sparse(block, sparse_part_size(self.dim))
        return super().layout(block, solved)

    def _moment(self, posterior: Posterior) -> Tensor:
        """E[u u^T] of u = (z, 1, o), (n, q, q)."""
        d, mean = self.latent_dim, posterior.mean
        second = posterior.covariance + mean[:, :, None] * mean[:, None, :]
        moment = mean.new_ones(len(mean), self.dim + 1, self.dim + 1)
        moment[:, :d, :d] = second[:, :d, :d]
        moment[:, :d, d] = moment[:, d, :d] = mean[:, :d]
        if self.offset:
            assert posterior.frame.scale is not None
            root = posterior.frame.scale[-1]  # the latent coordinate is o / sqrt(v)
            moment[:, :d, -1] = moment[:, -1, :d] = root * second[:, :d, -1]
            moment[:, d, -1] = moment[:, -1, d] = root * mean[:, -1]
            moment[:, -1, -1] = root**2 * second[:, -1, -1]
        return moment

    def expected_loss(self, parameters: Parameters, statistics: Statistics) -> Tensor:
        """1/2 sum omega [psi E(y - phi z - eta - c o)^2 - log psi] + 1/2 sum (E|z|^2 + E[o^2] / v + log v), and the
        constants."""
        noise, second = self.noise_of_columns(parameters), statistics["second_moment"]
        count, points = second[:, self.latent_dim, self.latent_dim], statistics["points"]
        if "imagined" in statistics:
            count = count + statistics["imagined"]
        row = torch.cat([parameters["loadings"], parameters["mean"][:, None]], dim=1)
        if self.offset:
            row = torch.cat([row, self._offset_rows[:, None]], dim=1)
        fitted = (row[:, None] @ second @ row[:, :, None]).flatten()
        residual = statistics["square"] - 2 * (row * statistics["cross_moment"]).sum(1) + fitted
        loss = (residual / noise + count * (2 * math.pi * noise).log()).sum()
        loss = loss + statistics["latent_square"] + points * self.latent_dim * math.log(2 * math.pi)
        if self.offset:
            v = parameters["offset_variance"]
            loss = loss + statistics["offset_square"] / v + points * (2 * math.pi * v).log()
        return 0.5 * loss

    def maximise(
        self, parameters: Parameters, statistics: Statistics, block: tuple[str, ...] | None = None
    ) -> Parameters:
        """Row m of [Phi, eta] solves  sum omega E[u u^T] [phi_m; eta_m] = sum omega E[(y - c_m o) u],  u = (z, 1): the
        covariance of the factors and the offset included. The noise variance is the mean residual second moment with
        the new loadings, not below its floor; v = mean E[o^2]. With priors,

            row = (G + lambda diag(1_D, 0))^-1 c,  s = (sum omega E r^2 + lambda |phi|^2 + w v) / (count + D + w)."""
        d = self.latent_dim
        second, cross = statistics["second_moment"], statistics["cross_moment"]
        count = second[:, d, d]
        known = second.new_zeros(len(second), 0)
        right = cross[:, : d + 1]
        if self.offset:
            known = self._offset_rows[:, None]
            right = right - known * second[:, : d + 1, d + 1]
        system = second[:, : d + 1, : d + 1]
        empty = (count == 0)[:, None, None] * torch.eye(d + 1, dtype=second.dtype, device=second.device)
        solution = torch.cholesky_solve(right[:, :, None], torch.linalg.cholesky(system + empty)).squeeze(-1)
        if block is not None and "loadings" not in block:
            solution = torch.cat([parameters["loadings"], parameters["mean"][:, None]], dim=1)
        row = torch.cat([solution, known], dim=1)  # coefficients of u = (z, 1[, o])
        residual = statistics["square"] - 2 * (row * cross).sum(1) + (row[:, None] @ second @ row[:, :, None]).flatten()
        imagined = statistics.get("imagined")
        new = {
            "loadings": solution[:, :d],
            "mean": solution[:, d],
            "noise_variance": self._maximise_noise(parameters, residual, count, imagined).clamp_min(self.noise_floor),
        }
        if self.offset:
            offset = statistics["offset_square"] / statistics["points"]
            new["offset_variance"] = torch.maximum(offset, self._offset_floor)
        return new if block is None else {name: (new if name in block else parameters)[name] for name in new}

    def _maximise_noise(
        self, parameters: Parameters, residual: Tensor, count: Tensor, imagined: Tensor | None
    ) -> Tensor:
        """From the residual second moments, summed over the entries of each column, the numbers of these, and those of
        imaginary ones. A column without entries keeps its own."""
        number = count.clamp_min(1)
        return torch.where(
            count > 0, residual / (number if imagined is None else number + imagined), parameters["noise_variance"]
        )

    def canonical(self, parameters: Parameters) -> Parameters:
        """Axes of the factors such that Phi^T Psi Phi is diagonal and falls: the first factor is the one that the data
        tell most about. The loading of each that is largest beside its noise is positive."""
        root = self.noise_of_columns(parameters).rsqrt()[:, None].cpu().double()
        rows = root * parameters["loadings"].cpu().double()
        axes = torch.linalg.eigh(rows.T @ rows).eigenvectors.flip(1)
        turned = rows @ axes
        axes = axes * turned.gather(0, turned.abs().argmax(0, keepdim=True)).sign()
        return parameters | {"loadings": ((rows @ axes) / root).to(parameters["loadings"])}

    def latents(self, parameters: Parameters, posterior: DensePosterior) -> tuple[Tensor, Tensor]:
        mean = posterior.mean
        deviation = posterior.marginal_variance.sqrt().expand(mean.shape)
        if self.offset:
            unit = mean.new_ones(self.dim)
            unit[-1] = parameters["offset_variance"].sqrt() * self._offset_unit.to(mean)
            mean, deviation = mean * unit, deviation * unit
        return mean, deviation

    def export(self, parameters: Parameters) -> Parameters:
        center, scale = self.observations.center.cpu(), self.observations.scale.cpu()
        inside = {name: value.detach().cpu().double() for name, value in parameters.items()}
        exported = {
            "loadings": inside["loadings"] * scale[:, None],
            "mean": center + scale * inside["mean"],
            "noise_variance": inside["noise_variance"] * scale**2,
        }
        if self.offset:
            exported["offset_variance"] = inside["offset_variance"] * self._offset_unit.cpu() ** 2
        return exported

    def exported_shapes(self, table: Table) -> dict[str, tuple[int, ...]]:
        m = table.shape[1]
        shapes = {"loadings": (m, self.latent_dim), "mean": (m,), "noise_variance": (m,)}
        return shapes | ({"offset_variance": ()} if self.offset else {})

    def units(self, exported: Parameters) -> tuple[np.ndarray, np.ndarray]:
        variance = exported["loadings"].square().sum(1) + exported["noise_variance"]
        variance = variance + exported.get("offset_variance", 0.0)
        return exported["mean"].numpy(), variance.sqrt().numpy()

    def restore(self, exported: Parameters) -> Parameters:
        center, scale = self.observations.center.cpu(), self.observations.scale.cpu()
        inside = {
            "loadings": exported["loadings"] / scale[:, None],
            "mean": (exported["mean"] - center) / scale,
            "noise_variance": (exported["noise_variance"] / scale**2).clamp_min(self.noise_floor),
        }
        if self.offset:
            inside["offset_variance"] = exported["offset_variance"] / self._offset_unit.cpu() ** 2
        return {name: value.to(self.observations.device, self.observations.dtype) for name, value in inside.items()}

    def implied_covariance(self, exported: Parameters) -> Tensor:
        loadings = exported["loadings"]
        return (
            loadings @ loadings.T
            + torch.diag(exported["noise_variance"])
            + exported.get("offset_variance", torch.tensor(0.0))
        )

    def most_identified(self, offset: bool) -> int:
        """The largest number of factors D whose loadings (but for their axes) and noise variances the covariances of
        the M columns determine, by their count: (M - D)^2 >= M + D (Ledermann, Psychometrika 2 (1937) 85-93), with two
        to spare for the variance of an offset. Zero where there is none."""
        m = self.observations.shape[1]
        return max(0, math.floor((2 * m + 1 - math.sqrt(8 * m + 1 + 8 * offset)) / 2))

    def _not_identified(self) -> list[str]:
        most = self.most_identified(self.offset)
        if self.latent_dim <= most:
            return []
        mend = [f"model.latent_dim={most} or less"] if most else []
        mend += ["model.offset=false"] if self.offset and self.latent_dim <= self.most_identified(False) else []
        return [
            f"model.latent_dim={self.latent_dim}{' with an offset' if self.offset else ''} is too much for "
            f"{self.observations.shape[1]} columns: their covariances do not determine the loadings and the noise "
            f"variances, others fit as well ({', or '.join(mend) or 'more columns'})"
        ]

    def warnings(self, parameters: Parameters, names: list[str]) -> list[str]:
        found = self._not_identified()
        if self.offset and parameters["offset_variance"] <= NEAR_FLOOR * self._offset_floor:
            found.append("the offset variance ended at its floor: the data show no offsets (model.offset=false)")
        low = torch.nonzero(parameters["noise_variance"] <= NEAR_FLOOR * self.noise_floor).flatten().tolist()
        if low:
            shown = ", ".join(names[i] for i in low[:5]) + (f" and {len(low) - 5} more" if len(low) > 5 else "")
            fewer = "fewer factors or more data for it tell" if self.latent_dim > 1 else "more data for it tell"
            found.append(
                f"Heywood case: the noise variance of {shown} ended at its floor, {self.noise_floor:g} of the "
                f"variance, or just above ({self.lower_floor} lets it fall further; where it ends at that floor too, "
                f"{fewer} noise from signal)"
            )
        return found


def leading(matrix: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues of a symmetric matrix, falling, and their eigenvectors in columns."""
    size, axes = torch.linalg.eigh(matrix)
    return size.flip(0)[:number], axes.flip(1)[:, :number]
