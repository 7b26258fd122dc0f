"""Which data points can be afforded, and by which posterior."""

from __future__ import annotations

import numpy as np
import torch

from lgm_cli.evaluation.memory import available_memory
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.observations.chunk import Chunk

SINGLE_OPERATIONS = 1e11  # of the exact posterior of one data point


def needs_iterations(model: LatentVariableModel) -> bool:
    """Whether an exact posterior of the largest data point would take too long, or more memory than there is, and an
    iterative one can stand in for it."""
    if not model.standard_prior:
        return False
    if model.exact_operations(np.array([model.observations.longest]))[0] > SINGLE_OPERATIONS:
        return True
    return model.exact_bytes() > available_memory(model.observations.device)


def select_points(chunk: Chunk, chosen: np.ndarray) -> Chunk | None:
    """The chosen data points of a chunk."""
    kept = torch.as_tensor(np.flatnonzero(chosen[chunk.points.cpu().numpy()]), device=chunk.points.device)
    if len(kept) == 0:
        return None
    if len(kept) == len(chunk.points):
        return chunk
    return chunk.some(kept)
