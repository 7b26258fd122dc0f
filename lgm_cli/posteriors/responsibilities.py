"""The posterior of a finite latent variable: which component each data point comes from."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from lgm_cli.posteriors.emissions import Emissions, excluded

# Of log responsibilities below the largest: no digit of a sum shows what is less, but numbers too small for the format,
# which it would lead to, are calculated with slowly.
NEGLIGIBLE = {torch.float64: 300.0}


class Responsibilities:
    """r_nk = p(k | y_n) = exp(a_nk - l_n),  a_nk = log prior_k + log p(y_n | k),  l_n = logsumexp_k a_nk.

    At an inverse temperature beta, r_nk is proportional to exp(beta a_nk): only the component is tempered, not the
    hidden entries of a row given its component. Ueda & Nakano, Neural Networks 11 (1998) 271-282.

    Of a data point whose component c is known, r_nk = 1[k = c] and l_n = a_nc. known: (n,) of these, -1 for the others.

    log_prior: (K,) or (n, K). responsibilities: (n, K). log_evidence: (n,) l_n, None at a temperature.
    """

    def __init__(
        self, log_prior: Tensor, emissions: Emissions, inverse_temperature: float = 1.0, known: Tensor | None = None
    ) -> None:
        self.emissions, self.inverse_temperature = emissions, inverse_temperature
        joint = log_prior + emissions.log_density
        if inverse_temperature != 1.0:
            joint = inverse_temperature * joint
        if known is not None:
            joint = joint.masked_fill(excluded(known, joint.shape[1]), -math.inf)
        least = joint.detach().amax(1, keepdim=True) - NEGLIGIBLE.get(joint.dtype, 60.0)
        joint = torch.maximum(joint, least)
        if known is not None:  # what is impossible is not just improbable
            joint = joint.masked_fill(excluded(known, joint.shape[1]), -math.inf)
        total = torch.logsumexp(joint, 1)
        self.log_evidence: Tensor | None = total if inverse_temperature == 1.0 else None
        self.responsibilities = (joint - total[:, None]).exp()

    def entropy(self) -> Tensor:
        """(n,) of the component, divided by beta, and of the hidden entries given the component."""
        component = torch.special.entr(self.responsibilities).sum(1) / self.inverse_temperature
        return component + self.emissions.entropy(self.responsibilities)

    def draw(self, generator: Generator) -> CertainComponent:
        """One draw of the component and of the hidden entries of every row."""
        component = torch.multinomial(self.responsibilities, 1, generator=generator).squeeze(1)
        return CertainComponent(component, self.responsibilities, self.emissions.drawn(component, generator))


class CertainComponent:
    """A posterior that is certain of one component (n,) of each row, and of the row's latent entries."""

    log_evidence = None

    def __init__(self, component: Tensor, like: Tensor, emissions: Emissions) -> None:
        self.responsibilities = one_hot(component, like.shape[1]).to(like)
        self.emissions = emissions

    def entropy(self) -> None:
        """None: what was drawn has no entropy."""
        return

    def draw(self, generator: Generator) -> CertainComponent:
        return self
