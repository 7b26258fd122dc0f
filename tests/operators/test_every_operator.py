"""Every operator and composition against its matrix, made by SciPy, NumPy or PyWavelets."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import pywt
import scipy.fft
import scipy.linalg
import torch
from torch import Tensor

from lgm_cli.operators import base
from lgm_cli.operators.base import LinearOperator, Scaled
from lgm_cli.operators.blocks import BlockDiagonal, Kronecker, Stack
from lgm_cli.operators.cosine import Cosine, subsampled_cosine
from lgm_cli.operators.entries import Dense, Diagonal, FirstDifference, Masked, first_differences, ones
from lgm_cli.operators.fourier import Convolution, Fourier, subsampled_fourier
from lgm_cli.operators.wavelet import Wavelet


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.as_tensor(np.random.default_rng(seed).normal(size=shape))


def dct(n: int) -> np.ndarray:
    return scipy.fft.dct(np.eye(n), norm="ortho", axis=0)


def dft(n: int) -> np.ndarray:
    return np.fft.fft(np.eye(n), norm="ortho", axis=0)


def pairs(matrix: np.ndarray, complex_input: bool = False) -> np.ndarray:
    """A complex matrix on pairs of real vectors, or on real ones."""
    real, imag = matrix.real, matrix.imag
    return np.block([[real, -imag], [imag, real]]) if complex_input else np.vstack([real, imag])


def dwt(n: int, name: str, levels: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about waves that go around more than once
        columns = [np.concatenate(pywt.wavedec(unit, name, "periodization", levels)) for unit in np.eye(n)]
    return np.stack(columns, 1)


def dwt2(shape: tuple[int, int], name: str, levels: int) -> np.ndarray:
    columns = []
    for unit in np.eye(math.prod(shape)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            averages, *details = pywt.wavedec2(unit.reshape(shape), name, "periodization", levels)
        parts = [averages, *(part for level in details for part in level)]
        columns.append(np.concatenate([part.ravel() for part in parts]))
    return np.stack(columns, 1)


def circulant(kernel: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Of an image: a sum of shifts along both directions."""
    height, width = (np.eye(size) for size in shape)
    return sum(
        kernel[a, b] * np.kron(np.roll(height, a, 0), np.roll(width, b, 0)) for a, b in np.ndindex(*kernel.shape)
    )


D = draw(4, 6)
E = draw(4, 6, seed=1)
F = draw(6, 5, seed=2)
G = draw(3, 12, seed=20)
W = draw(6, seed=3)
SIGNAL, KERNEL, IMAGE_KERNEL = draw(9, seed=4), draw(3, seed=5), draw(2, 3, seed=6)
KEPT, REPEATED = torch.tensor([4, 0, 3]), torch.tensor([1, 5, 1, 1])
DIFF_4, DIFF_3 = np.diff(np.eye(4), axis=0), np.diff(np.eye(3), axis=0)
FREQUENCIES = torch.tensor([0, 3, 7, 30])

