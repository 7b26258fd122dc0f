"""The command line: compose a configuration, check it, claim a folder, hand both to the runner.

The only module that imports Hydra. Nothing heavy (torch, pandas, matplotlib) is imported before a run begins,
so that a typing error is answered at once.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lgm_cli import __version__
from lgm_cli.command import again, apply, choices, completion, help, outputs, report, resume, rules
from lgm_cli.command.arguments import check as check_arguments
from lgm_cli.command.endings import (
    Surroundings,
    ended_well,
    known_error,
    of_a_stream,
    raise_error,
    report_error,
    sigterm_like_sigint,
)
from lgm_cli.command.error_messages import OTHER_FOLDER, explain
from lgm_cli.command.folders import (
    claimed,
    fresh,
    record_refusal,
    refuse_inside,
    refuse_used,
    remove_empty,
    used,
)
from lgm_cli.command.streams import close_streams, open_streams, say
from lgm_cli.command.sweep_log import briefly, told
from lgm_cli.errors import UserError, cannot_write, printable
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
        with sigterm_like_sigint(last=arguments is None):
            code = _dispatch(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt as stop:
        say(sys.stderr, f"lgm-run: interrupted{': ' if str(stop) else ''}{printable(str(stop))}\n")
        code = 130
    except SystemExit as end:  # Hydra's own, after --hydra-help
        code = end.code if isinstance(end.code, int) else 0
    except Exception as error:
        code = 0 if of_a_stream(error) else report_error(error)
    close_streams()
    return code


def in_python(arguments: list[str]) -> None:
    """Run one command line inside another Python program, which has set up a log of its own.

    Errors are raised instead of printed, as `UserError` where the user can mend them. Nothing is done to the signals
    and the standard streams of the process, and no progress bar is shown.
    """
    try:
        _dispatch(arguments, Surroundings(raise_error, log_to=lambda _: None, bar=False))
    except UserError:
        raise
    except Exception as error:
        raise known_error(error) from error


def _dispatch(arguments: list[str], around: Surroundings | None = None) -> int:
    """Answer --help and --version, or run; the exit code."""
    around = around or Surroundings()
    options = help.parse(arguments)
    if options.help:
        say(sys.stdout, help.text(options.overrides))
    elif options.version:
        say(sys.stdout, f"lgm-run {__version__}\n")
    elif options.shell_completion and (words := completion.folders(os.environ.get("COMP_LINE", ""))):
        say(sys.stdout, " ".join(words) + "\n")
    elif resume.asked(options.overrides):
        _resume(help.hydra_options(options), options.overrides, around)
    elif resume.asked(options.overrides, "report"):
        say(sys.stdout, report.write(help.hydra_options(options), options.overrides))
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
        with outputs.noted(folder, run.config):
            _go_on(run, bar=around.bar)


def _go_on(run: resume.Resumed, *, bar: bool, more: bool = False) -> dict[str, Any]:
    """Learn on from the checkpoint of a run, in its folder, which the caller has claimed."""
    from lgm_cli.run import runner

    def work() -> dict[str, Any]:
        return runner.run(run.config, run.folder, run.overrides, resumed=True, bar=bar)

    return ended_well(work, run.folder, more=more)


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
            ended_well(lambda: runner.recorded(asked.config, folder, asked.overrides, work), folder)
            outputs.add(folder, asked.config)
        finally:
            shutil.rmtree(folder / "checkpoint", ignore_errors=True)  # it held the lock alone


def _launch(options: argparse.Namespace, around: Surroundings) -> int:
    """Let Hydra compose and run one job, or a sweep of them; the exit code."""
    overrides: list[str] = options.overrides
    is_sweep = options.multirun or "hydra.mode=MULTIRUN" in overrides
    check_arguments(overrides, sweep=is_sweep, folder=options.config_dir)

    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from lgm_cli.command import sweep

    make = str if options.cfg or options.info else outputs.new_folder
    OmegaConf.register_new_resolver("new_folder", make, use_cache=True, replace=True)
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

    unforeseen, stopped = None, None
    try:
        with _hydra_that_raises([*help.hydra_options(options), *overrides]):
            hydra.main(config_path=str(choices.conf_folder()), config_name="config", version_base="1.3")(job)()
    except Exception as error:
        if of_a_stream(error):
            raise
        unforeseen = error if isinstance(error, UserError) else explain(error, overrides)
    except KeyboardInterrupt as stop:
        if not is_sweep:
            raise
        stopped = stop
    if is_sweep and not options.cfg and not options.info:
        say(sys.stdout, report.compared(sweep.SweepFolder.path))
    if stopped is not None:
        raise stopped
    if not is_sweep:
        return max((around.report(error) for error in (unforeseen, *(error for _, error in ended)) if error), default=0)
    ended = ended or sweep.all_recorded(begun)
    for line, error in sweep.alike(ended).items():
        report_error(error, printable(line))
    if unforeseen is None:
        return sweep.exit_code(ended)
    return min(report_error(unforeseen), 1 if ended else 2)


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
    alone = bar and settings.runtime.choices.get("hydra/launcher") == "basic"  # others run side by side
    if sweep and again.kept(folder, _overrides(settings)):
        return
    run = again.unfinished(folder, _overrides(settings)) if sweep else None
    if sweep:
        briefly(_of_a_sweep(settings))
    if run:
        with claimed(folder), outputs.noted(folder, run.config, folder.parent):
            told(_go_on(run, bar=alone, more=True))
        return
    try:
        refuse_used(folder)
    except UserError:
        remove_empty((folder, *folder.parents))  # inside another run nothing is left, either
        raise
    try:
        checked = _checked(composed, _overrides(settings))
    except UserError as error:
        if sweep:
            record_refusal(folder, error, _overrides(settings))
        else:
            remove_empty(own)
        raise
    latest = folder.parent if sweep else None
    with outputs.noted(folder, checked, latest), fresh(folder, own, keep=sweep):
        _record_configuration(folder, checked, settings)

        from lgm_cli.run import runner

        summary = ended_well(lambda: runner.run(checked, folder, _overrides(settings), bar=alone), folder, more=sweep)
    if sweep:
        told(summary)


def _of_a_sweep(settings: HydraConf) -> str:
    """The number of a run of a sweep, and what it has for itself."""
    fixed = settings.job.config.override_dirname.exclude_keys
    own = [item for item in _overrides(settings) if item.partition("=")[0].lstrip("+~") not in fixed]
    return f"run {settings.job.num}: {' '.join(own)}"


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


def _own_folders(folder: Path, settings: HydraConf) -> tuple[Path, ...]:
    """The folders that were made for a run, the innermost first; not one that the user named."""
    named = any(override.startswith("hydra.run.dir") for override in settings.overrides.hydra)
    return () if named else (folder, *folder.parents[:2])
