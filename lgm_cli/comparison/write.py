"""Writes a comparison's files: comparison.csv, comparison.md, comparison.png and report.html."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable
from pathlib import Path

from lgm_cli.comparison import page, words
from lgm_cli.comparison.read import Run, find, is_run, read
from lgm_cli.comparison.table import NAMES, NEAR, Comparison
from lgm_cli.results.files import atomic_path
from lgm_cli.results.run_folder import key_of

SUMMARY = ("aic", "bic", "total_log_likelihood", "free_parameters", "total_seconds")  # beside the last row
REPORT = "report.html"

log = logging.getLogger(__name__)


def report(folders: Iterable[Path], into: Path) -> str:
    """Write the comparison of all runs in these folders; its table in words. ValueError when there is none."""
    runs = find(folders)
    if not runs:
        raise ValueError("no run")
    comparison = Comparison(tuple(runs))
    into.mkdir(parents=True, exist_ok=True)
    _text(into / "comparison.csv", table(comparison))
    _text(into / "comparison.md", words.markdown(comparison))
    with atomic_path(into / "comparison.png") as path:
        draw(comparison, path)
    picture = (into / "comparison.png").read_bytes()
    _text(into / REPORT, page.of_several(comparison, picture, _selection(comparison), into))
    verdicts = "\n".join(words.verdicts(comparison))
    return f"{words.terminal(comparison)}\n{verdicts}\nthe comparison is in {into / REPORT}"


def single(folder: Path) -> Path:
    """Write the page of one run; where it is."""
    if not is_run(folder):
        raise ValueError("no run")
    _text(folder / REPORT, page.of_one(read(folder)))
    return folder / REPORT


def _text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n", errors="backslashreplace")


def table(comparison: Comparison) -> str:
    """comparison.csv: a row per run, its overrides and its summary, failed runs too."""
    runs = comparison.runs
    keys = list(dict.fromkeys(key_of(item) for run in runs for item in run.overrides))
    numbers = list(dict.fromkeys(name for run in runs for name in _last_row(run)))
    head = ["run", *keys, "status", "reason", *numbers, *SUMMARY, "seconds_to_reach", "warnings", "command"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(head)
    for run in runs:
        given = [run.value(key) or "" for key in keys]
        own = [_number(run.last(name)) for name in numbers] + [_number(run.own(name)) for name in SUMMARY]
        time = comparison.seconds_to_reach(run)
        reached = "" if time is None else "not reached" if time == float("inf") else repr(time)
        warnings = " | ".join(map(str, run.summary.get("warnings") or ()))
        writer.writerow([run.name, *given, run.status, run.reason, *own, reached, warnings, run.command])
    return file.getvalue()


def _last_row(run: Run) -> list[str]:
    row = run.summary.get("last_row")
    return [*row] if isinstance(row, dict) and row else [*run.course]


def _number(value: float) -> str:
    return "" if value != value else repr(int(value) if value.is_integer() and abs(value) < 1e15 else value)


def draw(comparison: Comparison, path: Path) -> None:
    """comparison.png."""
    from lgm_cli.plots.comparison import comparison as picture

    curves, times = {}, {}
    for group in comparison.groups:
        curves[group.label] = [
            (run.course.get("fit_seconds", []), run.course.get(comparison.track, []), run.sound) for run in group.runs
        ]
        found = [comparison.seconds_to_reach(run) for run in group.runs]
        times[group.label] = [time for time in found if time is not None]
    near = f"within {NEAR:g} nats per entry\nof the best exact run"
    picture(curves, times, path, NAMES[comparison.track], near)


def _selection(comparison: Comparison) -> bytes | None:
    """BIC and likelihood against the one varying number; None where there is no such number."""
    lines = {
        label: [(number, group.own("bic"), group.numbers(comparison.track)) for number, group in line]
        for label, line in comparison.lines()
    }
    if comparison.number is None or not lines:
        return None
    from lgm_cli.plots.comparison import selection

    file = io.BytesIO()
    selection(lines, comparison.number, file, NAMES[comparison.track])
    return file.getvalue()
