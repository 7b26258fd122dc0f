"""Bad inputs of all kinds, through the real command: one line, exit code 2, nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from lgm_cli.command.cli import main

ROOT = Path(__file__).parents[1]
WORKERS = 2
ABSENT_DEVICE = "cuda" if sys.platform == "darwin" else "mps"

# The command line, and what its one line of answer must contain.
TYPING = {
    # group, choice, key, option
    "modle=factor_analysis": "did you mean model?",
    "model=factor_analisys": "did you mean model=factor_analysis?",
    "data=movielense": "did you mean data=movielens?",
    "method=3": "there is no method=3 (choices: unroll, ",
    "experiment=large": "there is no experiment=large (choices: ",
    "hydra/launcher=jobs": "lgm-run[launchers]",
    "solver.max_iteration=20": "did you mean solver.max_iterations?",
    "latent_dim=3": "did you mean model.latent_dim or data.latent_dim?",
    "+solver.tolerence=1": "did you mean solver.tolerance?",
    "data.path=table.csv": "it belongs to data=csv, ",
    "solver=cholesky solver.tolerance=0.1": "solver.tolerance is not a key of the chosen solver",
    "solver.name=cholesky": "use solver=cholesky",
    "+seed=1": "write seed=VALUE, without +",
    "--multirn seed=1,2": "did you mean --multirun?",
    "--cfg jobs": "invalid choice",
    "max_steps": "cannot read the argument max_steps",
    "data=csv data.path=a(b.csv": "quote a value with special characters",
    "seed=1,2": "add --multirun",
    # type, range, combination
    "seed=abc": "seed=abc is not an integer",
    "seed=-1": "seed=-1 is not an integer >= 0",
    "max_steps=2.5": "max_steps=2.5 is not an integer >= 1, or auto",
    "solver.tolerance=nan": "solver.tolerance=nan is not a number > 0 and < 1",
    "max_seconds=inf": "max_seconds=inf is not a number > 0",
    "model.offset=maybe": "model.offset=maybe is not true or false",
    "model.latent_dim=[2]": "model.latent_dim=[2] is not an integer >= 1",
    "data.test_fraction=1": "data.test_fraction=1 is not a number >= 0 and < 1",
    "method.gradient=networks": "e.g. method.gradient=network",
    "seed=${sead}": "sead",
    "method=em solver=nesterov": "leave solver out, or use method=unroll solver=nesterov",
    "device=mps device.dtype=float64": "not possible with device=mps",
    # files and folders
    "data=csv": "data.path is missing",
    "data=csv data.path=tabel.csv": "did you mean table.csv?",
    "data=ratings data.path=folder": "data.path=folder is a folder",
    "data=simulated hydra.run.dir=used": "used holds a run already",
    "data=simulated hydra.run.dir=table.csv": "cannot write to",
    "data=simulated hydra.run.dir=table.csv/run": "cannot write to",
    "data=simulated --multirun hydra.sweep.dir=table.csv": "cannot write to",
}  # fmt: skip
CONTENT = {
    "data=csv data.path=empty.csv": "empty.csv is empty",
    "data=csv data.path=header.csv": "has a header line and no rows",
    "data=csv data.path=ragged.csv": "ragged.csv, line 3 has 2 fields where the header has 3",
    "data=csv data.path=binary.csv": "binary.csv is a binary file",
    "data=csv data.path=latin.csv data.encoding=utf-8": "latin.csv, line 2 is not UTF-8 text",
    "data=csv data.path=words.csv": "words.csv, line 3, column 'b': 'tall' is not a number",
    "data=csv data.path=infinite.csv": "infinite.csv, line 3, column 'b' is infinite",
    "data=csv data.path=gaps.csv": "gaps.csv has no value",
    "data=csv data.path=huge.csv": "huge.csv has values too large to be squared in column 'b'",
    "data=csv data.path=tiny.csv": "tiny.csv has values too close to each other to be squared in column 'b'",
    "data=csv data.path=constant.csv": "no two different values in column 'b'",
    "data=csv data.path=twice.csv": "2 columns named 'a'",
    "data=csv data.path=semicolons.csv data.separator=colon": "data.separator=colon is not one of comma, semicolon,",
    "data=csv data.path=table.csv data.drop=[a,bb]": "data.drop=bb is not a column of",
    "data=csv data.path=table.csv data.missing=[]": "data.missing=[] is not a text or several, [A,B]",
    "data=csv data.path=table.csv data.index=nmae": "did you mean data.index=name?",
    "data=csv data.path=table.csv data.index=name model.latent_dim=9": "model.latent_dim=9 is more than",
    "data=csv data.path=table.csv data.index=name data.test_fraction=0.9": "leaves too few values",
    "data=ratings data.path=ragged.csv": "ragged.csv, line 3 has 2 fields, the first has 3",
    "data=ratings data.path=words.dat": "words.dat, line 2: rating 'good' is not a number",
    "data=ratings data.path=binary.csv": "binary.csv is a binary file",
    "data=simulated data.factor_share=0.6 data.offset_share=0.5": "leaves no noise",
    f"data=simulated device={ABSENT_DEVICE}": f"device={ABSENT_DEVICE}",
}  # fmt: skip
FILES = {
    "table.csv": b"name,a,b\nx,1,2\ny,2,\nz,3,5\nu,4,1\n",
    "empty.csv": b"",
    "header.csv": b"a,b\n",
    "ragged.csv": b"a,b,c\n1,2,3\n4,5\n",
    "binary.csv": bytes(range(256)),
    "latin.csv": b"a,b\n1,\xe9\n",
    "words.csv": b"a,b\n1,2\n3,tall\n",
    "infinite.csv": b"a,b\n1,2\n3,inf\n",
    "huge.csv": b"a,b\n1,2\n3,2e160\n",
    "tiny.csv": b"a,b\n1,2e-170\n3,1e-170\n",
    "gaps.csv": b"a,b\n,\nnan,NaN\n",
    "constant.csv": b"a,b\n1,2\n3,2\n",
    "twice.csv": b"a,a\n1,2\n3,4\n",
    "semicolons.csv": b"a;b\n1,5;2\n3;4,5\n",
    "words.dat": b"1::10::4\n2::10::good\n",
    "folder/inside.csv": b"a,b\n1,2\n",
    "used/metrics.csv": b"step\n1\n",
    "used/.hydra/config.yaml": b"seed: 0\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with bad files, and a good one, and an earlier run."""
    folder = tmp_path_factory.mktemp("inputs")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


