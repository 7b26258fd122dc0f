"""Moments of the stationary chain of a hidden Markov model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.parts.state_emissions import StateEmissions
from lgm_cli.numerics.assignment import best_assignment

RESTART = 1e-9  # probability of beginning anew, which makes the stationary distribution the only one


def stationary(parameters: Mapping[str, Tensor], restart: float = RESTART) -> Tensor:
    """The stationary distribution (K,) of the chain; where it has several, the one that is reached from the start.

    restart: the chain begins anew with this probability at each step. With 1 / T the distribution is that of about T
    steps from the start.
    """
    transition = parameters["transition"]
    left = torch.eye(len(transition)).to(transition) - (1 - restart) * transition.mT
    found = torch.linalg.solve(left, parameters["initial"]).clamp_min(0.0)
    return found / found.sum()


def lagged_covariance(emissions: StateEmissions, exported: Parameters) -> Tensor:
    """Cov(y_t) beside Cov(y_t, y_(t-1)) of the stationary chain, (M, 2 M)."""
    weights, (means, covariances) = stationary(exported), emissions.moments(exported)
    apart = means - weights @ means
    now = torch.einsum("k,kij->ij", weights, covariances) + (weights[:, None] * apart).mT @ apart
    return torch.cat([now, apart.mT @ (weights[:, None] * exported["transition"]).mT @ apart], dim=1)


def error_of_chains(emissions: StateEmissions, exported: Parameters, truth: Mapping[str, np.ndarray]) -> float:
    """|B - B0| / |B0| (Frobenius), under the best order of the states, over the moments weight_k E[u u^T | k] of
    u = (1, y), y in standard deviations of the truth, and the probabilities of pairs of states in turn."""
    true = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in truth.items()}
    center, deviation = (torch.as_tensor(x) for x in emissions.units(true, stationary(true)))
    if not emissions.standardise:
        center = torch.zeros(emissions.moments(true)[0].shape[1], dtype=torch.float64)
        deviation = lagged_covariance(emissions, true)[:, : len(center)].diagonal().sqrt()

    def parts(exported: Parameters) -> tuple[Tensor, Tensor]:
        weights, (means, covariances) = stationary(exported), emissions.moments(exported)
        mean = (means - center) / deviation
        u = torch.cat([torch.ones(len(mean), 1, dtype=torch.float64), mean], dim=1)
        spread = torch.nn.functional.pad(covariances / deviation / deviation[:, None], (1, 0, 1, 0))
        moments = weights[:, None, None] * (u[:, :, None] * u[:, None] + spread)
        return moments.flatten(1), weights[:, None] * exported["transition"]

    (found, pairs), (wanted, wanted_pairs) = parts(exported), parts(true)
    order = torch.as_tensor(best_assignment(torch.cdist(found, wanted).square().numpy()))
    error = (found - wanted[order]).square().sum() + (pairs - wanted_pairs[order][:, order]).square().sum()
    return float((error / (wanted.square().sum() + wanted_pairs.square().sum())).sqrt())
