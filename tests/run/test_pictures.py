"""Which pictures of EM a run leaves, and the clock that they are drawn by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lgm_cli import plots
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


BEGINS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_every_picture_is_in_the_format_that_was_asked_for(kind: str, tmp_path: Path) -> None:
    """The page of the run shows the pictures, or links to what a page cannot show."""
    run = tmp_path / "run"
    assert main([*TINY, "method=em", f"plots.format={kind}", f"hydra.run.dir={run}"]) == 0
    found = {path.name: path.read_bytes() for path in (run / "plots").iterdir()}
    assert found.keys() >= {f"{name}.{kind}" for name in ("convergence", "predictions", "loadings", "bound")}
    assert all(name.endswith(kind) and content.startswith(BEGINS[kind]) for name, content in found.items())
    assert main([f"report={run}"]) == 0
    page = (run / "report.html").read_text()
    assert page.count("<img ") == page.count('src="data:image/svg+xml;base64,') == (len(found) if kind == "svg" else 0)
    assert page.count('<a href="plots/') == (len(found) if kind == "pdf" else 0)


@pytest.mark.parametrize("kind", BEGINS)
def test_the_same_picture_is_the_same_file(kind: str, tmp_path: Path) -> None:
    first, second = (tmp_path / f"{name}.{kind}" for name in "ab")
    for path in (first, second):
        plots.loadings_table(np.eye(3), ["a", "b", "c"], path)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(BEGINS[kind])


def test_a_format_that_there_is_not_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plots.format=gif", f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert "plots.format=gif is not one of png, svg, pdf (e.g. plots.format=png)" in capsys.readouterr().err
    assert not list(tmp_path.glob("run/*"))


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
