"""Seconds of an EM step of a Gaussian mixture and of a hidden Markov model, beside the same step by others.

    python experiments/bench/discrete.py [--repeats 5] [--points 100000]

Gaussian mixture: 20 columns without gaps, 10 components with full covariances; beside scikit-learn's E-step and M-step
in double precision, where it is installed. Hidden Markov model: as many steps of one column in one series, 8 states;
beside hmmlearn where it is installed, else beside forwards and backwards passes that are a loop over time in NumPy,
which compiled code like hmmlearn's outruns by far: that row says nothing of whether hmmlearn is met.

One thread. Sides take turns in one process; processor time counts, of which the fastest step is shown. Not met is one
that takes longer than the peer's, with what limits it.
"""

from __future__ import annotations

import argparse
import importlib
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.make_table import rectangle
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.method import Method
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.gaussian_mixture import GaussianMixture
from lgm_cli.models.hidden_markov import HiddenMarkov
from lgm_cli.observations.blocks import observe

COLUMNS, COMPONENTS, STATES = 20, 10, 8
DTYPES = {"float32": torch.float32, "float64": torch.float64}
LOOP = "a loop in NumPy"
UNLIKE = (LOOP,)  # peers that are no measure of what compiled code takes
LIMIT = {  # what most of a step is
    "gaussian_mixture": "two products of (N, M) by (M, M) for each component",
    "hidden_markov": "passes over blocks of time, whose blocks are matrices of all states by all states",
}
Steps = dict[str, Callable[[], Any]]


def ours(model: LatentVariableModel, values: np.ndarray, kind: str, dtype: torch.dtype) -> Method:
    labels = (pd.RangeIndex(len(values)), pd.Index([str(m) for m in range(values.shape[1])]))
    table = rectangle("simulated", values, *labels, kind=kind)
    data = Data(table, np.zeros(len(table.values), bool))
    bound = model.bind(observe(data, 0, dtype, torch.device("cpu")))
    return Method(bound, Exact(bound), ClosedForm(bound, bound.start(0)), len(bound.observations.blocks), 0)


def mixture(points: int) -> Steps:
    model = GaussianMixture(COMPONENTS, "full", 1e-3)
    options = {"num_points": points, "num_dimensions": COLUMNS, "latent_dim": 3, "seed": 0}
    values = model.simulate(options | {"factor_share": 0.7, "hidden_share": 0.0})["values"]
    steps: Steps = {
        name: ours(GaussianMixture(COMPONENTS, "full", 1e-3), values, "table", dtype).step
        for name, dtype in DTYPES.items()
    }
    if (peer := _found("sklearn.mixture")) is not None:
        learned = peer.GaussianMixture(COMPONENTS, init_params="random_from_data", max_iter=1, random_state=0)
        standard = (values - values.mean(0)) / values.std(0)
        with warnings.catch_warnings():  # of a single step, that it has not converged
            warnings.simplefilter("ignore")
            learned.fit(standard)

        def step() -> None:
            _, log_resp = learned._e_step(standard)
            learned._m_step(standard, log_resp)

        steps["scikit-learn"] = step
    return steps


def chain(points: int) -> Steps:
    random = np.random.default_rng(0)
    transition = np.full((STATES, STATES), 0.1 / (STATES - 1)) + np.eye(STATES) * (0.9 - 0.1 / (STATES - 1))
    turns = random.random(points) < 0.1
    path = np.cumsum(turns * random.integers(1, STATES, points)) % STATES
    values = (3.0 * path + random.normal(size=points))[:, None]
    steps: Steps = {
        name: ours(HiddenMarkov(STATES, "normal", "full", 1e-3), values, "series", dtype).step
        for name, dtype in DTYPES.items()
    }
    if (peer := _found("hmmlearn.hmm")) is not None:
        learned = peer.GaussianHMM(STATES, "full", n_iter=1, tol=-math.inf, init_params="", params="stmc")
        learned.startprob_, learned.transmat_ = np.full(STATES, 1 / STATES), transition
        learned.means_, learned.covars_ = 3.0 * np.arange(STATES)[:, None], np.ones((STATES, 1, 1))
        steps["hmmlearn"] = lambda: learned.fit(values)
    else:
        steps[LOOP] = lambda: loop(transition, values[:, 0])
    return steps


def loop(transition: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scaled passes (Rabiner, Proc. IEEE 77 (1989) 257-286, section V.A): probabilities of states, expected moves."""
    density = np.exp(-0.5 * (y[:, None] - 3.0 * np.arange(STATES)) ** 2) + 1e-300
    forward, scale = np.empty_like(density), np.empty(len(y))
    last = np.full(STATES, 1 / STATES)
    for t, each in enumerate(density):
        last = (last @ transition if t else last) * each
        scale[t] = last.sum()
        forward[t] = last = last / scale[t]
    backward = np.ones_like(density)
    for t in range(len(y) - 2, -1, -1):
        backward[t] = transition @ (density[t + 1] * backward[t + 1]) / scale[t + 1]
    ahead = density[1:] * backward[1:] / scale[1:, None]
    return forward * backward, transition * (forward[:-1].T @ ahead)


def _found(name: str) -> Any:
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def measure(steps: Steps, repeats: int) -> dict[str, float]:
    """Processor seconds of a step, the fastest of so many turns after one that lays out the data."""
    taken = dict.fromkeys(steps, math.inf)
    for repeat in range(1 + repeats):
        for name, step in steps.items():
            begun = time.process_time()
            step()
            if repeat:
                taken[name] = min(taken[name], time.process_time() - begun)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of each, the fastest counts (5)")
    parser.add_argument("--points", type=int, default=100_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for title, steps in (("gaussian_mixture", mixture), ("hidden_markov", chain)):
        found = measure(steps(arguments.points), arguments.repeats)
        peer = list(found)[-1]
        for name, seconds in found.items():
            verdict = ""
            if name != peer and peer not in DTYPES:
                verdict = f"  {found[peer] / seconds:5.2f} times as fast as {peer}"
                verdict += "" if peer in UNLIKE else ", met" if seconds <= found[peer] else f", not met: {LIMIT[title]}"
            print(f"{title:17} {arguments.points:7} {name:16} {seconds:8.4f} s a step{verdict}", flush=True)


if __name__ == "__main__":
    main()
