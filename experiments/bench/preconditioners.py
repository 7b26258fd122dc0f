"""What preconditioners give a solve: iterations and processor time, side by side in one process, by one thread.

    python experiments/bench/preconditioners.py            # a minute
    python experiments/bench/preconditioners.py --large    # series of 100 and 200 states, too

Each line is one system matrix with 11 right-hand sides, a mean and ten perturbations. Solvers take turns, and the least
processor time of each counts, set-up included: another process on the machine costs no processor time of this one, but
memory bandwidth.

Series: none, the diagonal blocks (jacobi), the circulant matrix of the average over time, which was the default before,
and the steady state, which is the default. Regressions: none, a sketch made for this solve (made), and one that is
kept from an earlier solve (kept), as a run keeps it.

What limits them: a product with the precision of a series is four matrix products of (11 T, D) by (D, D) or (D, M), of
which the steady state needs two, since it knows the rest; it takes three to four of its own with each iteration, in
T / 128 blocks side by side where states are many. A sketch of rank l takes 4 D l operations for each right-hand side
and iteration beside 4 m D of a product by m rows.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lgm_cli.posteriors.base import PosteriorPrecision
from lgm_cli.posteriors.chain import Chain, ChainPrecision
from lgm_cli.posteriors.dense import DensePrecision
from lgm_cli.solvers import conjugate_gradient
from lgm_cli.solvers.base.choose import preconditioner_of
from lgm_cli.solvers.base.nystrom import sketched
from lgm_cli.solvers.base.preconditioner import Preconditioner
from lgm_cli.solvers.conjugate_gradient import ConjugateGradient

Ways = dict[str, Callable[[], Preconditioner]]

RIGHT_SIDES = 11
SERIES = (  # T, D, M, share hidden, spectral radius of the transition, scale of the observations
    (986, 8, 20, 0.1, 0.98, 0.3), (986, 8, 20, 0.1, 0.5, 1.0), (986, 2, 4, 0.3, 0.99, 0.3), (100, 3, 4, 0.3, 0.95, 0.5),
    (300, 30, 30, 0.3, 0.95, 0.5), (5000, 20, 20, 0.3, 0.95, 0.5),
)  # fmt: skip
AIM = 340.0  # milliseconds that were aimed at by the steady state in the first large series
LIMIT = "six products of (22,000, 100) by (100, 100) an iteration, at half to two thirds of the rate of large ones"
LARGE = ((2000, 100, 100, 0.3, 0.95, 1.0), (2000, 200, 200, 0.3, 0.95, 1.0))
REGRESSIONS = (  # m, D, largest eigenvalue of A - I, power by which the eigenvalues fall
    (193, 100, 1e10, 6.0), (200, 100, 1e6, 2.0), (800, 400, 1e6, 2.0), (800, 400, 1e3, 1.0), (800, 400, 10.0, 0.5),
)  # fmt: skip


class Circulant(Preconditioner):
    """The circulant matrix of the chain closed to a ring, of which every step observes the average:

    at the frequency w, (I - G e^-iw)^H (I - G e^-iw) + V^T diag(share of the steps that each channel is observed at) V.
    """

    def __init__(self, precision: ChainPrecision) -> None:
        chain, self._steps = precision.chain, precision.steps
        g, rows = chain.transition, chain.rows
        steps = torch.arange(self._steps // 2 + 1, dtype=torch.float64)
        turn = torch.polar(torch.ones_like(steps), -2 * math.pi / self._steps * steps)[:, None, None]
        moved = torch.eye(len(g), dtype=g.dtype) - g * turn.to(torch.promote_types(g.dtype, torch.complex64))
        blocks = moved.mH @ moved + (rows.mT * chain.mask.mean(0)) @ rows
        self._inverse = torch.cholesky_inverse(torch.linalg.cholesky(blocks))[None]

    def solve(self, r: Tensor) -> Tensor:
        parts = torch.fft.rfft(r.view(*r.shape[:2], self._steps, -1), dim=2)
        product = (self._inverse @ parts.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return torch.fft.irfft(product, n=self._steps, dim=2).reshape(r.shape)


def series(
    steps: int, dim: int, channels: int, hidden: float, radius: float, scale: float
) -> tuple[ChainPrecision, Tensor]:
    """A chain with a random transition and a random mask, in float32, and its right-hand sides."""
    draw = torch.Generator().manual_seed(0)
    g = torch.randn(dim, dim, generator=draw)
    g = g * (radius / torch.linalg.eigvals(g).abs().max())
    rows = torch.randn(channels, dim, generator=draw) * scale / dim**0.5
    mask = (torch.rand(steps, channels, generator=draw) > hidden).float()
    chain = Chain(g, 1.5 * torch.eye(dim), torch.zeros(dim), rows, mask)
    precision = ChainPrecision(chain, None, steps * channels)
    return precision, right_sides(precision, steps * channels, draw, mask.flatten())


def regression(m: int, dim: int, largest: float, power: float) -> tuple[DensePrecision, Tensor]:
    """A = I + V^T V with eigenvalues 1 + largest i^-power, in float64, and its right-hand sides."""
    draw = torch.Generator().manual_seed(0)
    like: dict[str, Any] = {"dtype": torch.float64}
    left, right = (torch.linalg.qr(torch.randn(size, dim, generator=draw, **like)).Q for size in (m, dim))
    falling = largest * torch.arange(1, dim + 1, **like) ** -power
    precision = DensePrecision(left * falling.sqrt() @ right, None)
    return precision, right_sides(precision, m, draw, torch.ones(m, **like))


def right_sides(precision: PosteriorPrecision, width: int, draw: torch.Generator, seen: Tensor) -> Tensor:
    like: dict[str, Any] = {"dtype": seen.dtype, "generator": draw}
    targets = torch.randn(1, width, **like) * seen
    latent, observed = (torch.randn(1, RIGHT_SIDES - 1, size, **like) for size in (precision.dim, width))
    return torch.cat([precision.right_side(targets), precision.perturbation(latent, observed)], 1)


def compared(
    precision: PosteriorPrecision,
    b: Tensor,
    ways: dict[str, Callable[[], Preconditioner]],
    tolerance: float,
    repeats: int,
) -> dict[str, tuple[float, float]]:
    """Iterations a system and the least processor time in milliseconds of each way to precondition."""
    found: dict[str, tuple[float, float]] = {}
    for _ in range(repeats):
        for name, make in ways.items():
            conjugate_gradient.preconditioner_of = lambda *_, make=make: make()
            begun = time.process_time()
            with torch.no_grad():  # as runs solve for an output gradient
                solution = ConjugateGradient(3000, tolerance).solve(precision, b)
            taken = 1e3 * (time.process_time() - begun)
            found[name] = (float(solution.iterations.mean()), min(taken, found.get(name, (0.0, math.inf))[1]))
    conjugate_gradient.preconditioner_of = preconditioner_of
    return found


def report(title: str, found: dict[str, tuple[float, float]], before: str, after: str) -> None:
    parts = [f"{name} {iterations:.1f} in {taken:.1f} ms" for name, (iterations, taken) in found.items()]
    print(f"{title}: {', '.join(parts)}; {before} / {after} {found[before][1] / found[after][1]:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="series of 100 and 200 states, too")
    parser.add_argument("--repeats", type=int, default=5, help="turns, the fastest counts (5)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"one thread, torch {torch.__version__}; iterations and processor time of a solve\n")
    print("series, float32, tolerance 1e-3")
    for steps, dim, channels, hidden, radius, scale in SERIES + (LARGE if arguments.large else ()):
        precision, b = series(steps, dim, channels, hidden, radius, scale)
        ways: dict[str, Callable[[], Preconditioner]] = {
            name: lambda name=name, precision=precision: preconditioner_of(precision, name)
            for name in ("none", "jacobi")
        }
        ways["circulant"] = lambda precision=precision: Circulant(precision)
        ways["steady"] = lambda precision=precision: preconditioner_of(precision, "auto")
        title = f"T={steps} D={dim} M={channels}, {hidden:.0%} hidden, radius {radius}, scale {scale}"
        found = compared(precision, b, ways, 1e-3, arguments.repeats)
        report(title, found, "circulant", "steady")
        if (steps, dim) == LARGE[0][:2]:
            met = "met" if found["steady"][1] <= AIM else f"not met: {LIMIT}"
            print(f"    aimed at {AIM:.0f} ms: {met}", flush=True)
    print("\nregressions, float64, tolerance 1e-6")
    for m, dim, largest, power in REGRESSIONS:
        precision, b = regression(m, dim, largest, power)
        kept = sketched(precision).kept()
        ways = {
            "none": Preconditioner,
            "made": lambda precision=precision: sketched(precision),
            "kept": lambda kept=kept: kept,
        }
        title = f"m={m} D={dim}, {largest:g} / i^{power:g}, rank {kept.values.shape[1]}"
        report(title, compared(precision, b, ways, 1e-6, arguments.repeats), "none", "kept")


if __name__ == "__main__":
    main()
