"""What rows tell of a finite latent variable: what posteriors over components and states are made from."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Generator, Tensor


class Emissions(Protocol):
    """Rows y_n seen from K components: their densities, and their hidden entries given a component.

    log_density: (n, K) log p(observed entries of y_n | k), differentiable.
    """

    log_density: Tensor

    def statistics(self, weights: Tensor) -> dict[str, Tensor]:
        """Sums of expected moments over rows with weights (n, K), such as responsibilities, in parameter-free form."""
        ...

    def entropy(self, weights: Tensor) -> Tensor:
        """(n,) weighted entropy of the hidden entries that `statistics` treats as latent; zero where it does not."""
        ...

    def conditional(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of hidden entries index (n, t) given the observed ones and the component, (n, K, t)."""
        ...

    def drawn(self, component: Tensor, generator: Generator) -> Emissions:
        """The rows with their latent entries drawn, given the component (n,) of each."""
        ...


def excluded(known: Tensor, components: int) -> Tensor:
    """Which components or states a row cannot be of, (n, K): all but the known one, (n,), -1 where none is known."""
    numbers = torch.arange(components, device=known.device)
    return (known[:, None] >= 0) & (known[:, None] != numbers)
