"""A comparison says what the files of its runs say, and nothing from a file is run by a browser."""

from __future__ import annotations

import csv
import json
import math
import statistics
from html.parser import HTMLParser
from pathlib import Path

import yaml

from lgm_cli.comparison import page, write
from lgm_cli.comparison.read import find, read
from lgm_cli.comparison.table import Comparison

EVIL = "<script>alert(1)</script>\"'"


def make(folder: Path, method: str, seed: int, values: list[float], status: str | None = "converged") -> Path:
    """A run's folder: exact where the method is em, one second a step."""
    (folder / ".hydra").mkdir(parents=True)
    posterior = "exact" if method == "em" else "solver"
    config = {"method": {"name": method, "posterior": posterior}, "data": {"name": "bfi", "split_seed": None}}
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config | {"seed": seed}))
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([f"method={method}", f"seed={seed}"]))
    rows = "".join(f"{step},{step},{value}\n" for step, value in enumerate(values))
    (folder / "metrics.csv").write_text("step,fit_seconds,test_log_likelihood\n" + rows)
    if status:
        last = {"step": len(values) - 1, "fit_seconds": len(values) - 1, "test_log_likelihood": values[-1]}
        error = {"what": EVIL, "mend": "mend it"} if status == "failed" else None
        record = {"status": status, "last_row": last, "error": error, "overrides": [f"method={method}", f"seed={seed}"]}
        (folder / "summary.json").write_text(json.dumps(record | {"data": {"fingerprint": str(seed)}}))
    return folder


def several(folder: Path) -> Path:
    make(folder / "0-a", "em", 0, [-3.0, -1.5, -1.0])
    make(folder / "1-a", "em", 1, [-3.0, -2.0, -2.0])
    make(folder / "2-a", "unroll", 0, [-3.0, -1.005, -1.2])
    make(folder / "10-a", "unroll", 1, [-3.0, -2.5, -2.1])
    make(folder / "11-a", "unroll", 2, [-3.0], "failed")
    make(folder / f"12-{EVIL.replace('/', '')}", "unroll", 3, [-3.0, -2.9], None)
    return folder


def test_means_spreads_and_times_over_seeds(tmp_path: Path) -> None:
    comparison = Comparison(tuple(find([several(tmp_path)])))
    assert [run.name.partition("-")[0] for run in comparison.runs] == ["0", "1", "2", "10", "11", "12"]
    assert comparison.varying == ["method", "seed"]
    exact, unrolled = comparison.groups
    assert exact.numbers("test_log_likelihood") == [-1.0, -2.0]
    assert unrolled.numbers("test_log_likelihood") == [-1.2, -2.1]  # the failed and the killed do not count
    shown = f"{statistics.fmean([-1.2, -2.1]):.4f} ± {statistics.stdev([-1.2, -2.1]):.2g}"
    assert shown in [text for text, _ in comparison.row(unrolled)]
    times = [comparison.seconds_to_reach(run) for run in comparison.runs]
    assert times == [2, 1, 1, math.inf, None, None]  # each against the best exact run on its own hidden entries
    assert comparison.reached(unrolled) == "1; 1 of 2 not reached"


def test_a_row_for_every_run_failed_and_killed_too(tmp_path: Path) -> None:
    write.report([several(tmp_path)], tmp_path)
    with (tmp_path / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["converged"] * 4 + ["failed", "killed"]
    assert rows[3]["seconds_to_reach"] == "not reached"
    assert rows[4]["reason"] == f"{EVIL} (mend it)"
    assert rows[2]["command"] == "lgm-run method=unroll seed=0"
    assert len(find([tmp_path])) == 6  # the comparison's own files are no run


class Tags(HTMLParser):
    """Counts what a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.attributes += attrs


def test_nothing_from_a_file_becomes_code_and_nothing_is_fetched(tmp_path: Path) -> None:
    folder = several(tmp_path / f"it's {EVIL.replace('/', '')}")
    write.report([folder], folder)
    one = make(tmp_path / "one", "em", 0, [-1.0], "failed")
    (one / "summary.txt").write_text(f"column {EVIL}")
    for text in ((folder / "report.html").read_text(), page.of_one(read(one))):
        tags = Tags(text)
        assert tags.found.count("script") == 1, "the page's own"
        assert "&lt;script&gt;" in text
        assert not [name for name, _ in tags.attributes if name.startswith("on")]
        sources = [value or "" for name, value in tags.attributes if name == "src"]
        assert all(value.startswith("data:image/") for value in sources)
