"""The command line: compose a configuration, check it, claim a folder, hand both to the runner.

The only module that imports Hydra. Nothing heavy (torch, pandas, matplotlib) is imported before a run begins,
so that a typing error is answered at once.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lgm_cli import __version__, applying, catalogue, config, resume, usage
from lgm_cli.arguments import check as check_arguments
from lgm_cli.errors import PrintableFormatter, RunFailed, UserError, printable, shortened
from lgm_cli.mistakes import OTHER_FOLDER, OUT_OF_MEMORY, explain
from lgm_cli.process import close_streams, open_streams, out_of_memory, say

if TYPE_CHECKING:
    import argparse

    from hydra.conf import HydraConf
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

# A folder that holds any of these belongs to a run.
RECORD = (
    *(".hydra", "run.log", "metrics.csv", "summary.json", "plots", "checkpoint"),
    *("parameters.safetensors", "apply.safetensors", "posterior.safetensors", "predictions.csv", "loadings.csv"),
    *("columns.csv", "imputed.csv", "imputed_standard_deviation.csv", "forecast.csv", "season.csv"),
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit code: 0, 1, 2 or 130."""
    logging.raiseExceptions = False  # a reader that went away (`| head`) is no reason for tracebacks
    open_streams()
    try:
        with _sigterm_like_sigint():
            code = _dispatch(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt as stop:
        say(sys.stderr, f"lgm-run: interrupted{': ' if str(stop) else ''}{printable(str(stop))}\n")
        code = 130
    except SystemExit as end:  # Hydra's own, after --hydra-help
        code = end.code if isinstance(end.code, int) else 0
    except Exception as error:
        code = 0 if _of_a_stream(error) else _report(error)
    if arguments is None:  # the process ends: a signal that comes while the interpreter does changes the code no more
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    close_streams()
    return code


def _of_a_stream(error: Exception) -> bool:
    """Whether standard output alone is the matter: its reader is gone, or it is full. What was asked for was done."""
    return isinstance(error, OSError) and error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC)


@contextmanager
def _sigterm_like_sigint() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, so that what is running, a launcher's workers too, is wound up."""

    def interrupt(signum: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _report(error: Exception, shown: str | None = None) -> int:
    """Print an error, as one line when the user can mend it, and return its exit code. shown: instead of its text."""
    if isinstance(error, OSError) and error.filename is not None:
        what = f"{shortened(str(error.filename))}: {error.strerror}"
        error = UserError(what, "give another name, or mend what is wrong there")
    elif not isinstance(error, UserError) and out_of_memory(error):
        error = OUT_OF_MEMORY
    known = isinstance(error, UserError)
    if not known or os.environ.get("HYDRA_FULL_ERROR") == "1":
        lines = "".join(traceback.format_exception(error)).split("\n")
        say(sys.stderr, "\n".join(map(printable, lines)))
    if known:
        say(sys.stderr, f"lgm-run: error: {shown or error}\n")
    return error.exit_code if isinstance(error, UserError) else 1


def _dispatch(arguments: list[str]) -> int:
    """Answer --help and --version, or run; the exit code."""
    options = usage.parse(arguments)
    if options.help:
        say(sys.stdout, usage.text())
    elif options.version:
        say(sys.stdout, f"lgm-run {__version__}\n")
    elif resume.asked(options.overrides):
        _resume(resume.read(usage.hydra_options(options), options.overrides))
    elif resume.asked(options.overrides, "apply"):
        _apply(applying.read(usage.hydra_options(options), options.overrides))
    else:
        return _launch(options)
    return 0


def _resume(run: resume.Resumed) -> None:
    """Go on with a run, its log continued."""
    _log_to(run.folder)

    from lgm_cli import runner

    _judge(runner.run(run.config, run.folder, run.overrides, resumed=True), run.folder)


def _apply(asked: applying.Applied) -> None:
    """Put new data to a finished run, in a folder of its own, which is taken back when the data do not fit."""
    folder = asked.folder
    _refuse_used(folder)
    made = [path for path in (folder, *folder.parents[:2]) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}", OTHER_FOLDER) from error
    _log_to(folder)

    from lgm_cli import runner

    try:
        runner.recorded(asked.config, folder, asked.overrides, lambda summary, _: applying.work(asked, summary))
    except UserError as error:
        if error.exit_code == UserError.exit_code:
            _withdraw(folder, made)
        raise
    finally:
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)  # it held the lock alone


