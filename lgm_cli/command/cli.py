"""The command line: compose a configuration, check it, claim a folder, hand both to the runner.

The only module that imports Hydra. Nothing heavy (torch, pandas, matplotlib) is imported before a run begins,
so that a typing error is answered at once.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lgm_cli import __version__
from lgm_cli.command import apply, choices, help, resume, rules
from lgm_cli.command.arguments import check as check_arguments
from lgm_cli.command.error_messages import OTHER_FOLDER, OUT_OF_MEMORY, explain
from lgm_cli.command.folders import claimed, fresh, log_to, refuse_inside, refuse_used, remove_empty, used
from lgm_cli.command.streams import close_streams, open_streams, say
from lgm_cli.errors import Interrupted, RunFailed, UserError, cannot_write, printable, shortened
from lgm_cli.machine import out_of_memory
from lgm_cli.results import run_folder

if TYPE_CHECKING:
    import argparse

    from hydra.conf import HydraConf
    from omegaconf import DictConfig

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit code: 0, 1, 2 or 130."""
    logging.raiseExceptions = False  # a reader that went away (`| head`) is no reason for tracebacks
    open_streams()
    try:
        with _sigterm_like_sigint(last=arguments is None):
            code = _dispatch(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt as stop:
        say(sys.stderr, f"lgm-run: interrupted{': ' if str(stop) else ''}{printable(str(stop))}\n")
        code = 130
    except SystemExit as end:  # Hydra's own, after --hydra-help
        code = end.code if isinstance(end.code, int) else 0
    except Exception as error:
        code = 0 if _of_a_stream(error) else _report(error)
    close_streams()
    return code


def _interrupt(signum: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _of_a_stream(error: Exception) -> bool:
    """Whether standard output alone is the matter: its reader is gone, or it is full. What was asked for was done."""
    return isinstance(error, OSError) and error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC)


@contextmanager
def _sigterm_like_sigint(last: bool) -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, so that what is running, a launcher's workers too, is wound up.

    last: the process ends with this, so that no signal may change its exit code any more.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if last else handler)


def _ended(work: Callable[[], dict[str, Any]], folder: Path, *, more: bool = False) -> None:
    """Do the work of one run; its summary says how it ended, and bad ends are raised. more: other runs come after it.

    A signal after the last step, while files are written, changes nothing of a run's end, but ends a sweep.
    """
    try:
        summary = work()
    except Interrupted as stop:
        if stop.finished is None or more:
            raise
        summary = stop.finished
    finally:
        if not more and signal.getsignal(signal.SIGTERM) is _interrupt:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
    if summary["status"] in ("diverged", "failed"):
        raise RunFailed(f"the run {summary['status']}", f"what is known of it is in {folder}")


def in_python(arguments: list[str]) -> None:
    """Run one command line inside another Python program, which has set up a log of its own.

    Errors are raised instead of printed, as `UserError` where the user can mend them. Nothing is done to the signals and
    the standard streams of the process, and no progress bar is shown.
    """
    try:
        _dispatch(arguments, Surroundings(_raised, log_to=lambda _: None, bar=False))
    except UserError:
        raise
    except Exception as error:
        raise _known(error) from error


def _raised(error: Exception, shown: str | None = None) -> NoReturn:
    raise error


def _known(error: Exception) -> Exception:
    """The error as one that the user can mend, where it is one."""
    if isinstance(error, OSError) and error.filename is not None:
        what = f"{shortened(str(error.filename))}: {error.strerror}"
        return UserError(what, "give another name, or mend what is wrong there")
    return OUT_OF_MEMORY if not isinstance(error, UserError) and out_of_memory(error) else error


def _report(error: Exception, shown: str | None = None) -> int:
    """Print an error, as one line when the user can mend it, and return its exit code. shown: instead of its text."""
    error = _known(error)
    known = isinstance(error, UserError)
    if not known or os.environ.get("HYDRA_FULL_ERROR") == "1":
        lines = "".join(traceback.format_exception(error)).split("\n")
        say(sys.stderr, "\n".join(map(printable, lines)))
    if known:
        say(sys.stderr, f"lgm-run: error: {shown or error}\n")
    return error.exit_code if isinstance(error, UserError) else 1


@dataclass(frozen=True)
class Surroundings:
    """What a command runs in: how its errors are told, how its log is set up, whether a progress bar may be shown."""

    report: Callable[..., int] = _report
    log_to: Callable[[Path], None] = log_to
    bar: bool = True


def _dispatch(arguments: list[str], around: Surroundings | None = None) -> int:
    """Answer --help and --version, or run; the exit code."""
    around = around or Surroundings()
    options = help.parse(arguments)
    if options.help:
        say(sys.stdout, help.text())
    elif options.version:
        say(sys.stdout, f"lgm-run {__version__}\n")
    elif resume.asked(options.overrides):
        _resume(help.hydra_options(options), options.overrides, around)
    elif resume.asked(options.overrides, "apply"):
        _apply(apply.read(help.hydra_options(options), options.overrides), around)
    else:
        return _launch(options, around)
    return 0


def _resume(options: list[str], overrides: list[str], around: Surroundings) -> None:
    """Go on with a run, its log continued."""
    folder = resume.read(options, overrides).folder
    with claimed(folder):
        run = resume.read(options, overrides)  # again: another process may have gone on with it meanwhile
        around.log_to(folder)

        from lgm_cli.run import runner

        _ended(lambda: runner.run(run.config, folder, run.overrides, resumed=True, bar=around.bar), folder)


