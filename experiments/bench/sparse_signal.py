"""Sparse Bayesian learning of the default signal: unrolling beside EM with an exact posterior in its dual form.

Prints, for each, the seconds of learning until the signal is recovered to the wanted relative error, and the error
after 50 steps. One thread; the methods take turns, and the least time of the repeats counts; evaluations are off the
clock.

    dense        C = I + V V^T and diag(V^T C^-1 V) by matrix products of V (m x D)
    structured   the same by one cosine transform each (lgm_cli/operators/cosine.py)

The EM steps are the same in both; both factorise C, which is O(m^3).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from lgm_cli.command import choices
from lgm_cli.data.base.data import Data
from lgm_cli.data.cosine import load
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.method import Method
from lgm_cli.models.base.latent_variable_model import Reference
from lgm_cli.models.base.linear_gaussian_model import LinearGaussianModel
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.sparse_bayes import SparseBayes
from lgm_cli.observations.blocks import observe
from lgm_cli.observations.chunk import Chunk
from lgm_cli.posteriors.operator import OperatorPosterior
from lgm_cli.run import auto


class SingleSparseBayes(SparseBayes):
    """With the structured dual form in single precision throughout, as the other two; `method=em` takes more digits."""

    def posterior(self, parameters: Parameters, chunk: Chunk, inverse_temperature: float = 1.0) -> Reference:
        root = self._noise.rsqrt()
        found = OperatorPosterior(
            self.operator, parameters["precisions"], root, root * chunk.values, inside=torch.float32
        )
        found.frame = self.frame(parameters)
        return found


class DenseSparseBayes(SparseBayes):
    """With the exact posterior by matrix products."""

    def posterior(self, parameters: Parameters, chunk: Chunk, inverse_temperature: float = 1.0) -> Reference:
        return LinearGaussianModel.posterior(self, parameters, chunk)


def defaults(choice: str) -> dict[str, Any]:
    return {key: entry.default for key, entry in choices.keys(choice).items()} | {"name": choice.split("/")[1]}


def bound(kind: type[SparseBayes], seed: int) -> SparseBayes:
    options = {key: value for key, value in defaults("model/sparse_bayes").items() if key != "name"}
    table = load(defaults("data/cosine") | {"seed": seed})
    model = kind(**options)
    return model.bind(observe(Data(table, np.zeros(len(table.values), bool)), 0, torch.float32, torch.device("cpu")))


def unrolled(seed: int) -> Method:
    model = bound(SparseBayes, seed)
    config = {
        "seed": 0,
        "method": defaults("method/unroll"),
        "solver": defaults("solver/conjugate_gradient"),
        "device": defaults("device/cpu"),
    }
    return auto.method(config, model, model.start(0))[0]


def exact(kind: type[SparseBayes], seed: int) -> Method:
    model = bound(kind, seed)
    return Method(model, Exact(model), ClosedForm(model, model.start(0)), 1, 0)


@torch.no_grad()
def relative_error(method: Method) -> float:
    """|E[x] - x| / |x|, by the exact posterior in its structured form."""
    model = method.model
    assert isinstance(model, SparseBayes)
    (chunk,) = model.observations.chunks
    posterior = SparseBayes.posterior(model, method.parameters, chunk)
    sums = model.measure(method.parameters, chunk, posterior)
    return float((sums["error"] / sums["power"]).sqrt())


def race(make: Callable[[int], Method], seed: int, wanted: float, steps: int) -> tuple[float, int, float]:
    """Seconds and steps until the wanted error, and the error after `steps` steps."""
    method, seconds, reached = make(seed), 0.0, (float("nan"), -1)
    error = float("nan")
    for step in range(1, steps + 1):
        begun = time.perf_counter()
        method.step()
        seconds += time.perf_counter() - begun
        error = relative_error(method)
        if error <= wanted and reached[1] < 0:
            reached = seconds, step
    return *reached, error


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--error", type=float, default=0.04, help="the wanted relative error (0.04)")
    parser.add_argument("--repeats", type=int, default=3, help="of each method (3)")
    parser.add_argument("--steps", type=int, default=50, help="of each method (50)")
    parser.add_argument("--seed", type=int, default=0, help="of the signal (0)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    methods: dict[str, Callable[[int], Method]] = {
        "unroll": unrolled,
        "EM, structured dual": lambda seed: exact(SingleSparseBayes, seed),
        "EM, dense dual": lambda seed: exact(DenseSparseBayes, seed),
    }
    found: dict[str, list[tuple[float, int, float]]] = {name: [] for name in methods}
    race(methods["unroll"], arguments.seed, arguments.error, 3)  # what is done once in a process
    for _ in range(arguments.repeats):
        for name, make in methods.items():
            found[name].append(race(make, arguments.seed, arguments.error, arguments.steps))
    options = defaults("data/cosine")
    print(
        f"{options['nonzeros']} of {options['unknowns']} cosine coefficients from {options['measurements']} samples, "
        f"noise {options['noise']:g}; one thread, least of {arguments.repeats} repeats"
    )
    least = {name: min(runs) for name, runs in found.items()}
    headings = f"to {arguments.error:g} [s]", f"error at {arguments.steps}"
    print(f"{'':22}{headings[0]:>14}{'steps':>8}{'beside unroll':>15}{headings[1]:>14}")
    for name, (seconds, steps, error) in least.items():
        print(f"{name:22}{seconds:14.3f}{steps:8}{seconds / least['unroll'][0]:15.1f}{error:14.4f}")


if __name__ == "__main__":
    main()
