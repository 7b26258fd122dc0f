"""Draws of data points by factor analysis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from lgm_cli.errors import UserError
from lgm_cli.randomness import generator


def simulated_factors(options: Mapping[str, Any]) -> dict[str, Any]:
    """Loadings N(0, 1/D), so that the factors give every entry a variance of about one; factor_share of the
    variance is theirs, offset_share the offset's, the rest noise. Entries are hidden with probability
    hidden_share."""
    n, m, d = options["num_points"], options["num_dimensions"], options["latent_dim"]
    draw = generator(options["seed"], "simulate")
    like = {"dtype": torch.float64, "generator": draw}
    total = 1 / options["factor_share"]
    offset_variance = options["offset_share"] * total
    noise = total - 1 - offset_variance
    if noise <= 0:
        raise UserError(
            "data.factor_share and data.offset_share add up to one or more, which leaves no noise",
            "choose shares that add up to less than one",
        )
    truth = {
        "loadings": torch.randn(m, d, **like) / math.sqrt(d),
        "mean": torch.randn(m, **like),
        "noise_variance": torch.full((m,), noise, dtype=torch.float64),
    }
    y = truth["mean"] + torch.randn(n, d, **like) @ truth["loadings"].T + math.sqrt(noise) * torch.randn(n, m, **like)
    if offset_variance:
        truth["offset_variance"] = torch.tensor(offset_variance, dtype=torch.float64)
        y += math.sqrt(offset_variance) * torch.randn(n, 1, **like)
    y[torch.rand(n, m, **like) < options["hidden_share"]] = math.nan
    return {"values": y.numpy(), "truth": {name: value.numpy() for name, value in truth.items()}}