Answers = dict[str, Future[subprocess.CompletedProcess[str]]]


@pytest.fixture(scope="module")
def answers(folder: Path, request: pytest.FixtureRequest):
    """The program's answers to the cases that were selected, two asked at a time."""

    def ask(line: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
        environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, "-m", "lgm_cli", *line.split()],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    selected = {_parameters(item).get("line") for item in request.session.items}
    with ThreadPoolExecutor(WORKERS) as pool:
        yield {line: pool.submit(ask, line) for line in (*TYPING, *CONTENT) if line in selected}


def _parameters(item: pytest.Item) -> dict[str, object]:
    callspec = getattr(item, "callspec", None)
    return callspec.params if callspec and item.path == Path(__file__) else {}


@pytest.mark.parametrize("line", [*TYPING, *CONTENT])
def test_a_bad_input_is_answered_in_one_line(line: str, answers: Answers, folder: Path) -> None:
    answer = answers[line].result()
    assert answer.stderr.startswith("lgm-run: error: ")
    assert answer.stderr.count("\n") == 1
    assert (TYPING | CONTENT)[line] in answer.stderr
    assert answer.returncode == 2
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES


def test_the_same_command_runs_once_its_data_are_mended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in the data leaves nothing behind that would stand in the way."""
    monkeypatch.chdir(folder)
    command = ["data=csv", "data.path=air.csv", "model.latent_dim=1", "max_steps=3", "method=em", "device.threads=1"]
    table = "a,b,c\n1,2,x\n" + "".join(f"{i},{i % 3},{i % 5}\n" for i in range(9))
    (folder / "air.csv").write_text(table)
    assert main([*command, "hydra.run.dir=air"]) == 2
    assert list((folder / "air").iterdir()) == []
    (folder / "air.csv").write_text(table.replace("x", "0"))
    assert main([*command, "hydra.run.dir=air"]) == 0
    assert main([*command, "hydra.run.dir=air"]) == 2  # a folder that holds a run is not taken back
    assert (folder / "air" / "summary.json").exists()


@pytest.mark.parametrize("line", ["method=grdient_em", "data=csv data.path=tabel.csv", "seed=abc"])
def test_a_typing_error_is_answered_before_torch_is_imported(line: str, folder: Path) -> None:
    program = (
        "import sys; from lgm_cli.command.cli import main; code = main(sys.argv[1:]);"
        "print(*{name.partition('.')[0] for name in sys.modules}); sys.exit(code)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, *line.split()],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 2
    assert not {"torch", "pandas", "numpy", "matplotlib"} & set(answer.stdout.split())


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    answer = subprocess.run(
        [sys.executable, "-m", "lgm_cli", "data=simulated", "hydra.run.dir=closed"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    assert "cannot write to" in answer.stderr
