"""report.html in a real browser: it sorts, nothing overflows, nothing from a file runs, the console stays empty.

Needs playwright and a Chromium that is installed; without them these tests are skipped.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lgm_cli.comparison import write

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
EVIL = "<script>document.title='run'</script><img src=x onerror=document.title='run'>"
LONG = "a_very_long_name_of_a_column_" * 6
METHODS = ("em", "gradient_em", "unroll", "ecm", "squarem", "online_em")


def make(place: Path, number: int, method: str, dimension: int, seed: int) -> None:
    """A run's folder as it is left by a run, some failed, some killed, with names from a data file that mean harm."""
    folder = place / f"{number}-method_{method}-latent_dim_{dimension}-seed_{seed}"
    (folder / ".hydra").mkdir(parents=True)
    overrides = [f"method={method}", f"model.latent_dim={dimension}", f"seed={seed}", f"data.index={EVIL}{LONG}"]
    config: dict[str, Any] = {"method": {"name": method, "posterior": "exact" if method == "em" else "solver"}}
    config |= {"model": {"name": "ppca", "latent_dim": dimension}, "data": {"name": "csv", "index": EVIL + LONG}}
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config | {"seed": seed}))
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    values = [-3 + 1.5 * (1 - math.exp(-step / (4 + number % 5))) - 0.01 * seed for step in range(30)]
    rows = "".join(f"{step},{0.01 * step * (1 + number % 3)},{value}\n" for step, value in enumerate(values))
    (folder / "metrics.csv").write_text("step,fit_seconds,test_log_likelihood\n" + rows)
    if number % 13 == 12:
        return  # killed
    status = "failed" if number % 17 == 16 else "converged"
    last = {"step": 29, "fit_seconds": 0.29, "test_log_likelihood": values[-1], "test_rmse": 0.5 + number / 100}
    record = {
        "status": status,
        "last_row": last,
        "overrides": overrides,
        "warnings": [EVIL, LONG],
        "bic": 90.0 + number,
    }
    record |= {"error": {"what": EVIL + LONG, "mend": "mend it"} if status == "failed" else None}
    (folder / "summary.json").write_text(json.dumps(record | {"data": {"fingerprint": str(seed)}}))
    (folder / "summary.txt").write_text(f"{EVIL}\n{LONG}\n")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module", params=[1, 6, 60])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    place = tmp_path_factory.mktemp("runs")
    for number in range(request.param):
        make(place, number, METHODS[number % 6], 1 + number // 6 % 5, number // 30)
    if request.param == 1:
        return 1, write.single(next(place.iterdir()))
    write.report([place], place)
    return request.param, place / "report.html"


@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_is_readable_and_quiet(report: tuple[int, Path], width: int, browser: Any, tmp_path: Path) -> None:
    _, path = report
    page = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda asked: said.extend([asked.url] * (not asked.url.startswith(("file:", "data:")))))
    page.goto(path.as_uri())
    page.screenshot(path=tmp_path / f"page_{width}.png", full_page=True)
    assert page.title() != "run"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert said == []
    page.close()


def test_every_table_sorts_by_every_column_both_ways(report: tuple[int, Path], browser: Any) -> None:
    number, path = report
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(path.as_uri())
    tables = page.locator("table.sortable")
    if number == 1:
        assert tables.count() == 0  # the result is text
        return
    for table in tables.all():
        for column, button in enumerate(table.locator("th button").all()):
            for direction in ("ascending", "descending"):
                button.click()
                assert table.locator("th").nth(column).get_attribute("aria-sort") == direction
                cells = table.locator(f"tbody td:nth-child({column + 1})").evaluate_all(
                    "cells => cells.map(cell => cell.dataset.value)"
                )
                given = [cell for cell in cells if cell != ""]
                assert cells == given + [""] * (len(cells) - len(given))  # those without a value come last
                try:
                    keys: list[Any] = [float(cell) for cell in given]
                except ValueError:
                    keys = given
                assert keys == sorted(keys, reverse=direction == "descending")
    assert page.evaluate("document.querySelectorAll('[aria-sort]').length") == tables.count()
    page.close()
