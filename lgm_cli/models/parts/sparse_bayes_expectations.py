"""Expectations of signals under posteriors of each kind: exact, through an operator, by samples."""

from __future__ import annotations

import torch
from torch import Tensor

from lgm_cli.models.base.latent_variable_model import Posterior
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.operator import OperatorPosterior
from lgm_cli.posteriors.samples import SamplePosterior


def expected_squares(posterior: Posterior) -> Tensor:
    """sum_n E[v_nd^2] of whitened coefficients v, (D,)."""
    if isinstance(posterior, SamplePosterior):
        return posterior.mean.square().sum(0) + posterior.samples.square().mean(1).sum(0)
    return (posterior.mean.square() + posterior.marginal_variance).sum(0)


def expected_misfit(chunk: Chunk, posterior: Posterior) -> Tensor:
    """psi sum_nm omega_nm E[(y_nm - Phi w_nm)^2], (): fixed for a posterior held fixed, else live in all
    parameters."""
    if isinstance(posterior, SamplePosterior):
        assert posterior.precision is not None and posterior.targets is not None
        fitted = posterior.precision.forward(torch.cat([posterior.mean[:, None], posterior.samples], 1))
        residual, spread = posterior.targets - fitted[:, 0], fitted[:, 1:].square().mean(1)
    elif isinstance(posterior, OperatorPosterior):
        residual = posterior.residual
        spread = posterior.fitted_variance.expand_as(residual)
    else:
        chunk = chunk.gathered
        residual = posterior.residual
        spread = chunk.weight * posterior.observed_variance(posterior.rows)
    return residual.square().sum() + spread.sum()
