"""Factor analysis, with missing entries and an optional offset of each data point."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Table
from lgm_cli.errors import UserError
from lgm_cli.models.base.free_parameters import off_diagonal
from lgm_cli.models.base.latent_variable_model import Posterior
from lgm_cli.models.base.linear_gaussian_model import LinearGaussianModel
from lgm_cli.models.base.parameters import NEAR_FLOOR, Parameters, Statistics
from lgm_cli.models.base.tuning import Tuning
from lgm_cli.models.parts.factor_analysis_simulation import simulated_factors
from lgm_cli.models.parts.factor_analysis_start import INITIAL_OFFSET_SHARE, PAIRED_COLUMNS, correlations, shared_axes
from lgm_cli.models.parts.factor_analysis_sums import add_sums, imagined_sums, no_sums, residual_squares
from lgm_cli.models.parts.factor_analysis_units import exported, principal, restored
from lgm_cli.models.parts.factor_analysis_warnings import heywood_case, not_identified
from lgm_cli.observations.blocks import Observations
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.base import Frame
from lgm_cli.posteriors.costs import sparse_part_size
from lgm_cli.posteriors.dense import DensePosterior
from lgm_cli.randomness import generator

INITIAL_SHARE = 0.1  # of the variance, carried by random factors at the start; far enough from the saddle at zero
RANDOM_PART = 0.1  # of the loadings at the start, so that seeds differ
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

    rotation: that of loadings.csv and of what is shown; parameters are written by `canonical`, whatever it is.
    """

    pictures = results = ("loadings",)
    latent_name = "factor"
    axes: ClassVar = {"loadings": ("column", "factor"), "mean": ("column",), "noise_variance": ("column",)}
    blocks = (("loadings", "mean", "offset_variance"), ("noise_variance",))

    largest_communality = 0.8  # of a column at the start: a noise variance of its own is not to begin near zero

    def __init__(
        self, latent_dim: int, offset: bool, noise_floor: float, prior_loadings: float = 0.0, prior_noise: float = 0.0,
        prior_noise_variance: float = 0.5, rotation: str = "varimax",
    ) -> None:  # fmt: skip
        self.latent_dim, self.offset, self.noise_floor = latent_dim, offset, noise_floor
        self.prior_loadings = prior_loadings
        self.prior_noise, self.prior_noise_variance = prior_noise, prior_noise_variance
        self.dim, self.rotation = latent_dim + offset, rotation

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
        return simulated_factors(options)

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

    def tuning(self) -> Tuning:
        """Of 5 to 150 latents, closed forms were sooner with 5 to 60: their statistics are (M, D, D)."""
        return replace(super().tuning(), update="closed_form", most_latent=64)

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

    def _principal_axes(self) -> Tensor:
        return shared_axes(correlations(self.observations), self.latent_dim, self._offset_rows if self.offset else None)

    def free(self, parameters: Parameters) -> Parameters:
        """Loadings and mean in units of the noise's standard deviation, logarithms of variances; all of a column
        weighted with the root of its share of the entries.

        In these coordinates the Fisher information of a column is about the identity times the average number of
        entries: a gradient step of length one is about an EM step (there, the loadings' gradient is multiplied with
        the noise variance over the number of entries and the inverse of the average E z z^T, which is about the
        identity).
        """
        root = self.noise_of_columns(parameters).rsqrt() * self._weight
        free = {"loadings": parameters["loadings"] * root[:, None], "mean": parameters["mean"] * root}
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
        entropy = posterior.entropy()
        if not total:
            total = no_sums(posterior.mean, self.observations.shape[1], self.dim + 1, entropy is not None)
        add_sums(total, chunk, posterior, self.latent_dim)
        if entropy is not None:
            total["entropy"] += entropy.sum()
        return total

    def _numbers_of_statistics(self, chunk: Chunk, points: int) -> float:
        """E[u u^T] of the data points and what it is made of, entry by entry in the gathered layout, and its sums."""
        each, columns = (self.dim + 2) ** 2, self.observations.shape[1]
        gathered = chunk.index is not None and chunk.index.dim() == 2
        moments = points * (2 + (chunk.width <= self.dim) + chunk.width * gathered)
        return each * (moments + columns * (1 + gathered))

    def prior_statistics(self) -> Statistics:
        """The sums of imaginary entries: a ridge of the loadings, and entries that are noise alone."""
        if not (self.prior_loadings or self.prior_noise):
            return {}
        squares, numbers = (self.prior_noise * share for share in self._noise_share())
        squares = self.prior_noise_variance * squares
        return imagined_sums(self.prior_loadings, squares, numbers, self.latent_dim, self.dim + 1)

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
        residual = residual_squares(row, statistics)
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
        residual = residual_squares(row, statistics)
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
        number = count.clamp_min(1) if imagined is None else count.clamp_min(1) + imagined
        return torch.where(count > 0, residual / number, parameters["noise_variance"])

    def canonical(self, parameters: Parameters) -> Parameters:
        """Axes of the factors such that Phi^T Psi Phi is diagonal and falls: the first factor is the one that the data
        tell most about. The loading of each that is largest beside its noise is positive."""
        return parameters | {"loadings": principal(parameters["loadings"], self.noise_of_columns(parameters))}

    def constraints(self, parameters: Parameters) -> Tensor:
        """Any rotation of the factors is as likely: the axes are those of `canonical`."""
        loadings = parameters["loadings"]
        return off_diagonal((loadings.mT / self.noise_of_columns(parameters)) @ loadings)

    def latents(self, parameters: Parameters, posterior: DensePosterior) -> tuple[Tensor, Tensor]:
        mean = posterior.mean
        deviation = posterior.marginal_variance.sqrt().expand(mean.shape)
        if self.offset:
            unit = mean.new_ones(self.dim)
            unit[-1] = parameters["offset_variance"].sqrt() * self._offset_unit.to(mean)
            mean, deviation = mean * unit, deviation * unit
        return mean, deviation

    def export(self, parameters: Parameters) -> Parameters:
        return exported(parameters, self.observations, self._offset_unit)

    def exported_shapes(self, table: Table) -> dict[str, tuple[int, ...]]:
        m = table.shape[1]
        shapes = {"loadings": (m, self.latent_dim), "mean": (m,), "noise_variance": (m,)}
        return shapes | ({"offset_variance": ()} if self.offset else {})

    def units(self, exported: Parameters) -> tuple[np.ndarray, np.ndarray]:
        variance = exported["loadings"].square().sum(1) + exported["noise_variance"]
        variance = variance + exported.get("offset_variance", 0.0)
        return exported["mean"].numpy(), variance.sqrt().numpy()

    def restore(self, exported: Parameters) -> Parameters:
        return restored(exported, self.observations, self._offset_unit, self.noise_floor)

    def implied_covariance(self, exported: Parameters) -> Tensor:
        loadings, offset_variance = exported["loadings"], exported.get("offset_variance", torch.tensor(0.0))
        return loadings @ loadings.T + torch.diag(exported["noise_variance"]) + offset_variance

    def most_identified(self, offset: bool) -> int:
        """The largest number of factors D whose loadings (but for their axes) and noise variances the covariances of
        the M columns determine, by their count: (M - D)^2 >= M + D (Ledermann, Psychometrika 2 (1937) 85-93), with two
        to spare for the variance of an offset. Zero where there is none."""
        m = self.observations.shape[1]
        return max(0, math.floor((2 * m + 1 - math.sqrt(8 * m + 1 + 8 * offset)) / 2))

    def _not_identified(self) -> list[str]:
        most, without = self.most_identified(self.offset), self.most_identified(False)
        return not_identified(self.latent_dim, self.observations.shape[1], self.offset, most, without)

    def warnings(self, parameters: Parameters, names: list[str]) -> list[str]:
        found = self._not_identified()
        if self.offset and parameters["offset_variance"] <= NEAR_FLOOR * self._offset_floor:
            found.append("the offset variance ended at its floor: the data show no offsets (model.offset=false)")
        low = torch.nonzero(parameters["noise_variance"] <= NEAR_FLOOR * self.noise_floor).flatten().tolist()
        if low:
            lower = f"{self.lower_floor} lets it fall further"
            found.append(heywood_case([names[i] for i in low], self.latent_dim, self.noise_floor, lower))
        return found
