"""The command line: compose a configuration, check it, claim a folder, hand both to the runner.

The only module that imports Hydra. Nothing heavy (torch, pandas, matplotlib) is imported before a run begins,
so that a typing error is answered at once.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lgm_cli import __version__, applying, catalogue, config, resume, usage
from lgm_cli.errors import Interrupted, RunFailed, UserError, cannot_write
from lgm_cli.folders import claimed, fresh, log_to, refuse_inside, refuse_used, remove_empty
from lgm_cli.mistakes import OTHER_FOLDER, explain

if TYPE_CHECKING:
    from hydra.conf import HydraConf
    from omegaconf import DictConfig

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit code: 0, 1, 2 or 130."""
    logging.raiseExceptions = False  # a reader that went away (`| head`) is no reason for tracebacks
    try:
        with _sigterm_like_sigint(last=arguments is None):
            errors = _dispatch(sys.argv[1:] if arguments is None else arguments)
        code = max((_report(error) for error in errors), default=0)
    except UserError as error:
        code = _report(error)
    except KeyboardInterrupt as stop:
        sys.stderr.write(f"lgm-run: interrupted{': ' if str(stop) else ''}{stop}\n")
        code = 130
    except BrokenPipeError:
        code = 0
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to fail at exit
    return code


def _interrupt(signum: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


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


def _report(error: Exception) -> int:
    """Print an error, as one line when the user can mend it, and return its exit code."""
    if not isinstance(error, UserError):
        traceback.print_exception(error)
        return 1
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        traceback.print_exception(error)
    sys.stderr.write(f"lgm-run: error: {error}\n")
    return error.exit_code


def _dispatch(arguments: list[str]) -> list[Exception]:
    """Answer --help and --version, or run; the errors of the runs that failed."""
    options = usage.parse(arguments)
    if options.help:
        sys.stdout.write(usage.text())
    elif options.version:
        sys.stdout.write(f"lgm-run {__version__}\n")
    elif resume.asked(options.overrides):
        _resume(usage.hydra_options(options), options.overrides)
    elif resume.asked(options.overrides, "apply"):
        _apply(applying.read(usage.hydra_options(options), options.overrides))
    else:
        return _launch(usage.hydra_options(options), options.overrides)
    return []


def _resume(options: list[str], overrides: list[str]) -> None:
    """Go on with a run, its log continued."""
    folder = resume.read(options, overrides).folder
    with claimed(folder):
        run = resume.read(options, overrides)  # again: another process may have gone on with it meanwhile
        log_to(folder)

        from lgm_cli import runner

        _ended(lambda: runner.run(run.config, folder, run.overrides, resumed=True), folder)


def _apply(asked: applying.Applied) -> None:
    """Put new data to a finished run, in a folder of its own, which is taken back when the data do not fit."""
    folder = asked.folder
    refuse_used(folder)
    made = [path for path in (folder, *folder.parents[:2]) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error, OTHER_FOLDER) from error
    with fresh(folder, made):
        log_to(folder)

        from lgm_cli import runner

        def work(summary: dict[str, Any], _: object) -> None:
            applying.work(asked, summary)

        try:
            _ended(lambda: runner.recorded(asked.config, folder, asked.overrides, work), folder)
        finally:
            shutil.rmtree(folder / "checkpoint", ignore_errors=True)  # it held the lock alone


def _launch(options: list[str], overrides: list[str]) -> list[Exception]:
    """Let Hydra compose and run one job, or a sweep of them; the errors of those that failed."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    for override in overrides:
        _refuse_fixed(override)
        if resume.key_of(override) == "hydra.sweep.dir":  # Hydra writes there before any run begins
            refuse_inside(Path(override.partition("=")[2], "0"))
    errors: list[Exception] = []

    def job(composed: DictConfig) -> None:
        settings = HydraConfig.get()
        try:
            _run(composed, settings)
        except Exception as error:
            errors.append(error)
            if _is_sweep(settings):  # a launcher must see that its job failed, and goes on with the next
                log.error("%s", error, exc_info=None if isinstance(error, UserError) else error)
                raise

    with _hydra_that_raises([*options, *overrides]):
        try:
            hydra.main(config_path=str(catalogue.conf_folder()), config_name="config", version_base="1.3")(job)()
        except BrokenPipeError:
            raise
        except Exception as error:
            if not any(error is known for known in errors):
                errors.append(error if isinstance(error, UserError) else explain(error, overrides))
    return errors


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


def _refuse_fixed(override: str) -> None:
    """Names and rules are the YAML files' own; a user chooses among the files."""
    key, _, value = override.lstrip("+~").partition("=")
    group, _, last = key.partition(".")
    if group in catalogue.GROUPS and last == "name":
        raise UserError(f"{key} cannot be set", f"use {group}={value}")
    if "allowed" in key.split("."):
        raise UserError(f"{key} cannot be set", "it is the rule that values are checked against")


def _is_sweep(settings: HydraConf) -> bool:
    from hydra.types import RunMode

    return settings.mode == RunMode.MULTIRUN


def _run(composed: DictConfig, settings: HydraConf) -> None:
    """Check one run's configuration and folder, then run it. Nothing is written before both are good."""
    folder, sweep = Path(settings.runtime.output_dir), _is_sweep(settings)
    own = _own_folders(folder, settings)
    try:
        refuse_used(folder)
    except UserError:
        remove_empty((folder, *folder.parents))  # inside another run nothing is left, either
        raise
    try:
        checked = _checked(composed)
    except UserError as error:
        if sweep:
            _record_refusal(folder, error, settings)
        else:
            remove_empty(own)
        raise
    with fresh(folder, own, keep=sweep):
        _record_configuration(folder, checked, settings)

        from lgm_cli import runner

        alone = settings.runtime.choices.get("hydra/launcher") == "basic"  # others run side by side
        _ended(lambda: runner.run(checked, folder, list(settings.overrides.task), bar=alone), folder, more=sweep)


def _checked(composed: DictConfig) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        plain = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:  # a reference ${...} to what is not there
        raise UserError(str(error).splitlines()[0], "write a value, or a reference to a key that exists") from error
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
    except OSError as error:
        raise cannot_write(folder, error, OTHER_FOLDER) from error


def _record_refusal(folder: Path, error: UserError, settings: HydraConf) -> None:
    """Leave a summary of a sweep's run that could not begin, for the sweep's comparison."""
    from lgm_cli.recorder import versions, write_json_atomic

    record = {"status": "failed", "error": {"what": error.what, "mend": error.mend}, "warnings": [], "last_row": {}}
    record |= {"overrides": list(settings.overrides.task), "versions": versions(), "total_seconds": 0.0}
    write_json_atomic(folder / "summary.json", record)


def _own_folders(folder: Path, settings: HydraConf) -> tuple[Path, ...]:
    """The folders that were made for a run, the innermost first; not one that the user named."""
    named = any(override.startswith("hydra.run.dir") for override in settings.overrides.hydra)
    return () if named else (folder, *folder.parents[:2])
