"""The l1 reconstruction that sparse Bayesian learning is compared with is the minimum it is said to be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from experiments.mri.fista import fista, soft, unmet
from lgm_cli.operators.base import LinearOperator
from lgm_cli.operators.entries import Masked
from lgm_cli.operators.fourier import subsampled_fourier
from lgm_cli.operators.wavelet import Wavelet

SHAPE, SIZE = (16, 16), 256


def problem(seed: int = 0) -> tuple[LinearOperator, Tensor]:
    """Frequencies of a bright square, taken with noise."""
    draw = torch.Generator().manual_seed(seed)
    image = torch.zeros(SHAPE, dtype=torch.float64)
    image[3:9, 5:12] = 1.0
    kept = torch.randperm(SIZE, generator=draw)[: SIZE // 2]
    sensing = subsampled_fourier(SHAPE, kept)
    noise = 0.01 * torch.randn(sensing.out_dim, dtype=torch.float64, generator=draw)
    return sensing @ Wavelet(SHAPE, "db4", 1).adjoint(), sensing.forward(image.flatten()) + noise


@pytest.mark.parametrize("weight", [0.003, 0.05])
def test_fista_meets_the_conditions_of_a_minimum(weight: float) -> None:
    operator, measured = problem()
    solution = fista(operator, measured, weight, tolerance=1e-7, most=20_000)
    assert solution.converged
    w = solution.coefficients
    gradient = operator.transpose(operator.forward(w) - measured)
    active = w != 0
    assert 0 < active.sum() < SIZE
    assert gradient[~active].abs().max() <= weight + 1e-6
    torch.testing.assert_close(gradient[active], -weight * w[active].sign(), rtol=0, atol=1e-6)


def test_another_start_ends_there_too() -> None:
    operator, measured = problem()
    found = fista(operator, measured, 0.05, 1e-7, 20_000)
    begun = fista(operator, measured, 0.05, 1e-7, 20_000, start=operator.transpose(measured))
    for solution in (found, begun):
        assert solution.converged
    fits = [operator.forward(solution.coefficients) for solution in (found, begun)]
    torch.testing.assert_close(*fits, rtol=0, atol=1e-6)  # the fit of a minimum is unique, its coefficients need not be


def test_of_an_orthonormal_operator_it_is_one_threshold() -> None:
    measured = torch.linspace(-2, 2, SIZE, dtype=torch.float64)
    solution = fista(Masked(torch.arange(SIZE), SIZE), measured, 0.5, 1e-12, 100)
    torch.testing.assert_close(solution.coefficients, soft(measured, 0.5), rtol=0, atol=1e-14)


def test_too_few_iterations_are_said_to_be() -> None:
    operator, measured = problem()
    solution = fista(operator, measured, 0.003, 1e-7, 3)
    assert not solution.converged
    assert (solution.iterations, solution.violation > 1e-7) == (3, True)


def test_what_is_no_minimum_violates_its_conditions() -> None:
    operator, measured = problem()
    w = fista(operator, measured, 0.05, 1e-7, 20_000).coefficients
    gradient = operator.transpose(operator.forward(w) - measured)
    assert unmet(w, gradient, 0.05) < 1e-6
    assert unmet(w, gradient + 0.01, 0.05) > 0.1
