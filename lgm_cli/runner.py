"""One run, from a checked configuration to the files of the contract, whatever happens on the way."""

from __future__ import annotations

import logging
import os
import re
import shlex
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lgm_cli import data as datasets
from lgm_cli import resume
from lgm_cli.errors import ANEW, Interrupted, RunFailed, UserError, cannot_write
from lgm_cli.process import Stop, memory_is_limited, out_of_memory, threads_asked
from lgm_cli.progress import Progress
from lgm_cli.recorder import Recorder, host, reset_peak_memory, versions, write_json_atomic

log = logging.getLogger(__name__)


def run(
    config: Mapping[str, Any], folder: Path, overrides: list[str], *, resumed: bool = False, bar: bool = True
) -> dict[str, Any]:
    """Learn as configured and leave the record in `folder` (which exists); the summary.

    resumed: go on from the checkpoint in `folder`. bar: show a progress bar if there is a terminal.

    UserError: bad data, an impossible device, a checkpoint that does not fit; what was there before stays as it was.
    RunFailed: the disk is full, the folder gone, the memory used up, the program wrong; as much as can be is recorded.
    Interrupted: by SIGINT or SIGTERM; while learning, the first is answered when everything has been written.
    """

    def work(summary: dict[str, Any], stop: Stop) -> None:
        _run(config, folder, summary, stop, resumed, bar)

    return recorded(config, folder, overrides, work, resumed)


def recorded(
    config: Mapping[str, Any],
    folder: Path,
    overrides: list[str],
    work: Callable[[dict[str, Any], Stop], None],
    resumed: bool = False,
) -> dict[str, Any]:
    """Do the work, which fills the summary, in a folder that the caller has claimed, and write how it ended."""
    begun = time.monotonic()
    summary: dict[str, Any] = {"status": "failed", "warnings": [], "error": None, "last_row": {}}
    summary |= {"seed": config["seed"], "overrides": overrides, "versions": versions(), "total_seconds": 0.0}
    with Stop() as stop:
        threads_asked()
        try:
            work(summary, stop)
            summary["total_seconds"] += time.monotonic() - begun
            write_json_atomic(folder / "summary.json", summary)
        except (Exception, KeyboardInterrupt) as error:
            ended = _explained(error, config, folder, stop.patient)
            if stop.patient or not resumed:  # else the record of the earlier part stays
                summary["total_seconds"] += time.monotonic() - begun
                _record_end(folder, summary, ended)
            if ended is error:
                raise
            raise ended from error
    if stop.asked:
        if summary["status"] == "interrupted":
            raise Interrupted(f"{folder} has what was learned{_going_on(folder, config)}")
        raise Interrupted(f"{folder} has what was learned", summary)
    return summary


def _run(
    config: Mapping[str, Any], folder: Path, summary: dict[str, Any], stop: Stop, resumed: bool, bar: bool
) -> None:
    if config["device"]["name"] == "mps":  # before torch is imported: some of its operations have no kernel there
        os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    state = _checkpoint(config, folder) if resumed else None
    log.info("reading data=%s", config["data"]["name"])

    def simulate(options: Mapping[str, Any]) -> dict[str, Any]:
        from lgm_cli import build

        return build.model(config).simulate(options)

    data = datasets.load(dict(config["data"]), config["seed"], simulate)
    log.info("%s", data.describe())
    if state and state["identity"]["fingerprint"] != data.fingerprint:
        raise UserError(
            f"the data are not those that the run in {folder} was learning from",
            "bring them back as they were, or start a run of its own on the new ones",
        )
    summary["data"] = data.summary

    # torch is imported from here on: what can be refused without it has been
    from lgm_cli import build, results
    from lgm_cli.evaluation import Evaluator
    from lgm_cli.learning import Learner, Limits
    from lgm_cli.observations.blocks import observe
    from lgm_cli.stopping import Convergence

    reset_peak_memory()
    device = build.device(config["device"])
    model = build.model(config)
    dtype = build.dtype(config["device"], model)
    model.check(data)
    model.attach(observe(data, config["seed"], dtype, device, build.block_size(config)))
    build.spare_threads(config["device"], model)
    summary["host"] = host() | build.describe(device, dtype)
    method, chosen = build.method(config, model, model.initial(config["seed"]))
    evaluator = Evaluator(model, data, config["seed"])
    columns = evaluator.own_columns
    limits = Limits(
        max_steps=build.max_steps(config),
        max_seconds=config["max_seconds"],
        eval_every=None if config["eval_every"] == "auto" else config["eval_every"],
        checkpoint_seconds=config["checkpoint_seconds"],
    )
    learner = Learner(
        method,
        evaluator,
        Recorder.resume(folder, state["row"], columns) if state else Recorder(folder, columns),
        Convergence(config["tolerance"] * (model.settled_gain or 1.0)),
        limits,
        folder / "checkpoint",
        stop,
        identity={"config": dict(config), "fingerprint": data.fingerprint},
    )
    if state:
        learner.load()
        summary["total_seconds"] = learner.earlier_seconds
        resume.record(folder, config, summary["overrides"])
        learner.recorder.rewind()
        for partial in folder.rglob(".*.partial*"):  # of a process that was killed while it wrote
            partial.unlink(missing_ok=True)
        (folder / "summary.json").unlink(missing_ok=True)  # a run without one is going on, or was killed
        log.info("going on after step %d", method.steps)
    stop.patient = True
    try:
        with Progress(
            limits.max_steps, limits.max_seconds, step=method.steps, fit_seconds=learner.seconds, bar=bar
        ) as progress:
            outcome = learner.learn(progress)
    finally:
        summary["last_row"] = learner.recorder.last
    names = list(map(str, data.table.column_labels))
    summary |= {
        "warnings": outcome.warnings + list(data.table.warnings) + model.warnings(outcome.parameters, names),
        "evaluation": evaluator.describe(outcome.scores),
        "chosen": chosen,
        "parameter_counts": {name: value.numel() for name, value in model.export(outcome.parameters).items()},
    }
    results.write(folder, config, model, data, evaluator, outcome)
    for line in results.closing(folder, config, model, data, outcome, summary["last_row"], summary["overrides"]):
        log.info("%s", line)
    for warning in summary["warnings"]:
        log.warning("warning: %s", warning)
    summary["status"] = outcome.status


