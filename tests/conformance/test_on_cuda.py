"""The same run on a CUDA device: each method on each model, seen only where there is such a device."""

from __future__ import annotations

import pytest
import torch

from lgm_cli.methods.e_steps.drawn import Drawn
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.methods.m_steps.gradient import Gradient
from tests import cases, matrix

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

CUDA = torch.device("cuda")
ALLOWED = 1e-7  # relative, of sums in another order, after three steps in double precision


@pytest.mark.parametrize(("model", "method"), matrix.allowed())
def test_steps_on_a_cuda_device_are_those_on_the_processor(model: str, method: str) -> None:
    """Equal parameters after three steps. After one where random numbers are drawn, which are others on another device:
    a likelihood as good by the noise of a step; and after one where an optimiser divides gradients by their own size,
    those of nothing but rounding too."""
    expected, chosen = matrix.build(method, model)
    there, _ = matrix.build(method, model, device=CUDA)
    draws = isinstance(expected.expectation, MonteCarlo | Drawn)
    steps = (1 if draws or isinstance(expected.update, Gradient) else 3) + chosen.get("first_update", 0)
    for made in (expected, there):
        for _ in range(steps):
            made.step()
    assert all(value.device.type == "cuda" for value in there.parameters.values())
    brought = {name: value.detach().cpu() for name, value in there.parameters.items()}
    reached = matrix.likelihood(expected)
    if draws:
        other = float(cases.log_likelihood(expected.model, brought))
        assert abs(other - reached) < 0.05 * abs(reached)
        return
    for name, value in expected.parameters.items():
        torch.testing.assert_close(brought[name], value, rtol=ALLOWED, atol=ALLOWED)


@pytest.mark.parametrize("model", matrix.MODELS)
def test_evaluation_on_a_cuda_device_is_that_on_the_processor(model: str) -> None:
    here, there = matrix.bound(model), matrix.bound(model, device=CUDA)
    parameters = here.start(0)
    moved = {name: value.to(CUDA) for name, value in parameters.items()}
    expected, found = (cases.log_likelihood(*each) for each in ((here, parameters), (there, moved)))
    torch.testing.assert_close(torch.as_tensor(found).cpu(), torch.as_tensor(expected).cpu(), rtol=1e-10, atol=1e-10)
