"""A run among other processes: standard streams, threads, memory; what of others' text reaches a terminal or a log."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lgm_cli.command import choices
from lgm_cli.errors import ConsoleFormatter, PrintableFormatter, RunFailed, UserError, printable
from lgm_cli.machine import out_of_memory, threads_asked

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--help >&-", 0),
        ("--cfg job >/dev/full", 0),
        ("nope=1 2>/dev/full", 2),
        ("nope=1 <&- >&- 2>&-", 2),
    ],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_stream_that_is_closed_or_full_changes_no_exit_code(line: str, code: int, tmp_path: Path) -> None:
    ended = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m lgm_cli {line}"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (code, "")


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    program = (
        "import sys; from lgm_cli.command.streams import open_streams; open_streams();"
        "file = open('file', 'w'); assert file.fileno() > 2; print('lost')"
    )
    ended = subprocess.run(
        ["sh", "-c", f'exec {sys.executable} -c "{program}" <&- >&- 2>&-'],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("text", ["\udcb2", "0", "-3", "abc", "9" * 30, "1.5", "2,x", "٣"], ids=ascii)
def test_what_is_no_number_of_threads_is_said_once_and_taken_out(
    text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert threads_asked() is None
    assert "OMP_NUM_THREADS" not in os.environ
    assert threads_asked() is None
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("text", "threads"), [("1", 1), (" 2 ", 2), ("2,1", 2), ("", None)])
def test_a_number_of_threads_counts(
    text: str, threads: int | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert threads_asked() == threads
    assert not caplog.records


@pytest.mark.parametrize(
    ("error", "limited", "used_up"),
    [
        (MemoryError(), False, True),
        (OSError(12, "Cannot allocate memory"), False, True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), False, True),
        (RuntimeError("std::bad_alloc"), False, True),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), False, True),
        (SystemError("error return without exception set"), True, True),
        (SystemError("error return without exception set"), False, False),
        (ValueError("a defect"), True, False),
    ],
)
def test_memory_is_used_up_in_many_words(
    error: Exception, limited: bool, used_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lgm_cli.machine.memory_is_limited", lambda: limited)
    assert out_of_memory(error) == used_up


def test_controls_of_every_kind_are_shown_and_not_obeyed() -> None:
    text = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x202E, 0x2066, 0xDC80]))
    assert printable(text).isprintable()
    assert printable("\x1b]0;owned\x07\r\n") == r"\x1b]0;owned\x07\r\n"
    assert printable(r"C:\new é 数 – ok") == r"C:\new é 数 – ok"
    assert str(UserError("a\nb", "c\x7f")) == r"a\nb (c\x7f)"


def test_no_name_can_forge_a_line_of_a_log() -> None:
    record = logging.LogRecord("lgm_cli", logging.INFO, "", 0, "column %s", ("a\n[INFO] - all is well\x1b[2K",), None)
    assert PrintableFormatter("%(message)s").format(record) == r"column a\n[INFO] - all is well\x1b[2K"
    hydra = yaml.safe_load((choices.conf_folder() / "config.yaml").read_text(encoding="utf-8"))["hydra"]
    formatters = [*hydra["job_logging"]["formatters"].values(), *hydra["hydra_logging"]["formatters"].values()]
    classes = {formatter["class"] for formatter in formatters}
    assert classes == {"lgm_cli.errors.PrintableFormatter", "lgm_cli.errors.ConsoleFormatter"}
    assert issubclass(ConsoleFormatter, PrintableFormatter)
    assert ConsoleFormatter("%(message)s").format(record) == r"column a\n[INFO] - all is well\x1b[2K"


@pytest.mark.parametrize("error", [OSError(12, "Cannot allocate memory"), RuntimeError("std::bad_alloc")])
def test_a_run_that_has_no_memory_left_says_so(error: Exception, tmp_path: Path) -> None:
    from lgm_cli.run.failure import explained

    ended = explained(error, {"method": {}}, tmp_path, False)
    assert isinstance(ended, RunFailed) and ended.what == "out of memory"
