"""Nanoseconds a rating and step of em and unroll on simulated ratings, gathered and as sparse rows side by side.

Users rate log-normally many items, whose popularity falls as a power; ratings are drawn from two factors, an offset of
each user and noise. Both layouts take turns in one process, on one thread; processor time is counted, of which the
fastest step is shown, so that what else the machine does matters little. Aimed at with sparse rows and two factors
are 30 ns by em and 100 by unroll.

    .venv/bin/python experiments/bench/ratings.py
    .venv/bin/python experiments/bench/ratings.py --sizes 100000 --dims 2 5 10 20 40 --methods em
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
import torch

from lgm_cli.data.base.data import Data
from lgm_cli.data.base.table import Table
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.e_steps.monte_carlo import MonteCarlo
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.m_steps.gradient import Gradient
from lgm_cli.methods.method import Method
from lgm_cli.models.base.latent_variable_model import LatentVariableModel
from lgm_cli.models.factor_analysis import FactorAnalysis
from lgm_cli.observations.blocks import observe
from lgm_cli.solvers.conjugate_gradient import ConjugateGradient

EACH = 50  # ratings of a user, on average
AIMS = {"em, sparse": 30.0, "unroll, sparse": 100.0}  # nanoseconds a rating and step, with two factors
LIMIT = "products of sparse matrices with the loadings' pairs, whose rows are read out of order"
SAMPLES = 4  # of the posterior of each user, for unroll


class Gathered(FactorAnalysis):
    """Factor analysis without sparse rows."""

    layout = LatentVariableModel.layout


def simulated(ratings: int, seed: int = 0) -> Data:
    """About so many ratings by a fiftieth as many users, of a tenth as many items as there are users and 500 more."""
    random = np.random.default_rng(seed)
    users, items = ratings // EACH, 500 + ratings // (10 * EACH)
    often, popular = random.lognormal(0.0, 1.0, users), (np.arange(items) + 20.0) ** -0.8
    drawn = int(1.3 * ratings)
    user, item = (random.choice(len(p), drawn, p=p / p.sum()) for p in (often, popular))
    place = np.unique(user * items + item)
    place = np.sort(random.permutation(place)[:ratings])
    user, item = place // items, place % items
    loadings, factors = random.normal(0.0, 0.3, (items, 2)), random.normal(size=(users, 2))
    values = 3.5 + random.normal(0.0, 0.4, users)[user] + (loadings[item] * factors[user]).sum(1)
    values += random.normal(0.0, 0.8, len(values))
    labels = (pd.RangeIndex(users), pd.RangeIndex(items))
    table = Table("simulated ratings", user, item, values, *labels, common_unit=True, is_table=False)
    return Data(table, np.zeros(len(values), bool))


def methods(model: FactorAnalysis, names: list[str]) -> dict[str, Method]:
    """em and unroll over all data points."""
    start, blocks = model.start(0), len(model.observations.blocks)
    found = {}
    if "em" in names:
        found["em"] = Method(model, Exact(model), ClosedForm(model, start), blocks, 0)
    if "unroll" in names:
        expectation = MonteCarlo(model, ConjugateGradient(), SAMPLES, 1, 0, False)
        found["unroll"] = Method(model, expectation, Gradient(model, start, "adam", 0.1), blocks, 0)
    return found


def measure(data: Data, factors: int, names: list[str], repeats: int) -> dict[str, float]:
    """Nanoseconds a rating and step, by method and layout."""
    observations = observe(data, 0, torch.float32, torch.device("cpu"))
    models = {
        "sparse": FactorAnalysis(factors, True, 1e-3).bind(observations),
        "gathered": Gathered(factors, True, 1e-3).bind(observations),
    }
    steps = {
        f"{name}, {layout}": method
        for layout, model in models.items()
        for name, method in methods(model, names).items()
    }
    taken = {name: float("inf") for name in steps}
    for repeat in range(1 + repeats):
        for name, method in steps.items():
            begun = time.thread_time()
            method.step()
            if repeat:  # the first lays out the data and warms up
                taken[name] = min(taken[name], time.thread_time() - begun)
    return {name: 1e9 * seconds / observations.observed for name, seconds in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000, 3_000_000], help="ratings")
    parser.add_argument("--dims", type=int, nargs="+", default=[2], help="factors beside the offset")
    parser.add_argument("--methods", nargs="+", default=["em", "unroll"], choices=["em", "unroll"])
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of each, the fastest counts (5)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for size in arguments.sizes:
        data = simulated(size)
        for factors in arguments.dims:
            found = measure(data, factors, arguments.methods, arguments.repeats)
            shown = ", ".join(f"{name} {value:.0f}" for name, value in sorted(found.items()))
            print(f"{len(data.table.values)} ratings, {factors} factors and an offset: {shown} ns", flush=True)
            for name, aim in AIMS.items() if factors == 2 else ():
                if name in found:
                    met = "met" if found[name] <= aim else f"not met: {LIMIT}"
                    print(f"    {name}: aimed at {aim:.0f} ns, {met}", flush=True)


if __name__ == "__main__":
    main()
