"""Pairs of observed and latent families on the support of the latent, and whether they are conjugated.

Given z, the entries of x are independent, of exponential families with log-partition functions psi_m(z). The prior of
z is in the family of its posteriors if and only if each psi_m is affine in the statistic s(z) of that family
(Sokoloski, A unified theory of exact inference and learning in exponential family latent variable models, arXiv
2404.19501):

    psi_m(z) = rho_m . s(z) + chi_m.

Entries may be missing, so the condition is asked of every entry by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

Array = np.ndarray


@dataclass(frozen=True)
class Pair:
    """A latent variable on nodes: its whole support, or those of a rule of integration that is exact to rounding.

    log_weight: log p(z) of the nodes, (J,). statistic: s(z), (J, d). partition: psi_m(z), (J, M). log_density: from
    values (M,) to log p(x_m | z), (J, M). draw: one row of values (M,).
    """

    name: str
    conjugated: bool
    log_weight: Array
    statistic: Array
    partition: Array
    log_density: Callable[[Array], Array]
    draw: Callable[[np.random.Generator], Array]

    def residual(self) -> Array:
        """psi_m(z) less its regression on (1, s(z)) under the prior, (J, M)."""
        root = np.exp(0.5 * self.log_weight)[:, None]
        design = np.column_stack([np.ones(len(root)), self.statistic])
        found = np.linalg.lstsq(root * design, root * self.partition, rcond=None)[0]
        return self.partition - design @ found

    def r_squared(self) -> float:
        """Of the entry that fits worst; 1 where psi is constant."""
        weight, residual = np.exp(self.log_weight), self.residual()
        spread = weight @ (self.partition - weight @ self.partition) ** 2
        share = np.divide(weight @ residual**2, spread, out=np.zeros_like(spread), where=spread > 1e-20)
        return float(1 - share.max())

    def errors(self, values: Array) -> tuple[float, float, float]:
        """What comes of calling the pair conjugated, its psi_m replaced by their regression. values: (M,), NaN where
        missing. The error of log p(x) in nats, half of the variance of the residual under the posterior, which is that
        error to first order, and the total variation between the two posteriors."""
        seen = ~np.isnan(values)
        exact = self.log_weight + self.log_density(values)[:, seen].sum(1)
        beside = self.residual()[:, seen].sum(1)
        called = exact + beside
        total, of_called = float(np.logaddexp.reduce(exact)), float(np.logaddexp.reduce(called))
        posterior, other = np.exp(exact - total), np.exp(called - of_called)
        spread = posterior @ (beside - posterior @ beside) ** 2
        return float(abs(of_called - total)), float(spread / 2), float(np.abs(posterior - other).sum() / 2)


def bits(number: int) -> Array:
    return (np.arange(2**number)[:, None] >> np.arange(number) & 1).astype(float)


def with_pairs(z: Array) -> Array:
    """(z, z_i z_j for i < j)."""
    left, right = np.triu_indices(z.shape[1], 1)
    return np.column_stack([z, z[:, left] * z[:, right]])


def normal_nodes(dims: int, number: int = 60) -> tuple[Array, Array]:
    """Nodes and log weights of z ~ N(0, I) by the rule of Gauss and Hermite."""
    node, weight = np.polynomial.hermite_e.hermegauss(number)
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*[node] * dims, indexing="ij")], 1)
    logs = np.log(weight / weight.sum())
    return grid, np.sum([axis.ravel() for axis in np.meshgrid(*[logs] * dims, indexing="ij")], 0)


def linear_normal(name: str, z: Array, logs: Array, statistic: Array, conjugated: bool, seed: int = 0) -> Pair:
    """x_m | z ~ N(phi_m . z + offset_m, noise_m)."""
    random = np.random.default_rng(seed)
    loadings, offset, noise = random.normal(size=(5, z.shape[1])), random.normal(size=5), 0.3 + random.random(5)
    mean = z @ loadings.T + offset

    def log_density(x: Array) -> Array:
        return -0.5 * ((x - mean) ** 2 / noise + np.log(2 * np.pi * noise))

    def draw(random: np.random.Generator) -> Array:
        return mean[random.choice(len(z), p=np.exp(logs))] + np.sqrt(noise) * random.normal(size=5)

    return Pair(name, conjugated, logs, statistic, 0.5 * mean**2 / noise, log_density, draw)


def bernoulli(name: str, z: Array, logs: Array, statistic: Array, conjugated: bool, seed: int = 0) -> Pair:
    """x_m | z ~ Bernoulli(logit phi_m . z + offset_m)."""
    random = np.random.default_rng(seed)
    logit = z @ (1.5 * random.normal(size=(5, z.shape[1]))).T + random.normal(size=5)
    partition = np.logaddexp(0, logit)

    def draw(random: np.random.Generator) -> Array:
        place = random.choice(len(z), p=np.exp(logs))
        return (random.random(5) < special.expit(logit[place])).astype(float)

    return Pair(name, conjugated, logs, statistic, partition, lambda x: x * logit - partition, draw)


def poisson(name: str, rates: Array, logs: Array, statistic: Array, conjugated: bool) -> Pair:
    """x_m | z ~ Poisson(rate_m(z)), rates (J, M)."""

    def log_density(x: Array) -> Array:
        return x * np.log(rates) - rates - special.gammaln(np.nan_to_num(x) + 1)

    def draw(random: np.random.Generator) -> Array:
        return random.poisson(rates[random.choice(len(rates), p=np.exp(logs))]).astype(float)

    return Pair(name, conjugated, logs, statistic, rates, log_density, draw)


def population(neurons: int, concentration: float, nodes: int = 128) -> Pair:
    """Neurons with the same gain whose preferred directions are spread evenly over a circle; a uniform direction z."""
    angle = 2 * np.pi * np.arange(nodes) / nodes
    preferred = 2 * np.pi * np.arange(neurons) / neurons
    rates = np.exp(0.5 + concentration * np.cos(angle[:, None] - preferred))
    statistic = np.column_stack([np.cos(angle), np.sin(angle)])
    name = f"Poisson neurons, direction (von Mises), {neurons} of concentration {concentration:g}"
    return poisson(name, rates, np.full(nodes, -np.log(nodes)), statistic, False)


def gamma_nodes(shape: float, number: int = 80) -> tuple[Array, Array]:
    """Of z ~ gamma(shape, shape) by the rule of Gauss and Laguerre."""
    node, weight = special.roots_genlaguerre(number, shape - 1)
    kept = weight > 1e-280
    return node[kept] / shape, np.log(weight[kept] / weight[kept].sum())


def all_pairs() -> list[Pair]:
    random = np.random.default_rng(3)
    finite, share = np.eye(4)[:, 1:], np.log(random.dirichlet(np.ones(4)))
    one, of_one = normal_nodes(1)
    two, of_two = normal_nodes(2)
    z, of_z = gamma_nodes(2.5)
    three = bits(3)
    energy = with_pairs(three) @ random.normal(size=6)
    of_three = energy - np.logaddexp.reduce(energy)
    square = np.column_stack([two, two[:, :1] ** 2, two[:, 1:] ** 2, two[:, :1] * two[:, 1:]])
    kinds = np.array([[0.5, 6, 2, 3, 1], [4, 1, 2, 0.2, 2], [2, 2, 9, 1, 1], [7, 3, 0.4, 2, 5]])
    return [
        bernoulli("Bernoulli, categories", finite, share, finite, True),
        poisson("Poisson, categories", kinds, share, finite, True),
        linear_normal("normal, categories", finite, share, finite, True),
        linear_normal("normal, normal of 2 dimensions", two, of_two, square, True),
        linear_normal("normal, 3 bits (Boltzmann)", three, of_three, with_pairs(three), True),
        poisson("Poisson, gamma", z[:, None] * kinds[0], of_z, np.column_stack([np.log(z), z]), True),
        linear_normal("normal, 3 independent bits", three, np.full(8, -np.log(8)), three, False),
        bernoulli("Bernoulli, 3 bits (restricted Boltzmann machine)", three, of_three, with_pairs(three), False),
        bernoulli("Bernoulli, normal", one, of_one, np.column_stack([one, one**2]), False),
        poisson("Poisson, normal", np.exp(0.6 * one + np.log(kinds[0])), of_one, np.column_stack([one, one**2]), False),
        population(6, 4.0),
        population(12, 3.0),
    ]
