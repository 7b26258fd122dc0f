"""Expected sufficient statistics."""

from __future__ import annotations

from torch import Tensor

Statistics = dict[str, Tensor]


def with_imagined(statistics: Statistics, imagined: Statistics) -> Statistics:
    """The sums of both. imagined: those of imaginary data, perhaps none, and perhaps with sums that the statistics of
    real data do not need. What has no imaginary part, such as an entropy, stays."""
    found = {name: value + imagined[name] if name in imagined else value for name, value in statistics.items()}
    return found | {name: value for name, value in imagined.items() if name not in statistics}
