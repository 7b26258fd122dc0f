"""How a run ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from lgm_cli.evaluation.evaluator import Scores
from lgm_cli.models.base.parameters import Parameters

SETTLED = 0.5  # posterior standard deviations that a settled mean moves by, at most, while the steps double


@dataclass(frozen=True)
class Steps:
    """What steps are that have a free energy."""

    passes: float  # over the data, of a step
    first_passes: float  # of the first
    bounds: bool  # whether the free energy is a bound of the likelihood


@dataclass
class Outcome:
    """How a run ended."""

    status: str
    parameters: Parameters
    scores: Scores
    warnings: list[str] = field(default_factory=list)
    mean_iterations: float | None = None  # of the solver, over the run
    num_samples: int | None = None  # K of a Monte Carlo posterior
    steps: Steps | None = None  # None where they have no free energy
