"""What one learning step costs: exact posteriors, and unrolled with output and with network gradient.

    python experiments/bench/step_cost.py [--threads 1] [--dims 250 500 1000] [--repeats 3]

Factor analysis, N = 200 data points, M = 2 D columns, half of the entries hidden, K = 10 samples, I = 20 steps of
conjugate gradient, float32, at the parameters the data were drawn with (the factors carry 0.9 of the variance, so that
no system has converged to rounding before the last step, which is checked): everything in one process, in turn, the
fastest of the repeats. The steps are those of `lgm-run`, through the same classes. The exact step is also timed in its
other form, masked products over all rows (`masked_gradient`), and the faster is the baseline. Operations are those of
the matrix products, factorisations and triangular solves as the code does them, elementwise work not counted; the rate
they are set against is that of large matrix products, the fastest of three sizes, measured before and after each step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Table
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.methods.m_steps.gradient import Gradient
from lgm_cli.methods.method import Method, StepInfo
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.observations.blocks import observe
from lgm_cli.posteriors.dense import TILE, DensePrecision
from lgm_cli.solvers.conjugate_gradient import ConjugateGradient

POINTS, SAMPLES, ITERATIONS = 200, 10, 20
MASKED_TILE = 64
PRODUCTS = (512, 1000, 2000)  # sizes of the square matrices of which the fastest product sets the rate
COLUMNS = ("seconds", "gigaflop", "gigaflop_per_s", "share_of_product_rate")


def simulated(dim: int) -> tuple[FactorAnalysis, Parameters]:
    """Half of N x 2D entries, drawn from a factor analysis, and the parameters they were drawn with."""
    model = FactorAnalysis(latent_dim=dim, offset=False, noise_floor=1e-3)
    options = {"num_points": POINTS, "num_dimensions": 2 * dim, "latent_dim": dim, "seed": 0}
    drawn = model.simulate(options | {"factor_share": 0.9, "offset_share": 0.0, "hidden_share": 0.5})
    rows, columns = np.nonzero(~np.isnan(drawn["values"]))
    labels = (pd.RangeIndex(POINTS), pd.RangeIndex(2 * dim))
    table = Table("simulated", rows, columns, drawn["values"][rows, columns], *labels, common_unit=False, is_table=True)
    model = model.bind(observe(Data(table, np.zeros(len(rows), bool)), 0, torch.float32, torch.device("cpu")))
    return model, model.restore({name: torch.as_tensor(value) for name, value in drawn["truth"].items()})


def methods(model: FactorAnalysis, start: Parameters) -> dict[str, Method]:

    def method(expectation: Exact | MonteCarlo) -> Method:
        update = Gradient(model, start, "adam", 1e-4)
        return Method(model, expectation, update, len(model.observations.blocks), 0)

    def unrolled(network: bool) -> MonteCarlo:
        solver = ConjugateGradient(max_iterations=ITERATIONS, tolerance=0.0)
        return MonteCarlo(model, solver, SAMPLES, 1, 0, network)

    return {
        "exact, gathered rows": method(Exact(model)),
        "unrolled, output gradient": method(unrolled(False)),
        "unrolled, network gradient": method(unrolled(True)),
    }


@torch.no_grad()
def masked_gradient(model: FactorAnalysis, parameters: Parameters) -> Tensor:
    """The exact gradient of the rows V by masked products over all M rows: with P the products v_m v_m^T as one matrix
    (M, D^2), A = I + Omega P, and the gradient is made of Omega^T Sigma. In tiles on and below the diagonal."""
    dim, columns = model.dim, model.observations.shape[1]
    gradient = torch.zeros(columns, dim)
    starts = range(0, dim, MASKED_TILE)
    tiles = [(slice(i, i + MASKED_TILE), slice(j, j + MASKED_TILE)) for i in starts for j in starts if j <= i]
    for chunk in model.observations.chunks:
        precision, targets = model.system(parameters, chunk)
        assert isinstance(precision, DensePrecision)
        rows, mask = precision.rows, chunk.weight
        a = torch.zeros(len(mask), dim, dim)
        for i, j in tiles:
            pairs = rows[:, i, None] * rows[:, None, j]
            a[:, i, j] = (mask @ pairs.flatten(1)).view(-1, *pairs.shape[1:])
        a.diagonal(dim1=1, dim2=2).add_(1.0)
        sigma = torch.cholesky_inverse(torch.linalg.cholesky(a))
        mean = (sigma @ (targets @ rows)[:, :, None]).squeeze(-1)
        gradient -= (targets - mask * (mean @ rows.T)).T @ mean
        for i, j in tiles:
            block = sigma[:, i, j]
            second = (mask.T @ block.flatten(1)).view(-1, *block.shape[1:])
            gradient[:, i] += (second @ rows[:, j, None]).squeeze(-1)
            if i != j:
                gradient[:, j] += (rows[:, None, i] @ second).squeeze(1)
    return gradient


def symmetric_operations(dim: int, inner: int) -> float:
    """Of `symmetric_product`: both triangles below 2 TILE, one above."""
    if dim < 2 * TILE:
        return 2.0 * inner * dim**2
    half = dim // 2
    corner = 2.0 * inner * half * (dim - half)
    return corner + symmetric_operations(half, inner) + symmetric_operations(dim - half, inner)


def operations(model: FactorAnalysis) -> dict[str, float]:
    """Floating-point operations of a step, in the order of `methods`, and of the masked exact form."""
    dim, columns, chunks = model.dim, model.observations.shape[1], list(model.observations.chunks)
    product = 2.0 * POINTS * columns * dim  # V x for one vector of every data point
    systems = SAMPLES + 1
    start, gradient = product * systems, 2 * product * systems
    solve = 2 * product * systems * ITERATIONS
    exact = 0.0
    for chunk in chunks:
        width = chunk.gathered.weight.shape[1]
        small, large = min(width, dim), max(width, dim)
        each = symmetric_operations(small, large) + small**3 + 2.0 * small**2 * large
        exact += len(chunk.points) * (each + 8.0 * width * dim)
    packed = POINTS * columns * dim * (dim + MASKED_TILE)  # tiles on and below the diagonal
    return {
        "exact, gathered rows": exact,
        "unrolled, output gradient": start + solve + gradient,
        # Backpropagation takes two products for each of the forward ones; those of delta are not differentiated.
        "unrolled, network gradient": start + 3 * solve + 2 * gradient + 2 * product,
        "exact, masked products": 2 * packed + POINTS * dim**3 + 2 * product,
    }


def seconds(action: Callable[[], object]) -> float:
    """Time of one call."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def measure(dim: int, repeats: int) -> pd.DataFrame:
    """Seconds (the fastest), operations and rates of every path at one latent dimension.

    Every timed step stands between two runs of large matrix products, whose mean rate it is set against: what else
    the machine is doing slows both. The share is the median over the repeats.
    """
    model, start = simulated(dim)
    paths: dict[str, Callable[[], object]] = {name: method.step for name, method in methods(model, start).items()}
    paths["exact, masked products"] = lambda: masked_gradient(model, start)
    counted = operations(model)
    matrices = [torch.randn(size, size) for size in PRODUCTS]

    def product_rate() -> float:
        return max(2.0 * len(x) ** 3 / min(seconds(lambda x=x: x @ x) for _ in range(3)) for x in matrices)

    rows, rates = {}, []
    for name, path in paths.items():
        info = path()  # not timed
        if isinstance(info, StepInfo) and info.solver.systems:
            assert info.solver.mean_iterations == ITERATIONS, "systems converged early: the count would be wrong"
        times, shares = [], []
        for _ in range(repeats):
            before, taken, after = product_rate(), seconds(path), product_rate()
            times.append(taken)
            shares.append(counted[name] / taken / ((before + after) / 2))
            rates += [before, after]
        fastest = min(times)
        rows[name] = (fastest, counted[name] / 1e9, counted[name] / fastest / 1e9, float(np.median(shares)))
    table = pd.DataFrame.from_dict(rows, orient="index", columns=pd.Index(COLUMNS))
    table.attrs["rates"] = (min(rates), max(rates))
    return table