CASES: dict[str, tuple[LinearOperator, np.ndarray]] = {
    "dense": (Dense(D), D.numpy()),
    "ones": (ones(2, 3), np.ones((2, 3))),
    "diagonal": (Diagonal(W), np.diag(W)),
    "masked": (Masked(KEPT, 6), np.eye(6)[KEPT]),
    "masked, repeated": (Masked(REPEATED, 6), np.eye(6)[REPEATED]),
    "cosine of 1": (Cosine(1), np.eye(1)),
    "cosine of 2": (Cosine(2), dct(2)),
    "cosine of 3": (Cosine(3), dct(3)),
    "cosine of 8": (Cosine(8), dct(8)),
    "cosine of 9": (Cosine(9), dct(9)),
    "cosine of an image": (Cosine((4, 3)), np.kron(dct(4), dct(3))),
    "subsampled cosine": (subsampled_cosine(6, KEPT), dct(6).T[KEPT]),
    "subsampled cosine of an image": (subsampled_cosine((2, 5), KEPT), np.kron(dct(2), dct(5)).T[KEPT]),
    "subsampled cosine, prior": (subsampled_cosine(6, KEPT) @ Diagonal(W), dct(6).T[KEPT] * W.numpy()),
    "fourier of 1": (Fourier(1), np.array([[1.0], [0.0]])),
    "fourier of 7": (Fourier(7), pairs(dft(7))),
    "fourier of 8": (Fourier(8), pairs(dft(8))),
    "fourier of an image": (Fourier((4, 3)), pairs(np.kron(dft(4), dft(3)))),
    "fourier, complex": (Fourier(6, complex_input=True), pairs(dft(6), True)),
    "fourier of an image, complex": (Fourier((2, 3), complex_input=True), pairs(np.kron(dft(2), dft(3)), True)),
    "subsampled fourier": (subsampled_fourier((4, 8), FREQUENCIES), pairs(np.kron(dft(4), dft(8))[FREQUENCIES])),
    "subsampled fourier, complex": (subsampled_fourier(6, KEPT, True), pairs(dft(6)[KEPT], True)),
    "haar": (Wavelet(8, "haar", 3), dwt(8, "haar", 3)),
    "wavelet": (Wavelet(32, levels=2), dwt(32, "db4", 2)),
    "wavelet longer than the signal": (Wavelet(8, "db6", 3), dwt(8, "db6", 3)),
    "wavelet of an odd half": (Wavelet(6, "db2", 1), dwt(6, "db2", 1)),
    "wavelet of an image": (Wavelet((4, 8), "db2", 2), dwt2((4, 8), "db2", 2)),
    "convolution": (Convolution(KERNEL, 5), scipy.linalg.circulant(np.r_[KERNEL, 0, 0])),
    "convolution with all": (Convolution(SIGNAL, 9), scipy.linalg.circulant(SIGNAL)),
    "convolution of an image": (Convolution(IMAGE_KERNEL, (4, 5)), circulant(IMAGE_KERNEL.numpy(), (4, 5))),
    "first difference": (FirstDifference(4), DIFF_4),
    "first differences of an image": (
        first_differences((4, 3)),
        np.vstack([np.kron(DIFF_4, np.eye(3)), np.kron(np.eye(4), DIFF_3)]),
    ),
    "adjoint": (Dense(D).adjoint(), D.numpy().T),
    "scaled": (Scaled(Dense(D), -1.5), -1.5 * D.numpy()),
    "sum": (Dense(D) + Dense(E), (D + E).numpy()),
    "product": (Dense(D) @ Dense(F), (D @ F).numpy()),
    "columns added": (
        Dense(F.mT) @ Masked(REPEATED, 6).adjoint() @ Masked(REPEATED, 6),
        F.mT.numpy() * np.bincount(REPEATED, minlength=6),
    ),
    "product of selections": (Masked(KEPT, 6) @ Diagonal(W), np.diag(W)[KEPT]),
    "rows added": (Masked(REPEATED, 6).adjoint() @ Dense(E), np.eye(6)[REPEATED].T @ E.numpy()),
    "stack of selections, product": (
        Stack([Masked(KEPT, 6), Diagonal(W)]) @ Dense(F),
        np.vstack([F.numpy()[KEPT], W.numpy()[:, None] * F.numpy()]),
    ),
    "stack, product": (Stack([Dense(D), Diagonal(W)]) @ Dense(F), np.vstack([D @ F, W[:, None] * F])),
    "product, blocks": (
        Dense(G) @ BlockDiagonal([Dense(F), Diagonal(W)]),
        G.numpy() @ scipy.linalg.block_diag(F, np.diag(W)),
    ),
    "product, three": (Dense(D) @ (Dense(F) @ Diagonal(W[:5])), (D @ F @ W[:5].diag()).numpy()),
    "selection, product": (Masked(KEPT, 6) @ (Diagonal(W) @ Dense(F)), (W[:, None] * F)[KEPT].numpy()),
    "selection of a product, product": (
        (Masked(KEPT[1:], 4) @ Dense(D)) @ Dense(F),
        (D @ F).numpy()[KEPT[1:]],
    ),
    "columns kept": (Dense(D) @ Masked(KEPT, 6).adjoint(), D.numpy()[:, KEPT]),
    "columns repeated": (Dense(D) @ Masked(REPEATED, 6).adjoint(), D.numpy()[:, REPEATED]),
    "stack": (Stack([Dense(D), Diagonal(W), Cosine(6)]), np.vstack([D, np.diag(W), dct(6)])),
    "block diagonal": (BlockDiagonal([Dense(D), FirstDifference(4)]), scipy.linalg.block_diag(D, DIFF_4)),
    "masked blocks": (
        BlockDiagonal([Masked(KEPT, 6), Diagonal(W)]) @ BlockDiagonal([Cosine(6), Dense(F)]),
        scipy.linalg.block_diag(dct(6)[KEPT], W.numpy()[:, None] * F.numpy()),
    ),
    "kronecker": (Kronecker(Dense(D), FirstDifference(3)), np.kron(D, DIFF_3)),
    "undersampled fourier of a wavelet image": (
        subsampled_fourier((4, 8), FREQUENCIES) @ Wavelet((4, 8), "db2", 2).adjoint(),
        pairs(np.kron(dft(4), dft(8))[FREQUENCIES]) @ dwt2((4, 8), "db2", 2).T,
    ),
    "blurred and seen in part, of wavelets": (
        Masked(KEPT, 8) @ Convolution(KERNEL, 8) @ Wavelet(8, "db2", 2).adjoint(),
        scipy.linalg.circulant(np.r_[KERNEL, np.zeros(5)])[KEPT] @ dwt(8, "db2", 2).T,
    ),
}

