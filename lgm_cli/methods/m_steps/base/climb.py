"""A few steps of descent on a loss of the parameters, in the model's free coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor
from torch.linalg import LinAlgError  # pyright: ignore[reportAttributeAccessIssue]

from lgm_cli.methods.m_steps.gradient import free_gradients
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.numerics.quasi_newton import descend, flattened, unflattened


class Climb:
    """theta_block <- theta_block after some steps that each lower a loss, the other parameters as they are.

    Steps are those of `descend`, in the free parameters, so that no floor is passed. Free parameters may mix: all of
    them are varied, and only the parameters of the block are taken from what `constrain` makes of them.

    terms: parts of the loss at some parameters, each differentiable, whose sum is the loss; a part is done with before
    the next is asked for. steps: at most. scale: of the first step, relative to about one step of EM. curvature:
    limited-memory BFGS, or else along the gradient.
    """

    def __init__(
        self, model: LatentVariableModel, terms: Callable[[Parameters], Iterable[Tensor]], steps: int,
        scale: float = 1.0, curvature: bool = True,
    ) -> None:  # fmt: skip
        self.model, self.terms, self.steps, self.scale, self.curvature = model, terms, steps, scale, curvature

    def __call__(self, parameters: Parameters, block: Iterable[str] | None = None) -> tuple[Parameters, float]:
        """The parameters after the steps, and the norm of the gradient there per observed entry; the parameters as they
        are, where no step lowers the loss."""
        model, names = self.model, set(parameters if block is None else block)
        free = {name: value.detach() for name, value in model.free(parameters).items()}
        scales = model.gradient_scale()
        unit = {name: torch.full_like(value, math.sqrt(scales.get(name, 1.0))) for name, value in free.items()}
        units = flattened(unit)

        def composed(vector: Tensor) -> tuple[Parameters, Parameters, Parameters]:
            """Free parameters, what `constrain` makes of them, and all parameters with those of the block new."""
            inside = {name: x.requires_grad_() for name, x in unflattened(vector * units, free).items()}
            made = {name: value for name, value in model.constrain(inside).items() if name in names}
            new = {name: value.detach().requires_grad_() for name, value in made.items()}
            return inside, made, {name: new.get(name, value.detach()) for name, value in parameters.items()}

        def function(vector: Tensor) -> tuple[float, Tensor]:
            with torch.enable_grad():
                inside, made, whole = composed(vector)
                value = self._value(whole, backward=True)
                if math.isfinite(value):
                    free_gradients(made, whole)
            grads = {name: torch.zeros_like(x) if x.grad is None else x.grad for name, x in inside.items()}
            return value, flattened(grads) * units

        observed = model.observations.observed
        start = flattened(free) / units
        found = descend(
            function, start, self.steps, self.scale * model.observations.shape[1] / observed, self.curvature
        )
        norm = float((found.gradient / units).norm()) / observed
        with torch.no_grad():
            new = {name: value.detach() for name, value in composed(found.place)[2].items()}
            if found.steps == 0 or found.value >= self._value(parameters, backward=False):
                new = parameters
        return new, norm

    def _value(self, parameters: Parameters, backward: bool) -> float:
        """The loss; infinity where a matrix on the way cannot be factorised. backward: gradients are left in the
        leaves."""
        total = 0.0
        try:
            for term in self.terms(parameters):
                if backward and term.requires_grad:
                    term.backward()
                total += float(term.detach())
        except (LinAlgError, np.linalg.LinAlgError):
            return math.inf
        return total if math.isfinite(total) else math.inf