def report(dim: int, table: pd.DataFrame) -> None:
    """Print one dimension's table and ratios."""
    print(f"\nD = {dim}, M = {2 * dim}, N = {POINTS}, half hidden, K = {SAMPLES}, I = {ITERATIONS}; ", end="")
    slowest, fastest = (rate / 1e9 for rate in table.attrs["rates"])
    print(f"large products ran at {slowest:.0f} to {fastest:.0f} GFLOP/s")
    print(table.to_string(float_format=lambda value: f"{value:.3g}"))
    exact = table["seconds"].filter(like="exact")
    best, taken = exact.idxmin(), table["seconds"]
    output, network = taken["unrolled, output gradient"], taken["unrolled, network gradient"]
    print(f"fastest exact form: {best}")
    print(
        f"ratios: exact / output {exact.min() / output:.2f}, exact / network {exact.min() / network:.2f}, "
        f"network / output {network / output:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="processor threads (1)")
    parser.add_argument("--dims", type=int, nargs="+", default=[250, 500, 1000], help="latent dimensions")
    parser.add_argument("--repeats", type=int, default=3, help="timed repetitions, the fastest counts (3)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"threads: {torch.get_num_threads()}, float32, torch {torch.__version__}")
    for dim in arguments.dims:
        report(dim, measure(dim, arguments.repeats))


if __name__ == "__main__":
    main()
