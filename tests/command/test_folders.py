"""Nothing outside a run's folder is written, and nobody but the holder of its lock writes in it."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from lgm_cli.command import cli, endings, folders
from lgm_cli.command.cli import main
from lgm_cli.command.folders import claimed
from lgm_cli.errors import UserError

ROOT = Path(__file__).parents[2]
TABLE = "a,b,c\n" + "".join(f"{k % 7},{k * k % 11},{k * 3 % 5}\n" for k in range(30))
LEARN = ["data=csv", "data.path=table.csv", "method=em", "model.latent_dim=1", "max_steps=2", "device.threads=1"]


pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and a run on it."""
    base = tmp_path_factory.mktemp("finished")
    (base / "table.csv").write_text(TABLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        patch.setattr("lgm_cli.results.write._draw", lambda *_: None)
        assert main([*LEARN, "hydra.run.dir=run"]) == 0
    (base / "run" / "plots").mkdir(exist_ok=True)
    return base


@pytest.fixture
def base(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in, and a file that is nobody's to change."""
    shutil.copytree(finished, tmp_path / "base")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("precious")
    monkeypatch.chdir(tmp_path / "base")
    return tmp_path / "base"


def content(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.startswith("lgm-run: error: ") and error.count("\n") == 1
    return error


def instead(path: Path, link: Callable[[Path], object]) -> None:
    """Put a link in the place of a file or a folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    link(path)


FOLDERS = [(name, False) for name in folders.FOLDERS]
FILES = [(name, hard) for name in ("checkpoint/lock", "run.log") for hard in (False, True)]


@pytest.mark.parametrize(("name", "hard"), [*FOLDERS, *FILES])
def test_links_in_a_run_are_not_followed(
    name: str, hard: bool, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, target = base / "run" / name, tmp_path / "precious"
    if path.is_dir():
        shutil.copytree(path, target, dirs_exist_ok=True)
        instead(path, lambda at: at.symlink_to(target))
    else:
        instead(path, lambda at: at.hardlink_to(target / "file") if hard else at.symlink_to(target / "file"))
    before = content(tmp_path)
    assert main(["resume=run", "max_steps=4"]) == 2
    assert f"run/{name} is a link or not a f" in one_line(capsys)
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["run.log", "checkpoint"])
def test_a_link_to_nowhere_makes_a_folder_used(
    name: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (base / "new").mkdir()
    (base / "new" / name).symlink_to(tmp_path / "made")
    for command in (LEARN, ["apply=run", "data.path=table.csv"]):
        assert main([*command, "hydra.run.dir=new"]) == 2
        assert f"new holds a run already, {name} at least" in one_line(capsys)
    assert not (tmp_path / "made").exists()
    assert len(list((base / "new").iterdir())) == 1


def test_a_temporary_file_that_is_a_link_is_replaced(base: Path, tmp_path: Path) -> None:
    temporary = base / "run" / f".summary.{os.getpid()}.partial.json"
    temporary.symlink_to(tmp_path / "precious" / "file")
    assert main(["resume=run", "max_steps=4"]) == 0
    assert (tmp_path / "precious" / "file").read_text() == "precious"


@pytest.mark.parametrize("inside", ["run/a/b", "applied/new"])
def test_a_run_inside_the_folder_of_another_is_refused(
    inside: str, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if inside.startswith("applied"):
        assert main(["apply=run", "data.path=table.csv", "hydra.run.dir=applied"]) == 0
    shutil.copytree(base / "run", base / "other")
    (base / "link").symlink_to(base / inside.partition("/")[0])
    before = content(base)
    for command in (
        [*LEARN, f"hydra.run.dir={inside}"],
        [*LEARN, "seed=1", "--multirun", f"hydra.sweep.dir={inside}"],
        ["apply=other", "data.path=table.csv", f"hydra.run.dir={inside}"],
        ["apply=other", "data.path=table.csv", "hydra.run.dir=link/new"],
    ):
        assert main(command) == 2
        assert "is inside the folder of another run, " in one_line(capsys)
        assert content(base) == before


def test_a_folder_of_a_sweep_is_no_run(base: Path) -> None:
    assert main([*LEARN, "--multirun", "seed=0", "hydra.sweep.dir=sweep"]) == 0
    folders.refuse_used(base / "sweep" / "another")


# The lock --------------------------------------------------------------------------------------------------------


def test_the_lock_is_empty_again_when_it_is_free(base: Path) -> None:
    lock = base / "run" / "checkpoint" / "lock"
    with claimed(base / "run") as made:
        assert lock.read_text() == str(os.getpid()) and not made
    assert lock.read_text() == ""


def test_who_was_refused_takes_nothing_of_the_holders_away(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (base / "new").mkdir()
    with claimed(base / "new") as made:
        assert made
        before = content(base)
        for command in (LEARN, ["apply=run", "data.path=table.csv"]):
            assert main([*command, "hydra.run.dir=new"]) == 2
            assert "new holds a run already, checkpoint at least" in one_line(capsys)
        with pytest.raises(UserError, match=f"in use by process {os.getpid()}"), claimed(base / "new"):
            pass
        assert content(base) == before


def test_a_lock_that_its_holder_removed_is_not_taken_for_one(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened before the holder removed it, held afterwards: whoever comes next would make another."""
    (base / "new").mkdir()
    opened = folders.open_own

    def slowly(path: Path, flags: int) -> int:
        lock = opened(path, flags)
        monkeypatch.setattr(folders, "open_own", opened)
        shutil.rmtree(base / "new" / "checkpoint")
        return lock

    monkeypatch.setattr(folders, "open_own", slowly)
    with claimed(base / "new") as made:
        assert made
        with pytest.raises(UserError, match="in use"), claimed(base / "new"):
            pass


def test_whoever_comes_second_finds_what_the_first_has_written(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another process begins and ends between the look at a folder and the lock on it."""
    look = folders.refuse_used

    def looked(folder: Path, but: str | None = None) -> None:
        look(folder, but)
        monkeypatch.setattr(cli, "refuse_used", look)
        assert main(["apply=run", "data.path=table.csv", f"hydra.run.dir={folder}"]) == 0
        before.update(content(base))

    for command in (["apply=run", "data.path=table.csv", "hydra.run.dir=a"], [*LEARN, "hydra.run.dir=b"]):
        before: dict[Path, bytes | None] = {}
        monkeypatch.setattr(cli, "refuse_used", looked)
        assert main(command) == 2
        assert "holds a run already" in one_line(capsys)
        assert content(base) == before


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 1), (errno.EACCES, 2)])
def test_a_folder_that_cannot_be_written_is_said_in_one_line(
    number: int, code: int, base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(path: Path, flags: int) -> int:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(folders, "open_own", refused)
    before = content(base / "run")
    for command in ([*LEARN, "hydra.run.dir=new"], ["apply=run", "data.path=table.csv"], ["resume=run", "max_steps=4"]):
        assert main(command) == code
        assert f"cannot write to {base}" in one_line(capsys)
    assert content(base / "run") == before


def test_a_record_that_may_not_be_written_is_said_before_a_run_goes_on(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(folder: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder / ".hydra" / "config.yaml"))

    monkeypatch.setattr("lgm_cli.results.run_folder.record", refused)
    before = {path: found for path, found in content(base).items() if path.name != "run.log"}
    assert main(["resume=run", "max_steps=4"]) == 2
    assert "run/.hydra/config.yaml: Permission denied (check its permissions)" in one_line(capsys)
    assert {path: found for path, found in content(base).items() if path.name != "run.log"} == before


def test_a_disk_that_is_full_before_a_run_begins_leaves_nothing(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("omegaconf.OmegaConf.save", full)
    assert main([*LEARN, "hydra.run.dir=new"]) == 1
    assert "new: No space left on device (make room, or choose another" in one_line(capsys)
    assert list((base / "new").iterdir()) == []


# Signals ---------------------------------------------------------------------------------------------------------


def test_no_signal_changes_an_exit_code_that_is_settled() -> None:
    """While the interpreter shuts down, a signal would end it by its own number."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        with endings.sigterm_like_sigint(last=True):
            pass
        assert [signal.getsignal(number) for number in numbers] == [signal.SIG_IGN] * 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    with endings.sigterm_like_sigint(last=False):
        with pytest.raises(UserError):
            endings.ended_well(lambda: {"status": "diverged"}, Path("folder"))
        for number in numbers:
            os.kill(os.getpid(), number)
    assert {number: signal.getsignal(number) for number in numbers} == before
