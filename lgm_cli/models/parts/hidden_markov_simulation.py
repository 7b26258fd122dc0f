"""Draws of a hidden Markov model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from lgm_cli.models.parts.state_emissions import StateEmissions
from lgm_cli.randomness import generator

STAYS = 0.9  # average probability of staying in a state


def simulated_chain(emissions: StateEmissions, k: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """num_points steps in num_dimensions columns from k states, in each of which the chain stays with a probability of
    about 0.9. Entries are hidden with probability hidden_share."""
    steps, columns = options["num_points"], options["num_dimensions"]
    draw = generator(options["seed"], "simulate states")
    like: Any = {"dtype": torch.float64, "generator": draw}
    stay = (math.log(STAYS / (1 - STAYS)) + 0.3 * torch.randn(k, **like)).sigmoid()
    leave = torch.randn(k, k, **like).exp().fill_diagonal_(0)
    away = leave / leave.sum(1, keepdim=True) if k > 1 else leave
    transition = torch.diag(stay if k > 1 else torch.ones(k)) + (1 - stay)[:, None] * away
    truth = {"initial": torch.full((k,), 1 / k, dtype=torch.float64), "transition": transition}
    truth |= emissions.drawn_truth(k, columns, options, draw)
    uniform, path = torch.rand(steps, **like).tolist(), []
    edges = torch.cat([truth["initial"][None], transition]).cumsum(1).numpy()
    for t in range(steps):
        row = edges[1 + path[-1] if path else 0]
        path.append(min(int(np.searchsorted(row, uniform[t], side="right")), k - 1))
    values = emissions.drawn_values(truth, torch.tensor(path), draw)
    values[torch.rand(steps, columns, **like) < options["hidden_share"]] = math.nan
    arrays = {name: value.numpy() for name, value in truth.items()}
    return {"values": values.numpy(), "truth": arrays, "kind": "series"}
