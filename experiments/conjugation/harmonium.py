"""Log-likelihoods of models of the program by the one formula of conjugated families, in NumPy.

    log p(x) = sum over seen entries of c_m(x_m)  +  psi(t + sum over seen entries of (T_m s(x_m) - rho_m))  -  psi(t)

t are the natural parameters of the prior of the latent variable and psi its log-partition function. At each step of a
chain the same shift is given to the state of that step. (Sokoloski, arXiv 2404.19501.)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import gammaln

Array = np.ndarray
Parameters = Mapping[str, Array]
LOG_2PI = np.log(2 * np.pi)


def _finite(natural: Array, partition: Array, statistic: Array, base: Array, seen: Array) -> tuple[Array, Array]:
    """c (N,) and shifts (N, K - 1), against the first component. natural: parameters (K, M, s); partition: psi (K, M);
    statistic: (N, M, s); base: log base measures (N, M)."""
    constant = base + (statistic * natural[0]).sum(2) - partition[0]  # chi_m = psi_m of the first component
    across, rho = natural[1:] - natural[0], partition[1:] - partition[0]
    shift = np.einsum("nms,kms->nkm", statistic, across) - rho
    return np.where(seen, constant, 0).sum(1), np.where(seen[:, None], shift, 0).sum(2)


def attached(name: str, parameters: Parameters, values: Array) -> tuple[Array, Array]:
    """Of the columns of a finite latent variable, by the name of their family."""
    seen, x = ~np.isnan(values), np.nan_to_num(values, nan=1.0)
    if name == "bernoulli":
        p = parameters["probabilities"]
        return _finite(np.log(p / (1 - p))[:, :, None], -np.log1p(-p), x[:, :, None], 0 * x, seen)
    if name == "categorical":
        log = np.log(parameters["probabilities"].clip(1e-300))
        one = (x[:, :, None] == np.arange(log.shape[2])).astype(float)
        return _finite(log, np.zeros(log.shape[:2]), one, 0 * x, seen)
    if name == "poisson":
        rates = parameters["rates"]
        return _finite(np.log(rates)[:, :, None], rates, x[:, :, None], -gammaln(x + 1), seen)
    if name == "gamma":
        a, b = parameters["shapes"], parameters["shapes"] / parameters["means"]
        natural, partition = np.stack([a - 1, -b], 2), gammaln(a) - a * np.log(b)
        return _finite(natural, partition, np.stack([np.log(x), x], 2), 0 * x, seen)
    mean, variance = parameters["means"], np.diagonal(parameters["covariances"], axis1=1, axis2=2)
    natural = np.stack([mean / variance, -0.5 / variance], 2)
    partition = 0.5 * (mean**2 / variance + np.log(variance) + LOG_2PI)
    return _finite(natural, partition, np.stack([x, x**2], 2), 0 * x, seen)


def mixture(family: str, parameters: Parameters, values: Array) -> float:
    """psi(t) = log(1 + sum_k e^t_k), t_k = log weight_k / weight_1."""
    constant, shift = attached(family, parameters, values)
    prior = np.log(parameters["weights"][1:] / parameters["weights"][0])
    psi = [np.logaddexp.reduce(np.column_stack([np.zeros(len(t)), t]), axis=1) for t in (prior + shift, prior[None])]
    return float((constant + psi[0] - psi[1]).sum())


def hidden_markov(family: str, parameters: Parameters, values: Array) -> float:
    """psi of a chain by the forward recursion, its states shifted at each step."""
    constant, shift = attached(family, parameters, values)
    local = np.column_stack([np.zeros(len(shift)), shift])
    with np.errstate(divide="ignore"):
        ahead, move = np.log(parameters["initial"]) + local[0], np.log(parameters["transition"])
    for step in local[1:]:
        ahead = np.logaddexp.reduce(ahead[:, None] + move, axis=0) + step
    return float(constant.sum() + np.logaddexp.reduce(ahead))


def negative_multinomial(parameters: Parameters, values: Array) -> float:
    """A latent level z ~ gamma with s(z) = (log z, z): shift (sum of counts, -sum of rates), psi(u, v) = log G(u + 1) -
    (u + 1) log(-v); mixed over components by their psi."""
    seen, x = ~np.isnan(values), np.nan_to_num(values)
    found = []
    for rates, a in zip(parameters["rates"], parameters["shapes"], strict=True):
        constant = (seen * (x * np.log(rates) - gammaln(x + 1))).sum(1)
        u, v = a - 1 + x.sum(1), -a - seen @ rates
        psi = gammaln(u + 1) - (u + 1) * np.log(-v)
        found.append(constant + psi - (gammaln(a) - a * np.log(a)))
    return float(np.logaddexp.reduce(np.log(parameters["weights"]) + np.stack(found, 1), axis=1).sum())


def _psi(a: Array, precision: Array) -> float:
    """Of exp(a . z - z' P z / 2)."""
    sign, determinant = np.linalg.slogdet(precision)
    assert sign > 0
    return float(0.5 * (a @ np.linalg.solve(precision, a) - determinant + len(a) * LOG_2PI))


def factor_analysis(parameters: Parameters, values: Array) -> float:
    """z ~ N(0, I), s(z) = (z, z z'): shifts (sum of phi_m (x_m - mean_m) / noise_m, -sum of phi_m phi_m' / 2 noise_m).
    An offset of each row is one more factor, whose loadings are its deviation."""
    phi, mean = parameters["loadings"], parameters["mean"]
    noise = np.broadcast_to(parameters["noise_variance"], mean.shape)
    if "offset_variance" in parameters:
        phi = np.column_stack([phi, np.full(len(phi), np.sqrt(parameters["offset_variance"]))])
    identity, total = np.eye(phi.shape[1]), 0.0
    for row in values:
        seen = ~np.isnan(row)
        scaled, centred = phi[seen] / noise[seen, None], row[seen] - mean[seen]
        constant = -0.5 * (centred**2 / noise[seen] + np.log(noise[seen]) + LOG_2PI).sum()
        total += constant + _psi(scaled.T @ centred, identity + scaled.T @ phi[seen]) - _psi(0 * phi[0], identity)
    return float(total)


def state_space(parameters: Parameters, values: Array) -> float:
    """A normal chain, its states shifted at each step: messages exp(a . z - z' L z / 2) forward in time."""
    move, observation = parameters["transition"], parameters["observation"]
    noise, mean = np.broadcast_to(parameters["noise_variance"], values.shape[1]), parameters["mean"]
    spread = np.linalg.inv(parameters["initial_covariance"])
    a, precision = spread @ parameters["initial_mean"], spread
    drive, total = np.linalg.inv(parameters["transition_covariance"]), 0.0
    for step, row in enumerate(values):
        if step:
            before = precision + move.T @ drive @ move
            gain = drive @ move @ np.linalg.inv(before)
            a, precision = gain @ a, drive - gain @ move.T @ drive
            precision = (precision + precision.T) / 2
        seen = ~np.isnan(row)
        scaled, centred = observation[seen] / noise[seen, None], row[seen] - mean[seen]
        total -= 0.5 * (centred**2 / noise[seen] + np.log(noise[seen]) + LOG_2PI).sum()
        new, sharper = a + scaled.T @ centred, precision + scaled.T @ observation[seen]
        total += _psi(new, sharper) - _psi(a, precision)
        a, precision = new, sharper
    return float(total)
