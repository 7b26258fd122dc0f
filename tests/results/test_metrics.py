"""metrics.csv survives torn rows and lost folders, files are replaced whole, JSON is strict."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lgm_cli.errors import UserError
from lgm_cli.results import host
from lgm_cli.results.files import atomic_path, write_json_atomic
from lgm_cli.results.metrics import COLUMNS, Recorder

HEADER = (",".join(COLUMNS) + "\n").encode()
TEXT = HEADER + b"abc" + b"," * (len(COLUMNS) - 1) + b"\n"
HALF = HEADER + b"0.5" + b"," * (len(COLUMNS) - 1) + b"\n"


def test_a_row_is_on_disk_at_once_and_empty_where_it_does_not_apply(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, ["parameter_error"])
    recorder.row(step=3, train_log_likelihood=0.1 + 0.2, test_rmse=math.nan, parameter_error=np.float32(0.5))
    expected = ",".join((*COLUMNS, "parameter_error")) + "\n3,,0.30000000000000004,,,,,,,,,0.5\n"
    assert (tmp_path / "metrics.csv").read_text() == expected
    assert recorder.last["step"] == 3
    assert recorder.last["test_rmse"] is None


def test_floats_survive_the_file_exactly(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=50) * 10.0 ** np.arange(-25, 25)
    recorder = Recorder(tmp_path)
    for step, value in enumerate(values):
        recorder.row(step=step, train_log_likelihood=value)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        read = [float(row["train_log_likelihood"]) for row in csv.DictReader(file)]
    assert read == values.tolist()


def test_an_infinite_value_is_kept_as_such(tmp_path: Path) -> None:
    Recorder(tmp_path).row(step=0, train_log_likelihood=-math.inf)
    assert pd.read_csv(tmp_path / "metrics.csv")["train_log_likelihood"].tolist() == [-math.inf]


def test_an_unknown_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no such columns .* active"):
        Recorder(tmp_path).row(step=0, active=3)


@pytest.mark.parametrize("torn", ["8,1.25,-1.3", "8" + "," * len(COLUMNS) + "1"])
def test_resume_drops_later_and_torn_rows_and_goes_on(tmp_path: Path, torn: str) -> None:
    first = Recorder(tmp_path, ["active"])
    for step in (0, 5, 10, 15):
        first.row(step=step, train_log_likelihood=-1 / (step + 3), active=7)
    path = tmp_path / "metrics.csv"
    kept = path.read_text().splitlines(keepends=True)[:4]
    with path.open("a") as file:
        file.write(torn)  # a crash in the middle of a row whose step would be kept

    before = path.read_text()
    resumed = Recorder.resume(tmp_path, 10, ["active"])
    assert path.read_text() == before  # until it is known that the run can go on
    resumed.rewind()
    assert path.read_text() == "".join(kept)
    assert resumed.columns == first.columns
    assert resumed.rows == first.rows[:3]
    resumed.row(step=12, active=6)
    assert path.read_text().splitlines()[-1] == "12" + "," * len(COLUMNS) + "6"


@pytest.mark.parametrize("content", [None, b"", b"a,b\n1,2\n", b"\xff\xfe\x00", TEXT, HALF])
def test_resume_needs_the_metrics_of_a_run(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(UserError, match="not a run's metrics"):
        Recorder.resume(tmp_path, step=3)


def test_a_folder_that_is_gone_is_an_error_at_the_next_row(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    recorder = Recorder(folder)
    (folder / "metrics.csv").unlink()
    with pytest.raises(FileNotFoundError):
        recorder.row(step=0)
    folder.rmdir()
    with pytest.raises(FileNotFoundError):
        recorder.row(step=0)
    assert recorder.rows == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_at_the_next_row(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.path.unlink()
    recorder.path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        recorder.row(step=0)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "parameters.bin"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_bytes(b"ha")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == path.suffix
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_strict_and_plain(tmp_path: Path) -> None:
    value = {
        "nan": math.nan,
        "scalars": (np.float32(0.5), np.int64(7), np.bool_(True), np.float64(-np.inf)),
        "array": np.array([[1.0, np.nan]]),
        "labels": pd.Index(["café", "b"]),
        "path": Path("a") / "b",
        "nothing": None,
        3: True,
    }
    write_json_atomic(tmp_path / "summary.json", value)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads((tmp_path / "summary.json").read_text("utf-8"), parse_constant=refuse) == {
        "nan": None,
        "scalars": [0.5, 7, True, None],
        "array": [[1.0, None]],
        "labels": ["café", "b"],
        "path": str(Path("a") / "b"),
        "nothing": None,
        "3": True,
    }


def test_what_json_cannot_say_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_json_atomic(path, {"status": "converged"})
    with pytest.raises(TypeError):
        write_json_atomic(path, {"status": object()})
    assert json.loads(path.read_text()) == {"status": "converged"}


def test_peak_memory_counts_what_is_resident_and_the_device() -> None:
    block = np.ones(40 * 2**17)  # 40 MiB
    peak, with_device = host.peak_memory_mib(), host.peak_memory_mib(device_mib=100.0)
    assert peak is not None
    assert with_device is not None
    assert peak >= block.nbytes / 2**20
    assert with_device >= peak + 100.0


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="this system has no way to start the peak anew"
)
def test_peak_memory_forgets_earlier_runs_and_the_parent() -> None:
    code = """if True:
        from lgm_cli.results import host
        first = host.peak_memory_mib()
        block = bytearray(200 * 2**20)
        second = host.peak_memory_mib()
        del block
        host.reset_peak_memory()
        print(first, second, host.peak_memory_mib())
    """
    parent = bytearray(300 * 2**20)  # ru_maxrss of the child would start here
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second, third = map(float, result.stdout.split())
    assert first < len(parent) / 2**20 - 100
    assert second >= 200
    assert third < second - 150


def test_host_and_versions_need_no_heavy_import() -> None:
    code = """if True:
        import json, sys
        from lgm_cli.results import host, metrics
        from lgm_cli.run import progress
        heavy = sorted({"torch", "numpy", "pandas", "hydra", "matplotlib"} & set(sys.modules))
        print(json.dumps([host.host(), host.versions(), heavy]))
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    machine, versions, heavy = json.loads(result.stdout)
    assert heavy == []
    assert machine["processor"]
    assert machine["platform"]
    assert machine["cores"] >= 1
    assert versions["numpy"] == np.__version__
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
