"""Expected sums of factor analysis over the data points of a chunk, added in place, and those of a prior.

With u = (z, 1) or, where each data point has an offset, u = (z, 1, o): moments of u by columns, of the factors and of
the offset. Posteriors are of (z, o / sqrt(v)), and the scale of their frame holds sqrt(v); without offsets it has none.
"""

from __future__ import annotations

from torch import Tensor

from lgm_cli.models.base.latent_variable_model import Posterior
from lgm_cli.models.base.parameters import Statistics
from lgm_cli.observations.chunk import Chunk
from lgm_cli.observations.sparse_rows import SparseRows
from lgm_cli.posteriors.sparse import column_sums


def no_sums(like: Tensor, m: int, q: int, entropy: bool) -> Statistics:
    """The sums over no data points, of M columns and q numbers u; `entropy` where posteriors have one."""
    columns = {"second_moment": (m, q, q), "cross_moment": (m, q), "square": (m,)}
    totals = ("latent_square", "offset_square", "points", *(["entropy"] if entropy else []))
    return {name: like.new_zeros(shape) for name, shape in (columns | dict.fromkeys(totals, ())).items()}


def add_sums(total: Statistics, chunk: Chunk, posterior: Posterior, d: int) -> None:
    """Adds the sums of a chunk, from E[u u^T] of each data point, or of sparse rows from sums over their entries."""
    if isinstance(chunk, SparseRows):
        _add_sparse_sums(total, chunk, posterior, d)
        return
    moment = second_moment(posterior, d)
    first = moment[:, d]  # E[u]
    if chunk.index is None:
        total["second_moment"].view(len(total["square"]), -1).addmm_(chunk.weight.T, moment.flatten(1))
        total["cross_moment"].addmm_(chunk.values.T, first)
    elif chunk.index.dim() == 1:
        total["second_moment"][chunk.index] += moment.sum(0)
        total["cross_moment"][chunk.index] += chunk.values.T @ first
    else:
        chunk.add_to_columns(total["second_moment"], chunk.weight[:, :, None, None] * moment[:, None])
        chunk.add_to_columns(total["cross_moment"], chunk.values[:, :, None] * first[:, None])
    chunk.add_to_columns(total["square"], chunk.values**2)
    total["points"] += len(moment)
    total["latent_square"] += moment[:, :d, :d].diagonal(dim1=1, dim2=2).sum()
    if posterior.frame.scale is not None:
        total["offset_square"] += moment[:, -1, -1].sum()


def second_moment(posterior: Posterior, d: int) -> Tensor:
    """E[u u^T] of the data points, (n, q, q)."""
    mean, scale = posterior.mean, posterior.frame.scale
    second = posterior.covariance + mean[:, :, None] * mean[:, None, :]
    q = mean.shape[1] + 1
    moment = mean.new_ones(len(mean), q, q)
    moment[:, :d, :d] = second[:, :d, :d]
    moment[:, :d, d] = moment[:, d, :d] = mean[:, :d]
    if scale is not None:
        root = scale[-1]
        moment[:, :d, -1] = moment[:, -1, :d] = root * second[:, :d, -1]
        moment[:, d, -1] = moment[:, -1, d] = root * mean[:, -1]
        moment[:, -1, -1] = root**2 * second[:, -1, -1]
    return moment


def _add_sparse_sums(total: Statistics, rows: SparseRows, posterior: Posterior, d: int) -> None:
    """Adds the same sums of sparse rows, from sums over the entries of each column of (z, o / sqrt(v), 1)."""
    sums, q = column_sums(rows, posterior), posterior.mean.shape[1] + 1
    order, unit = list(range(q)), posterior.mean.new_ones(q)
    square = (posterior.marginal_variance + posterior.mean.square()).sum(0)
    if posterior.frame.scale is not None:
        order = [*order[:-2], q - 1, d]
        unit[-1] = posterior.frame.scale[-1]
        total["offset_square"] += unit[-1] ** 2 * square[-1]
    total["second_moment"] += sums.second[:, order][:, :, order] * (unit[:, None] * unit)
    total["cross_moment"] += sums.cross[:, order] * unit
    total["square"] += sums.square
    total["points"] += len(rows.points)
    total["latent_square"] += square[:d].sum()


def residual_squares(row: Tensor, statistics: Statistics) -> Tensor:
    """sum omega E(y - row u)^2 of each column, (M,); row (M, q)."""
    fitted = (row[:, None] @ statistics["second_moment"] @ row[:, :, None]).flatten()
    return statistics["square"] - 2 * (row * statistics["cross_moment"]).sum(1) + fitted


def imagined_sums(ridge: float, squares: Tensor, numbers: Tensor, d: int, q: int) -> Statistics:
    """A prior as sums of imaginary entries y = 0: moments of lambda I of the D factors, lambda = `ridge`, and sums of
    squares (M,) over numbers (M,) of entries that are noise alone. `imagined` (M,) are the normalisers of their
    densities, beside the entries that the moment of ones counts: D for a row of loadings that has a ridge, and the
    numbers. q: length of u."""
    m, zero = len(squares), squares.new_zeros(())
    second = squares.new_zeros(q, q)
    second[range(d), range(d)] = ridge
    return {
        "second_moment": second.expand(m, q, q),
        "cross_moment": zero.expand(m, q),
        "square": squares,
        "imagined": numbers + (d if ridge else 0),
        "latent_square": zero,
        "offset_square": zero,
        "points": zero,
    }
