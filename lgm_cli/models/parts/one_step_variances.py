"""What one step of a series leaves unexplained."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_CHANGE = 1e-12  # of a variance over one step, in those of the channel: less is lost in rounding


def one_step_variances(weight: Tensor, values: Tensor) -> Tensor:
    """Half the mean squared change of each channel from one observed step to the next, about the line from its first to
    its last value: the variance of white noise, half that of a random walk's innovations. It is the reference of noise
    floors, because the channel's own variance has a trend in it, and this has not.

    weight, values: (T, M), values standardised -> (M,). A change over k steps counts as one of k innovations. Of fewer
    than three values it is that of the channel, 1.
    """
    found = torch.ones(weight.shape[1], dtype=torch.float64)
    for channel, (seen, y) in enumerate(zip(weight.mT.cpu() > 0, values.mT.cpu().double(), strict=True)):
        steps, y = seen.nonzero()[:, 0].double(), y[seen]
        if len(y) > 2:
            lag = steps.diff()
            change = y.diff() - lag * (y[-1] - y[0]) / (steps[-1] - steps[0])
            found[channel] = 0.5 * (change.square() / lag).sum() / (len(lag) - 1)
    return found.clamp_min(SMALLEST_CHANGE)