ORTHONORMAL = ["cosine of 9", "cosine of an image", "fourier of 8", "fourier of an image", "fourier, complex"]
ORTHONORMAL += ["fourier of an image, complex", "haar", "wavelet", "wavelet longer than the signal"]
ORTHONORMAL += ["wavelet of an odd half", "wavelet of an image"]
BY_UNIT_VECTORS = [
    "ones",
    "sum",
    "product",
    "product, three",
    "columns added",
    "undersampled fourier of a wavelet image",
]
BY_UNIT_VECTORS += ["rows added", "stack, product", "product, blocks", "selection of a product, product"]
BY_UNIT_VECTORS += ["blurred and seen in part, of wavelets"]  # their squares have no closed form

every_case = pytest.mark.parametrize(("operator", "matrix"), CASES.values(), ids=CASES.keys())
either_way = pytest.mark.parametrize("way", ["forward", "transpose"])


def directed(operator: LinearOperator, matrix: np.ndarray, way: str) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """One of the two actions, and the matrix it stands for."""
    return getattr(operator, way), torch.as_tensor(matrix if way == "forward" else matrix.T)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@every_case
def test_the_dense_form(operator: LinearOperator, matrix: np.ndarray) -> None:
    assert (operator.out_dim, operator.in_dim) == matrix.shape
    like = torch.empty(0, dtype=torch.float64)
    close(operator.dense(like), torch.as_tensor(matrix))
    close(operator.adjoint().dense(like), torch.as_tensor(matrix.T))
    assert operator.dense().dtype == torch.float32


@every_case
def test_the_adjoint_identity(operator: LinearOperator, matrix: np.ndarray) -> None:
    x, y = draw(5, operator.in_dim, seed=7), draw(5, operator.out_dim, seed=8)
    forward, backward = (y * operator.forward(x)).sum(-1), (operator.transpose(y) * x).sum(-1)
    close(forward, backward)
    close(forward, torch.einsum("ni,ij,nj->n", y, torch.as_tensor(matrix), x))


@either_way
@pytest.mark.parametrize("batch", [(), (1,), (2, 3), (2, 1, 2, 2)], ids=str)
@every_case
def test_leading_dimensions(operator: LinearOperator, matrix: np.ndarray, batch: tuple[int, ...], way: str) -> None:
    apply, dense = directed(operator, matrix, way)
    x = draw(*batch, dense.shape[1], seed=9)
    close(apply(x), x @ dense.mT)
    apart = draw(dense.shape[1], *batch, seed=9).movedim(0, -1)  # strides of another order
    close(apply(apart), apart @ dense.mT)


@either_way
@every_case
def test_gradients(operator: LinearOperator, matrix: np.ndarray, way: str) -> None:
    apply, dense = directed(operator, matrix, way)
    x = draw(2, dense.shape[1], seed=10).requires_grad_()
    assert torch.autograd.gradcheck(apply, x)
    weight = draw(2, dense.shape[0], seed=11)
    close(torch.autograd.grad((weight * apply(x)).sum(), x)[0], weight @ dense)


@either_way
@every_case
def test_single_precision(operator: LinearOperator, matrix: np.ndarray, way: str) -> None:
    apply, dense = directed(operator, matrix, way)
    x = draw(3, dense.shape[1], seed=12)
    found = apply(x.float())
    assert found.dtype == torch.float32
    close(found.double(), x @ dense.mT, 1e-5)


@either_way
@every_case
def test_the_device_is_that_of_the_input(operator: LinearOperator, matrix: np.ndarray, way: str) -> None:
    """On the device without memory, which mixes with no other."""
    apply, dense = directed(operator, matrix, way)
    found = apply(torch.empty(2, dense.shape[1], device="meta"))
    assert found.device.type == "meta"
    assert found.shape == (2, dense.shape[0])


@every_case
def test_column_norms(operator: LinearOperator, matrix: np.ndarray) -> None:
    squares = torch.as_tensor(matrix**2)
    weights = draw(2, 3, operator.out_dim, seed=13).square()
    close(operator.column_norms_squared(weights), weights @ squares)
    close(operator.column_norms_squared().double(), squares.sum(0), 1e-5)
    weights = draw(2, operator.in_dim, seed=14).square()
    close(operator.adjoint().column_norms_squared(weights), weights @ squares.mT)