def _log_to(folder: Path) -> None:
    """Log to the console and to the folder's run.log, as Hydra does for a run."""
    console, file = (
        logging.StreamHandler(sys.stdout),
        logging.FileHandler(folder / "run.log", encoding="utf-8", delay=True),
    )
    console.setFormatter(PrintableFormatter("%(message)s"))
    file.setFormatter(PrintableFormatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[console, file], force=True)


def _used(folder: Path) -> list[str]:
    """The files of a run that a folder holds."""
    return [name for name in RECORD if (folder / name).exists()]


def _refuse_used(folder: Path) -> None:
    if used := _used(folder):
        raise UserError(f"{folder} holds a run already, {used[0]} at least", OTHER_FOLDER)
    for parent in folder.absolute().parents:
        if (parent / ".hydra").exists() and ((parent / "metrics.csv").exists() or (parent / "summary.json").exists()):
            raise UserError(f"{folder} is inside the run in {parent}", OTHER_FOLDER)


def _launch(options: argparse.Namespace) -> int:
    """Let Hydra compose and run one job, or a sweep of them; the exit code."""
    overrides: list[str] = options.overrides
    is_sweep = options.multirun or "hydra.mode=MULTIRUN" in overrides
    check_arguments(overrides, sweep=is_sweep, folder=options.config_dir)

    import hydra
    from hydra.core.hydra_config import HydraConfig

    from lgm_cli import sweep

    ended: list[sweep.Ended] = []
    process, begun = os.getpid(), time.time()

    def job(composed: DictConfig) -> None:
        settings, failure = HydraConfig.get(), None
        folder = Path(settings.runtime.output_dir)
        used = _used(folder)
        try:
            _run(composed, settings)
        except Exception as error:
            failure = error
            if _is_sweep(settings) and not used:  # else the log is another run's
                with suppress(OSError):
                    log.error("%s", error, exc_info=None if isinstance(error, UserError) else error)
        ended.append((folder, failure))
        if failure is not None and os.getpid() != process and not sweep.recorded(folder, begun):
            raise failure  # a launcher hands it back from the other process, whose list is a copy

    unforeseen = None
    try:
        with _hydra_that_raises([*usage.hydra_options(options), *overrides]):
            hydra.main(config_path=str(catalogue.conf_folder()), config_name="config", version_base="1.3")(job)()
    except Exception as error:
        if _of_a_stream(error):
            raise
        unforeseen = error if isinstance(error, UserError) else explain(error, overrides)
    if not is_sweep:
        return max((_report(error) for error in (unforeseen, *(error for _, error in ended)) if error), default=0)
    ended = ended or sweep.all_recorded(begun)
    for line, error in sweep.alike(ended).items():
        _report(error, printable(line))
    if unforeseen is None:
        return sweep.exit_code(ended)
    return min(_report(unforeseen), 1 if ended else 2)


@contextmanager
def _hydra_that_raises(arguments: list[str]) -> Iterator[None]:
    """Give Hydra its arguments, and have it raise what it would otherwise print before it exits."""
    own_arguments, own_setting = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = [own_arguments[0], *arguments], "1"
    try:
        yield
    finally:
        sys.argv = own_arguments
        del os.environ["HYDRA_FULL_ERROR"]
        if own_setting is not None:
            os.environ["HYDRA_FULL_ERROR"] = own_setting


def _overrides(settings: HydraConf) -> list[str]:
    """A run's own arguments, as they were written."""
    from omegaconf import OmegaConf

    return [str(item) for item in OmegaConf.to_container(settings.overrides.task, resolve=False)]  # type: ignore


