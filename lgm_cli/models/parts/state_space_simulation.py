"""Draws of a state-space model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from lgm_cli.randomness import generator


def simulated_states(options: Mapping[str, Any]) -> dict[str, Any]:
    """num_points steps of num_dimensions channels; latent_dim states that turn and decay, of unit variance in the
    long run, which carry factor_share of the variance. Entries are hidden with probability hidden_share."""
    steps, channels, dim = options["num_points"], options["num_dimensions"], options["latent_dim"]
    kind: dict[str, Any] = {"dtype": torch.float64, "generator": generator(options["seed"], "simulate series")}
    turned = torch.linalg.qr(torch.randn(dim, dim, **kind)).Q
    decay = torch.linspace(0.9, 0.6, dim, dtype=torch.float64)
    g = turned @ torch.diag(decay) @ turned.mT
    if dim > 1:  # the first two states turn, once in about 20 steps
        plane, angle = turned[:, :2], torch.tensor(0.3, dtype=torch.float64)
        turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
        g = g + plane @ (0.9 * turn - torch.diag(decay[:2])) @ plane.mT
    q = torch.eye(dim, dtype=torch.float64) - g @ g.mT
    c = torch.randn(channels, dim, **kind) / math.sqrt(dim)
    noise = (1 / options["factor_share"] - 1) * c.square().sum(1)
    root, z = torch.linalg.cholesky(q), torch.randn(dim, **kind)
    states = []
    for shock in torch.randn(steps, dim, **kind):
        states.append(z)
        z = g @ z + root @ shock
    y = torch.stack(states) @ c.mT + noise.sqrt() * torch.randn(steps, channels, **kind)
    y[torch.rand(steps, channels, **kind) < options["hidden_share"]] = math.nan
    truth = {
        "transition": g,
        "transition_covariance": q,
        "observation": c,
        "mean": torch.zeros(channels, dtype=torch.float64),
        "noise_variance": noise,
        "initial_mean": torch.zeros(dim, dtype=torch.float64),
        "initial_covariance": torch.eye(dim, dtype=torch.float64),
    }
    return {
        "values": y.numpy(),
        "truth": {name: value.numpy() for name, value in truth.items()},
        "kind": "series",
    }