@pytest.mark.parametrize("name", [name for name in CASES if name not in BY_UNIT_VECTORS])
def test_column_norms_in_closed_form_need_no_unit_vectors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operator, matrix = CASES[name]
    monkeypatch.setattr(base, "_images", None)
    close(operator.column_norms_squared(torch.ones(len(matrix)).double()), torch.as_tensor(matrix**2).sum(0))


@pytest.mark.parametrize("name", ["product", "sum", "undersampled fourier of a wavelet image"])
def test_unit_vectors_come_in_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operator, matrix = CASES[name]
    held = []

    def noted(action: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def apply(x: Tensor) -> Tensor:
            held.append(x.numel())
            return action(x)

        return apply

    monkeypatch.setattr(base, "PIECE", 3 * max(matrix.shape))
    monkeypatch.setattr(operator, "forward", noted(operator.forward))
    monkeypatch.setattr(operator, "transpose", noted(operator.transpose))
    close(operator.dense(torch.empty(0).double()), torch.as_tensor(matrix))
    weights = draw(len(matrix), seed=15).square()
    close(operator.column_norms_squared(weights), weights @ torch.as_tensor(matrix**2))
    assert len(held) > 2
    assert max(held) <= base.PIECE


@pytest.mark.parametrize("name", ORTHONORMAL)
def test_orthonormal(name: str) -> None:
    operator, _ = CASES[name]
    x = draw(4, operator.in_dim, seed=16)
    close(operator.transpose(operator.forward(x)), x)
    close(operator.forward(x).square().sum(-1), x.square().sum(-1))


@pytest.mark.parametrize(
    "name", [name for name in pywt.wavelist(kind="discrete") if pywt.Wavelet(name).orthogonal and name != "dmey"]
)
def test_every_orthogonal_wavelet(name: str) -> None:
    """PyWavelets tabulates some filters to 1e-11 only."""
    x = draw(2, 16, seed=17)
    wavelet = Wavelet(16, name, 2)
    close(wavelet.transpose(wavelet.forward(x)), x, 1e-9)


@either_way
@pytest.mark.parametrize(
    ("learned", "make"),
    [
        (D, Dense),
        (W, Diagonal),
        (W[0], lambda scalar: Scaled(Dense(D), scalar)),
        (KERNEL, lambda kernel: Convolution(kernel, 5)),
        (IMAGE_KERNEL, lambda kernel: Convolution(kernel, (3, 4))),
        (W, lambda weights: subsampled_cosine(6, KEPT) @ Diagonal(weights)),
    ],
    ids=["dense", "diagonal", "scaled", "convolution", "convolution of an image", "prior"],
)
def test_gradients_of_what_an_operator_keeps(
    learned: Tensor, make: Callable[[Tensor], LinearOperator], way: str
) -> None:
    def image(parameter: Tensor) -> tuple[Tensor, Tensor]:
        operator = make(parameter)
        x = draw(2, operator.in_dim if way == "forward" else operator.out_dim, seed=18)
        return getattr(operator, way)(x), operator.column_norms_squared(draw(operator.out_dim, seed=19).square())

    assert torch.autograd.gradcheck(image, learned.clone().requires_grad_())


@pytest.mark.parametrize("name", CASES)
def test_weighted_products_with_its_transpose_are_those_of_the_matrix(name: str) -> None:
    """Phi diag(w) Phi^T and diag(Phi^T M Phi), values and gradients."""
    operator, matrix = CASES[name]
    dense = torch.as_tensor(matrix)
    weights = draw(operator.in_dim, seed=1).exp().requires_grad_()
    torch.testing.assert_close(operator.gram(weights), dense * weights @ dense.T, rtol=1e-11, atol=1e-11)
    middle = draw(operator.out_dim, operator.out_dim, seed=2).requires_grad_()
    expected = (dense.T @ middle @ dense).diagonal()
    torch.testing.assert_close(operator.quadratic_diagonal(middle), expected, rtol=1e-11, atol=1e-11)
    for value, wanted, inputs in (
        (operator.gram(weights), dense * weights @ dense.T, weights),
        (operator.quadratic_diagonal(middle), expected, middle),
    ):
        out = draw(*value.shape, seed=3)
        found, true = (torch.autograd.grad((each * out).sum(), inputs)[0] for each in (value, wanted))
        torch.testing.assert_close(found, true, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_the_normal_operator_is_the_product_with_the_transpose(name: str) -> None:
    operator, matrix = CASES[name]
    dense, x = torch.as_tensor(matrix), draw(3, operator.in_dim, seed=5)
    torch.testing.assert_close(operator.normal(x), x @ (dense.T @ dense), rtol=1e-11, atol=1e-11)
