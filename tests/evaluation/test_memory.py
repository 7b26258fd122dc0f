"""What exact posteriors take, against what is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lgm_cli.errors import UserError
from lgm_cli.run import meaning
from tests import cases

# Of every model, two sizes, of some both forms. Blocks of 64 KiB and more are mapped one by one, so that what was freed
# before is not counted as there.
SCRIPT = """
import ctypes, gc, json
from pathlib import Path
import numpy as np, torch
from lgm_cli.run.build import of_name
from lgm_cli.data.base.load import load
from lgm_cli.data.base.data import Data
from lgm_cli.evaluation.evaluator import Evaluator
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.method import Method
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.m_steps.gradient import Gradient
from lgm_cli.results.host import peak_memory_mib, reset_peak_memory
from tests import cases
from tests.models.test_linear_regression import data_of

torch.set_num_threads(1)

def table(points, columns, share, kind="table"):
    values = np.random.default_rng(0).normal(size=(points, columns))
    if kind == "series":
        values = values.cumsum(0)
    values[np.random.default_rng(1).random(values.shape) > share] = np.nan
    return cases.as_data(values, kind=kind)

def regression(points, features):
    random = np.random.default_rng(0)
    return data_of(random.normal(size=(points, features)), random.normal(size=points), hidden=points // 10)

def signal(measurements):
    options = dict(unknowns=4096, measurements=measurements, nonzeros=50, noise=0.1, tasks=1, seed=0, test_fraction=0.0)
    return load({"name": "cosine", **options}, 0, None)

FLOOR = {"noise_floor": 1e-3}
SPARSE = {"noise_variance": "auto", "learn_noise": False, "smallest_variance": 0.1, "block": "auto", **FLOOR}
CASES = [
    ("factor_analysis", {"latent_dim": 60, "offset": True, **FLOOR}, table(100, 600, 0.9)),
    ("factor_analysis", {"latent_dim": 20, "offset": False, **FLOOR}, table(1200, 2000, 0.05)),
    ("factor_analysis", {"latent_dim": 2, "offset": True, **FLOOR}, table(9000, 700, 0.02)),
    ("ppca", {"latent_dim": 60, **FLOOR}, table(30, 3000, 0.9)),
    ("ppca", {"latent_dim": 150, **FLOOR}, table(160, 160, 0.9)),
    ("linear_regression", FLOOR, regression(3000, 300)),
    ("linear_regression", FLOOR, regression(250, 5000)),
    ("sparse_bayes", SPARSE, signal(700)),
    ("sparse_bayes", SPARSE, signal(1100)),
    ("state_space", {"latent_dim": 8, **FLOOR}, table(6000, 12, 0.9, "series")),
    ("state_space", {"latent_dim": 2, **FLOOR}, table(3000, 150, 0.9, "series")),
    ("autoregressive", {"order": 2, **FLOOR}, table(15000, 1, 0.9, "series")),
    ("autoregressive", {"order": 100, **FLOOR}, table(4000, 1, 0.9, "series")),
    ("gaussian_mixture", {"num_components": 5, "covariance": "full", **FLOOR}, table(4000, 20, 0.8)),
    ("gaussian_mixture", {"num_components": 10, "covariance": "diagonal", **FLOOR}, table(40000, 20, 1.1)),
]

def resident():
    return 1024 * int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])

seen = set()
for warm, (name, options, data) in enumerate([CASES[0], *CASES]):  # the first imports what there is to import
    for gradient in (False, True) if name not in seen or warm == 1 else (False,):
        seen.add(name)
        model = of_name("models", name, options)
        model = cases.bind(model, data, dtype=torch.float64 if model.double_precision else torch.float32)
        start = model.start(0)
        update = Gradient(model, start, "adam", 0.1) if gradient else ClosedForm(model, start)
        method, expected = Method(model, Exact(model), update, 10**9, 0), model.exact_bytes(gradient)
        evaluator = Evaluator(model, data, 0)
        gc.collect()
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)  # of smaller ones too
        before = resident()
        reset_peak_memory()
        method.step()
        evaluator.score(method.parameters)
        if warm:
            print(json.dumps([name, gradient, expected, 2**20 * peak_memory_mib() - before]), flush=True)
"""


@pytest.mark.parametrize(
    ("name", "mend"),
    [("state_space", "fewer latent dimensions, or less of the series"), ("factor_analysis", "method=unroll")],
)
def test_what_does_not_fit_is_refused_with_what_helps(name: str, mend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A series is judged by exact posteriors, whatever the method."""
    values = np.random.default_rng(0).normal(size=(400, 20))
    kind = "series" if name == "state_space" else "table"
    model = cases.bind(cases.build_model(name, cases.variants(name)[0]), cases.as_data(values, kind=kind))
    meaning.refuse_what_does_not_fit(model, gradient=False)
    monkeypatch.setattr("lgm_cli.run.meaning.available_memory", lambda device: 1e4)
    with pytest.raises(UserError) as refused:
        meaning.refuse_what_does_not_fit(model, gradient=False)
    assert refused.value.mend == mend and "0.00 GB are free" in refused.value.what


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process cannot be set back")
def test_estimates_of_memory_are_within_30_percent_of_the_peak() -> None:
    environment = {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True, text=True, env=os.environ | environment, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 22
    for name, gradient, expected, measured in found:
        assert expected == pytest.approx(measured, rel=0.3, abs=5e6), (name, gradient, expected, measured)
