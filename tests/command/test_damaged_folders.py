"""Folders of runs that were damaged in many ways are refused in one line and left as they are, or understood."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from lgm_cli.command.cli import main
from lgm_cli.results import checkpoint

CASES = 16  # of each command on each run
UNROLL = ["method=unroll", "solver.warm_start=true", "solver.max_iterations=9"]
DATA = {
    "table": ["data=csv", "model.latent_dim=1"],
    "regression": ["data=csv", "data.target=a", "model=linear_regression"],
    "series": ["data=series", "data.season=3", "model=state_space", "model.latent_dim=2", *UNROLL],
}
VALUES: list[Any] = [None, True, -1, 2, 10**40, 1e300, float("nan"), "", "x", "csv", [], [1], {}, {"a": 1}]
CELLS = ["", "x", "nan", "1e999", "-1", "2", '"', "é"]
Random = random.Random


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Small runs that met their limit of steps."""
    base, threads = tmp_path_factory.mktemp("runs"), torch.get_num_threads()
    values = np.random.default_rng(0).normal(size=(24, 3))
    np.savetxt(base / "data.csv", values, "%.3f", ",", header="a,b,c", comments="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lgm_cli.results.write._draw", lambda *_: None)
        patch.delenv("HYDRA_FULL_ERROR", raising=False)
        for name, choices in DATA.items():
            limits = [f"data.path={base}/data.csv", "device.threads=1", "max_steps=2", f"hydra.run.dir={base}/{name}"]
            assert main([*(["method=em"] if name != "series" else []), *choices, *limits]) == 0
        yield {name: base / name for name in DATA}
    torch.set_num_threads(threads)


def spoil_bytes(path: Path, draw: Random) -> None:
    content = path.read_bytes()
    at = draw.randrange(len(content))
    kind = draw.randrange(4)
    path.write_bytes(
        [content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :], content[:at], b"",
         content[:at] + draw.randbytes(20) + content[at:]][kind]
    )  # fmt: skip


def spoil_part(value: Any, draw: Random) -> None:
    """Replace or drop something in nested dictionaries and lists."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = draw.choice(keys)
        inner = value[key]
        if isinstance(inner, dict | list) and inner and draw.random() < 0.7:
            value = inner
        elif draw.random() < 0.2:
            del value[key]
            return
        else:
            value[key] = spoilt(inner, draw) if isinstance(inner, Tensor) else draw.choice(VALUES)
            return


def spoilt(tensor: Tensor, draw: Random) -> Any:
    return draw.choice([
        tensor * torch.nan, tensor / 0 + torch.inf, tensor[None], tensor.flatten()[:-1], tensor.to(torch.int32),
        tensor.to(torch.complex64), tensor.half(), -tensor.abs() - 1, None, "x",
    ])  # fmt: skip


def spoil_json(path: Path, draw: Random) -> None:
    content = json.loads(path.read_text())
    spoil_part(content, draw)
    path.write_text(json.dumps(content))


def spoil_yaml(path: Path, draw: Random) -> None:
    content = yaml.safe_load(path.read_text())
    spoil_part(content, draw)
    path.write_text(yaml.safe_dump(content))


def spoil_state(path: Path, draw: Random) -> None:
    content = torch.load(path)
    spoil_part(content, draw)
    torch.save(content, path)


def spoil_tensors(path: Path, draw: Random) -> None:
    content = load_file(path)
    name = draw.choice(list(content))
    found = spoilt(content.pop(name), draw)
    if isinstance(found, Tensor):
        content[name] = found
    save_file({key: value.contiguous() for key, value in content.items()}, path)


def spoil_table(path: Path, draw: Random) -> None:
    lines = [line.split(",") for line in path.read_text().splitlines()]
    row = draw.randrange(len(lines))
    match draw.randrange(4):
        case 0:
            del lines[row]
        case 1:
            lines.insert(row, lines[row])
        case _:
            lines[row][draw.randrange(len(lines[row]))] = draw.choice(CELLS)
    path.write_text("".join(",".join(line) + "\n" for line in lines))


SPOIL: dict[str, Callable[[Path, Random], None]] = {
    "summary.json": spoil_json,
    ".hydra/config.yaml": spoil_yaml,
    ".hydra/overrides.yaml": spoil_yaml,
    "metrics.csv": spoil_table,
    "checkpoint/state.pt": spoil_state,
    "columns.csv": spoil_table,
    "season.csv": spoil_table,
    "parameters.safetensors": spoil_tensors,
    "apply.safetensors": spoil_tensors,
}
READ = {
    "resume": [*SPOIL][:5],
    "apply": ["summary.json", ".hydra/config.yaml", *[*SPOIL][5:]],
}


@pytest.mark.parametrize("command", READ)
@pytest.mark.parametrize("name", DATA)
def test_a_damaged_folder_is_refused_in_one_line(
    name: str, command: str, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out, draw = tmp_path / "run", tmp_path / "out", random.Random(f"{name} {command}")
    more = (
        ["max_steps=3"] if command == "resume" else [f"data.path={runs[name].parent}/data.csv", f"hydra.run.dir={out}"]
    )
    refused = 0
    for case in range(CASES):
        shutil.copytree(runs[name], run)
        file = draw.choice([each for each in READ[command] if (run / each).exists()])
        (SPOIL[file] if draw.random() < 0.7 else spoil_bytes)(run / file, draw)
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        code = main([f"{command}={run}", *more])
        error = capsys.readouterr().err
        assert code in (0, 2), (case, file, error)
        if code == 2:
            refused += 1
            assert error.startswith("lgm-run: error: ") and error.count("\n") == 1, (case, file, error)
            after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
            logs = (run / "run.log", run / "checkpoint" / "lock")
            differing = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
            assert differing <= set(logs), (case, file, error)
            assert not out.exists(), (case, file)
        shutil.rmtree(run)
        shutil.rmtree(out, ignore_errors=True)
    assert refused > CASES / 3


def test_a_state_is_checked_by_what_it_was_saved_as() -> None:
    checkpoint.require({"a": [1, 2], "b": None}, {"a": list[int], "b": float | None}, "state")
    for found in ({"a": [1, -2], "b": 1.0}, {"a": [1], "b": True}, {"a": 1, "b": 1.0}, {"a": []}, {"a": [], "b": "1"}):
        with pytest.raises(ValueError, match="state"):
            checkpoint.require(found, {"a": list[int], "b": float | None}, "state")
