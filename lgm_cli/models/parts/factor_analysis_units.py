"""Forms of the parameters of factor analysis: in the data's own units and back, and on stated axes."""

from __future__ import annotations

import torch
from torch import Tensor

from lgm_cli.models.base.parameters import Parameters
from lgm_cli.observations.blocks import Observations


def exported(parameters: Parameters, observations: Observations, offset_unit: Tensor) -> Parameters:
    """The parameters of the contract. offset_unit: what an offset is measured in, ()."""
    center, scale = observations.center.cpu(), observations.scale.cpu()
    inside = {name: value.cpu().double() for name, value in parameters.items()}
    found = {
        "loadings": inside["loadings"] * scale[:, None],
        "mean": center + scale * inside["mean"],
        "noise_variance": inside["noise_variance"] * scale**2,
    }
    if "offset_variance" in inside:
        found["offset_variance"] = inside["offset_variance"] * offset_unit.cpu() ** 2
    return found


def restored(given: Parameters, observations: Observations, offset_unit: Tensor, noise_floor: float) -> Parameters:
    """Inverse of `exported`, noise variances not below their floor."""
    center, scale = observations.center.cpu(), observations.scale.cpu()
    inside = {
        "loadings": given["loadings"] / scale[:, None],
        "mean": (given["mean"] - center) / scale,
        "noise_variance": (given["noise_variance"] / scale**2).clamp_min(noise_floor),
    }
    if "offset_variance" in given:
        inside["offset_variance"] = given["offset_variance"] / offset_unit.cpu() ** 2
    return {name: value.to(observations.device, observations.dtype) for name, value in inside.items()}


def principal(loadings: Tensor, noise: Tensor) -> Tensor:
    """Loadings (M, D) turned so that Phi^T Psi Phi is diagonal and falls, the largest of each axis beside the noise
    variances (M,) positive."""
    root = noise.rsqrt()[:, None].cpu().double()
    rows = root * loadings.cpu().double()
    turned = rows @ torch.linalg.eigh(rows.T @ rows).eigenvectors.flip(1)
    signs = turned.gather(0, turned.abs().argmax(0, keepdim=True)).sign()
    return (turned * signs / root).to(loadings)
