"""Simulated series, and the pictures of their channels, which all models of series share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lgm_cli import plots
from lgm_cli.models.base import Learned, Picture
from lgm_cli.randomness import generator

MOST_CHANNELS = 8


def channel_pictures(learned: Learned) -> dict[str, Picture]:
    """The channels with their gaps filled and their forecasts, from some steps before the horizon on; of many channels,
    those whose range is spread evenly from the least to the most varied."""
    data, table = learned.data, learned.data.table
    begin = plots.first_drawn(data.shape[0], table.horizon, table.forecast)
    given, hidden = (np.full(data.shape, np.nan) for _ in range(2))
    given[data.train_rows, data.train_columns] = data.train_values
    hidden[data.test_rows, data.test_columns] = data.test_values
    order = np.argsort(np.nanstd(given, axis=0), kind="stable")
    chosen = np.unique(np.linspace(0, len(order) - 1, min(MOST_CHANNELS, len(order))).round().astype(int))
    columns = sorted(int(column) for column in order[chosen])

    def draw(path: Path) -> object:
        wanted = np.zeros(data.shape, bool)
        wanted[begin:, columns] = np.isnan(given[begin:, columns])
        mean, deviation = (np.full(data.shape, np.nan) for _ in range(2))
        rows, places = np.nonzero(wanted)
        if len(rows):
            mean[rows, places], deviation[rows, places] = learned.predict(rows, places)
        return plots.channels(
            given, hidden, mean, deviation, list(table.column_labels), list(table.row_labels), path, begin,
            table.horizon, table.forecast, columns,
        )  # fmt: skip

    return {"channels": draw}


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