def _is_sweep(settings: HydraConf) -> bool:
    from hydra.types import RunMode

    return settings.mode == RunMode.MULTIRUN


def _run(composed: DictConfig, settings: HydraConf) -> None:
    """Check one run's configuration and folder, then run it. Nothing is written before both are good."""
    folder = Path(settings.runtime.output_dir)
    try:
        _refuse_used(folder)
    except UserError:
        if not _is_sweep(settings):
            _remove_empty(_own_folders(folder, settings))
        raise
    try:
        checked = _checked(composed, _overrides(settings))
    except UserError as error:
        if _is_sweep(settings):
            _record_refusal(folder, error, settings)
        else:
            _remove_empty(_own_folders(folder, settings))
        raise
    _record_configuration(folder, checked, settings)

    from lgm_cli import runner

    alone = settings.runtime.choices.get("hydra/launcher") == "basic"  # others run side by side
    try:
        _judge(runner.run(checked, folder, _overrides(settings), bar=alone), folder)
    except UserError as error:
        if error.exit_code == UserError.exit_code and not _is_sweep(settings):
            _withdraw(
                folder, _own_folders(folder, settings)
            )  # so that the same command can be given again, once the data are mended
        raise


def _judge(summary: dict[str, Any], folder: Path) -> None:
    """Raise RunFailed for a run that ended without a good result."""
    if summary["status"] in ("diverged", "failed"):
        raise RunFailed(f"the run {summary['status']}", f"what is known of it is in {folder}")


def _checked(composed: DictConfig, overrides: list[str]) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        plain = OmegaConf.to_container(composed, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:  # a reference ${...} to what is not there
        raise explain(error, overrides) from error
    assert isinstance(plain, dict)
    return config.check({str(key): value for key, value in plain.items()})


def _record_configuration(folder: Path, checked: dict[str, Any], settings: HydraConf) -> None:
    """Write .hydra/ as Hydra would have done before it was known whether the run may begin."""
    from omegaconf import OmegaConf

    record = folder / ".hydra"
    try:
        record.mkdir()
        OmegaConf.save(OmegaConf.create(checked), record / "config.yaml")
        OmegaConf.save(OmegaConf.create({"hydra": settings}), record / "hydra.yaml")
        OmegaConf.save(settings.overrides.task, record / "overrides.yaml")
    except FileExistsError:
        raise UserError(f"another run has just begun in {folder}", OTHER_FOLDER) from None
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}", OTHER_FOLDER) from error


def _record_refusal(folder: Path, error: UserError, settings: HydraConf) -> None:
    """Leave a summary of a sweep's run that could not begin, for the sweep's comparison."""
    from lgm_cli.recorder import versions, write_json_atomic

    record = {"status": "failed", "error": {"what": error.what, "mend": error.mend}, "warnings": [], "last_row": {}}
    record |= {"overrides": _overrides(settings), "versions": versions(), "total_seconds": 0.0}
    write_json_atomic(folder / "summary.json", record)


def _withdraw(folder: Path, own: Iterable[Path]) -> None:
    """Take back what was written of a run that could not begin, and its own folders, as far as they are empty."""
    with suppress(OSError):
        if json.loads((folder / "summary.json").read_text(encoding="utf-8"))["status"] == "failed":
            for name in (".hydra", "checkpoint"):
                shutil.rmtree(folder / name, ignore_errors=True)
            for name in ("summary.json", "run.log"):
                (folder / name).unlink(missing_ok=True)
    _remove_empty(own)


def _own_folders(folder: Path, settings: HydraConf) -> tuple[Path, ...]:
    """The folders that were made for a run, the innermost first; not one that the user named."""
    named = any(override.startswith("hydra.run.dir") for override in settings.overrides.hydra)
    return () if named else (folder, *folder.parents[:2])


def _remove_empty(folders: Iterable[Path]) -> None:
    """Take back the folders that were made for a run that did not begin, as far as they are empty."""
    with suppress(OSError):
        for path in folders:
            path.rmdir()
