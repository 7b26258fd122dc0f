"""Operators that do not fit together, and arguments that make none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lgm_cli.errors import UserError
from lgm_cli.operators.base import LinearOperator
from lgm_cli.operators.blocks import BlockDiagonal, Stack
from lgm_cli.operators.cosine import Cosine, subsampled_cosine
from lgm_cli.operators.entries import Dense, Diagonal, FirstDifference, Masked
from lgm_cli.operators.fourier import Convolution, Fourier, subsampled_fourier
from lgm_cli.operators.wavelet import Wavelet


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cosine(5) @ Fourier(3), "A.in_dim equal to B.out_dim, not 5 and 6$"),
        (lambda: Cosine(5) @ Cosine(5).adjoint() @ Cosine(4), "not 5 and 4$"),
        (lambda: Cosine(5) + Cosine(4), r"not \(5, 5\) and \(4, 4\)"),
        (lambda: Cosine(5) + FirstDifference(5), r"not \(5, 5\) and \(4, 5\)"),
        (lambda: Stack([Cosine(5), FirstDifference(5), Cosine(4)]), r"one in_dim, not of \[5, 5, 4\]"),
        (lambda: Stack([]), "one or more operators"),
        (lambda: BlockDiagonal([]), "one or more operators"),
    ],
)
def test_operators_that_do_not_fit(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dense(torch.ones(3)), r"a matrix, not a tensor of shape \(3,\)"),
        (lambda: Diagonal(torch.ones(3, 3)), r"a vector, not a tensor of shape \(3, 3\)"),
        (lambda: Masked(torch.tensor([0, 5]), 5), "within 0 and 4, not 0 to 5"),
        (lambda: Masked(torch.tensor([-1, 2]), 5), "within 0 and 4, not -1 to 2"),
        (lambda: Masked(torch.ones(5, dtype=torch.bool), 5), "not torch.bool"),
        (lambda: Masked(torch.ones(5), 5), "not torch.float32"),
        (lambda: Masked(torch.tensor([], dtype=torch.long), 5), r"indices, not torch.int64 of shape \(0,\)"),
        (lambda: FirstDifference(1), "at least 2 entries, not 1"),
        (lambda: Cosine((2, 3, 4)), r"n or \(h, w\)"),
        (lambda: Fourier(0), r"at least 1 each, not 0"),
        (lambda: Convolution(torch.ones(6), 5), r"\(6,\) does not fit into \(5,\)"),
        (lambda: Convolution(torch.ones(3), (5, 5)), r"\(3,\) does not fit into \(5, 5\)"),
        (lambda: subsampled_cosine(5, torch.tensor([5])), "within 0 and 4, not 5 to 5"),
        (lambda: subsampled_fourier(5, torch.tensor([5])), "within 0 and 4, not 5 to 5"),
    ],
)
def test_arguments_that_make_no_operator(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Wavelet(8, "db44"), "there is no wavelet 'db44' .did you mean 'db4'"),
        (lambda: Wavelet(8, "?"), "there is no wavelet '\\?'"),
        (lambda: Wavelet(8, "bior2.2"), "bior2.2 is not orthogonal"),
        (lambda: Wavelet(8, "dmey"), "dmey is not orthogonal"),
        (lambda: Wavelet((8, 12), "db2", 3), "3 wavelet levels do not divide 8 x 12"),
        (lambda: Wavelet(8, "db2", 0), "0 wavelet levels"),
    ],
)
def test_a_wavelet_that_a_user_can_mend(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(
    "operator",
    [
        Cosine(5),
        Fourier(5),
        Wavelet(4),
        FirstDifference(5),
        Convolution(torch.ones(2), 5),
        Masked(torch.tensor([1, 0]), 4),
    ],
    ids=lambda operator: type(operator).__name__,
)
def test_a_vector_of_another_size(operator: LinearOperator) -> None:
    for apply, size in [(operator.forward, operator.in_dim), (operator.transpose, operator.out_dim)]:
        with pytest.raises((RuntimeError, ValueError)):
            apply(torch.zeros(2, size + 1))