def _apply(asked: apply.Applied, around: Surroundings) -> None:
    """Put new data to a finished run, in a folder of its own, which is taken back when the data do not fit."""
    folder = asked.folder
    refuse_used(folder)
    made = [path for path in (folder, *folder.parents[:2]) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error, OTHER_FOLDER) from error
    with fresh(folder, made):
        around.log_to(folder)

        from lgm_cli.run import apply as applying
        from lgm_cli.run import runner

        def work(summary: dict[str, Any], _: object) -> None:
            applying.work(asked, summary)

        try:
            _ended(lambda: runner.recorded(asked.config, folder, asked.overrides, work), folder)
        finally:
            shutil.rmtree(folder / "checkpoint", ignore_errors=True)  # it held the lock alone


def _launch(options: argparse.Namespace, around: Surroundings) -> int:
    """Let Hydra compose and run one job, or a sweep of them; the exit code."""
    overrides: list[str] = options.overrides
    is_sweep = options.multirun or "hydra.mode=MULTIRUN" in overrides
    check_arguments(overrides, sweep=is_sweep, folder=options.config_dir)

    import hydra
    from hydra.core.hydra_config import HydraConfig

    from lgm_cli.command import sweep

    for override in overrides:
        if run_folder.key_of(override) == "hydra.sweep.dir":  # Hydra writes there before any run begins
            refuse_inside(Path(override.partition("=")[2], "0"))
    ended: list[sweep.Ended] = []
    process, begun = os.getpid(), time.time()

    def job(composed: DictConfig) -> None:
        settings, failure = HydraConfig.get(), None
        folder = Path(settings.runtime.output_dir)
        before = used(folder)
        try:
            _run(composed, settings, around.bar)
        except Exception as error:
            failure = error
            if _is_sweep(settings) and not before:  # else the log is another run's
                with suppress(OSError):
                    log.error("%s", error, exc_info=None if isinstance(error, UserError) else error)
        ended.append((folder, failure))
        if failure is not None and os.getpid() != process and not sweep.recorded(folder, begun):
            raise failure  # a launcher hands it back from the other process, whose list is a copy

    unforeseen = None
    try:
        with _hydra_that_raises([*help.hydra_options(options), *overrides]):
            hydra.main(config_path=str(choices.conf_folder()), config_name="config", version_base="1.3")(job)()
    except Exception as error:
        if _of_a_stream(error):
            raise
        unforeseen = error if isinstance(error, UserError) else explain(error, overrides)
    if not is_sweep:
        return max((around.report(error) for error in (unforeseen, *(error for _, error in ended)) if error), default=0)
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


def _run(composed: DictConfig, settings: HydraConf, bar: bool) -> None:
    """Check one run's configuration and folder, then run it. Nothing is written before both are good."""
    folder, sweep = Path(settings.runtime.output_dir), _is_sweep(settings)
    own = _own_folders(folder, settings)
    try:
        refuse_used(folder)
    except UserError:
        remove_empty((folder, *folder.parents))  # inside another run nothing is left, either
        raise
    try:
        checked = _checked(composed, _overrides(settings))
    except UserError as error:
        if sweep:
            _record_refusal(folder, error, settings)
        else:
            remove_empty(own)
        raise
    with fresh(folder, own, keep=sweep):
        _record_configuration(folder, checked, settings)

        from lgm_cli.run import runner

        alone = bar and settings.runtime.choices.get("hydra/launcher") == "basic"  # others run side by side
        _ended(lambda: runner.run(checked, folder, _overrides(settings), bar=alone), folder, more=sweep)


def _checked(composed: DictConfig, overrides: list[str]) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        plain = OmegaConf.to_container(composed, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:  # a reference ${...} to what is not there
        raise explain(error, overrides) from error
    assert isinstance(plain, dict)
    return rules.check({str(key): value for key, value in plain.items()})


def _record_configuration(folder: Path, checked: dict[str, Any], settings: HydraConf) -> None:
    """Write .hydra/ as Hydra would have done before it was known whether the run may begin."""
    from omegaconf import OmegaConf

    record = folder / ".hydra"
    try:
        record.mkdir()
        OmegaConf.save(OmegaConf.create(checked), record / "config.yaml")
        OmegaConf.save(OmegaConf.create({"hydra": settings}), record / "hydra.yaml")
        OmegaConf.save(settings.overrides.task, record / "overrides.yaml")
    except OSError as error:
        raise cannot_write(folder, error, OTHER_FOLDER) from error


def _record_refusal(folder: Path, error: UserError, settings: HydraConf) -> None:
    """Leave a summary of a sweep's run that could not begin, for the sweep's comparison."""
    from lgm_cli.results.files import write_json_atomic
    from lgm_cli.results.host import versions

    record = {"status": "failed", "error": {"what": error.what, "mend": error.mend}, "warnings": [], "last_row": {}}
    record |= {"overrides": _overrides(settings), "versions": versions(), "total_seconds": 0.0}
    write_json_atomic(folder / "summary.json", record)


def _own_folders(folder: Path, settings: HydraConf) -> tuple[Path, ...]:
    """The folders that were made for a run, the innermost first; not one that the user named."""
    named = any(override.startswith("hydra.run.dir") for override in settings.overrides.hydra)
    return () if named else (folder, *folder.parents[:2])
