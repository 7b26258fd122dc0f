"""Expected sufficient statistics."""

from __future__ import annotations

from torch import Tensor

Statistics = dict[str, Tensor]
