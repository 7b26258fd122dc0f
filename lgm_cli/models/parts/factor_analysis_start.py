"""Where learning of loadings starts: principal axes of the covariances of pairs of columns."""

from __future__ import annotations

import torch
from torch import Tensor

from lgm_cli.observations.blocks import Observations

INITIAL_OFFSET_SHARE = 0.1  # of the variance, an offset's at the start
LARGEST_START = 0.3  # share of the variance that principal axes carry at the start
PAIRED_COLUMNS = 2048  # up to which the covariances of all pairs of columns are affordable
FEW = 5  # data points that tell half of what many do of a pair's covariance


def correlations(observations: Observations) -> Tensor:
    """Correlations of the columns (M, M), each pair's from the data points at which both were observed; float64, on
    the CPU."""
    square, together = torch.zeros(2, *2 * observations.shape[1:], dtype=torch.float64)
    for chunk in observations.chunks:
        for part in chunk.split(PAIRED_COLUMNS):
            weight, values = part.scattered(len(square))
            square += (values.mT @ values).cpu().double()
            together += (weight.mT @ weight).cpu().double()
    return square / (together + FEW)


def shared_axes(correlation: Tensor, dim: int, offset_rows: Tensor | None) -> Tensor:
    """Loadings U (Lambda s)^(1/2), (M, D), of the leading eigenvalues Lambda of the correlations without what an offset
    of these loadings explains; s <= 1 such that they carry LARGEST_START of the variance at most.

    The diagonal is each column's largest correlation, a usual first guess of communalities (Harman, Modern Factor
    Analysis, 1976, section 5.5).
    """
    if offset_rows is not None:
        rows = offset_rows.cpu().double()
        correlation = correlation - INITIAL_OFFSET_SHARE * torch.outer(rows, rows)
    correlation.fill_diagonal_(0.0)
    correlation.diagonal().copy_(correlation.abs().amax(1))
    size, axes = leading(correlation, dim)
    size = size.clamp_min(1e-2 * float(size[0].clamp_min(1e-2)))
    return axes * (size * min(1.0, LARGEST_START * len(axes) / float(size.sum()))).sqrt()


def leading(matrix: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues of a symmetric matrix, falling, and their eigenvectors in columns."""
    size, axes = torch.linalg.eigh(matrix)
    return size.flip(0)[:number], axes.flip(1)[:, :number]
