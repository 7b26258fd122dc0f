"""A bar on a terminal, few lines in a log, and neither in the other's way."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path

import pytest

from lgm_cli.run import progress
from lgm_cli.run.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def row(step: int) -> dict[str, float | None]:
    return {
        "step": step,
        "fit_seconds": 0.5 * step,
        "train_log_likelihood": -1.25 + step / 1000,
        "test_log_likelihood": -1.5,
        "test_rmse": None,
    }


def test_a_log_gets_the_first_the_last_and_one_line_per_interval(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with caplog.at_level(logging.INFO), Progress(max_steps=100) as shown:
        for step in range(26):
            shown.stepped(step, 0.5 * step)
            shown.evaluated(row(step))
            now += 1.0
    assert [line.split(",")[0] for line in caplog.messages] == ["step 0", "step 10", "step 20", "step 25"]
    assert caplog.messages[-1] == ("step 25, train -1.2250, test -1.5000, 12.5 s of learning")


def test_time_left_is_that_until_max_seconds_and_is_not_guessed_without(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO), Progress(100, max_seconds=70.0, step=40, fit_seconds=10.0) as shown:
        shown.evaluated(row(40) | {"fit_seconds": 10.0})
        shown.stepped(50, 20.0)
        shown.evaluated(row(50) | {"fit_seconds": 20.0})
        shown._write_pending()
        shown.stepped(60, 50.0)
        shown.evaluated(row(60) | {"fit_seconds": 50.0})
    assert [line.split("at most ")[1] for line in caplog.messages] == [
        "01:00 left",
        "00:50 left",
        "00:20 left",
    ]


def test_a_terminal_gets_a_bar_and_other_lines_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    console = logging.StreamHandler(terminal)
    to_file = logging.FileHandler(tmp_path / "run.log", delay=True)  # it has no stream yet, as Hydra sets it up
    closed = logging.StreamHandler(Terminal())  # of a program that used the command before, its output gone
    closed.stream.close()
    monkeypatch.setattr(logging.getLogger(), "handlers", [closed])
    logger = logging.getLogger("lgm_cli")
    monkeypatch.setattr(logger, "handlers", [console, to_file])
    monkeypatch.setattr(logger, "level", logging.INFO)
    monkeypatch.setattr(logger, "propagate", False)
    with Progress(max_steps=10) as shown:
        shown.evaluated(row(0))
        shown.stepped(4, 2.0)
        logging.getLogger("lgm_cli.run.runner").warning("noise variance of 'item 3' is at its floor")
        shown._bar.refresh()
    bar, line = terminal.getvalue().split("noise variance", 1)
    assert "step 0/10" in bar
    assert bar.endswith("\r")  # the line starts where the bar was wiped
    assert "step 4/10" in line
    assert "train -1.2500, test -1.5000" in line
    assert "of learning" not in terminal.getvalue()
    assert [text.split(",")[0] for text in (tmp_path / "run.log").read_text().splitlines()] == [
        "step 0",
        "noise variance of 'item 3' is at its floor",
    ]
    assert console.filters == []
    to_file.close()


def test_no_bar_where_runs_share_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(max_steps=10, bar=False) as shown:
        shown.stepped(1, 0.1)
    assert terminal.getvalue() == ""