def _checkpoint(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The state to go on from; UserError when it belongs to another configuration or has reached the run's limit."""
    from lgm_cli import build
    from lgm_cli.checkpoint import read_checkpoint, require

    state = read_checkpoint(folder / "checkpoint")
    try:
        require(state["identity"], {"config": dict, "fingerprint": str}, "identity")
    except ValueError as error:
        raise UserError(f"the checkpoint in {folder} is not a run's", ANEW) from error
    resume.verify(config, state["identity"]["config"], folder)
    steps, seconds, status = state["method"]["steps"], state["seconds"], resume.status_of(folder)
    if status == "max_steps" and steps >= build.max_steps(config):
        raise UserError(f"{folder} has taken its {steps} steps", f"raise the limit, e.g. max_steps={2 * steps}")
    if status == "max_seconds" and config["max_seconds"] is not None and seconds >= config["max_seconds"]:
        more = f"max_seconds={2 * config['max_seconds']:g}"
        raise UserError(
            f"{folder} has learned for its {config['max_seconds']:g} seconds", f"raise the limit, e.g. {more}"
        )
    return state


def _explained(error: BaseException, config: Mapping[str, Any], folder: Path, begun: bool) -> BaseException:
    """The error as the command line reports it: in one line, with a remedy. begun: learning has."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted(f"{folder} is as it was at that moment{_going_on(folder, config)}")
    if isinstance(error, OSError) and not folder.exists():
        return RunFailed(f"{folder} is gone", "leave the folder of a run where it is until the run has ended")
    if isinstance(error, PermissionError) and not begun and str(error.filename).startswith(str(folder)):
        return cannot_write(error.filename, error, "check its permissions")
    remedy = f"then{_going_on(folder, config).removeprefix(';') or ' start anew'}"
    text = str(error)
    if out_of_memory(error):
        keys = ["method.batch_size"] * ("batch_size" in config["method"]) + ["model.latent_dim"]
        wanted = re.search(r"allocate ([\d.]+ \w+)", text)
        more = "raise ulimit -v" if memory_is_limited() else "free some"
        return RunFailed(
            f"out of memory{f': {wanted[1]} more were needed' if wanted else ''}",
            f"{more}, {remedy}; or use a smaller {' or '.join(keys)}, or less data",
        )
    if isinstance(error, OSError):
        what = f"{error.filename or folder}: {error.strerror or error}"
        return RunFailed(what, f"make room or mend what is wrong there, {remedy}")
    log.error("the run failed", exc_info=error)
    name = f"{type(error).__name__}: {text}".splitlines()[0]
    return RunFailed(name, f"this is an error of lgm-run's: please report it, with {folder / 'run.log'}")


def _going_on(folder: Path, config: Mapping[str, Any]) -> str:
    """How to go on with a run, if one can; beyond an end that is on record, with the value that was given anew."""
    status = None
    with suppress(UserError):
        status = resume.status_of(folder)
    if status == "diverged" or not (folder / "checkpoint" / "state.pt").is_file():
        return ""
    command = f"lgm-run resume={shlex.quote(str(folder))}"
    if (key := resume.BEYOND.get(status or "")) is not None:
        command += f" {key}={'none' if config[key] is None else config[key]}"
    return f"; {command} goes on"


def _record_end(folder: Path, summary: dict[str, Any], ended: BaseException) -> None:
    """Say in the folder how the run ended, if the folder can still be written."""
    if isinstance(ended, UserError):
        summary |= {"status": "failed", "error": {"what": ended.what, "mend": ended.mend}}
    else:
        summary["status"] = "interrupted"
    with suppress(OSError):
        write_json_atomic(folder / "summary.json", summary)
