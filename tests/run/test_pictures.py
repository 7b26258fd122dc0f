"""Which pictures of EM a run leaves, and the clock that they are drawn by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lgm_cli.command.cli import main
from tests import cases
from tests.run.test_free_energy import method_of

TINY = [
    *("model=ppca", "data=simulated", "data.num_points=60", "data.num_dimensions=5", "data.latent_dim=2"),
    *("device=cpu", "device.threads=1", "max_steps=3", "tolerance=0"),
]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("em", {"free_energy.png", "bound.png"}),
        ("incremental_em", {"free_energy.png", "bound.png"}),
        ("gradient_em", set()),
    ],
)
def test_a_run_of_em_has_its_free_energy_and_its_bound(method: str, expected: set[str], tmp_path: Path) -> None:
    assert main([*TINY, f"method={method}", f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    found = {path.name for path in (tmp_path / "run" / "plots").iterdir()}
    assert found & {"free_energy.png", "bound.png"} == expected


@pytest.mark.parametrize(
    ("word", "given", "passes", "bounds"),
    [
        ("em", {}, (1.0, 1.0), True),
        ("ecm", {"cycle": "each"}, (2.0, 2.0), True),
        ("incremental_em", {"batch_size": 10}, (0.25, 1.0), True),
        ("online_em", {"batch_size": 10}, (0.25, 0.25), False),
    ],
)
def test_passes_over_the_data_are_counted_in_blocks(
    word: str, given: dict[str, object], passes: tuple[float, float], bounds: bool
) -> None:
    values = np.random.default_rng(0).normal(size=(40, 4))
    block_size = 10 if "batch_size" in given else None
    model = cases.bind(
        cases.build_model("factor_analysis", cases.variants("factor_analysis")[0]), values, block_size=block_size
    )
    method = method_of(model, "factor_analysis", word, **given)
    assert method.passes == passes
    assert method.update.bounds is bounds
